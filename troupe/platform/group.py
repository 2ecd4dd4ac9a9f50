"""A group: the unit of isolation, placement and scaling.

It has resources (a database pool), actors, services (an HTTP server), a pool of tasks, worker
threads and dead letters of its own, all under one supervisor::

    group data                     rest_for_one, in this order
    ├── database        resource   opened first, closed last
    ├── actors          supervisor one_for_one
    │   ├── ingestions  actor
    │   └── jobs        runner
    └── http            service    started last, drained first

The order is the order of dependence. So a resource that fails takes down what stands on it and
nothing else; an actor that fails comes back alone, without a request being refused; and on the way
down the server stops taking requests before the actors that answer them stop. What fails more often
than tolerated fails the group, which its own supervisor then restarts, and no other group.

The pool, the threads and the addresses of the actors outlive a restart of the group; the resources,
the behaviours and whatever was in the mailboxes do not.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from troupe.common.units import MILLISECONDS, MINUTES, SECONDS
from troupe.platform.actor import Actor, AnyActor, Behaviour
from troupe.platform.dead_letters import DeadLetters
from troupe.platform.errors import ResourceUnavailable
from troupe.platform.mailbox import DEFAULT_CAPACITY, MailboxSettings, Overflow
from troupe.platform.pool import Pool
from troupe.platform.supervision import (
    Backoff,
    ChildContext,
    ChildSpec,
    Detail,
    Intensity,
    Restart,
    Strategy,
    Supervisor,
)
from troupe.platform.threads import Threads

T = TypeVar("T")
M = TypeVar("M")

ACTOR_INTENSITY: Final = Intensity(restarts=10, period=1 * MINUTES)
ACTOR_BACKOFF: Final = Backoff(first=50 * MILLISECONDS, limit=5 * SECONDS)
GROUP_INTENSITY: Final = Intensity(restarts=3, period=1 * MINUTES)
GROUP_BACKOFF: Final = Backoff(first=200 * MILLISECONDS, limit=30 * SECONDS)
DEFAULT_THREADS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Bounds of a group that change while it runs; see `Group.resize`.

    Attributes:
        tasks: Slots of its task pool.
        mailbox: Messages that each of its actors may have waiting.
        database_connections: Of its database pool.
    """

    tasks: int
    mailbox: int = DEFAULT_CAPACITY
    database_connections: int = 1


class Resource(Generic[T]):
    """Something that is open while its group runs, such as a database pool.

    Args:
        name: Its name as a child.
        open_resource: Opens it; leaving the context closes it.
    """

    def __init__(
        self, name: str, open_resource: Callable[[], AbstractAsyncContextManager[T]]
    ) -> None:
        self.name = name
        self._open = open_resource
        self._held: list[T] = []

    def get(self) -> T:
        """The open resource; ask each time, since a restart makes a new one.

        Raises:
            ResourceUnavailable: It is not open at the moment.
        """
        if not self._held:
            raise ResourceUnavailable(f"{self.name} is not available at the moment")
        return self._held[0]

    @property
    def held(self) -> T | None:
        """The resource, if it is open at the moment."""
        return self._held[0] if self._held else None

    def child_spec(
        self, *, start_deadline: float = 30 * SECONDS, shutdown: float = 10 * SECONDS
    ) -> ChildSpec:
        """This resource as a child of a supervisor."""
        return ChildSpec(
            name=self.name,
            start=self._live,
            start_deadline=start_deadline,
            shutdown=shutdown,
            backoff=ACTOR_BACKOFF,
            kind="resource",
        )

    async def _live(self, context: ChildContext) -> None:
        async with self._open() as resource:
            self._held.append(resource)
            try:
                context.started(resource)
                await context.stopping.wait()
            finally:
                self._held.clear()


