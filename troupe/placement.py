"""Where a group runs: from its section of the configuration to a child of the root.

It also knows how a group changes while it runs: other bounds, more or fewer instances, one
generation after the other (`troupe.reload` says in which order).

::

    troupe
    ├── data          group, inline          what `troupe.wiring` says it consists of
    └── analytics     group, in processes    one_for_one over its instances
        ├── analytics-1   process 4711
        └── analytics-2   process 4712

The socket stays here in either case. Instances of a group inherit the same one, so that the kernel
gives a connection to whichever of them accepts it first, and queues it while none does. A group is
started when all of its instances are ready; it serves for as long as one is. A group that runs
elsewhere has no socket here.

Rejected: a socket for each process with ``SO_REUSEPORT``. The kernel deals connections out to the
sockets before anybody accepts them, so that those dealt to a process that dies, or is stuck, are
lost with it.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final, Protocol

import trio

from troupe.common.config import Configuration, GroupSettings, Placement
from troupe.common.errors import ConfigurationError, TroupeError
from troupe.common.logs import get_logger, is_for_people
from troupe.common.units import MINUTES, SECONDS
from troupe.instance import LISTENER, Assignment, Bounds, without_database
from troupe.platform.group import GROUP_BACKOFF
from troupe.platform.processes import ProcessBackend, ProcessSettings
from troupe.platform.supervision import ChildSpec, Intensity, State, Succession, Supervisor
from troupe.wiring import GROUPS, Site, compose, sizes_of

COMMAND: Final = (sys.executable, "-P", "-m", "troupe.instance")
"""What an instance is started with; without the current directory among the places of modules."""
SPARE_CONNECTIONS: Final = 20
"""Beyond the pools: listeners, the supervisor, migrations, the command line."""
LEAST_CONNECTIONS: Final = 150
"""That the embedded PostgreSQL allows in any case, so that groups can grow while it runs."""
LISTENERS: Final = 3
"""Connections of a process that listen, beyond its pools."""
RESTARTS: Final = 5
"""Restarts within a minute that a group in processes tolerates, for each of its instances. One
that fails over and over is held back by its backoff before it exhausts what two may use; when all
do, the group starts afresh."""
TRIES: Final = 3
"""Starts of an instance whose fellow already runs the new configuration."""
PAUSE: Final = 1 * SECONDS
_SHOWN_WHOLE: Final = 8
"""Instances up to which each is told all parts of the others; beyond, only how they are."""

_log = get_logger(__name__)


def groups_here(configuration: Configuration) -> list[str]:
    """The groups that this host runs, in order."""
    return [name for name in GROUPS if configuration.runs_here(name)]


def groups_inline(configuration: Configuration) -> list[str]:
    """Those of them that run in the supervisor's process."""
    return [
        name
        for name in groups_here(configuration)
        if configuration.groups.named(name).placement is Placement.INLINE
    ]


def check_placements(configuration: Configuration) -> None:
    """Refuse placements that contradict each other, or what they need.

    Raises:
        ConfigurationError: One sentence that says what to write.
    """
    here = groups_here(configuration)
    if not here:
        named = sorted({h for name in GROUPS for h in configuration.groups.named(name).hosts})
        others = f"; groups.*.hosts name {', '.join(named)}" if named else ""
        raise ConfigurationError(
            f"no group runs on this host, which is called {configuration.host}{others}."
            " Give the right name with --host"
        )
    for name in GROUPS:
        settings = configuration.groups.named(name)
        if settings.placement is Placement.ELSEWHERE:
            key = f"groups.{name}.placement"
        elif set(settings.hosts) - {configuration.host}:
            key = f"groups.{name}.hosts"
        else:
            continue
        if not configuration.database.url.get_secret_value():
            raise ConfigurationError(
                f"{key}: several hosts share one PostgreSQL, and the embedded one serves its own"
                " host only: give database.url and database.runtime_url"
            )
        if not configuration.auth.key_encryption_key_file:
            raise ConfigurationError(
                f"{key}: hosts must read each other's secrets: give all of them the same file as"
                " auth.key_encryption_key_file"
            )
    for name, key in (("auth", "public_url"), ("analytics", "dashboard_url")):
        if name not in here and not getattr(configuration.auth, key):
            raise ConfigurationError(
                f"groups.{name} runs on another host: auth.{key} must say where browsers reach it"
            )


