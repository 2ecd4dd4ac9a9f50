"""Whether a loop in another process turns.

The supervisor pings; the child answers from its loop. One ping is under way at a time. When it is
not answered within the limit the loop is stuck, and since the next ping follows within `PERIOD`,
one that gets stuck is found out within the sum of the two.

The trap is our own loop. If it stood still (an inline group that spins, a suspended machine), the
deadline and the answer arrive together, and a plain timeout would kill healthy children because of
us. So patience is counted in small slices, each of which counts for no more than its length: time
through which we slept ourselves is not held against anybody.

A silent child is not told from one whose thread holds the interpreter: both serve nobody.
"""

import math
from typing import Final

import trio

from troupe.common.units import MILLISECONDS

PERIOD: Final = 500 * MILLISECONDS
"""Between the answer to one ping and the next ping."""
SLICE: Final = 100 * MILLISECONDS


class Answered:
    """An event that can be waited for patiently, again and again."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def expect(self) -> None:
        """From now on wait for a new answer."""
        self._event = trio.Event()

    def arrived(self) -> None:
        """It is there."""
        self._event.set()

    async def within(self, patience: float) -> bool:
        """Whether the answer arrives before so many seconds have passed while we were awake."""
        if patience == math.inf:
            await self._event.wait()
        left = patience
        while not self._event.is_set() and left > 0:
            begun = trio.current_time()
            with trio.move_on_after(min(SLICE, left)):
                await self._event.wait()
            left -= min(SLICE, left, max(trio.current_time() - begun, MILLISECONDS))
        return self._event.is_set()
