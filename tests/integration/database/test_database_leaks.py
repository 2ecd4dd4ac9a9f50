"""Whatever a unit does to its session, the next unit finds it clean."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.integration.database.conftest import Onlooker
from tests.support.postgres import TestDatabase
from troupe.common.bridge import aio
from troupe.common.database import Database, open_database


@pytest.fixture
async def single(onlooker: Onlooker, playground: TestDatabase) -> AsyncIterator[Database]:
    """A pool where the next unit gets the same connection, or a new one in its place."""
    async with open_database(playground.runtime_url, connections=1) as database:
        yield database


LEAKS: dict[str, tuple[str, str]] = {
    # what a unit does, and what the next one looks at
    "a setting": ("SET work_mem = '99MB'", "SHOW work_mem"),
    "a setting by function": (
        "SELECT set_config('lock_timeout', '1', false)",
        "SHOW lock_timeout",
    ),
    "a search path": ("SET search_path = nowhere", "SHOW search_path"),
    "the tenant for the session": (
        "SELECT set_config('troupe.tenant_id', '00000000-0000-0000-0000-00000000000a', false)",
        "SELECT coalesce(current_setting('troupe.tenant_id', true), '')",
    ),
    "a role": ("SET ROLE NONE", "SELECT current_user"),
    "a read-only session": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SHOW default_transaction_read_only",
    ),
    "an advisory lock": (
        "SELECT pg_advisory_lock(42)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42",
    ),
    "a temporary table": (
        "CREATE TEMPORARY TABLE secrets AS SELECT 'of ada' AS secret",
        "SELECT to_regclass('pg_temp.secrets')",
    ),
    "a temporary table that hides a real one": (
        "CREATE TEMPORARY TABLE notes AS SELECT 'forged' AS body",
        "SELECT to_regclass('notes') = to_regclass('public.notes')",
    ),
    "listening": ("LISTEN gossip", "SELECT count(*) FROM pg_listening_channels()"),
    "a cursor that outlives its transaction": (
        "DECLARE peek CURSOR WITH HOLD FOR SELECT 'of ada'",
        "SELECT count(*) FROM pg_cursors WHERE is_holdable",
    ),
    "a prepared statement": (
        "PREPARE peek AS SELECT 'of ada'",
        "SELECT count(*) FROM pg_prepared_statements WHERE from_sql",
    ),
}


@pytest.mark.parametrize("end", ["commits", "fails", "is read-only"])
@pytest.mark.parametrize("leak", LEAKS)
async def test_nothing_leaks(single: Database, leak: str, end: str) -> None:
    do, look = LEAKS[leak]
    if end == "is read-only" and "CREATE" in do:
        do = "SELECT 1"  # a read-only transaction may write to temporary tables, not make them
    clean = await single.fetch_value(look)

    async def unit(connection: asyncpg.Connection) -> None:
        await connection.execute(do)
        if end == "fails":
            raise LookupError

    try:
        await single.run(unit, read_only=end == "is read-only")
    except LookupError:
        assert end == "fails"
    assert await single.fetch_value(look) == clean
    assert single.statistics().idle == 1


async def test_the_test_can_fail(onlooker: Onlooker, playground: TestDatabase) -> None:
    """Its broken twin: on a connection that nobody resets, every one of these leaks is seen."""

    async def unseen() -> list[str]:
        missing = []
        for leak, (do, look) in LEAKS.items():
            connection = await asyncpg.connect(playground.runtime_url)
            clean = await connection.fetchval(look)
            async with connection.transaction():
                await connection.execute(do)
            if await connection.fetchval(look) == clean:
                missing.append(leak)
            await connection.close()
        return missing

    assert await aio(unseen()) == ["a role"]  # the runtime role has no other to change to


async def test_a_codec_of_one_unit_is_not_the_next_ones(single: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> object:
        await connection.set_type_codec(
            "int4", schema="pg_catalog", encoder=str, decoder=lambda _: "forged", format="text"
        )
        return await connection.fetchval("SELECT 1::int4")

    assert await single.run(unit) == "forged"
    assert await single.fetch_value("SELECT 1::int4") == 1


async def test_a_listener_of_one_unit_does_not_hear_the_next(
    single: Database, onlooker: Onlooker
) -> None:
    heard: list[object] = []

    async def unit(connection: asyncpg.Connection) -> None:
        await connection.add_listener("gossip", lambda *words: heard.append(words))
        connection.add_log_listener(lambda *words: heard.append(words))

    await single.run(unit)
    await onlooker.execute("NOTIFY gossip, 'psst'")
    await single.execute("DO $$ BEGIN RAISE NOTICE 'psst'; END $$")
    assert heard == []


async def test_a_prepared_statement_outlives_its_unit_harmlessly(single: Database) -> None:
    kept: list[asyncpg.prepared_stmt.PreparedStatement] = []

    async def unit(connection: asyncpg.Connection) -> None:
        kept.append(await connection.prepare("SELECT current_setting('troupe.tenant_id')"))

    await single.run(unit)
    assert await single.fetch_value("SELECT current_setting('troupe.tenant_id')") == ""


async def test_a_clean_unit_keeps_its_connection(single: Database) -> None:
    pids = {await single.fetch_value("SELECT pg_backend_pid()") for _ in range(5)}
    assert len(pids) == 1
