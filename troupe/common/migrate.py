"""Migrations: numbered SQL files, applied once each, forward only.

Files lie in the package `troupe.common.migrations`::

    0007_name.sql          before-deploy: what the new program needs and the old one tolerates
    0007_name.after.sql    after-deploy: what must wait until no old program runs

They are applied in the order of their numbers, "before" ahead of "after". Each runs in one
transaction of its own together with its row in the ledger ``platform.migrations``: it is there
wholly or not at all. A file that had to wait for a lock for 4 s fails instead of queueing every
query behind it; it can be run again.

What has been applied is frozen. A file that was changed or removed since, or a new one that sorts
before an applied one, is refused: migrating an old database and creating a fresh one must give the
same, and the ledger's digests are how that is known.

Every step takes an advisory lock inside its transaction and reads the ledger again, so supervisors
that start together apply each file once. The lock lives as long as the transaction (a session's
lock would be lost behind a pooler). Rejected: a migration framework with Python in migrations, down
migrations (they are never tested and lose data).
"""

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import asyncpg

from troupe.common.bridge import aio
from troupe.common.errors import ConfigurationError, DatabaseError
from troupe.common.logs import get_logger
from troupe.common.postgres.roles import connected, said
from troupe.common.sql import load
from troupe.common.units import MILLISECONDS, MINUTES, SECONDS

LOCK_TIMEOUT: Final = 4 * SECONDS
STATEMENT_TIMEOUT: Final = 10 * MINUTES
TURN_TIMEOUT: Final = 15 * MINUTES
"""Seconds to wait while another runner applies a file."""

_QUERIES: Final = load("troupe.common", "migrate.sql")
_NAME: Final = re.compile(r"(?P<number>[0-9]{4})_(?P<name>[a-z0-9_]+)(?P<after>\.after)?\.sql")
_TRANSACTION_CONTROL: Final = re.compile(
    r"^\s*(BEGIN|COMMIT|ROLLBACK|START\s+TRANSACTION)(\s+(WORK|TRANSACTION))?\s*;",
    re.IGNORECASE | re.MULTILINE,
)
_log = get_logger(__name__)


class Phase(StrEnum):
    """When a migration runs, relative to the deployment of the program that needs it."""

    BEFORE = "before"
    AFTER = "after"


class MigrationFailed(DatabaseError):
    """A migration could not be applied; it left nothing behind."""


class MigrationsDiffer(ConfigurationError):
    """The files are not those that this database was migrated with."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file.

    Attributes:
        number: 1 to 9999.
        phase: Before or after the deployment.
        name: The file's name without number and suffix.
        sql: Its text.
    """

    number: int
    phase: Phase
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the text, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def position(self) -> tuple[int, bool]:
        """Where it stands in the order."""
        return self.number, self.phase is Phase.AFTER

    def __str__(self) -> str:
        suffix = ".after" if self.phase is Phase.AFTER else ""
        return f"{self.number:04}_{self.name}{suffix}.sql"


def read_migrations(directory: Traversable | None = None) -> tuple[Migration, ...]:
    """All migrations in order.

    Args:
        directory: Where the files are; the package's own by default.

    Raises:
        ConfigurationError: A name that does not fit, a number used twice in a phase, or a file that
            begins or ends transactions itself.
    """
    found: dict[tuple[int, bool], Migration] = {}
    for file in (directory or files("troupe.common.migrations")).iterdir():
        if not file.name.endswith(".sql"):
            continue
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise ConfigurationError(f"{file.name}: migrations are named 0001_name[.after].sql.")
        migration = Migration(
            number=int(match["number"]),
            phase=Phase.AFTER if match["after"] else Phase.BEFORE,
            name=match["name"],
            sql=file.read_text(encoding="utf-8"),
        )
        if twin := found.get(migration.position):
            raise ConfigurationError(f"{migration} and {twin} have the same number.")
        if _TRANSACTION_CONTROL.search(migration.sql):
            raise ConfigurationError(f"{migration} must leave transactions to the runner.")
        found[migration.position] = migration
    return tuple(found[position] for position in sorted(found))


def pending(
    migrations: Sequence[Migration], applied: Sequence[tuple[int, Phase, str]]
) -> list[Migration]:
    """The migrations that are still to be applied, in order.

    Args:
        migrations: All that there are, in order.
        applied: Number, phase and digest of those that the ledger names.

    Raises:
        MigrationsDiffer: An applied one is changed or missing, or a new one sorts before it.
    """
    known = {(migration.number, migration.phase): migration for migration in migrations}
    for number, phase, digest in applied:
        there = known.pop((number, phase), None)
        if there is None:
            raise MigrationsDiffer(
                f"Migration {number:04} ({phase}) was applied to this database but its file is"
                " missing: this program is older than the database."
            )
        if there.sha256 != digest:
            raise MigrationsDiffer(f"{there} was changed after it had been applied.")
    last = {phase: max((n for n, p, _ in applied if p is phase), default=0) for phase in Phase}
    for migration in known.values():
        if migration.number < last[migration.phase]:
            raise MigrationsDiffer(
                f"{migration} is new, but {last[migration.phase]:04} was applied before it: give it"
                " a higher number."
            )
    return sorted(known.values(), key=lambda migration: migration.position)


