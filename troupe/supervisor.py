"""The composition root: from a configuration to sockets to a running supervision tree.

::

    troupe                       one_for_one; never gives up on a group
    ├── postgres                 the embedded server, when no other is configured
    ├── migrations               once, before any group
    ├── host                     tells the other hosts on the same PostgreSQL that we live
    ├── auth                     a group: its own database pool, actors and HTTP server, on 8003
    ├── data                     …on 8002, in this process or in processes of its own
    └── analytics                …on 8001

The root owns the listening sockets. They are bound before anything else starts, so a port that is
taken is an error at once and not after a minute of start-up; and they stay open while a group is
restarted, so that its callers wait in the kernel's queue instead of being refused.

An unexpected exception anywhere in a group ends at most that group; the root starts it again.
Stopping goes backwards: the groups drain first, all at the same time, and PostgreSQL stops last.

While it runs, commands reach it over a socket of its own (`troupe.control`), and another
configuration may follow (`troupe.reload`); SIGHUP asks for that as well.

This is the one module that may know every part (with `troupe.wiring`, which says what each group
consists of, and `troupe.placement`, which says where it runs). It contains no behaviour of its own
beyond the order of things.
"""

import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from socket import socket
from typing import Any, Final

import trio

from troupe.common.bridge import open_bridge
from troupe.common.config import Configuration, Placement
from troupe.common.errors import (
    CallerError,
    ConfigurationError,
    DatabaseUnavailable,
    TroupeError,
)
from troupe.common.files import write_private
from troupe.common.logs import get_logger
from troupe.common.niceness import reserved
from troupe.common.scaling import KEYS, Source
from troupe.common.units import MILLISECONDS, MINUTES
from troupe.control import (
    AskReload,
    AskScale,
    AskStatus,
    NotRunning,
    Request,
    listening,
    serve_control,
    sole_supervisor,
)
from troupe.ground import DatabaseUrls, migrations_child, postgres_child
from troupe.http.server import bind, url_of
from troupe.placement import (
    LEAST_CONNECTIONS,
    check_placements,
    connections_needed,
    groups_here,
)
from troupe.platform.hosts import Identity, Presence, site_of
from troupe.platform.last_resort import forced_end
from troupe.platform.responsiveness import keep_collections_short
from troupe.platform.supervision import (
    ChildContext,
    ChildSpec,
    Intensity,
    Snapshot,
    State,
    Supervisor,
)
from troupe.platform.systemd import Systemd
from troupe.reload import LiveGroups, Outcome, Rescaling, elsewhere
from troupe.wiring import GROUPS, Site, key_ring, pool_settings

FORCED_AFTER: Final = 800 * MILLISECONDS
"""Beyond the grace: groups whose end is held up by then are ended with the process."""
_RUN_FILE: Final = "run.json"

# With this backoff no group can fail as often as that: the root never gives up on one group, which
# would take the other two down with it.
_PATIENCE: Final = Intensity(restarts=1000, period=1 * MINUTES)

_log = get_logger(__name__)


