"""The bounded set of concurrent tasks of a group, shared fairly between tenants.

The problem. One tenant's hundred slow requests must not make another tenant's one request wait for
all of them, and the group as a whole must not run more at a time than it has memory for.

The choice. A pool hands out *slots*. Work runs in the task that asked for it, inside a cancel scope
that can be found by key: exceptions, deadlines and context variables go where they would without
the pool. When no slot is free, the asker waits in its tenant's line; a slot that becomes free goes
to the next tenant in turn, and within a tenant to the longest-waiting. A free slot is handed over,
never thrown into the ring, so nobody barges in. The number of waiting askers is bounded over all
tenants, and every wait has a deadline.

The cost. Turns are counted in slots, not in seconds: a tenant whose tasks take long holds its slots
longer. Limits per tenant are the business of who submits the work (durable jobs have them).

Rejected: `trio.CapacityLimiter` (first come, first served; one token per task unless acquired on
behalf of something else); tasks of the pool's own (their exceptions need a second way home).
"""

import itertools
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar, TypeVarTuple

import trio

from troupe.common.units import SECONDS
from troupe.platform.errors import PoolSaturated, TaskCancelled

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DEFAULT_PATIENCE: Final = 30 * SECONDS
DEFAULT_WAITING: Final = 1024

Tenant = Hashable
"""Whoever slots are shared between; None stands for the system itself."""


