"""Workers: the tasks in which attempts run, used again and again.

The problem. A task and a cancel scope for each attempt cost several times what a short job does.

The choice. Work that was claimed lies in a queue; a worker takes the next piece, and the next,
without a turn of the scheduler in between as long as handlers do not wait. Before it runs one it
sees to it that another worker stands by, should this handler wait: one summons at a time, because
the one who was summoned will summon the next. So no-op jobs run one after the other in one task,
jobs that wait each have a task of their own, and nobody had to say which they are.

A worker has one scope. When that was cancelled for one piece of work, the worker ends with it. It
also ends when a handler has left something in the context variables, which the next job, perhaps
another tenant's, must not see.

There are never more workers than pieces of work at a time, which is to say than slots of the pool.
"""

import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

W = TypeVar("W")


class Workers(Generic[W]):
    """Runs pieces of work.

    Args:
        perform: Runs one piece in a scope; must contain its failures.
        cut_short: Told of a piece that was ended by cancelling its scope.
        nursery: Where the workers live.
    """

    def __init__(
        self,
        perform: Callable[[W, trio.CancelScope], Awaitable[None]],
        cut_short: Callable[[W], None],
        nursery: trio.Nursery,
    ) -> None:
        self._perform = perform
        self._cut_short = cut_short
        self._nursery = nursery
        self._queue: deque[W] = deque()
        self._idle = trio.lowlevel.ParkingLot()
        self._summoned = False

    def give(self, work: W) -> None:
        """Have a piece of work run as soon as possible."""
        self._queue.append(work)
        self._summon()

    def _summon(self) -> None:
        if self._summoned:
            return
        self._summoned = True
        if len(self._idle):
            self._idle.unpark()
        else:
            self._nursery.start_soon(self._work, name="job worker")

    async def _work(self) -> None:
        work: W | None = None
        with trio.CancelScope() as scope:
            context = contextvars.copy_context()
            while True:
                self._summoned = False
                while self._queue:
                    work = self._queue.popleft()
                    if self._queue:
                        self._summon()
                    await self._perform(work, scope)
                    work = None
                    if scope.cancel_called or contextvars.copy_context() != context:
                        if self._queue:
                            self._summon()
                        return
                await self._idle.park()
        if work is not None:
            self._cut_short(work)
