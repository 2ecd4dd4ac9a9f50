"""The composition root: from a configuration to sockets to a running supervision tree.

::

    troupe                       one_for_one; never gives up on a group
    ├── postgres                 the embedded server, when no other is configured
    ├── migrations               once, before any group
    ├── auth                     a group: its own database pool, actors and HTTP server, on 8003
    ├── data                     …on 8002, in this process or in processes of its own
    └── analytics                …on 8001

The root owns the listening sockets. They are bound before anything else starts, so a port that is
taken is an error at once and not after a minute of start-up; and they stay open while a group is
restarted, so that its callers wait in the kernel's queue instead of being refused.

An unexpected exception anywhere in a group ends at most that group; the root starts it again.
Stopping goes backwards: the groups drain first, all at the same time, and PostgreSQL stops last.

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
from pathlib import Path
from socket import socket
from typing import Final

import trio

from troupe.common.bridge import aio, open_bridge
from troupe.common.config import Configuration
from troupe.common.errors import (
    CallerError,
    ConfigurationError,
    DatabaseUnavailable,
    TroupeError,
)
from troupe.common.files import write_private
from troupe.common.logs import get_logger
from troupe.common.migrate import migrate
from troupe.common.postgres import (
    ClusterSettings,
    EmbeddedPostgres,
    prepare_external,
    start_embedded,
)
from troupe.common.units import MILLISECONDS, MINUTES, SECONDS
from troupe.http.server import bind, url_of
from troupe.placement import check_placements, connections_needed, place
from troupe.platform.last_resort import call_off, forced_end
from troupe.platform.supervision import (
    Backoff,
    ChildContext,
    ChildSpec,
    Intensity,
    Restart,
    Snapshot,
    Supervisor,
)
from troupe.platform.systemd import Systemd
from troupe.wiring import GROUPS, Site, key_ring

POSTGRES_START: Final = 3 * MINUTES
POSTGRES_STOP: Final = 45 * SECONDS
MIGRATION_DEADLINE: Final = 30 * MINUTES
FORCED_AFTER: Final = 800 * MILLISECONDS
"""Beyond the grace: groups whose end is held up by then are ended with the process."""
_RUN_FILE: Final = "run.json"

# With this backoff no group can fail as often as that: the root never gives up on one group, which
# would take the other two down with it.
_PATIENCE: Final = Intensity(restarts=1000, period=1 * MINUTES)

_log = get_logger(__name__)


class StoppedEarly(TroupeError):
    """The installation was asked to stop before it was ready."""


class NotRunning(CallerError):
    """No supervisor runs on the state directory."""


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


@dataclass
class _DatabaseUrls:
    """Where PostgreSQL is; known once it runs, and again after it was restarted elsewhere."""

    owner: str = ""
    runtime: str = ""


@dataclass(frozen=True)
class Installation:
    """What one supervisor process runs.

    Attributes:
        configuration: In force.
        urls: Group to the URL of its port.
        tree: The supervision tree's root.
    """

    configuration: Configuration
    urls: Mapping[str, str]
    tree: Supervisor
    _database: _DatabaseUrls = field(repr=False)

    @property
    def runtime_url(self) -> str:
        """Where `troupe_runtime` connects."""
        return self._database.runtime

    def snapshot(self) -> Snapshot:
        """The tree as it is now."""
        return self.tree.snapshot()

    def request_stop(self) -> None:
        """Begin the orderly shutdown; harmless when repeated."""
        self.tree.request_stop()


def check_supported(configuration: Configuration) -> None:
    """Refuse what this version cannot do, instead of doing something else.

    Raises:
        ConfigurationError: A placement that is not available, or half a database.
    """
    database = configuration.database
    if bool(database.url.get_secret_value()) != bool(database.runtime_url.get_secret_value()):
        raise ConfigurationError("database.url and database.runtime_url go together")
    check_placements(configuration)


def _postgres(configuration: Configuration, urls: _DatabaseUrls) -> ChildSpec:
    settings = ClusterSettings(
        max_connections=connections_needed(configuration),
        account=configuration.database.embedded_account,
    )

    async def start(child: ChildContext) -> None:
        async with start_embedded(configuration.state_directory, settings) as server:
            _adopt(urls, server)
            child.started(server.port)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_fail_on_death, server)
                await child.stopping.wait()
                call_off()  # every group is gone
                nursery.cancel_scope.cancel()

    return ChildSpec(
        name="postgres",
        start=start,
        kind="process",
        start_deadline=POSTGRES_START,
        shutdown=POSTGRES_STOP,
        backoff=Backoff(first=0.5 * SECONDS, limit=10 * SECONDS),
    )


def _adopt(urls: _DatabaseUrls, server: EmbeddedPostgres) -> None:
    urls.owner, urls.runtime = server.owner_url, server.runtime_url


async def _fail_on_death(server: EmbeddedPostgres) -> None:
    raise await server.wait_death()


def _migrations(configuration: Configuration, urls: _DatabaseUrls) -> ChildSpec:
    async def start(child: ChildContext) -> None:
        if configuration.database.url.get_secret_value():
            await aio(prepare_external(urls.owner, urls.runtime))
        await migrate(urls.owner)
        child.started()

    return ChildSpec(
        name="migrations",
        start=start,
        restart=Restart.TRANSIENT,
        start_deadline=MIGRATION_DEADLINE,
    )


def _bind_all(configuration: Configuration, stack: ExitStack) -> dict[str, socket]:
    sockets: dict[str, socket] = {}
    for name in GROUPS:
        settings = configuration.groups.named(name)
        sockets[name] = stack.enter_context(bind(settings.host, settings.port))
    return sockets


def _build(configuration: Configuration, sockets: Mapping[str, socket]) -> Installation:
    database = configuration.database
    urls = _DatabaseUrls(database.url.get_secret_value(), database.runtime_url.get_secret_value())
    children: list[ChildSpec] = []
    if not urls.owner:
        children.append(_postgres(configuration, urls))
    children.append(_migrations(configuration, urls))

    def snapshot() -> Snapshot:
        return tree.snapshot()

    def runtime_url() -> str:
        if not urls.runtime:
            raise DatabaseUnavailable("PostgreSQL has not started yet")
        return urls.runtime

    site = Site(
        configuration=configuration,
        sockets=sockets,
        urls={name: url_of(listener) for name, listener in sockets.items()},
        runtime_url=runtime_url,
        keys=key_ring(configuration),
        snapshot=snapshot,
    )
    # Groups do not stand on one another: they start together and drain together.
    children += [place(site, name, abreast=position > 0) for position, name in enumerate(GROUPS)]
    tree = Supervisor("troupe", children, intensity=_PATIENCE)
    return Installation(configuration, site.urls, tree, urls)


@asynccontextmanager
async def open_installation(
    configuration: Configuration, *, stop: trio.Event | None = None
) -> AsyncIterator[Installation]:
    """Run everything while the context is open; all of it is ready when it is entered.

    However the context is left, the tree stops in its own order, and its deadlines bound how long
    that takes.

    Args:
        configuration: What to run.
        stop: Set it to stop in an orderly way, also before everything is ready.

    Raises:
        ConfigurationError: Something in the configuration cannot be used.
        StoppedEarly: `stop` was set before everything was ready.
        TroupeError: Something did not start; the message says what.
    """
    check_supported(configuration)
    with ExitStack() as stack:
        sockets = _bind_all(configuration, stack)
        async with open_bridge():
            installation = _build(configuration, sockets)
            async with trio.open_nursery() as nursery:
                life = _Life()
                nursery.start_soon(life.live, installation.tree)
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


async def run(
    configuration: Configuration, *, on_ready: Callable[[Installation], None] | None = None
) -> None:
    """Run an installation until a signal asks it to stop; systemd, if there is one, is told.

    Args:
        configuration: What to run.
        on_ready: Called once everything is ready.

    Raises:
        TroupeError: Something did not start, or the tree failed.
    """
    stop = trio.Event()
    systemd = Systemd()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signals, stop)
        nursery.start_soon(systemd.keep_alive)
        last = configuration.shutdown.grace + FORCED_AFTER
        try:
            with forced_end(signal.SIGTERM, signal.SIGINT, after=last):
                async with open_installation(configuration, stop=stop) as installation:
                    systemd.ready()
                    if on_ready is not None:
                        on_ready(installation)
                    await stop.wait()
                    systemd.stopping()
        except* StoppedEarly:
            _log.info("stopped_early")
        nursery.cancel_scope.cancel()
    _log.info("troupe_stopped")
