"""Loading events the way the product does: Arrow, binary COPY into a staged table, publication."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import TypeVar
from uuid import UUID

import asyncpg
import pyarrow as pa

from tests.integration.data.brute_force import EVENT_FIELDS, Event, Tables, ordered
from troupe.actors.data.digest import Digest
from troupe.actors.data.encoding import EVENT_COLUMNS, Kind, encode
from troupe.actors.data.publication import (
    Reporting,
    StagedDay,
    copy_batch,
    digest,
    publish,
    seal,
    stage,
)
from troupe.common.ids import TenantId, new_id

T = TypeVar("T")

DERIVED = (
    "sessions",
    "purchases",
    "refunds",
    "user_day",
    "visitor_returns",
    "location_returns",
    "visitor_parts",
    "part_returns",
    "part_rollup",
    "part_money",
    "hourly_rollup",
    "daily_rollup",
    "money_rollup",
    "daily_money",
    "entrances",
    "searches",
    "event_counts",
    "cart_episodes",
    "cart_items",
)
# What is added up by day is what it is added up from, whatever was loaded, replaced or taken away.
_SUBJECTS_THAT_DIFFER = """
    WITH summed AS (
        SELECT tenant_id, kind, day, subject, sum(views) AS views,
               sum(cart_additions) AS cart_additions, sum(failures) AS failures
        FROM data.interests GROUP BY tenant_id, kind, day, subject
    ), kept AS (
        SELECT tenant_id, kind, day, subject, views, cart_additions, failures FROM data.subject_days
    )
    (SELECT * FROM summed EXCEPT SELECT * FROM kept)
    UNION ALL
    (SELECT * FROM kept EXCEPT SELECT * FROM summed)
"""
_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.KEY: pa.string(),
    Kind.JSON: pa.string(),
    Kind.BIGINT: pa.int64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.INSTANT: pa.timestamp("us", tz="UTC"),
    Kind.NUMERIC: pa.float64(),
}


def arrow(events: Iterable[Event]) -> pa.RecordBatch:
    """Events as the extraction delivers them."""
    events = list(events)
    return pa.RecordBatch.from_pydict(
        {
            name: pa.array(
                [getattr(event, name) if name in EVENT_FIELDS else None for event in events],
                _TYPES[kind],
            )
            for name, kind in EVENT_COLUMNS.items()
        }
    )


async def set_tenant(connection: asyncpg.Connection, tenant: UUID | None) -> None:
    """For the transaction that is open."""
    await connection.execute(
        "SELECT set_config('troupe.tenant_id', $1, true)", str(tenant) if tenant else ""
    )


async def in_tenant(
    connection: asyncpg.Connection,
    tenant: UUID,
    work: Callable[[asyncpg.Connection], Awaitable[T]],
) -> T:
    """Do something in a transaction of the tenant's own."""
    async with connection.transaction():
        await set_tenant(connection, tenant)
        return await work(connection)


async def make_tenant(
    connection: asyncpg.Connection, *, zone: str = "UTC", currency: str = "EUR"
) -> TenantId:
    """A tenant of its own, so that tests can share a database."""
    tenant = TenantId(new_id())
    async with connection.transaction():
        await set_tenant(connection, tenant)
        await connection.execute(
            "INSERT INTO platform.tenants (tenant_id, name, reporting_time_zone,"
            " reporting_currency) VALUES ($1, $2, $3, $4)",
            tenant,
            f"Tenant {tenant}",
            zone,
            currency,
        )
    return tenant


async def load_staged(
    connection: asyncpg.Connection,
    reporting: Reporting,
    source_day: date,
    events: Iterable[Event],
    *,
    family: str = "daily",
) -> StagedDay:
    """Stage, copy, seal; each in a transaction of its own, as the product does."""
    tenant = reporting.tenant
    batch = encode(arrow(events), tenant, source_day)
    async with connection.transaction():
        await set_tenant(connection, tenant)
        table = await stage(connection, tenant, source_day, new_id())
    async with connection.transaction():
        await set_tenant(connection, tenant)
        await copy_batch(connection, table, batch)
    async with connection.transaction():
        await set_tenant(connection, tenant)
        await seal(connection, tenant, table)
    return StagedDay(
        source_day=source_day,
        table=table,
        rows=batch.rows,
        family=family,
        source_modified=datetime(2026, 11, 1, tzinfo=UTC),
        source_rows=batch.rows,
        extraction="test",
        scanned_bytes=0,
    )


async def replace_days(
    connection: asyncpg.Connection,
    reporting: Reporting,
    days: Mapping[date, Iterable[Event]],
) -> int:
    """Replacements that take effect together, as the product does it; returns the data version."""
    digested: dict[StagedDay, Digest | None] = {}
    for source_day, events in days.items():
        staged = await load_staged(connection, reporting, source_day, events)
        async with connection.transaction():
            await set_tenant(connection, reporting.tenant)
            digested[staged] = await digest(connection, reporting, staged)
    async with connection.transaction():
        await set_tenant(connection, reporting.tenant)
        return await publish(connection, reporting, digested)


async def replace_day(
    connection: asyncpg.Connection,
    reporting: Reporting,
    source_day: date,
    events: Iterable[Event],
) -> int:
    """The same of one day."""
    return await replace_days(connection, reporting, {source_day: events})


async def derived_tables(connection: asyncpg.Connection, tenant: TenantId) -> Tables:
    """What stands in the derived tables, comparable with the brute-force reading."""
    found: Tables = {}
    async with connection.transaction():
        await set_tenant(connection, tenant)
        for name in DERIVED:
            rows = await connection.fetch(f"SELECT * FROM data.{name}")
            found[name] = ordered(dict(row) for row in rows)
        assert await connection.fetch(_SUBJECTS_THAT_DIFFER) == []
    return found
