"""The supervisors that share a PostgreSQL: who is there, what each runs, who has fallen silent.

Problem. The same configuration runs on several hosts, each with its share of the groups. Whoever
looks at one of them wants to see all, also those that cannot be reached at that moment; and two
that go by the same name would each believe that a group with that name in `hosts` is theirs.

Choice. Each supervisor has a row under its name and says every few seconds that it lives and how
its groups are. Who is not heard of for a *lease* is shown as silent. Names are unique among those
who live: a second supervisor of a name waits for at most one lease whether the first is heard of,
and is refused if so. A supervisor that was killed and starts again need not wait, because it is the
same *site*: the identifier that lies in its state directory, which it has locked.

The row is for people. What must not be done twice (jobs, schedules) has leases and fencing tokens
of its own, by random identifiers and never by names; a host that is cut off loses those whatever
stands here.

Hosts must have a key-encryption key in common, or secrets that one stores are unreadable to the
other: that is checked here, where each can see the other's, by the keys' identities.

Cost: one connection, and two small statements per host and fifth of a lease. Rejected: hosts that
talk to each other (addresses, certificates, and a second opinion about who lives).
"""

import contextlib
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import trio

from troupe.common.database import Database, PoolSettings, open_database
from troupe.common.errors import ConfigurationError, DatabaseError
from troupe.common.files import write_private
from troupe.common.ids import new_id
from troupe.common.logs import get_logger
from troupe.common.sql import load
from troupe.common.units import DAYS, HOURS, SECONDS
from troupe.platform.supervision import Backoff, ChildContext, ChildSpec, Observation

LEASE: Final = 15 * SECONDS
CALL_DEADLINE: Final = 5 * SECONDS
FAREWELL_DEADLINE: Final = 1 * SECONDS
LOOK_AGAIN: Final = 1 * SECONDS
FORGET_AFTER: Final = 7 * DAYS
FORGET_EVERY: Final = 1 * HOURS
_SITE_FILE: Final = "host-id"

_QUERIES: Final = load(__package__, "hosts.sql")
_log = get_logger(__name__)