class StoppedEarly(TroupeError):
    """The installation was asked to stop before it was ready."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """What a running supervisor tells commands on the same host, in ``run.json``."""

    pid: int
    urls: dict[str, str]


def read_run_file(state_directory: Path) -> RunFile:
    """Read the run file of the supervisor on this state directory.

    Raises:
        NotRunning: There is none.
    """
    try:
        return RunFile(**json.loads((state_directory / _RUN_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise NotRunning(
            f"No Troupe is running on {state_directory}: start one with 'troupe up'."
        ) from None


@contextmanager
def _run_file(installation: "Installation") -> Iterator[None]:
    path = installation.configuration.state_directory / _RUN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, json.dumps({"pid": os.getpid(), "urls": dict(installation.urls)}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Installation:
    """What one supervisor process runs.

    Attributes:
        source: Where the configuration came from; None: it cannot be read again.
        tree: The supervision tree's root.
        groups: The groups of this host.
        presence: This host among the others.
    """

    source: Source | None
    tree: Supervisor
    groups: LiveGroups
    presence: Presence
    _database: DatabaseUrls = field(repr=False)

    @property
    def configuration(self) -> Configuration:
        """In force."""
        return self.groups.configuration

    @property
    def urls(self) -> Mapping[str, str]:
        """Group to the URL of its port; those that run here."""
        return {name: self.groups.site.urls[name] for name in groups_here(self.configuration)}

    @property
    def runtime_url(self) -> str:
        """Where `troupe_runtime` connects."""
        return self._database.runtime

    def snapshot(self) -> Snapshot:
        """The tree as it is now."""
        return self.tree.snapshot()

    def request_stop(self) -> None:
        """Begin the orderly shutdown; harmless when repeated."""
        self.presence.leave()
        self.tree.request_stop()

    async def reload(self) -> Outcome:
        """Read the configuration again and put it into force.

        Raises:
            ConfigurationError: It cannot be used; the one in force stays in force.
            NotApplied: Something of it did not start; likewise.
        """
        source = self._source()
        try:
            return await self.groups.apply(lambda _before: _read(source))
        except TroupeError as error:
            _log.error("configuration_refused", reason=str(error))
            raise

    async def scale(self, group: str, values: Mapping[str, int | Placement]) -> Outcome:
        """Change sizes of a group, and keep them for the next start.

        Args:
            group: Which one.
            values: Key to value, of `troupe.common.scaling.KEYS`; none: forget what was scaled.

        Raises:
            ConfigurationError: It cannot be used; nothing was changed.
            NotApplied: Something of it did not start; likewise.
        """
        return await Rescaling(self._source(), group, values).apply(self.groups)

    def _source(self) -> Source:
        """Where to read the configuration again, if it may change now."""
        if self.source is None:
            raise CallerError("this Troupe was not started from a configuration that can change")
        if self.tree.snapshot().state is not State.RUNNING:
            raise CallerError("Troupe is starting or stopping: try again when it runs")
        return self.source

    def status(self) -> dict[str, Any]:
        """Everything at this moment; JSON values."""
        tree = self.snapshot()
        children = {child.name: child for child in reversed(tree.children)}
        here = groups_here(self.configuration)
        return {
            "pid": os.getpid(),
            "host": self.configuration.host,
            "state": tree.state.value,
            "urls": dict(self.urls),
            "groups": {name: children[name].as_dict() for name in here if name in children},
            "parts": [child.as_dict() for child in tree.children if child.name not in GROUPS],
            "leaving": [
                child.as_dict()
                for child in tree.children
                if child.name in GROUPS and "generation" in child.details
            ],
            "hosts": [host.as_dict() for host in self.presence.known],
            "hosts_asked_seconds_ago": round(trio.current_time() - self.presence.asked_at, 1),
        }


def _read(source: Source) -> Configuration:
    configuration = source.load()
    check_supported(configuration)
    return configuration


def check_supported(configuration: Configuration) -> None:
    """Refuse what this version cannot do, instead of doing something else.

    Raises:
        ConfigurationError: A placement that is not available, or half a database.
    """
    database = configuration.database
    if bool(database.url.get_secret_value()) != bool(database.runtime_url.get_secret_value()):
        raise ConfigurationError("database.url and database.runtime_url go together")
    check_placements(configuration)


def _bind_all(configuration: Configuration, stack: ExitStack) -> dict[str, socket]:
    sockets: dict[str, socket] = {}
    for name in groups_here(configuration):
        settings = configuration.groups.named(name)
        sockets[name] = stack.enter_context(bind(settings.host, settings.port))
    return sockets


def _build(
    configuration: Configuration, source: Source | None, sockets: dict[str, socket]
) -> Installation:
    database = configuration.database
    urls = DatabaseUrls(database.url.get_secret_value(), database.runtime_url.get_secret_value())
    connections = max(LEAST_CONNECTIONS, connections_needed(configuration))
    children: list[ChildSpec] = []
    embedded = not urls.owner
    if embedded:
        children.append(postgres_child(configuration, urls, connections))
    children.append(migrations_child(configuration, urls))

    def snapshot() -> Snapshot:
        return tree.snapshot()

    def runtime_url() -> str:
        if not urls.runtime:
            raise DatabaseUnavailable("PostgreSQL has not started yet")
        return urls.runtime

    def states() -> dict[str, Any]:
        return _states(tree.snapshot(), groups.site)

    site = Site(
        configuration=configuration,
        sockets=sockets,
        urls={
            name: url_of(sockets[name]) if name in sockets else elsewhere(configuration, name)
            for name in GROUPS
        },
        runtime_url=runtime_url,
        keys=key_ring(configuration),
        snapshot=snapshot,
        reserved=reserved(configuration.processors.reserved),
    )
    presence = Presence(
        Identity(
            host=configuration.host,
            site=site_of(configuration.state_directory),
            version=version("troupe"),
            key_ids=site.keys.identities,
        ),
        url=runtime_url,
        groups=states,
        pool=pool_settings(configuration),
    )
    children.append(presence.child_spec())
    groups = LiveGroups(site, lambda: tree, connections=connections if embedded else None)
    tree = Supervisor("troupe", [*children, *groups.specifications()], intensity=_PATIENCE)
    return Installation(source, tree, groups, presence, urls)


def _states(tree: Snapshot, site: Site) -> dict[str, Any]:
    """What the other hosts are told about the groups here."""
    told = {}
    for name in groups_here(site.configuration):
        try:
            group = tree.find(name)
        except KeyError:
            continue
        running = [c for c in group.children if c.kind == "process" and c.state is State.RUNNING]
        told[name] = {
            "state": group.state.value,
            "ready": group.ready,
            "placement": site.settings(name).placement.value,
            "processes": len(running),
            "url": site.urls[name],
        }
    return told


@asynccontextmanager
async def open_installation(
    configuration: Configuration,
    *,
    stop: trio.Event | None = None,
    source: Source | None = None,
) -> AsyncIterator[Installation]:
    """Run everything while the context is open; all of it is ready when it is entered.

    However the context is left, the tree stops in its own order, and its deadlines bound how long
    that takes.

    Args:
        configuration: What to run.
        stop: Set it to stop in an orderly way, also before everything is ready.
        source: Where the configuration came from, to read it again.

    Raises:
        ConfigurationError: Something in the configuration cannot be used.
        StoppedEarly: `stop` was set before everything was ready.
        TroupeError: Something did not start; the message says what.
    """
    check_supported(configuration)
    with ExitStack() as stack:
        stack.enter_context(sole_supervisor(configuration.state_directory))
        sockets = _bind_all(configuration, stack)
        control = stack.enter_context(listening(configuration.state_directory))
        async with open_bridge():
            installation = _build(configuration, source, sockets)
            stack.callback(installation.groups.close)
            async with trio.open_nursery() as nursery:
                life = _Life()
                nursery.start_soon(life.live, installation.tree)
                nursery.start_soon(serve_control, control, partial(_obey, installation))
                if stop is not None:
                    nursery.start_soon(_stop_when, stop, installation)
                try:
                    await life.settled.wait()
                    if not life.ready:
                        raise life.failure or StoppedEarly("stopped before everything was ready")
                    with _run_file(installation):
                        _log.info("troupe_ready", **installation.urls)
                        yield installation
                finally:
                    installation.request_stop()
                    with trio.CancelScope(shield=True):
                        await life.ended.wait()
                nursery.cancel_scope.cancel()


async def _obey(installation: Installation, request: Request) -> dict[str, Any]:
    """Answer one request that came over the control socket."""
    match request:
        case AskStatus():
            await trio.lowlevel.checkpoint()
            return installation.status()
        case AskReload():
            return (await installation.reload()).as_dict()
        case AskScale():
            values = {key: getattr(request, key) for key in KEYS}
            wanted = {key: value for key, value in values.items() if value is not None}
            if request.placement is not None:
                wanted["placement"] = Placement(request.placement)
            if bool(wanted) is request.reset:
                raise CallerError("say either what to change or --reset")
            return (await installation.scale(request.group, wanted)).as_dict()


class _Life:
    """The tree's run: whether it became ready, why it did not, and when it has ended."""

    def __init__(self) -> None:
        self.ready = False
        self.failure: TroupeError | None = None
        self.settled = trio.Event()
        self.ended = trio.Event()

    def _on_started(self, _value: object) -> None:
        self.ready = True
        self.settled.set()

    async def live(self, tree: Supervisor) -> None:
        # The tree is never cancelled, only asked to stop: its order is what keeps data safe.
        try:
            with trio.CancelScope(shield=True):
                await tree.run(ChildContext(tree.name, on_started=self._on_started))
        except TroupeError as error:
            if self.ready:
                raise
            self.failure = error
        finally:
            self.ended.set()
            self.settled.set()


