"""How fast something goes: by what it did lately, not since it began.

An ingestion skips days that have not changed within milliseconds, then loads one that takes
minutes; BigQuery thinks, then rows arrive at once. An average since the beginning tells for the
rest of the hour what was true of its first minute. So the last readings are kept, one a second at
most, and speed is what was done between the oldest of them and now. A standstill shows: as time
passes without anything done the speed sinks, and is unknown once nothing was done in the whole
window.
"""

import math
from collections import deque
from typing import Final

import trio

from troupe.common.units import SECONDS

WINDOW: Final = 30 * SECONDS
APART: Final = 1 * SECONDS


class Pace:
    """Speed of one quantity, by trio's clock.

    Args:
        done: How much there was at the beginning.
        window: Seconds that are looked back on.
    """

    def __init__(self, done: float = 0.0, *, window: float = WINDOW) -> None:
        self._window = window
        self._done = done
        self._readings: deque[tuple[float, float]] = deque([(trio.current_time(), done)])

    def note(self, done: float) -> None:
        """Tell how much is done by now; it never becomes less."""
        now = trio.current_time()
        self._done = max(done, self._done)
        self._forget(now)
        if now - self._readings[-1][0] >= APART:
            self._readings.append((now, self._done))

    @property
    def per_second(self) -> float | None:
        """Speed; None: nothing was done lately, so there is nothing to tell."""
        now = trio.current_time()
        self._forget(now)
        began, before = self._readings[0]
        if self._done <= before or now <= began:
            return None
        return (self._done - before) / (now - began)

    def seconds_left(self, left: float) -> int | None:
        """How long the rest will take at this speed, rounded up; None: it cannot be told."""
        if left <= 0:
            return 0
        speed = self.per_second
        return None if speed is None else math.ceil(left / speed)

    def _forget(self, now: float) -> None:
        """Drop readings before the window, but for the last of them: it is where it begins."""
        while len(self._readings) > 1 and self._readings[1][0] <= now - self._window:
            self._readings.popleft()
