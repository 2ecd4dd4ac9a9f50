"""A unit of work: one transaction, one tenant, one crossing."""

import asyncio
import uuid
from decimal import Decimal

import asyncpg
import pytest
import structlog
import trio

from tests.integration.database.conftest import Onlooker
from tests.integration.database.proxy import open_proxy
from tests.support.postgres import TestDatabase
from troupe.common.bridge import BridgeMisuse, aio
from troupe.common.database import CommitUnknown, Database, PoolSettings, UnitBroken, open_database
from troupe.common.database._session import Order, after_begin, connect
from troupe.common.errors import DatabaseUnavailable
from troupe.common.ids import TenantId

ADA, BOB = TenantId(uuid.UUID(int=0xADA)), TenantId(uuid.UUID(int=0xB0B))
WRITE = "INSERT INTO notes VALUES ($1, $2, $3, $4)"


async def test_a_tenant_sees_its_own_rows_only(database: Database) -> None:
    await database.execute(WRITE, ADA, 1, {"of": "ada"}, None, tenant=ADA)
    await database.execute(WRITE, BOB, 1, {"of": "bob"}, None, tenant=BOB)
    assert await database.fetch_value("SELECT body FROM notes", tenant=ADA) == {"of": "ada"}
    assert await database.fetch_value("SELECT body FROM notes", tenant=BOB) == {"of": "bob"}
    assert await database.fetch("SELECT body FROM notes") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute(WRITE, BOB, 2, None, None, tenant=ADA)


async def test_the_tenant_is_set_in_the_unit_and_gone_after_it(database: Database) -> None:
    seen = "SELECT current_setting('troupe.tenant_id', true)"
    assert await database.fetch_value(seen, tenant=ADA) == str(ADA)
    assert await database.fetch_value(seen) == ""
    assert database.statistics().idle == 1


async def test_a_tenant_must_be_a_uuid(database: Database) -> None:
    with pytest.raises(TypeError):
        await database.fetch("SELECT 1", tenant="'; DROP TABLE notes --")  # type: ignore[arg-type]


