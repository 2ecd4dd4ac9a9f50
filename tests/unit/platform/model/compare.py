"""The comparison: whatever happens for real, to the tick, must be what the model foretells."""

import trio
import trio.testing

from tests.unit.platform.model.foretell import Trace, foretell
from tests.unit.platform.model.perform import NeverEnds, Stage
from tests.unit.platform.model.script import Script


class Divergence(AssertionError):
    """The real thing did something that the model does not."""


def compare(script: Script) -> None:
    """Play a script for real and by the model.

    Raises:
        Divergence: The traces differ.
        Coincidence: The script leaves open what happens.
    """
    expected, unordered = foretell(script)
    clock = trio.testing.MockClock(autojump_threshold=0)
    try:
        real = trio.run(Stage(script).play, clock=clock).settle_order(unordered)
    except NeverEnds:
        raise Divergence("the root was asked to stop and does not end") from None
    if real not in expected:
        raise Divergence("\n".join(_first_difference(one, real) for one in expected))


def _first_difference(expected: Trace, real: Trace) -> str:
    for what in ("steps", "events", "outcomes"):
        ours, theirs = getattr(expected, what), getattr(real, what)
        for number in range(max(len(ours), len(theirs))):
            mine, other = ours[number : number + 1], theirs[number : number + 1]
            if mine != other:
                return f"{what}[{number}]:\n  model {mine}\n  real  {other}"
    return "no difference"