class Slot:
    """The right to run one task; give it back with `release`, or use it as a context manager."""

    __slots__ = ("_pool", "_released", "tenant")

    def __init__(self, pool: "Pool", tenant: Tenant) -> None:
        self.tenant = tenant
        self._pool = pool
        self._released = False

    def assign(self, tenant: Tenant) -> None:
        """Say for whom the slot is used, when that was not known as it was taken."""
        self._pool._reassign(self.tenant, tenant)  # noqa: SLF001 - the two are one thing
        self.tenant = tenant

    def release(self) -> None:
        """Give the slot back; once is enough, twice does no harm."""
        if not self._released:
            self._released = True
            self._pool._release(self.tenant)  # noqa: SLF001 - the two are one thing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class _Waiter:
    __slots__ = ("granted", "slot")

    def __init__(self) -> None:
        self.granted = trio.Event()
        self.slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A pool's figures.

    Attributes:
        limit: Slots there are.
        running: Slots in use; above `limit` for a while after it was lowered.
        waiting: Askers in all lines.
        running_by_tenant: Slots in use by each tenant that has any.
        waiting_by_tenant: Askers in each tenant's line.
        granted: Slots handed out since the pool was made.
        refused: Askers sent away since then, by a full line or their deadline.
    """

    limit: int
    running: int
    waiting: int
    running_by_tenant: dict[Tenant, int]
    waiting_by_tenant: dict[Tenant, int]
    granted: int
    refused: int


class Pool:
    """The slots of one group.

    Args:
        name: The group's, for messages.
        limit: Slots; `resize` changes it while in use.
        waiting: Askers that may wait at a time, over all tenants.
    """

    def __init__(self, name: str, *, limit: int, waiting: int = DEFAULT_WAITING) -> None:
        if limit < 1 or waiting < 0:
            raise ValueError("limit must be at least 1, waiting not negative")
        self.name = name
        self._limit = limit
        self._waiting_limit = waiting
        self._running: dict[Tenant, int] = {}
        self._in_use = 0
        # The next tenant in turn stands first; one that got a slot goes to the end.
        self._lines: OrderedDict[Tenant, deque[_Waiter]] = OrderedDict()
        self._waiting = 0
        self._scopes: dict[Hashable, dict[int, _Cancellable]] = {}
        self._numbers = itertools.count()
        self._granted = self._refused = 0

    @property
    def limit(self) -> int:
        """Slots there are."""
        return self._limit

    @property
    def free(self) -> int:
        """Slots that `try_acquire` could take now."""
        return 0 if self._waiting else max(0, self._limit - self._in_use)

    def resize(self, limit: int) -> None:
        """Change the number of slots. Nothing that runs is interrupted when it shrinks."""
        if limit < 1:
            raise ValueError("limit must be at least 1")
        self._limit = limit
        self._hand_over()

    async def acquire(self, tenant: Tenant = None, *, deadline: float = DEFAULT_PATIENCE) -> Slot:
        """Take a slot; wait in the tenant's line if there is none.

        Args:
            tenant: In whose line.
            deadline: Seconds to wait at most.

        Raises:
            PoolSaturated: Too many wait already, or the deadline passed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if (slot := self.try_acquire(tenant)) is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return slot
        if self._waiting >= self._waiting_limit:
            self._refused += 1
            raise PoolSaturated(f"{self.name} has {self._waiting} tasks waiting already")
        waiter = _Waiter()
        self._lines.setdefault(tenant, deque()).append(waiter)
        self._waiting += 1
        try:
            with trio.move_on_after(deadline):
                await waiter.granted.wait()
        except BaseException:
            # A slot may have come between the cancellation and this task's turn to notice it.
            if waiter.slot is not None:
                waiter.slot.release()
            raise
        finally:
            if waiter.slot is None:
                self._leave_line(tenant, waiter)
        if waiter.slot is None:
            self._refused += 1
            raise PoolSaturated(f"{self.name} had no free task within {deadline:g} s")
        return waiter.slot

    def try_acquire(self, tenant: Tenant = None) -> Slot | None:
        """Take a slot if one is free and nobody waits."""
        return self._grant(tenant) if self.free else None

    async def run(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        tenant: Tenant = None,
        key: Hashable = None,
        deadline: float = DEFAULT_PATIENCE,
    ) -> T:
        """Run an async function here, once a slot is there.

        Args:
            function: What to run.
            *args: Its arguments.
            tenant: In whose line to wait.
            key: What `cancel` finds the task by; several tasks may share one.
            deadline: Seconds to wait for the slot; the function's own time is not limited.

        Raises:
            PoolSaturated: There was no slot.
            TaskCancelled: Somebody cancelled it by its key.
        """
        with self._findable(key) as task, await self.acquire(tenant, deadline=deadline):
            return await function(*args)
        if task.cancelled:
            raise TaskCancelled(f"the task {key} was cancelled")
        raise AssertionError("a scope nobody cancelled swallowed a task")

    def cancel(self, key: Hashable) -> int:
        """Cancel the tasks with this key, waiting or running; returns how many there were."""
        tasks = list(self._scopes.get(key, {}).values())
        for task in tasks:
            task.cancel()
        return len(tasks)

    def statistics(self) -> PoolStatistics:
        """The figures as they stand."""
        return PoolStatistics(
            limit=self._limit,
            running=self._in_use,
            waiting=self._waiting,
            running_by_tenant=dict(self._running),
            waiting_by_tenant={tenant: len(line) for tenant, line in self._lines.items()},
            granted=self._granted,
            refused=self._refused,
        )

    # ---- bookkeeping

    def _grant(self, tenant: Tenant) -> Slot:
        self._in_use += 1
        self._running[tenant] = self._running.get(tenant, 0) + 1
        self._granted += 1
        return Slot(self, tenant)

    def _release(self, tenant: Tenant) -> None:
        self._in_use -= 1
        self._uncount(tenant)
        self._hand_over()

    def _reassign(self, before: Tenant, after: Tenant) -> None:
        self._uncount(before)
        self._running[after] = self._running.get(after, 0) + 1

    def _uncount(self, tenant: Tenant) -> None:
        left = self._running[tenant] - 1
        if left:
            self._running[tenant] = left
        else:
            del self._running[tenant]

    def _hand_over(self) -> None:
        while self._lines and self._in_use < self._limit:
            tenant, line = self._lines.popitem(last=False)
            waiter = line.popleft()
            self._waiting -= 1
            if line:
                self._lines[tenant] = line
            waiter.slot = self._grant(tenant)
            waiter.granted.set()

    def _leave_line(self, tenant: Tenant, waiter: _Waiter) -> None:
        line = self._lines[tenant]
        line.remove(waiter)
        self._waiting -= 1
        if not line:
            del self._lines[tenant]

    def _findable(self, key: Hashable) -> "_Cancellable":
        return _Cancellable(self._scopes, key, next(self._numbers))


class _Cancellable:
    """A cancel scope that the pool can find by key."""

    def __init__(
        self, scopes: dict[Hashable, dict[int, "_Cancellable"]], key: Hashable, number: int
    ) -> None:
        self._scopes = scopes
        self._key = key
        self._number = number
        self._scope = trio.CancelScope()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, and the cancellation ended the work."""
        return self._scope.cancelled_caught

    def cancel(self) -> None:
        """Cancel what runs inside."""
        self._scope.cancel()

    def __enter__(self) -> Self:
        self._scope.__enter__()
        if self._key is not None:
            self._scopes.setdefault(self._key, {})[self._number] = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._key is not None:
            tasks = self._scopes[self._key]
            del tasks[self._number]
            if not tasks:
                del self._scopes[self._key]
        return bool(self._scope.__exit__(kind, error, traceback))
