"""What is worked out of a day before its publication: what a loss or a change meanwhile leaves."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import pytest

from tests.integration.data.brute_force import Event
from tests.integration.data.loading import (
    derived_tables,
    in_tenant,
    load_staged,
    make_tenant,
    replace_day,
)
from tests.support.postgres import TestDatabase
from troupe.actors.data.digest import Digest
from troupe.actors.data.publication import Reporting, StagedDay, digest, discard, publish
from troupe.common.ids import TenantId, new_id

DAY = date(2026, 9, 1)
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
VISITOR = "a-visitor-who-is-known"
VISIT = [
    Event(NOON, "page_view", user_pseudo_id=VISITOR, ga_session_id=1, page_location="/a?b"),
    Event(NOON, "view_search_results", user_pseudo_id="v", ga_session_id=2, search_term="Drill"),
    Event(
        NOON, "purchase", user_pseudo_id=VISITOR, ga_session_id=1, currency="EUR",
        transaction_id="T1", purchase_revenue=19.99,
    ),
]  # fmt: skip
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"
PATIENCE = 10


def reporting(tenant: TenantId) -> Reporting:
    return Reporting(tenant, "UTC", "EUR", "UTC", "no_search_results")


async def digested(connection: asyncpg.Connection, seen: Reporting) -> tuple[StagedDay, Digest]:
    day = await load_staged(connection, seen, DAY, VISIT)
    return day, await in_tenant(connection, seen.tenant, lambda c: digest(c, seen, day))


async def everything(connection: asyncpg.Connection, tenant: TenantId) -> dict[str, Any]:
    """All that was derived, without the tenant's id, the interests included."""
    found = await derived_tables(connection, tenant)
    interests = await in_tenant(
        connection, tenant, lambda c: c.fetch("SELECT * FROM data.interests ORDER BY kind, subject")
    )
    found["interests"] = [dict(row) for row in interests]
    return {
        table: [{k: v for k, v in row.items() if k != "tenant_id"} for row in rows]
        for table, rows in found.items()
    }


def run(where: TestDatabase, scenario: Callable[..., Awaitable[None]]) -> None:
    async def connected() -> None:
        connection = await asyncpg.connect(where.runtime_url)
        admin = await asyncpg.connect(where.admin_url)
        try:
            await scenario(connection, admin)
        finally:
            await connection.close()
            await admin.close()

    asyncio.run(connected())


async def lost(admin: asyncpg.Connection, day: StagedDay) -> None:
    """What a crash of PostgreSQL leaves of tables that are not logged."""
    parts = await admin.fetch("SELECT ending FROM data.digest_tables()")
    for part in parts:
        await admin.execute(f"TRUNCATE staging.{day.table}{part['ending']}")


def test_a_digest_that_a_crash_emptied_is_made_again(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection, admin: asyncpg.Connection) -> None:
        quiet, crashed = await make_tenant(connection), await make_tenant(connection)
        await replace_day(connection, reporting(quiet), DAY, VISIT)
        wanted = await everything(connection, quiet)
        assert all(wanted[name] for name in ("sessions", "purchases", "searches", "interests"))
        seen = reporting(crashed)
        day, made = await digested(connection, seen)
        unlogged = await admin.fetchval(
            "SELECT count(*) FROM pg_class WHERE relpersistence = 'u' AND relname LIKE $1"
            " AND relkind = 'r'",
            f"{day.table}%",
        )
        assert unlogged == 4
        await lost(admin, day)
        await in_tenant(connection, crashed, lambda c: publish(c, seen, {day: made}))
        assert await everything(connection, crashed) == wanted

    run(module_database, scenario)


def test_a_digest_made_under_other_settings_is_made_again(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection, _: asyncpg.Connection) -> None:
        tenant = await make_tenant(connection)
        day, made = await digested(connection, reporting(tenant))
        moved = replace(reporting(tenant), zone="Pacific/Auckland")
        await in_tenant(connection, tenant, lambda c: publish(c, moved, {day: made}))
        found = await everything(connection, tenant)
        assert {row["day"] for row in found["daily_rollup"]} == {date(2026, 9, 2)}
        assert {row["day"] for row in found["interests"]} == {date(2026, 9, 2)}

    run(module_database, scenario)


def test_who_is_erased_meanwhile_is_not_brought_back(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection, _: asyncpg.Connection) -> None:
        tenant = await make_tenant(connection)
        seen = reporting(tenant)
        day, made = await digested(connection, seen)
        erase = "SELECT data.erase_person($1, $2, $3)"
        await in_tenant(connection, tenant, lambda c: c.execute(erase, tenant, [VISITOR], new_id()))
        await in_tenant(connection, tenant, lambda c: publish(c, seen, {day: made}))
        found = await everything(connection, tenant)
        assert len(found["sessions"]) == 2
        assert VISITOR not in str(found)
        events = "SELECT count(*) FROM data.events WHERE user_pseudo_id = $1"
        assert await in_tenant(connection, tenant, lambda c: c.fetchval(events, VISITOR)) == 0

    run(module_database, scenario)


