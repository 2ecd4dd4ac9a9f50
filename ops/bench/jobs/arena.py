"""The PostgreSQL that all contenders share, with a fresh database for every measurement.

It is the embedded server with the settings the program itself runs with: durable, in a directory
of its own. Databases are copies of one that the contender prepared, so that preparing is no part
of what is measured.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from troupe.common.postgres import EmbeddedPostgres
from troupe.common.postgres.roles import ADMIN, OWNER, RUNTIME, create_database

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

    async def calm(self, database: str) -> None:
        """Bring a database to rest: vacuumed, analysed, everything on disk."""
        async with asyncio.timeout(CALM_DEADLINE), self.connected(database) as connection:
            await connection.execute("VACUUM ANALYZE")
            await connection.execute("CHECKPOINT")
