"""Where a group runs: from its section of the configuration to a child of the root.

::

    troupe
    ├── data          group, inline          what `troupe.wiring` says it consists of
    └── analytics     group, in processes    one_for_one over its instances
        ├── analytics-1   process 4711
        └── analytics-2   process 4712

The socket stays here in either case. Instances of a group inherit the same one, so that the kernel
gives a connection to whichever of them accepts it first, and queues it while none does. A group is
started when all of its instances are ready; it serves for as long as one is.

Rejected: a socket for each process with ``SO_REUSEPORT``. The kernel deals connections out to the
sockets before anybody accepts them, so that those dealt to a process that dies, or is stuck, are
lost with it.
"""

import sys
from typing import Any, Final

from troupe.common.config import Configuration, GroupSettings, Placement
from troupe.common.errors import ConfigurationError
from troupe.common.logs import is_for_people
from troupe.common.units import MINUTES
from troupe.instance import LISTENER, Assignment, without_database
from troupe.platform.group import GROUP_BACKOFF
from troupe.platform.processes import ProcessBackend, ProcessSettings
from troupe.platform.supervision import ChildSpec, Intensity, Supervisor
from troupe.wiring import GROUPS, Site, compose

COMMAND: Final = (sys.executable, "-P", "-m", "troupe.instance")
"""What an instance is started with; without the current directory among the places of modules."""
SPARE_CONNECTIONS: Final = 20
"""Beyond the pools: listeners, migrations, the command line."""
LISTENERS: Final = 2
"""Connections of a process that listen, beyond its pool."""
RESTARTS: Final = 5
"""Restarts within a minute that a group in processes tolerates, for each of its instances. One
that fails over and over is held back by its backoff before it exhausts what two may use; when all
do, the group starts afresh."""
_SHOWN_WHOLE: Final = 8
"""Instances up to which each is told all parts of the others; beyond, only how they are."""


def check_placements(configuration: Configuration) -> None:
    """Refuse what this version cannot do.

    Raises:
        ConfigurationError: A placement that is not available.
    """
    for name in GROUPS:
        if configuration.groups.named(name).placement is Placement.ELSEWHERE:
            raise ConfigurationError(
                f"groups.{name}.placement: only 'inline' and 'process' are available in this"
                " version"
            )


def connections_needed(configuration: Configuration) -> int:
    """Connections that the embedded PostgreSQL must allow."""
    settings = (configuration.groups.named(name) for name in GROUPS)
    return SPARE_CONNECTIONS + sum(_connections(group) for group in settings)


def _connections(settings: GroupSettings) -> int:
    if settings.placement is Placement.INLINE:
        return settings.database_connections
    # One more: the sessions of a process that was killed end a little after its successor began.
    return (settings.database_connections + LISTENERS) * (settings.processes + 1)


def place(site: Site, name: str, *, abreast: bool) -> ChildSpec:
    """A group as a child of the root.

    Args:
        site: What it is given.
        name: Which one.
        abreast: See `ChildSpec`.
    """
    if site.settings(name).placement is Placement.INLINE:
        (group,) = compose(site, [name])
        return group.as_child(shutdown=site.configuration.shutdown.grace, abreast=abreast)
    return _in_processes(site, name).as_child(backoff=GROUP_BACKOFF, abreast=abreast)


def _in_processes(site: Site, name: str) -> Supervisor:
    settings = site.settings(name)
    configuration = site.configuration

    def assignment(_instance: str) -> dict[str, Any]:
        return Assignment(
            group=name,
            configuration=without_database(configuration),
            runtime_url=site.runtime_url(),
            urls=dict(site.urls),
            plain_tracebacks=is_for_people(configuration.log.style),
        ).as_message()

    def group() -> dict[str, Any]:
        return _bounded(supervisor.snapshot().as_dict())

    backend = ProcessBackend(
        ProcessSettings(
            group=name,
            command=(*_giving_way(settings.niceness), *COMMAND),
            grace=configuration.shutdown.grace,
            watchdog=settings.watchdog,
            start_deadline=settings.start_deadline,
            memory_limit=settings.memory_limit,
        ),
        sockets={LISTENER: site.sockets[name]},
        assignment=assignment,
        database_url=site.runtime_url,
        group=group,
    )
    supervisor = Supervisor(
        name,
        [
            backend.child_spec(f"{name}-{number}", backoff=GROUP_BACKOFF, abreast=number > 1)
            for number in range(1, settings.processes + 1)
        ],
        intensity=Intensity(restarts=RESTARTS * settings.processes, period=1 * MINUTES),
        kind="group",
    )
    return supervisor


def _giving_way(niceness: int) -> tuple[str, ...]:
    """The beginning of a command: it is to count from the first import on."""
    return ("nice", "-n", str(niceness)) if niceness else ()


def _bounded(group: dict[str, Any]) -> dict[str, Any]:
    if len(group["children"]) <= _SHOWN_WHOLE:
        return group
    return {**group, "children": [{**child, "children": []} for child in group["children"]]}
