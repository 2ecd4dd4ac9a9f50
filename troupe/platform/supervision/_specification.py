"""What a supervisor is told about its children: specifications, strategies, tolerances."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from troupe.common.units import SECONDS
from troupe.platform.supervision._child import ChildContext

Start = Callable[[ChildContext], Awaitable[None]]
"""A child's body: runs until it ends; returning is a normal exit, raising an abnormal one."""


class Restart(StrEnum):
    """When a child that ended by itself is started again."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """Only after an abnormal exit (an exception)."""
    TEMPORARY = "temporary"
    """Never, not even when a sibling's failure restarts the others."""


class Strategy(StrEnum):
    """Who is restarted when one child fails."""

    ONE_FOR_ONE = "one_for_one"
    """That child alone."""
    ONE_FOR_ALL = "one_for_all"
    """All children: stopped in reverse order, started in order."""
    REST_FOR_ONE = "rest_for_one"
    """That child and those that were specified after it."""


class Readiness(StrEnum):
    """When a child counts as running."""

    SIGNALLED = "signalled"
    """When it calls `ChildContext.started`."""
    IMMEDIATE = "immediate"
    """As soon as it was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """How many restarts a supervisor tolerates before it gives up; OTP's defaults.

    Attributes:
        restarts: Restarts allowed within `period`; the next one makes the supervisor fail. 0: the
            first failure of a child is the supervisor's.
        period: Seconds.
    """

    restarts: int = 1
    period: float = 5 * SECONDS

    def __post_init__(self) -> None:
        if self.restarts < 0 or self.period <= 0:
            raise ValueError("restarts must not be negative, period must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a child waits before it is started again. The default is OTP's: not at all.

    The n-th failure in a row waits ``first * factor ** (n - 1)`` seconds, at most `limit`, less a
    random share of up to `jitter`, so that children that failed together do not return together.

    Attributes:
        first: Seconds after the first failure; 0: none ever.
        factor: Growth from one failure to the next, at least 1.
        limit: Seconds that no wait exceeds.
        jitter: Share between 0 and 1 of the wait that is left to chance.
        reset_after: Seconds of running after which the failures before are forgotten.
    """

    first: float = 0.0
    factor: float = 2.0
    limit: float = 30 * SECONDS
    jitter: float = 0.2
    reset_after: float = 60 * SECONDS

    def __post_init__(self) -> None:
        if self.first < 0 or self.factor < 1 or self.limit < self.first:
            raise ValueError("first must not be negative, factor at least 1, limit at least first")
        if not 0 <= self.jitter <= 1:
            raise ValueError("jitter is a share between 0 and 1")

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait.

        Args:
            failures: Failures in a row, from 1.
            chance: A random number between 0 and 1.

        >>> Backoff(first=1.0, jitter=0.0).delay(4, 0.5)
        8.0
        >>> Backoff(first=1.0, jitter=0.5).delay(1, 1.0)
        0.5
        """
        if self.first == 0:
            return 0.0
        # Beyond 2 ** 64 the power alone would overflow, and the limit has long been reached.
        exponent = min(failures - 1, 64 / math.log2(self.factor) if self.factor > 1 else 0)
        return min(self.first * self.factor**exponent, self.limit) * (1 - self.jitter * chance)


class Backend(Protocol):
    """What a child runs on: a task of this process, a process, an instance on another host.

    The contract is that of a start function, so that the supervisor makes the same decisions for
    every backend: `run` lasts as long as one incarnation; it calls `context.started` when that is
    ready, makes it drain once `context.stopping` is set, returns on its normal exit, raises on its
    failure, and ends it by force when cancelled.
    """

    async def run(self, specification: "ChildSpec", context: ChildContext) -> None:
        """Run one incarnation of a child until it ends."""


class TaskBackend:
    """Runs a child as a task of this process."""

    async def run(self, specification: "ChildSpec", context: ChildContext) -> None:
        """Await the start function."""
        await specification.start(context)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One child, as its supervisor sees it; the same for every backend.

    Attributes:
        name: Unique among its siblings; a path of names identifies a node of the tree.
        start: The body of one incarnation.
        restart: When to start it again.
        readiness: When it counts as running.
        start_deadline: Seconds until it must be ready; then it is cancelled and has failed.
        shutdown: Seconds between `ChildContext.stopping` and the cancellation of its scope. 0: it
            is cancelled at once. `math.inf`: it is waited for.
        backoff: Wait before a restart.
        kind: What status pages call it: task, actor, group, supervisor, resource, …
        backend: What it runs on.
        abreast: Whether it does not stand on the child before it, but beside it: where children go
            up and down one by one, the two go together.
        retired: Called when the supervisor will not start the child again by itself: it was
            stopped, exhausted, or finished. An operator may still start it later.
    """

    name: str
    start: Start
    restart: Restart = Restart.PERMANENT
    readiness: Readiness = Readiness.SIGNALLED
    start_deadline: float = 30 * SECONDS
    shutdown: float = 5 * SECONDS
    backoff: Backoff = Backoff()
    kind: str = "task"
    backend: Backend = field(default_factory=TaskBackend)
    abreast: bool = False
    retired: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"a child's name is not empty and has no slash: {self.name!r}")
        if self.start_deadline <= 0 or self.shutdown < 0:
            raise ValueError(f"{self.name}: start_deadline must be positive, shutdown not negative")