async def migrate(
    url: str,
    *,
    migrations: Sequence[Migration] | None = None,
    phases: Sequence[Phase] = tuple(Phase),
) -> list[Migration]:
    """Bring the database up to date. Needs the bridge to be open.

    Args:
        url: Of `troupe_owner`, or of a role that may become it; direct or through a pooler.
        migrations: The package's own by default.
        phases: Which to apply; both by default.

    Returns:
        Those that were applied by this call, in order.

    Raises:
        MigrationFailed: One failed; those before it stay applied.
        MigrationsDiffer: The files do not continue what was applied.
        ConfigurationError: The server refuses the connection.
        DatabaseUnavailable: The server does not answer.
        StorageFull: No room.
    """
    return await aio(migrate_in_asyncio(url, migrations=migrations, phases=phases))


async def migrate_in_asyncio(
    url: str,
    *,
    migrations: Sequence[Migration] | None = None,
    phases: Sequence[Phase] = tuple(Phase),
) -> list[Migration]:
    """`migrate` as an asyncio coroutine, for code that runs outside trio."""
    known = read_migrations() if migrations is None else tuple(migrations)
    applied: list[Migration] = []
    async with connected(url, statement_deadline=TURN_TIMEOUT + STATEMENT_TIMEOUT) as connection:
        while step := await _apply_next(connection, known, phases):
            applied.append(step)
    _log.info("database_up_to_date", applied=len(applied), known=len(known))
    return applied


async def _apply_next(
    connection: asyncpg.Connection, known: Sequence[Migration], phases: Sequence[Phase]
) -> Migration | None:
    """Apply the first pending migration of `phases`; None when there is none."""
    async with connection.transaction():
        await connection.execute(_QUERIES["become_owner"])
        await _set_timeouts(connection, TURN_TIMEOUT, TURN_TIMEOUT)
        await connection.execute(_QUERIES["take_turn"])
        if not await connection.fetchval(_QUERIES["has_ledger"]):
            await connection.execute(_QUERIES["make_ledger"])
        ledger = [
            (row["number"], Phase(row["phase"]), row["sha256"])
            for row in await connection.fetch(_QUERIES["ledger"])
        ]
        for migration in pending(known, ledger):
            if migration.phase in phases:
                await _apply(connection, migration)
                return migration
    return None


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    started = time.monotonic()
    await _set_timeouts(connection, LOCK_TIMEOUT, STATEMENT_TIMEOUT)
    transaction = await connection.fetchval(_QUERIES["transaction"])
    try:
        await connection.execute(migration.sql)
    except asyncpg.LockNotAvailableError as error:
        raise MigrationFailed(
            f"{migration} did not get a lock within {LOCK_TIMEOUT:.0f} s; nothing was changed:"
            " run it again when the database is less busy."
        ) from error
    except (asyncpg.DiskFullError, asyncpg.PostgresConnectionError):
        raise  # not the migration's fault; `connected` says what it means
    except asyncpg.PostgresError as error:
        where = _line(migration.sql, error)
        raise MigrationFailed(
            f"{migration}{where} failed: {said(error)}; nothing was changed."
        ) from error
    if await connection.fetchval(_QUERIES["transaction"]) != transaction:
        raise MigrationFailed(f"{migration} ended the transaction that it runs in.")
    await connection.execute(
        _QUERIES["record"],
        migration.number,
        migration.phase.value,
        migration.name,
        migration.sha256,
    )
    seconds = round(time.monotonic() - started, 3)
    _log.info("migration_applied", migration=str(migration), seconds=seconds)


async def _set_timeouts(connection: asyncpg.Connection, lock: float, statement: float) -> None:
    milliseconds = [str(round(seconds / MILLISECONDS)) for seconds in (lock, statement)]
    await connection.execute(_QUERIES["set_timeouts"], *milliseconds)


def _line(sql: str, error: asyncpg.PostgresError) -> str:
    """Where in the file the server found the problem, if it says so: ``, line 12,``."""
    position = getattr(error, "position", None)
    if position is None:
        return ""
    return f", line {sql.count(chr(10), 0, int(position)) + 1},"