def connections_needed(configuration: Configuration) -> int:
    """Connections that the groups here can need at a time, while each is succeeded, too."""
    settings = (configuration.groups.named(name) for name in groups_here(configuration))
    return SPARE_CONNECTIONS + sum(_connections(group) for group in settings)


def _connections(settings: GroupSettings) -> int:
    each = settings.all_connections + LISTENERS
    if settings.placement is Placement.INLINE:
        return 2 * each
    # One more: a successor comes before its predecessor leaves, and the sessions of a process that
    # was killed end a little after its own successor began.
    return each * (settings.processes + 1)


class PlacedGroup(Protocol):
    """A group that runs here, in whatever way.

    Attributes:
        specification: As a child of the root.
    """

    specification: ChildSpec

    async def resize(self, site: Site) -> list[str]:
        """Have the bounds of the site's configuration hold; names of instances that are late."""
        ...


def place(site: Site, name: str, *, abreast: bool) -> PlacedGroup:
    """A group as a child of the root.

    Args:
        site: What it is given.
        name: Which one.
        abreast: See `ChildSpec`.
    """
    inline = site.settings(name).placement is Placement.INLINE
    return (InlineGroup if inline else ProcessGroup)(site, name, abreast=abreast)


class InlineGroup:
    """A group in this process."""

    def __init__(self, site: Site, name: str, *, abreast: bool) -> None:
        (self._group,) = compose(site, [name])
        grace = site.configuration.shutdown.grace
        self.specification = self._group.as_child(shutdown=grace, abreast=abreast)

    async def resize(self, site: Site) -> list[str]:
        """As `PlacedGroup`."""
        self._group.resize(sizes_of(site.settings(self._group.name)))
        await trio.lowlevel.checkpoint()
        return []