async def test_a_unit_commits_when_it_returns(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> int:
        for number in range(3):
            await connection.execute(WRITE, ADA, number, None, None)
        count: int = await connection.fetchval("SELECT count(*) FROM notes")
        return count

    assert await database.run(unit, tenant=ADA) == 3
    assert await database.fetch_value("SELECT count(*) FROM notes", tenant=ADA) == 3


async def test_a_unit_rolls_back_when_it_fails(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        await connection.execute(WRITE, ADA, 1, None, None)
        raise LookupError

    with pytest.raises(LookupError):
        await database.run(unit, tenant=ADA)
    assert await database.fetch_value("SELECT count(*) FROM notes", tenant=ADA) == 0
    assert database.statistics().idle == 1


async def test_a_violated_constraint_arrives_as_it_is(database: Database) -> None:
    await database.execute(WRITE, ADA, 1, None, None, tenant=ADA)
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        await database.execute(WRITE, ADA, 1, None, None, tenant=ADA)
    assert caught.value.constraint_name == "notes_pkey"
    assert database.statistics().idle == 1


async def test_a_deferred_constraint_fails_the_commit(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        await connection.execute("INSERT INTO slots VALUES (1), (1)")

    with pytest.raises(asyncpg.UniqueViolationError):
        await database.run(unit)
    assert await database.fetch_value("SELECT count(*) FROM slots") == 0
    assert database.statistics().idle == 1, "the connection is as good as before"


async def test_deferred_triggers_run_under_the_units_tenant(
    database: Database, onlooker: Onlooker
) -> None:
    await onlooker.execute("TRUNCATE overheard")
    await database.execute("INSERT INTO staging VALUES (-1)", tenant=ADA)
    assert await onlooker.value("SELECT tenant FROM overheard") == str(ADA)


async def test_savepoints_work_inside_a_unit(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        await connection.execute(WRITE, ADA, 1, None, None)
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute(WRITE, ADA, 1, None, None)
        async with connection.transaction():
            await connection.execute(WRITE, ADA, 2, None, None)

    await database.run(unit, tenant=ADA)
    rows = await database.fetch("SELECT id FROM notes ORDER BY id", tenant=ADA)
    assert [row["id"] for row in rows] == [1, 2]


async def test_a_read_only_unit_cannot_write(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        await connection.execute(WRITE, ADA, 1, None, None)

    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await database.run(unit, tenant=ADA, read_only=True)
    assert await database.fetch_value("SELECT 1", read_only=True) == 1


async def test_plans_for_values_are_made_where_asked_for(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> str:
        return await connection.fetchval("SHOW plan_cache_mode")

    assert await database.run(unit) == "auto"
    assert await database.run(unit, custom_plans=True) == "force_custom_plan"
    assert await database.run(unit) == "auto"


async def test_isolation_is_what_was_asked_for(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> object:
        return await connection.fetchval("SHOW transaction_isolation")

    assert await database.run(unit) == "read committed"
    assert await database.run(unit, isolation="repeatable_read") == "repeatable read"


async def test_a_swallowed_failure_is_not_taken_for_a_commit(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> str:
        await connection.execute(WRITE, ADA, 1, None, None)
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(WRITE, ADA, 1, None, None)
        return "fine"

    with pytest.raises(UnitBroken, match="swallowed"):
        await database.run(unit, tenant=ADA)
    assert await database.fetch_value("SELECT count(*) FROM notes", tenant=ADA) == 0
    assert database.statistics().idle == 1


async def test_a_failure_swallowed_while_reading_is_told_to_the_log(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> int:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.execute("SELECT 1 / 0")
        return connection.get_server_pid()

    with structlog.testing.capture_logs() as logs:
        first = await database.run(unit, read_only=True)
        with trio.fail_after(5):
            while database.statistics().busy:
                await trio.sleep(0.001)
    assert [line["event"] for line in logs] == ["database_unit_swallowed_a_failure"]
    assert await database.fetch_value("SELECT pg_backend_pid()") != first


@pytest.mark.parametrize("word", ["COMMIT", "ROLLBACK"])
async def test_a_unit_that_ends_its_transaction_is_told(database: Database, word: str) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        await connection.execute(word)

    with pytest.raises(UnitBroken, match="ended its transaction"):
        await database.run(unit)
    assert await database.fetch_value("SELECT 1") == 1


async def test_rows_come_as_records(database: Database) -> None:
    row = await database.fetch_row("SELECT 1 AS one, 'two' AS two")
    assert row is not None
    assert dict(row) == {"one": 1, "two": "two"}
    assert await database.fetch_row("SELECT 1 WHERE false") is None
    assert await database.fetch_value("SELECT 1 WHERE false") is None
    assert await database.execute("UPDATE staging SET id = 1 WHERE false") == "UPDATE 0"


async def test_numbers_stay_exact(database: Database) -> None:
    body = {"price": Decimal("19.90"), "count": 3, "big": 10**30, "deep": [{"x": Decimal("0.1")}]}
    await database.execute(WRITE, ADA, 1, body, Decimal("0.10"), tenant=ADA)
    row = await database.fetch_row("SELECT body, amount FROM notes", tenant=ADA)
    assert row is not None
    assert row["body"] == body
    assert str(row["body"]["price"]) == "19.90"
    assert isinstance(row["body"]["deep"][0]["x"], Decimal)
    assert str(row["amount"]) == "0.10"
    assert await database.fetch_value("SELECT '{\"a\": 1.50}'::json") == {"a": Decimal("1.50")}


async def test_a_unit_costs_three_round_trips(playground: TestDatabase, onlooker: Onlooker) -> None:
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=1) as database,
    ):
        await database.fetch("SELECT 1", tenant=ADA)  # connects and prepares
        before = proxy.requests
        await database.fetch("SELECT 1", tenant=ADA)
        assert proxy.requests - before == 3


async def test_behind_a_pooler_nothing_is_prepared_by_name(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    settings = PoolSettings(statement_cache_size=0)
    async with open_database(playground.runtime_url, connections=1, settings=settings) as database:
        assert await database.fetch_value("SELECT $1::int", 7, tenant=ADA) == 7
        assert await database.fetch_value("SELECT count(*) FROM pg_prepared_statements") == 0


async def test_a_statement_survives_a_change_of_its_table(
    database: Database, onlooker: Onlooker
) -> None:
    await onlooker.execute(
        "CREATE TABLE changing AS SELECT 1 AS a; GRANT ALL ON changing TO PUBLIC"
    )
    try:
        assert len((await database.fetch("SELECT * FROM changing"))[0]) == 1
        await onlooker.execute("ALTER TABLE changing ADD b int")
        assert len((await database.fetch("SELECT * FROM changing"))[0]) == 2
    finally:
        await onlooker.execute("DROP TABLE changing")


async def test_the_server_knows_who_and_for_how_long(database: Database) -> None:
    row = await database.fetch_row(
        "SELECT current_setting('application_name') AS name,"
        " current_setting('statement_timeout')::interval AS limit,"
        " current_setting('idle_in_transaction_session_timeout')::interval AS idle",
        deadline=7,
    )
    assert row is not None
    assert row["name"] == "troupe"
    assert 7 < row["limit"].total_seconds() <= 8
    assert row["idle"] == row["limit"]


async def test_the_server_ends_a_transaction_whose_statement_never_comes(
    bridge: None, playground: TestDatabase, onlooker: Onlooker
) -> None:
    """Prepared, but its values are never sent: neither idle nor running, and it holds its locks."""
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"
    settings = PoolSettings(clean_up_deadline=0.2)
    seen = []

    async def unit(connection: asyncpg.Connection) -> None:
        await connection.execute("SELECT pg_advisory_xact_lock(4711)")
        body = b"\0SELECT 1\0\0\0"
        parse = b"P" + (len(body) + 4).to_bytes(4, "big") + body
        connection._transport.write(parse + b"H\0\0\0\4")  # and Flush, but no Bind
        async with asyncio.timeout(10):
            while await onlooker.connection.fetchval(held):
                seen.append(held)
                await asyncio.sleep(0.01)

    async def cut_off() -> None:
        session = await connect(playground.runtime_url, "troupe", settings)
        await session.perform(
            Order(unit, after_begin("", 300), 300, "read_committed", False, True), settings
        )

    with pytest.raises(CommitUnknown):
        await aio(cut_off())
    assert seen


async def test_without_end_there_is_no_limit(database: Database) -> None:
    limit = await database.fetch_value("SHOW statement_timeout", deadline=float("inf"))
    assert limit == "0"


async def test_a_closed_pool_says_so(playground: TestDatabase, onlooker: Onlooker) -> None:
    async with open_database(playground.runtime_url, connections=1) as database:
        await database.fetch("SELECT 1")
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await database.fetch("SELECT 1")
    await onlooker.becomes(
        0,
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'troupe'"
        " AND datname = current_database()",
    )


async def test_without_a_bridge_the_mistake_is_named_at_once() -> None:
    with pytest.raises(BridgeMisuse):
        async with open_database("postgresql://nowhere", connections=1):
            pass


async def test_closing_waits_for_units_under_way(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    async with trio.open_nursery() as nursery:
        async with open_database(playground.runtime_url, connections=1) as database:
            done: list[object] = []

            async def work() -> None:
                done.append(await database.fetch_value("SELECT pg_sleep(0.3)"))

            nursery.start_soon(work)
            await onlooker.becomes(
                1, "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(0.3)'"
            )
        assert len(done) == 1
