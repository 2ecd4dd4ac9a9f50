"""The runner against a real server."""

import asyncio

import asyncpg

from tests.support.postgres import MakeDatabase, TestDatabase
from troupe.common.migrate import migrate_in_asyncio, read_migrations


async def _value(url: str, sql: str, *args: object) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql, *args)
    finally:
        await connection.close()


def value(url: str, sql: str, *args: object) -> object:
    return asyncio.run(_value(url, sql, *args))


def test_everything_is_applied_once(make_empty_database: MakeDatabase) -> None:
    with make_empty_database() as database:
        first = asyncio.run(migrate_in_asyncio(database.owner_url))
        assert first == list(read_migrations())
        assert asyncio.run(migrate_in_asyncio(database.owner_url)) == []
        count = value(database.owner_url, "SELECT count(*) FROM platform.migrations")
        assert count == len(first)


def test_fresh_database(fresh_database: TestDatabase) -> None:
    assert value(fresh_database.runtime_url, "SELECT current_user") == "troupe_runtime"
