"""A PostgreSQL of a test's own, that can be restarted under load."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.postgres import TestDatabase, locate
from troupe.common.bridge import aio
from troupe.common.migrate import migrate_in_asyncio
from troupe.common.postgres import ClusterSettings, EmbeddedPostgres, start_embedded
from troupe.common.postgres.roles import DATABASE

# What was committed must survive an immediate shutdown, or the checks would blame the wrong one.
SETTINGS = ClusterSettings(durable=True, max_connections=60)


class Server:
    """A server that is there, with interruptions.

    Attributes:
        postgres: As it runs now.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._running = AsyncExitStack()
        self.postgres: EmbeddedPostgres

    @property
    def where(self) -> TestDatabase:
        """Its database; the port stays the same."""
        return locate(self.postgres, DATABASE)

    async def start(self) -> None:
        """Start it on the data that is there."""
        self.postgres = await self._running.enter_async_context(
            start_embedded(self._state, SETTINGS)
        )

    async def end(self) -> None:
        """A fast shutdown: sessions are ended, everything is written."""
        await self._running.aclose()

    async def end_immediately(self) -> None:
        """An immediate shutdown: as a crash, to be recovered from."""
        os.kill(self.postgres.pid, signal.SIGQUIT)
        await self.postgres.wait_death()
        await self._running.aclose()

    async def restart(self, *, immediately: bool = False) -> None:
        """End it and start it again; it must come back on the same port."""
        port = self.postgres.port
        await (self.end_immediately() if immediately else self.end())
        await self.start()
        assert self.postgres.port == port, "somebody took the port meanwhile"


@asynccontextmanager
async def open_server(state: Path) -> AsyncIterator[Server]:
    """A migrated server; needs the bridge to be open."""
    server = Server(state)
    await server.start()
    try:
        await aio(migrate_in_asyncio(server.where.owner_url))
        yield server
    finally:
        await server.end()
