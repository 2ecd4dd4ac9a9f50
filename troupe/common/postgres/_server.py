"""The embedded PostgreSQL as a child of this process; `_keeper` says how it is kept.

`start_embedded` is for the program (trio), `start_embedded_sync` for fixtures and scripts; both
take the same steps: claim the state directory, wait for what an earlier run left, find programs,
make or check the cluster, launch on the kept port, wait until ready, make roles and database.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from troupe.common.bridge import aio
from troupe.common.errors import DatabaseError, DatabaseUnavailable
from troupe.common.logs import get_logger
from troupe.common.postgres import _keeper
from troupe.common.postgres._account import Account, choose_account
from troupe.common.postgres._cluster import OpenCluster, ensure_cluster
from troupe.common.postgres._configuration import ClusterSettings, write_configuration
from troupe.common.postgres._installation import Installation, find_installation
from troupe.common.postgres._layout import Layout, Passwords
from troupe.common.postgres._port import choose_port
from troupe.common.postgres._postmaster import Postmaster
from troupe.common.postgres._storage import storage_problems
from troupe.common.postgres.roles import (
    ADMIN,
    DATABASE,
    OWNER,
    RUNTIME,
    connection_url,
    prepare_embedded,
)
from troupe.common.units import SECONDS

_log = get_logger(__name__)
_LAUNCHES: Final = 4  # a port that looked free may be taken by the time PostgreSQL binds it
# What the keeper may need beyond the fast deadline: immediate, kill, its own end.
_KEEPER_MARGIN: Final = 20 * SECONDS


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class EmbeddedPostgres:
    """A running server.

    Attributes:
        port: TCP port on 127.0.0.1.
        pid: Process id of the postmaster.
        data_directory: Its cluster.
        log_directory: Its log files.
    """

    port: int
    pid: int
    data_directory: Path
    log_directory: Path
    _passwords: Passwords
    _postmaster: Postmaster

    @property
    def owner_url(self) -> str:
        """Where `troupe_owner` connects: migrations."""
        return self.url_of(OWNER)

    @property
    def runtime_url(self) -> str:
        """Where `troupe_runtime` connects: everything at run time."""
        return self.url_of(RUNTIME)

    @property
    def admin_url(self) -> str:
        """Where the superuser connects: making roles and databases, nothing else."""
        return self.url_of(ADMIN, "postgres")

    def url_of(self, role: str, database: str = DATABASE) -> str:
        """URL (with the password) under which `role` reaches `database`."""
        passwords = {
            ADMIN: self._passwords.admin,
            OWNER: self._passwords.owner,
            RUNTIME: self._passwords.runtime,
        }
        return connection_url(role, passwords[role], "127.0.0.1", self.port, database)

    async def wait_death(self) -> DatabaseError:
        """Wait until the server ends; several tasks may wait.

        Returns:
            What happened: `PostgresDied`, or `StorageFull` when the disk is the reason. Leave the
            context of `start_embedded` and enter a new one to start again: same data, and the same
            port if it is still free.
        """
        await self._postmaster.wait_ended()
        return self._postmaster.death(self.data_directory)


@dataclass(frozen=True, slots=True)
class _Site:
    """What is needed to launch; the locks that make it ours are in the caller's exit stack."""

    layout: Layout
    settings: ClusterSettings
    account: Account
    installation: Installation
    cluster_lock: int


@asynccontextmanager
async def start_embedded(
    state_directory: Path, settings: ClusterSettings | None = None
) -> AsyncIterator[EmbeddedPostgres]:
    """Run the embedded PostgreSQL while the context is open.

    Needs the bridge (`troupe.common.bridge.open_bridge`) to be open.

    Args:
        state_directory: Where ``postgres/`` is made.
        settings: Defaults when None.

    Raises:
        ConfigurationError: The directory, account, programs or an existing cluster cannot be used.
        StorageFull: No room.
        DatabaseUnavailable: It does not become ready.
    """
    settings = settings or ClusterSettings()
    with ExitStack() as stack:
        site = await trio.to_thread.run_sync(
            partial(_open_site, stack, state_directory, settings, trio.from_thread.check_cancelled)
        )
        for _ in range(_LAUNCHES):
            port = choose_port(site.layout.port())
            postmaster = await trio.to_thread.run_sync(_launch, site, port)
            try:
                with trio.move_on_after(settings.start_deadline):
                    await postmaster.wait_ready()
                if _is_ready(postmaster, site):
                    server = _server(site, port, postmaster)
                    await aio(
                        prepare_embedded(server.admin_url, server.owner_url, server.runtime_url)
                    )
                    yield server
                    return
            finally:
                await postmaster.end(settings.fast_deadline + _KEEPER_MARGIN)
        raise DatabaseUnavailable("PostgreSQL found no free port on 127.0.0.1.")