class ProcessGroup:
    """A group in processes of its own.

    Attributes:
        name: Which group.
        specification: As a child of the root.
    """

    def __init__(self, site: Site, name: str, *, abreast: bool) -> None:
        self.name = name
        self._site = site
        self._processes = site.settings(name).processes
        self._backend = self._backend_for(site)
        numbers = range(1, self._processes + 1)
        self._supervisor = Supervisor(
            name,
            [self._instance(self._backend, number) for number in numbers],
            intensity=self._intensity(),
            kind="group",
        )
        self.specification = self._supervisor.as_child(backoff=GROUP_BACKOFF, abreast=abreast)

    def _intensity(self) -> Intensity:
        return Intensity(restarts=RESTARTS * self._processes, period=1 * MINUTES)

    def _instance(self, backend: ProcessBackend, number: int) -> ChildSpec:
        name = f"{self.name}-{number}"
        return backend.child_spec(name, backoff=GROUP_BACKOFF, abreast=number > 1)

    def _backend_for(self, site: Site, before: ProcessBackend | None = None) -> ProcessBackend:
        """Runs instances of one generation; all generations know each other's."""
        settings = site.settings(self.name)

        def assignment(_instance: str) -> dict[str, Any]:
            # Of one generation all is the same but its bounds, which change while it runs.
            current = self._site if backend is self._backend else site
            return Assignment(
                group=self.name,
                configuration=without_database(current.configuration),
                runtime_url=current.runtime_url(),
                urls=dict(current.urls),
                reserved=current.reserved,
                plain_tracebacks=is_for_people(current.configuration.log.style),
            ).as_message()

        def group() -> dict[str, Any]:
            return _bounded(self._supervisor.snapshot().as_dict())

        backend = ProcessBackend(
            ProcessSettings(
                group=self.name,
                command=(*_giving_way(settings.niceness), *COMMAND),
                grace=site.configuration.shutdown.grace,
                watchdog=settings.watchdog,
                start_deadline=settings.start_deadline,
                memory_limit=settings.memory_limit,
                keep_off=site.left_to_others(self.name),
            ),
            sockets={LISTENER: site.sockets[self.name]},
            assignment=assignment,
            database_url=site.runtime_url,
            group=group,
            living=before.living if before else None,
        )
        return backend

    async def resize(self, site: Site) -> list[str]:
        """As `PlacedGroup`; the site is also what instances start with from now on."""
        self._site = site
        return await self._backend.adapt(Bounds.of(site.configuration, self.name).model_dump())

    # ---- more or fewer of them

    @property
    def running(self) -> bool:
        """Whether its supervisor runs, so that instances can be added, succeeded and removed."""
        return self._supervisor.snapshot().state is State.RUNNING

    async def grow(self, site: Site) -> Site:
        """Start the instances that are too few, and have all that start from now on know the site.

        Returns:
            The site before, for `ungrow`.

        Raises:
            TroupeError: One did not start; it is as if nothing had been tried.
        """
        before, self._site = self._site, site
        more = range(self._processes + 1, site.settings(self.name).processes + 1)
        try:
            async with trio.open_nursery() as nursery:
                for number in more:
                    specification = self._instance(self._backend, number)
                    nursery.start_soon(self._add, specification)
        except BaseException:
            with trio.CancelScope(shield=True):  # bounded by their shutdown deadlines
                await self.ungrow(before)
            raise
        return before

    async def ungrow(self, before: Site) -> None:
        """Take `grow` back."""
        self._site = before
        await self.shrink(self._processes)

    async def _add(self, specification: ChildSpec) -> None:
        await self._supervisor.add_child(specification, for_good=True)

    async def shrink(self, processes: int) -> None:
        """Drain the instances that are too many, all at the same time, and forget them."""
        self._processes = processes
        self._supervisor.tolerate(self._intensity())
        kept = {f"{self.name}-{number}" for number in range(1, processes + 1)}
        async with trio.open_nursery() as nursery:
            for child in self._supervisor.snapshot().children:
                if child.name not in kept and "generation" not in child.details:
                    nursery.start_soon(self._remove, child.name)

    async def _remove(self, name: str) -> None:
        await self._supervisor.remove_child(name, for_good=True)

    # ---- one generation after the other

    async def succeed(self, site: Site) -> "Generation":
        """Start the first instance of a new generation beside its predecessor.

        Raises:
            TroupeError: It did not become ready, and is gone.
        """
        backend = self._backend_for(site, self._backend)
        first = await self._supervisor.succeed(self._instance(backend, 1))
        return Generation(self, site, backend, first)

    async def follow(self, site: Site, backend: ProcessBackend) -> list[str]:
        """Let the others be succeeded, one at a time; names of those that could not be."""
        before, self._processes = self._processes, site.settings(self.name).processes
        self._backend, self._site = backend, site
        late = [
            f"{self.name}-{number}"
            for number in range(2, self._processes + 1)
            if not await self._renew(number, new=number > before)
        ]
        await self.shrink(self._processes)
        return late

    async def _renew(self, number: int, *, new: bool) -> bool:
        specification = self._instance(self._backend, number)
        for _ in range(TRIES):
            try:
                if new:
                    await self._supervisor.add_child(specification, for_good=True)
                else:
                    await (await self._supervisor.succeed(specification)).complete()
            except TroupeError as error:
                _log.warning("instance_not_renewed", instance=specification.name, error=str(error))
                await trio.sleep(PAUSE)
            else:
                return True
        return False


class Generation:
    """A new generation of a group in processes, of which the first instance is ready."""

    def __init__(
        self, group: ProcessGroup, site: Site, backend: ProcessBackend, first: Succession
    ) -> None:
        self._group = group
        self._site = site
        self._backend = backend
        self._first = first

    @property
    def ready(self) -> bool:
        """Whether the first instance still runs."""
        return self._first.ready

    async def complete(self) -> list[str]:
        """Let it take over, instance by instance; names of those that could not be renewed."""
        await self._first.complete()
        return await self._group.follow(self._site, self._backend)

    async def abandon(self) -> None:
        """Stop it again."""
        await self._first.abandon()


def _giving_way(niceness: int) -> tuple[str, ...]:
    """The beginning of a command: it is to count from the first import on."""
    return ("nice", "-n", str(niceness)) if niceness else ()


def _bounded(group: Mapping[str, Any]) -> dict[str, Any]:
    if len(group["children"]) <= _SHOWN_WHOLE:
        return dict(group)
    return {**group, "children": [{**child, "children": []} for child in group["children"]]}