async def _stop_when(stop: trio.Event, installation: Installation) -> None:
    await stop.wait()
    installation.request_stop()


async def stop_on_signals(
    stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Turn SIGTERM and SIGINT into an orderly stop; a second one changes nothing.

    The deadlines of the tree bound how long stopping takes, so there is nothing to hurry.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            _log.info("stop_requested", signal=signal.Signals(number).name)
            stop.set()


async def reload_on_signal(
    installation: Installation,
    systemd: Systemd,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Reload whenever SIGHUP comes; those that come meanwhile are one.

    The log says what came of it.
    """
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _number in signals:
            systemd.reloading()
            try:
                await installation.reload()
            except TroupeError:
                pass  # it was logged, and the old configuration is in force
            except Exception:  # noqa: BLE001 - a mistake of ours in a reload must not end it all
                _log.exception("reload_failed")
            systemd.ready()


async def run(
    configuration: Configuration,
    *,
    on_ready: Callable[[Installation], None] | None = None,
    source: Source | None = None,
) -> None:
    """Run an installation until a signal asks it to stop; systemd, if there is one, is told.

    Args:
        configuration: What to run.
        on_ready: Called once everything is ready.
        source: Where the configuration came from, to read it again.

    Raises:
        TroupeError: Something did not start, or the tree failed.
    """
    stop = trio.Event()
    systemd = Systemd()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signals, stop)
        nursery.start_soon(systemd.keep_alive)
        nursery.start_soon(keep_collections_short)
        in_force = [lambda: configuration]  # a reload may have changed the grace

        def last() -> float:
            return in_force[-1]().shutdown.grace + FORCED_AFTER

        try:
            with forced_end(signal.SIGTERM, signal.SIGINT, after=last):
                async with open_installation(
                    configuration, stop=stop, source=source
                ) as installation:
                    in_force.append(lambda: installation.configuration)
                    await nursery.start(reload_on_signal, installation, systemd)
                    systemd.ready()
                    if on_ready is not None:
                        on_ready(installation)
                    await stop.wait()
                    systemd.stopping()
        except* StoppedEarly:
            _log.info("stopped_early")
        nursery.cancel_scope.cancel()
    _log.info("troupe_stopped")