class Group:
    """Collects what a group consists of; `as_child` turns it into one child.

    Args:
        name: The group's name.
        tasks: Slots of its task pool.
        threads: Worker threads.
        mailbox: Messages that each of its actors may have waiting.
        database_connections: For whoever opens its database pool.
        keep_off: Processors that its threads leave to others.

    Attributes:
        sizes: As they are now.
    """

    def __init__(
        self,
        name: str,
        *,
        tasks: int,
        threads: int = DEFAULT_THREADS,
        mailbox: int = DEFAULT_CAPACITY,
        database_connections: int = 1,
        keep_off: frozenset[int] = frozenset(),
    ) -> None:
        self.name = name
        self.sizes = Sizes(tasks=tasks, mailbox=mailbox, database_connections=database_connections)
        self.pool = Pool(name, limit=tasks)
        self.threads = Threads(threads, keep_off=keep_off)
        self.dead_letters = DeadLetters()
        self._mailboxes: list[AnyActor] = []
        self._when_resized: list[Callable[[], None]] = []
        self._resources: list[ChildSpec] = []
        self._actors: list[ChildSpec] = []
        self._services: list[ChildSpec] = []

    def resource(
        self,
        name: str,
        open_resource: Callable[[], AbstractAsyncContextManager[T]],
        *,
        shutdown: float = 10 * SECONDS,
    ) -> Resource[T]:
        """Add a resource after those before; see `Resource`."""
        resource = Resource(name, open_resource)
        self._resources.append(resource.child_spec(shutdown=shutdown))
        return resource

    def actor(
        self,
        name: str,
        behaviour: Callable[[], Behaviour[M]],
        *,
        overflow: Overflow = Overflow.WAIT,
        restart: Restart = Restart.PERMANENT,
        shutdown: float = 5 * SECONDS,
    ) -> Actor[M]:
        """Add an actor; returns its address, which stays valid for as long as the group exists."""
        settings = MailboxSettings(capacity=self.sizes.mailbox, overflow=overflow)
        actor = Actor(name, behaviour, mailbox=settings, dead_letters=self.dead_letters)
        self._mailboxes.append(actor)
        self._actors.append(
            actor.child_spec(restart=restart, shutdown=shutdown, backoff=ACTOR_BACKOFF)
        )
        return actor

    def add_actor(self, specification: ChildSpec) -> None:
        """Add a child that is an actor in all but its mailbox, such as a job runner."""
        self._actors.append(specification)

    def add_service(self, specification: ChildSpec) -> None:
        """Add a child that stands on everything else, such as the HTTP server."""
        self._services.append(specification)

    def when_resized(self, callback: Callable[[], None]) -> None:
        """Have `callback` called after every change of `sizes`; it must be quick."""
        self._when_resized.append(callback)

    def resize(self, sizes: Sizes) -> None:
        """Have other bounds hold at once. Nothing that runs is interrupted where one shrinks."""
        self.sizes = sizes
        self.pool.resize(sizes.tasks)
        for actor in self._mailboxes:
            actor.resize(sizes.mailbox)
        for callback in self._when_resized:
            callback()

    def supervisor(self) -> Supervisor:
        """The supervisor over all that was added so far."""
        actors = Supervisor("actors", self._actors, intensity=ACTOR_INTENSITY)
        return Supervisor(
            self.name,
            [*self._resources, actors.as_child(backoff=ACTOR_BACKOFF), *self._services],
            strategy=Strategy.REST_FOR_ONE,
            intensity=GROUP_INTENSITY,
            kind="group",
            details=self._details,
        )

    def as_child(self, *, shutdown: float | None = None, abreast: bool = False) -> ChildSpec:
        """This group as a child, restarted by itself after a growing wait.

        Args:
            shutdown: Seconds until it is ended by force; by default as long as its parts may take.
            abreast: Whether it goes up and down together with the child before it.
        """
        return self.supervisor().as_child(backoff=GROUP_BACKOFF, shutdown=shutdown, abreast=abreast)

    def _details(self) -> dict[str, Detail]:
        pool = self.pool.statistics()
        return {
            "tasks_running": pool.running,
            "tasks_limit": pool.limit,
            "tasks_waiting": pool.waiting,
            "threads_running": self.threads.running,
            "threads_limit": self.threads.limit,
            **self.dead_letters.details(),
        }
