"""The doors through which a day is replaced: whose it is, who may look, what a failure leaves."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import pytest

from tests.integration.data.brute_force import Event
from tests.integration.data.loading import (
    arrow,
    derived_tables,
    in_tenant,
    load_staged,
    make_tenant,
    replace_day,
    set_tenant,
)
from tests.support.postgres import TestDatabase
from troupe.actors.data.encoding import encode
from troupe.actors.data.publication import (
    Reporting,
    StagedDay,
    copy_batch,
    discard,
    publish,
    seal,
    stage,
)
from troupe.common.ids import TenantId, new_id

DAY = date(2026, 9, 1)
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
VISIT = [
    Event(NOON, user_pseudo_id="u", ga_session_id=1, location_id="B1", session_engaged=True),
    Event(
        NOON, "purchase", user_pseudo_id="u", ga_session_id=1, currency="EUR",
        transaction_id="T1", purchase_revenue=19.99,
    ),
]  # fmt: skip

Scenario = Callable[[asyncpg.Connection], Awaitable[None]]


def reporting(tenant: TenantId) -> Reporting:
    return Reporting(tenant, "UTC", "EUR", "UTC", "no_search_results")


def run(url: str, scenario: Scenario) -> None:
    async def connected() -> None:
        connection = await asyncpg.connect(url)
        try:
            await scenario(connection)
        finally:
            await connection.close()

    asyncio.run(connected())


async def as_tenant(
    connection: asyncpg.Connection, tenant: TenantId, sql: str, *args: object
) -> Any:
    """A value, in a transaction of the tenant's own."""
    return await in_tenant(connection, tenant, lambda inside: inside.fetchval(sql, *args))


async def publish_now(connection: asyncpg.Connection, staged: StagedDay, tenant: TenantId) -> int:
    return await in_tenant(
        connection, tenant, lambda inside: publish(inside, reporting(tenant), {staged: None})
    )


async def copy_visit(
    connection: asyncpg.Connection, tenant: TenantId, table: str, owner: TenantId, day: date
) -> None:
    batch = encode(arrow(VISIT), owner, day)
    await in_tenant(connection, tenant, lambda inside: copy_batch(inside, table, batch))


