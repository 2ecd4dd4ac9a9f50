"""The PostgreSQL that all contenders share, with a fresh database for every measurement.

It is the embedded server with the settings the program itself runs with: durable, in a directory
of its own. Databases are copies of one that the contender prepared, so that preparing is no part
of what is measured.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from troupe.common.postgres import EmbeddedPostgres
from troupe.common.postgres.roles import ADMIN, OWNER, RUNTIME, create_database

_TICKS: Final = os.sysconf("SC_CLK_TCK")
CALM_DEADLINE: Final = 120.0
"""Seconds for cleaning up before a measurement."""


@dataclass(frozen=True)
class Arena:
    """Databases on one server.

    Attributes:
        server: Where they are.
    """

    server: EmbeddedPostgres

    def urls(self, database: str) -> dict[str, str]:
        """URLs by role, as `worker.url_of` reads them."""
        roles = {"admin": ADMIN, "owner": OWNER, "runtime": RUNTIME}
        return {name: self.server.url_of(role, database) for name, role in roles.items()}

    @asynccontextmanager
    async def connected(self, database: str) -> AsyncIterator[asyncpg.Connection]:
        """The superuser's connection, to look at a database from outside."""
        connection = await asyncpg.connect(self.urls(database)["admin"])
        try:
            yield connection
        finally:
            await connection.close(timeout=10)

    async def make(self, database: str, template: str = "template1") -> None:
        """Make a database, replacing one of the same name."""
        async with self.connected("postgres") as connection:
            await connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
            await create_database(connection, database, template=template)

    @asynccontextmanager
    async def copy_of(self, template: str) -> AsyncIterator[str]:
        """The name of a copy, dropped afterwards."""
        database = f"{template}_round"
        await self.make(database, template)
        try:
            yield database
        finally:
            async with self.connected("postgres") as connection:
                await connection.execute(f'DROP DATABASE "{database}" WITH (FORCE)')

    def cpu_seconds(self) -> float:
        """CPU time that the server's processes have used, those that have ended included."""
        return sum(_cpu_seconds(self.server.pid))

    async def calm(self, database: str) -> None:
        """Bring a database to rest: vacuumed, analysed, everything on disk."""
        async with asyncio.timeout(CALM_DEADLINE), self.connected(database) as connection:
            await connection.execute("VACUUM ANALYZE")
            await connection.execute("CHECKPOINT")


def _cpu_seconds(postmaster: int) -> Iterator[float]:
    """CPU seconds of each process of the server, from Linux's /proc (none elsewhere)."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            # The second field, a name in parentheses, may hold anything.
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parent, own, reaped = int(fields[1]), fields[11:13], fields[13:15]
        if int(directory.name) == postmaster:
            yield sum(map(int, own + reaped)) / _TICKS
        elif parent == postmaster:
            yield sum(map(int, own)) / _TICKS
