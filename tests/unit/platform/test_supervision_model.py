"""Supervisors, actors and mailboxes against their executable model (`model/`).

Every script is a tree of children, half of them with an actor or with a supervisor below the root,
and some ten things that happen to it: crashes, normal exits, starts that fail or hang, operators
who start, stop, restart, add and remove, stops that overrun their deadlines, more crashes than are
tolerated, floods of messages and questions under each overflow policy. What children do, what
operators and senders are told, and after every step the whole tree and the mailboxes' books must be
the model's, to the tick.
"""

import pytest
from hypothesis import HealthCheck, given, reject, settings

from tests.unit.platform.model.compare import compare
from tests.unit.platform.model.script import STRATEGIES, Script, scripts
from tests.unit.platform.model.world import Coincidence

SEQUENCES = 3_400
"""Scripts for each strategy of the root: more than ten thousand in all."""


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_happens_is_what_the_model_foretells(strategy):
    played = 0

    @settings(
        max_examples=SEQUENCES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(script=scripts(strategy))
    def play(script: Script) -> None:
        nonlocal played
        try:
            compare(script)
        except Coincidence:
            reject()
        played += 1

    play()
    assert played >= SEQUENCES
