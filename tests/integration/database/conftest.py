"""A small schema of our own, a pool on it as the runtime role, and an onlooker."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import trio

from tests.support.postgres import MakeDatabase, TestDatabase
from troupe.common.bridge import aio, open_bridge
from troupe.common.database import Database, open_database
from troupe.common.units import SECONDS

PLAYGROUND = (Path(__file__).parent / "playground.sql").read_text()


@dataclass(frozen=True)
class Onlooker:
    """Looks at the server from outside, as its superuser, on a connection of its own."""

    connection: asyncpg.Connection

    async def value(self, sql: str, *args: object) -> object:
        return await aio(self.connection.fetchval(sql, *args))

    async def execute(self, sql: str, *args: object) -> None:
        await aio(self.connection.execute(sql, *args))

    async def becomes(self, expected: object, sql: str, *args: object) -> None:
        """Wait until the statement gives what is expected."""
        seen: object = None
        with trio.move_on_after(5 * SECONDS):
            while (seen := await self.value(sql, *args)) != expected:
                await trio.sleep(0.005)
            return
        pytest.fail(f"{sql} gave {seen!r} for 5 s, not {expected!r}")

    async def backends(self, application_name: str = "troupe") -> int:
        counted = await self.value(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = $1",
            application_name,
        )
        assert isinstance(counted, int)
        return counted

    async def kill(self, application_name: str = "troupe") -> None:
        await self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = $1",
            application_name,
        )


@pytest.fixture(scope="module")
def playground(make_empty_database: MakeDatabase) -> Iterator[TestDatabase]:
    with make_empty_database() as database:
        trio.run(_prepare, database.admin_url)
        yield database


async def _prepare(url: str) -> None:
    async with open_bridge(), open_database(url, connections=1) as database:
        await database.execute(PLAYGROUND)


@pytest.fixture
async def bridge() -> AsyncIterator[None]:
    async with open_bridge():
        yield


@pytest.fixture
async def onlooker(bridge: None, playground: TestDatabase) -> AsyncIterator[Onlooker]:
    connection = await aio(
        asyncpg.connect(playground.admin_url, server_settings={"application_name": "onlooker"})
    )
    try:
        await aio(connection.execute("TRUNCATE notes, staging, slots"))
        yield Onlooker(connection)
    finally:
        with trio.CancelScope(shield=True):
            await aio(connection.close(timeout=5 * SECONDS))


@pytest.fixture
async def database(onlooker: Onlooker, playground: TestDatabase) -> AsyncIterator[Database]:
    async with open_database(playground.runtime_url, connections=4) as database:
        yield database