def site_of(state_directory: Path) -> uuid.UUID:
    """The identifier of a state directory, made when it has none.

    Raises:
        ConfigurationError: The directory takes no file.
    """
    path = state_directory / _SITE_FILE
    with contextlib.suppress(OSError, ValueError):
        return uuid.UUID(path.read_text(encoding="ascii").strip())
    made = uuid.uuid4()
    try:
        state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, f"{made}\n")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a supervisor is.

    Attributes:
        host: Its name.
        site: Of its state directory.
        version: Of the program.
        key_ids: Of its key-encryption keys.
    """

    host: str
    site: uuid.UUID
    version: str
    key_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KnownHost:
    """A supervisor as the database knows it.

    Attributes:
        host: Its name.
        machine: What the system calls itself there.
        pid: Its process there.
        version: Of the program.
        state: ``running``, ``silent`` or ``stopped``.
        groups: Group to what it said last about it.
        started_at: When it took the name.
        age: Seconds since it was heard of.
    """

    host: str
    machine: str
    pid: int
    version: str
    state: str
    groups: Mapping[str, Any]
    started_at: datetime
    age: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "host": self.host,
            "machine": self.machine,
            "pid": self.pid,
            "version": self.version,
            "state": self.state,
            "groups": dict(self.groups),
            "started_at": self.started_at.isoformat(),
            "age_seconds": round(self.age, 1),
        }


class Presence:
    """One supervisor's presence among the others.

    Args:
        identity: Who it is.
        url: Where PostgreSQL is now, for `troupe_runtime`.
        groups: How its groups are now; JSON values. Must be quick, must not fail.
        pool: How connections are treated.
        lease: Seconds without a word after which it counts as silent.

    Attributes:
        known: All hosts, as they were when the database was last asked.
        asked_at: When that was (trio clock).
    """

    def __init__(
        self,
        identity: Identity,
        *,
        url: Callable[[], str],
        groups: Callable[[], Mapping[str, Any]],
        pool: PoolSettings | None = None,
        lease: float = LEASE,
    ) -> None:
        self.known: tuple[KnownHost, ...] = ()
        self.asked_at = trio.current_time()
        self._identity = identity
        self._url = url
        self._groups = groups
        self._pool = pool or PoolSettings()
        self._lease = lease
        self._leaving = trio.Event()
        self._holder = new_id()
        self._forget_at = 0.0
        self._others_keys: dict[str, list[str]] = {}

    def child_spec(self) -> ChildSpec:
        """As a child of the root; the groups stand on it, since their share follows its name."""
        return ChildSpec(
            name="host",
            start=self._live,
            start_deadline=2 * self._lease + 2 * CALL_DEADLINE,
            shutdown=FAREWELL_DEADLINE,
            backoff=Backoff(first=0.5 * SECONDS, limit=10 * SECONDS),
            kind="resource",
        )

    def leave(self) -> None:
        """Say farewell as soon as possible, without waiting for the groups to be gone."""
        self._leaving.set()

    async def _live(self, context: ChildContext) -> None:
        context.observe(self._observation)
        context.when_stopping(self.leave)
        registered = False
        while not self._leaving.is_set():
            url = self._url()
            async with open_database(
                url,
                connections=1,
                application_name="troupe supervisor",
                settings=self._pool,
            ) as database:
                if not registered:
                    await self._register(database)
                    await self._look(database)
                    self._check_keys()
                    context.started()
                    registered = True
                while not self._leaving.is_set() and self._url() == url:
                    with trio.move_on_after(self._lease / 5):
                        await self._leaving.wait()
                        break
                    await self._beat(database)
                if self._leaving.is_set():
                    await self._stop(database)
        await context.stopping.wait()

    def _observation(self) -> Observation:
        running = sum(host.state == "running" for host in self.known)
        return Observation(details={"hosts": len(self.known), "hosts_running": running})

    async def _register(self, database: Database) -> None:
        """Take the name, or wait until whoever has it is heard of or counts as gone.

        Raises:
            ConfigurationError: It is heard of.
        """
        mine = self._identity
        heard: datetime | None = None
        while (row := await self._claim(database)) is not None:
            if heard is not None and row["heartbeat_at"] != heard:
                raise ConfigurationError(
                    f"another supervisor (process {row['pid']} on {row['machine']}) runs as host"
                    f" {mine.host} on this database: give this one another name with --host"
                )
            if heard is None:
                heard = row["heartbeat_at"]
                _log.info("host_name_awaited", host=mine.host, seconds=row["seconds_left"])
            await trio.sleep(min(LOOK_AGAIN, self._lease / 10))
        _log.info("host_registered", host=mine.host)

    async def _claim(self, database: Database) -> asyncpg.Record | None:
        """Take the name if it is free; who has it otherwise."""
        mine = self._identity
        return await database.fetch_row(
            _QUERIES["register"],
            mine.host,
            self._holder,
            mine.site,
            socket.gethostname(),
            os.getpid(),
            mine.version,
            self._lease,
            list(mine.key_ids),
            dict(self._groups()),
            deadline=CALL_DEADLINE,
        )

    def _check_keys(self) -> None:
        """Raise ConfigurationError if a host that lives could not read what this one stores."""
        for host, keys in self._others_keys.items():
            if not set(self._identity.key_ids) & set(keys):
                raise ConfigurationError(
                    f"host {host} has other key-encryption keys: what one stores the other cannot"
                    " read. Give both the same auth.key_encryption_key_file"
                )

    async def _beat(self, database: Database) -> None:
        try:
            ours = await database.fetch_value(
                _QUERIES["beat"],
                self._identity.host,
                self._holder,
                dict(self._groups()),
                deadline=CALL_DEADLINE,
            )
            if not ours:
                # Somebody took the name while we were cut off. It is only a name; we take it
                # again as soon as it is free.
                _log.error("host_name_lost", host=self._identity.host)
                await self._claim(database)
            await self._look(database)
            if trio.current_time() >= self._forget_at:
                self._forget_at = trio.current_time() + FORGET_EVERY
                await database.execute(_QUERIES["forget"], FORGET_AFTER, deadline=CALL_DEADLINE)
        except DatabaseError as error:
            _log.warning("host_not_reported", host=self._identity.host, error=str(error))

    async def _look(self, database: Database) -> None:
        rows = await database.fetch(_QUERIES["known"], read_only=True, deadline=CALL_DEADLINE)
        self._others_keys = {
            row["host"]: row["key_ids"]
            for row in rows
            if row["state"] == "running" and row["holder"] != self._holder
        }
        self.known = tuple(
            KnownHost(
                row["host"],
                row["machine"],
                row["pid"],
                row["version"],
                row["state"],
                row["groups"],
                row["started_at"],
                row["age"],
            )
            for row in rows
        )
        self.asked_at = trio.current_time()

    async def _stop(self, database: Database) -> None:
        try:
            await database.execute(
                _QUERIES["stop"], self._identity.host, self._holder, deadline=FAREWELL_DEADLINE
            )
        except DatabaseError as error:
            _log.warning("host_not_reported", host=self._identity.host, error=str(error))