@contextmanager
def start_embedded_sync(
    state_directory: Path, settings: ClusterSettings | None = None
) -> Iterator[EmbeddedPostgres]:
    """`start_embedded` for code that runs outside trio: fixtures and scripts."""
    settings = settings or ClusterSettings()
    with ExitStack() as stack:
        site = _open_site(stack, state_directory, settings, lambda: None)
        for _ in range(_LAUNCHES):
            port = choose_port(site.layout.port())
            postmaster = _launch(site, port)
            try:
                postmaster.wait_ready_sync(settings.start_deadline)
                if _is_ready(postmaster, site):
                    server = _server(site, port, postmaster)
                    asyncio.run(
                        prepare_embedded(server.admin_url, server.owner_url, server.runtime_url)
                    )
                    yield server
                    return
            finally:
                postmaster.end_sync(settings.fast_deadline + _KEEPER_MARGIN)
        raise DatabaseUnavailable("PostgreSQL found no free port on 127.0.0.1.")


def _open_site(
    stack: ExitStack,
    state_directory: Path,
    settings: ClusterSettings,
    checkpoint: Callable[[], None],
) -> _Site:
    layout = Layout(state_directory.absolute())
    with storage_problems(state_directory):
        layout.make()
        stack.enter_context(layout.lock_supervisor())
        lock = stack.enter_context(layout.lock_cluster(settings.lock_deadline, checkpoint))
        account = choose_account(settings.account, layout.data)
        installation = find_installation(account, settings.program_cache)
        if not layout.data.exists():
            _log.info("postgres_cluster_making", directory=str(layout.data), account=account.name)
        ensure_cluster(layout, account, installation, settings, lock, checkpoint)
        layout.make_log(account)
    return _Site(layout, settings, account, installation, lock.descriptor)


def _launch(site: _Site, port: int) -> Postmaster:
    with storage_problems(site.layout.root), ExitStack() as stack:
        write_configuration(site.layout, site.account, site.settings, port)
        cluster = OpenCluster(site.layout.data, site.account)
        stack.callback(cluster.close)
        log = os.open(site.layout.log, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        stack.callback(os.close, log)
        foreign = site.account.foreign
        return Postmaster(
            _keeper.Orders(
                postgres=str(site.installation.postgres),
                data=cluster.locator,
                uid=site.account.uid if foreign else None,
                gid=site.account.gid if foreign else None,
                log_directory=log,
                inherited=[cluster.descriptor, site.cluster_lock],
                fast_deadline=site.settings.fast_deadline,
                log_bytes=site.settings.log_bytes,
                log_files=site.settings.log_files,
            )
        )


def _is_ready(postmaster: Postmaster, site: _Site) -> bool:
    """Whether PostgreSQL is ready; False when only its port was taken meanwhile.

    Raises:
        DatabaseError: It ended, or is not ready although its deadline has passed.
    """
    if postmaster.ended:
        if postmaster.port_was_taken:
            return False
        raise postmaster.death(site.layout.data)
    if not postmaster.ready:
        raise DatabaseUnavailable(
            f"PostgreSQL was not ready within {site.settings.start_deadline:.0f} s; see"
            f" {site.layout.log}."
        )
    return True


def _server(site: _Site, port: int, postmaster: Postmaster) -> EmbeddedPostgres:
    with storage_problems(site.layout.root):
        site.layout.keep_port(port)
        passwords = site.layout.passwords()
    _log.info("postgres_ready", port=port, pid=postmaster.pid)
    return EmbeddedPostgres(
        port=port,
        pid=postmaster.pid,
        data_directory=site.layout.data,
        log_directory=site.layout.log,
        _passwords=passwords,
        _postmaster=postmaster,
    )
