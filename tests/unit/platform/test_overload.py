"""Ten times more messages than an actor handles: flat memory, and every message accounted for.

The same for a minute of real time is in tests/soak.
"""

import pytest
import trio.testing

from tests.unit.platform.overload import Overload
from troupe.platform.mailbox import M, Mailbox, Overflow

SIMULATED = 20.0
"""Seconds; 40,000 messages."""
TOLERANCE = 1_000
"""Blocks of memory that 32,000 messages may add to what is allocated."""


def overloaded(overflow: Overflow, duration: float = SIMULATED) -> Overload:
    run = Overload(overflow, duration=duration, warm_up=duration / 5)
    trio.run(run.run, clock=trio.testing.MockClock(autojump_threshold=0))
    return run


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("overflow", list(Overflow))
def test_memory_stays_flat_and_nothing_is_unaccounted_for(overflow):
    run = overloaded(overflow)
    run.check_books()
    assert run.told == 40_000
    assert run.growth("blocks") < TOLERANCE


class Remembering(Mailbox[M]):
    """Keeps a reference to whatever it gave up."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.kept = []

    def kill(self, envelope, reason):
        self.kept.append(envelope)
        super().kill(envelope, reason)


@pytest.mark.usefixtures("quiet")
def test_a_mailbox_that_keeps_its_dead_letters_is_not_flat(monkeypatch):
    monkeypatch.setattr("troupe.platform.actor.Mailbox", Remembering)
    run = overloaded(Overflow.REJECT, duration=SIMULATED / 10)
    assert run.growth("blocks") > TOLERANCE
