"""A group's worker threads: bounded, and counted apart from everybody else's.

Trio's default limiter is one for the whole process, so that a group which parses large files would
hold up the name look-ups of another. Each group therefore has a limiter of its own.

A `trio.CapacityLimiter` holds one token per *task*: acquiring it twice from one task fails, and
borrowing a token "for the task" while a thread outlives that task miscounts. `to_thread.run_sync`
acquires on behalf of the thread itself, so one task may use several threads, and an abandoned
thread keeps its token until it really ends. Nothing here takes a token any other way.

Of a group that gives way and shares its process with one that does not, the threads keep off the
processors that are reserved for the latter (ADR 28): its loop would wait for the end of their
slices. Trio lends a thread to whoever needs one next, so that this holds per call.

A thread cannot be killed. `abandon=True` lets the waiting task be cancelled while the thread runs
on; without it, a cancellation waits for the thread. CPU-bound Python belongs into a process.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

from troupe.common.niceness import thread_keeps_off

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads:
    """The worker threads of one group.

    Args:
        limit: Threads at a time; `resize` changes it while in use.
        keep_off: Processors that they leave to others.
    """

    def __init__(self, limit: int, *, keep_off: frozenset[int] = frozenset()) -> None:
        self._limiter = trio.CapacityLimiter(limit)
        self._keep_off = keep_off

    @property
    def limit(self) -> int:
        """Threads there may be."""
        return int(self._limiter.total_tokens)

    @property
    def running(self) -> int:
        """Threads in use, abandoned ones that still run included."""
        return int(self._limiter.borrowed_tokens)

    def resize(self, limit: int) -> None:
        """Change the number of threads; nothing that runs is interrupted when it shrinks."""
        self._limiter.total_tokens = limit

    async def run(self, function: Callable[[*Ts], T], *args: *Ts, abandon: bool = False) -> T:
        """Run a blocking function in a thread; waits for a free one first.

        Args:
            function: What to run.
            *args: Its arguments.
            abandon: Whether a cancellation may leave the thread to itself.
        """
        return await trio.to_thread.run_sync(
            self._placed, function, *args, limiter=self._limiter, abandon_on_cancel=abandon
        )

    def _placed(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        with thread_keeps_off(self._keep_off):
            return function(*args)