def test_nothing_of_a_digest_is_left(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection, admin: asyncpg.Connection) -> None:
        tenant = await make_tenant(connection)
        tables = "SELECT count(*) FROM pg_class WHERE relname LIKE $1 AND relkind IN ('r', 'v')"
        seen = reporting(tenant)
        for end in ("published", "discarded"):
            day, made = await digested(connection, seen)
            assert await admin.fetchval(tables, f"{day.table}%") == 5
            if end == "published":
                await in_tenant(connection, tenant, lambda c: publish(c, seen, {day: made}))  # noqa: B023
            else:
                await in_tenant(
                    connection,
                    tenant,
                    lambda c: discard(c, tenant, new_id(), day.table),  # noqa: B023
                )
            assert await admin.fetchval(tables, f"{day.table}%") == 0
        views = "SELECT count(*) FROM pg_class WHERE relname LIKE 'day_%' AND relkind = 'v'"
        assert await admin.fetchval(views) == 0

    run(module_database, scenario)


def test_another_tenant_sees_nothing_of_a_digest(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection, admin: asyncpg.Connection) -> None:
        ours, theirs = await make_tenant(connection), await make_tenant(connection)
        day, _ = await digested(connection, reporting(theirs))
        for part in await admin.fetch("SELECT ending FROM data.digest_tables()"):
            count = f"SELECT count(*) FROM staging.{day.table}{part['ending']}"
            assert await in_tenant(connection, theirs, lambda c: c.fetchval(count)) > 0  # noqa: B023
            assert await in_tenant(connection, ours, lambda c: c.fetchval(count)) == 0  # noqa: B023
        for claimed, refusal in (
            (theirs, asyncpg.InsufficientPrivilegeError),
            (ours, asyncpg.UndefinedTableError),
        ):
            with pytest.raises(refusal):
                await in_tenant(
                    connection,
                    ours,
                    lambda c: c.execute("SELECT data.measure_digest($1, $2)", claimed, day.table),  # noqa: B023
                )
        await in_tenant(connection, theirs, lambda c: discard(c, theirs, new_id(), day.table))

    run(module_database, scenario)


@pytest.mark.parametrize("door", ["seal_day", "publish_day"])
def test_who_analyses_a_staged_table_is_waited_for(
    module_database: TestDatabase, door: str
) -> None:
    """Once a deadlock: the door had changed the row in pg_class that ANALYZE was about to write."""

    async def scenario(connection: asyncpg.Connection, admin: asyncpg.Connection) -> None:
        tenant, watch = (
            await make_tenant(connection),
            await asyncpg.connect(module_database.admin_url),
        )
        day = await load_staged(connection, reporting(tenant), DAY, VISIT)
        if door == "seal_day":
            await admin.execute(f"DROP INDEX staging.{day.table}_visitor")
            await admin.execute(f"DROP POLICY tenant ON staging.{day.table}")
        try:
            async with admin.transaction():
                await admin.execute(
                    f"LOCK TABLE staging.{day.table} IN SHARE UPDATE EXCLUSIVE MODE"
                )
                passing = asyncio.create_task(
                    in_tenant(
                        connection,
                        tenant,
                        lambda c: c.execute(f"SELECT data.{door}($1, $2)", tenant, day.table),
                    )
                )
                async with asyncio.timeout(PATIENCE):
                    while not await watch.fetchval(WAITING):
                        await asyncio.sleep(0.01)
                await admin.execute(f"ANALYZE staging.{day.table}")
            await passing
        finally:
            with suppress(asyncpg.PostgresError):
                await watch.close()

    run(module_database, scenario)


def test_autovacuum_leaves_staged_tables_alone_and_no_others(
    module_database: TestDatabase,
) -> None:
    async def scenario(connection: asyncpg.Connection, admin: asyncpg.Connection) -> None:
        tenant = await make_tenant(connection)
        seen = reporting(tenant)
        day, made = await digested(connection, seen)
        options = "SELECT reloptions::text FROM pg_class WHERE relname = $1"
        assert "autovacuum_enabled=false" in await admin.fetchval(options, day.table)
        await in_tenant(connection, tenant, lambda c: publish(c, seen, {day: made}))
        live = f"events_{tenant.hex}_{DAY:%Y%m%d}"
        assert await admin.fetchval(options, live) is None

    run(module_database, scenario)