def test_nobody_opens_a_door_for_another_tenant(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        ours, theirs = await make_tenant(connection), await make_tenant(connection)
        staged = await load_staged(connection, reporting(theirs), DAY, VISIT)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_tenant(connection, ours, "SELECT data.stage_day($1, $2, $1)", theirs, DAY)
        for door, table in (
            ("seal_day", staged.table),
            ("publish_day", staged.table),
            ("open_digest", staged.table),
            ("open_workbench", [staged.table]),
        ):
            for claimed, refusal in (
                (theirs, asyncpg.InsufficientPrivilegeError),
                (ours, asyncpg.UndefinedTableError),
            ):
                with pytest.raises(refusal):
                    await as_tenant(connection, ours, f"SELECT data.{door}($1, $2)", claimed, table)
        dropped = await as_tenant(
            connection, ours, "SELECT data.discard_staged($1, $1, $2)", ours, staged.table
        )
        assert dropped == 0
        await publish_now(connection, staged, theirs)

    run(module_database.runtime_url, scenario)


def test_a_staged_table_takes_its_own_rows_and_shows_none(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        tenant, other = await make_tenant(connection), await make_tenant(connection)
        table = await in_tenant(
            connection, tenant, lambda inside: stage(inside, tenant, DAY, new_id())
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_tenant(connection, tenant, f"SELECT count(*) FROM staging.{table}")
        for owner, day in ((other, DAY), (tenant, date(2026, 9, 2))):
            with pytest.raises(asyncpg.CheckViolationError):
                await copy_visit(connection, tenant, table, owner, day)
        await copy_visit(connection, tenant, table, tenant, DAY)
        await in_tenant(connection, tenant, lambda inside: seal(inside, tenant, table))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await copy_visit(connection, tenant, table, tenant, DAY)
        assert await as_tenant(connection, tenant, f"SELECT count(*) FROM staging.{table}") == 2
        assert await as_tenant(connection, other, f"SELECT count(*) FROM staging.{table}") == 0

    run(module_database.runtime_url, scenario)


def test_partitions_show_nothing_past_the_policies(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        tenant, other = await make_tenant(connection), await make_tenant(connection)
        await replace_day(connection, reporting(tenant), DAY, VISIT)
        owner = await asyncpg.connect(module_database.owner_url)
        try:
            for partition in (f"events_{tenant.hex}", f"events_{tenant.hex}_20260901"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await as_tenant(connection, tenant, f"SELECT count(*) FROM data.{partition}")
                # Not even to the role that owns it.
                count = f"SELECT count(*) FROM data.{partition}"
                assert await as_tenant(owner, other, count) == 0
                assert await as_tenant(owner, tenant, count) == 2
        finally:
            await owner.close()

    run(module_database.runtime_url, scenario)


def test_the_same_day_again_changes_nothing_but_the_version(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        tenant = await make_tenant(connection)
        assert await replace_day(connection, reporting(tenant), DAY, VISIT) == 1
        before = await derived_tables(connection, tenant)
        assert await replace_day(connection, reporting(tenant), DAY, reversed(VISIT)) == 2
        assert await derived_tables(connection, tenant) == before
        assert before["purchases"][0]["purchase_id"] == 20260901_000001

    run(module_database.runtime_url, scenario)


def test_a_publication_that_fails_leaves_the_old_day(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        tenant = await make_tenant(connection)
        await replace_day(connection, reporting(tenant), DAY, VISIT)
        before = await derived_tables(connection, tenant)
        staged = await load_staged(connection, reporting(tenant), DAY, [])

        async def interrupted(inside: asyncpg.Connection) -> None:
            await publish(inside, reporting(tenant), {staged: None})
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await in_tenant(connection, tenant, interrupted)
        assert await derived_tables(connection, tenant) == before
        count = "SELECT count(*) FROM data.events"
        assert await as_tenant(connection, tenant, count) == 2
        # What was staged can still be published, or dropped.
        await publish_now(connection, staged, tenant)
        assert await as_tenant(connection, tenant, count) == 0

    run(module_database.runtime_url, scenario)


def test_a_long_reader_is_not_pushed_aside(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        tenant = await make_tenant(connection)
        await replace_day(connection, reporting(tenant), DAY, VISIT)
        staged = await load_staged(connection, reporting(tenant), DAY, VISIT[:1])
        reader = await asyncpg.connect(module_database.runtime_url)
        try:
            async with reader.transaction():
                await set_tenant(reader, tenant)
                assert await reader.fetchval("SELECT count(*) FROM data.events") == 2
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await publish_now(connection, staged, tenant)
                assert await reader.fetchval("SELECT count(*) FROM data.events") == 2
            assert await publish_now(connection, staged, tenant) == 2
            assert await as_tenant(reader, tenant, "SELECT count(*) FROM data.events") == 1
        finally:
            await reader.close()

    run(module_database.runtime_url, scenario)


def test_two_first_days_at_once(module_database: TestDatabase) -> None:
    async def one(tenant: TenantId, day: date) -> None:
        connection = await asyncpg.connect(module_database.runtime_url)
        try:
            await replace_day(connection, reporting(tenant), day, [])
        finally:
            await connection.close()

    async def scenario(connection: asyncpg.Connection) -> None:
        tenant = await make_tenant(connection)
        await asyncio.gather(*(one(tenant, date(2026, 9, day)) for day in range(1, 9)))
        versions = "SELECT data_version FROM data.versions"
        assert await as_tenant(connection, tenant, versions) == 8

    run(module_database.runtime_url, scenario)


def test_a_sweep_takes_what_is_the_jobs_or_old(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        tenant, job, other_job = await make_tenant(connection), new_id(), new_id()
        async with connection.transaction():
            await set_tenant(connection, tenant)
            await stage(connection, tenant, DAY, job)
            kept = await stage(connection, tenant, DAY, other_job)
        swept = await in_tenant(connection, tenant, lambda inside: discard(inside, tenant, job))
        assert swept == 1
        left = "SELECT array_agg(table_name) FROM data.staged_days"
        assert await as_tenant(connection, tenant, left) == [kept]
        admin = await asyncpg.connect(module_database.admin_url)
        await admin.execute("UPDATE data.staged_days SET staged_at = now() - interval '25 hours'")
        await admin.close()
        swept = await in_tenant(
            connection, tenant, lambda inside: discard(inside, tenant, new_id())
        )
        assert swept == 1

    run(module_database.runtime_url, scenario)


def test_versions_say_until_when(module_database: TestDatabase) -> None:
    async def scenario(connection: asyncpg.Connection) -> None:
        tenant = await make_tenant(connection, zone="America/New_York")
        seen = Reporting(tenant, "America/New_York", "EUR", "Europe/Berlin", "x")
        row = "SELECT (first_day, data_until)::text FROM data.versions"
        await replace_day(connection, seen, DAY, VISIT)
        # 1 September in Berlin ends at 18:00 in New York: the last day that is over is 31 August.
        assert await as_tenant(connection, tenant, row) == "(2026-09-01,2026-08-31)"
        staged = await load_staged(connection, seen, date(2026, 9, 2), [], family="intraday")
        await in_tenant(connection, tenant, lambda inside: publish(inside, seen, {staged: None}))
        # Written in November, so the day was over, whatever the family.
        assert await as_tenant(connection, tenant, row) == "(2026-09-01,2026-09-01)"

    run(module_database.runtime_url, scenario)
