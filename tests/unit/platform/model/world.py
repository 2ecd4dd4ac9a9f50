"""Time, timers and the record of what happened, for a model that runs without any concurrency.

Times are whole ticks. A tick is a power of two of a second, so that the same times are exact as
floating-point seconds and the model and the real thing can be compared to the last bit, borders of
periods included.

Two things that are due in the same tick and have nothing to do with each other may happen in either
order. The model does not guess: it raises `Coincidence`, and the script is not played.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

SECOND = 1024
"""Ticks in a second."""


class Coincidence(Exception):
    """Two independent things fall into one tick; their order is not determined."""


@dataclass
class Timer:
    owner: object
    action: Callable[[], None]
    cancelled: bool = False


class World:
    """Runs actions in the order of time; what an action causes at once follows it at once.

    Attributes:
        now: The tick.
        events: (tick, who, what) of everything that children did.
        outcomes: (tick, who asked, result) of what operators and senders were told.
        unordered: Ticks in which independent children act: only each one's own order counts.
    """

    def __init__(self) -> None:
        self.now = 0
        self.events: list[tuple[int, str, str]] = []
        self.outcomes: list[tuple[int, str, str]] = []
        self.unordered: set[int] = set()
        self._timers: list[tuple[int, int, Timer]] = []
        self._next: deque[Callable[[], None]] = deque()
        self._count = 0
        self._running = False

    def emit(self, who: str, what: str) -> None:
        self.events.append((self.now, who, what))

    def told(self, who: str, result: str) -> None:
        self.outcomes.append((self.now, who, result))

    def soon(self, action: Callable[[], None]) -> None:
        """Do something in this tick, after what is being done."""
        self._next.append(action)

    def after(self, ticks: int | None, owner: object, action: Callable[[], None]) -> Timer:
        """Do something later; None is never. What takes no time follows at once."""
        timer = Timer(owner, action)
        if ticks == 0:
            self.soon(lambda: None if timer.cancelled else timer.action())
        elif ticks is not None:
            self._count += 1
            heapq.heappush(self._timers, (self.now + ticks, self._count, timer))
        return timer

    def settle(self) -> None:
        """Do all that is to be done in this tick."""
        while self._next:
            self._next.popleft()()

    def pass_time(self, ticks: int) -> None:
        """Let time pass, and everything happen that falls due before its end."""
        self.settle()
        end = self.now + ticks
        while (following := self._next_timer()) is not None and following[0] <= end:
            at, _, timer = heapq.heappop(self._timers)
            another = self._next_timer()
            beside = (
                another is not None and another[0] == at and another[2].owner is not timer.owner
            )
            if at == end or beside:
                raise Coincidence
            self.now = at
            timer.action()
            self.settle()
        self.now = end

    def _next_timer(self) -> tuple[int, int, Timer] | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0] if self._timers else None
