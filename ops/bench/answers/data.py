"""The data: made once, kept in ``.bench/answers``, made anew when the schema or its makers change.

Days go in as they do in the product: staged, sealed, published, with everything derived from them.
Only the events themselves are made inside the database, which takes half a minute instead of ten.
"""

import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from ops.bench.jobs.arena import Arena
from ops.bench.jobs.peers import ROOT
from troupe.actors.analytics.following import follow_tenant
from troupe.actors.data.publication import Reporting, StagedDay, publish, seal, stage
from troupe.common.ids import TenantId, new_id
from troupe.common.migrate import migrate_in_asyncio
from troupe.common.postgres import EmbeddedPostgres
from troupe.common.sql import parse

DATABASE: Final = "answers"
PLACE: Final = ROOT / ".bench" / "answers"
ZONE: Final = "Europe/Berlin"
SHOP: Final = TenantId(UUID(int=0xA0000000000070008000000000000001))
SMALL: Final = tuple(TenantId(UUID(int=SHOP.int + number)) for number in range(1, 10))
LAST_DAY: Final = date(2026, 11, 25)
DAYS: Final = 90
EVENTS: Final = 2_000_000
EVENTS_A_SESSION: Final = 11.1
SMALL_DAYS: Final = 20
SMALL_SHARE: Final = 100
"""A small tenant has this many times fewer events."""
QUERIES: Final = parse((Path(__file__).with_name("events.sql")).read_text(), origin="events.sql")

Connection = Any


def stamp(events: int) -> str:
    """What the data depends on."""
    digest = hashlib.sha256(f"{events} {DAYS} {LAST_DAY}".encode())
    sources = [
        *sorted((ROOT / "troupe/common/migrations").glob("*.sql")),
        *sorted((ROOT / "troupe/actors/data").glob("*.sql")),
        ROOT / "troupe/actors/data/publication.py",
        ROOT / "troupe/actors/analytics/following.sql",
        Path(__file__),
        Path(__file__).with_name("events.sql"),
    ]
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


@asynccontextmanager
async def as_tenant(connection: Connection, tenant: TenantId) -> AsyncIterator[None]:
    """A transaction of a tenant's own."""
    async with connection.transaction():
        await connection.execute("SELECT set_config('troupe.tenant_id', $1, true)", str(tenant))
        yield


async def stage_day(
    connection: Connection, tenant: TenantId, day: date, sessions: int, visitors: int
) -> StagedDay:
    """A day that only waits for its publication."""
    async with as_tenant(connection, tenant):
        table = await stage(connection, tenant, day, new_id())
    async with as_tenant(connection, tenant):
        status = await connection.execute(
            QUERIES["day"].replace("{table}", table), tenant, day, sessions, visitors
        )
    async with as_tenant(connection, tenant):
        await seal(connection, tenant, table)
    rows = int(status.rpartition(" ")[2])
    return StagedDay(
        source_day=day,
        table=table,
        rows=rows,
        family="daily",
        source_modified=datetime(2026, 11, 26, tzinfo=UTC),
        source_rows=rows,
        extraction="benchmark",
        scanned_bytes=0,
    )


async def publish_day(connection: Connection, tenant: TenantId, day: StagedDay) -> int:
    """Its publication; the version that it made."""
    reporting = Reporting(tenant, ZONE, "EUR", ZONE, "no_search_results")
    async with as_tenant(connection, tenant):
        return await publish(connection, reporting, {day: None})


def sizes(tenant: TenantId, events: int) -> tuple[int, int]:
    """Sessions a day, and visitors in all."""
    share = 1 if tenant == SHOP else SMALL_SHARE
    sessions = max(3, round(events / share / DAYS / EVENTS_A_SESSION))
    return sessions, sessions * 45


async def _fill(connection: Connection, tenant: TenantId, events: int) -> None:
    async with as_tenant(connection, tenant):
        await connection.execute(
            "INSERT INTO platform.tenants (tenant_id, name, reporting_time_zone)"
            " VALUES ($1, $2, $3)",
            tenant,
            f"Shop {tenant.int % 100}",
            ZONE,
        )
        await connection.executemany(
            "INSERT INTO data.locations (tenant_id, location_id, name) VALUES ($1, $2, $3)",
            [(tenant, f"L{number}", f"Branch {number}") for number in range(1, 13)],
        )
        sessions, visitors = sizes(tenant, events)
        await connection.execute(QUERIES["customers"], tenant, visitors)
    days = DAYS if tenant == SHOP else SMALL_DAYS
    for number in range(days):
        day = LAST_DAY - timedelta(days=days - 1 - number)
        staged = await stage_day(connection, tenant, day, sessions, visitors)
        await publish_day(connection, tenant, staged)


async def _follow(connection: Connection, tenant: TenantId) -> None:
    began = time.monotonic()
    async with as_tenant(connection, tenant):
        await follow_tenant(connection, tenant)
    if tenant == SHOP:
        print(f"tasks followed {DAYS} days in {time.monotonic() - began:.1f} s", flush=True)


async def prepare(server: EmbeddedPostgres, events: int) -> Arena:
    """The database with its data, made if it is not there."""
    arena = Arena(server)
    mark, want = PLACE / "stamp", stamp(events)
    if mark.exists() and mark.read_text() == want:
        return arena
    began = time.monotonic()
    print(f"making {events:,} events and nine small tenants ...", flush=True)
    await arena.make(DATABASE)
    urls = arena.urls(DATABASE)
    await migrate_in_asyncio(urls["owner"])
    async with arena.connected(DATABASE) as admin:
        await admin.execute(QUERIES["prepare"])
    runtime = await asyncpg.connect(urls["runtime"])
    await runtime.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )
    try:
        # What a crash loses here is made again.
        await runtime.execute("SET synchronous_commit = off")
        for tenant in (*SMALL, SHOP):
            await _fill(runtime, tenant, events)
            await _follow(runtime, tenant)
    finally:
        await runtime.close()
    async with arena.connected(DATABASE) as admin:
        await admin.execute(QUERIES["naive_tables"])
        await admin.execute(QUERIES["tidy"])
    mark.write_text(want)
    print(f"made in {time.monotonic() - began:.0f} s", flush=True)
    return arena


async def plan_for_each_day(arena: Arena) -> None:
    """See to it that the server's memory has what it knows of each day, as after a while at work.

    A server that has just been started reads that from files, a millisecond for a day. What its
    sessions learn of a day each for itself they learn while they are measured.
    """
    async with arena.connected(DATABASE) as admin:
        await admin.execute("SET plan_cache_mode = force_custom_plan")
        days = await admin.fetch(
            "SELECT source_day FROM data.source_days WHERE tenant_id = $1", SHOP
        )
        for (day,) in days:
            await admin.fetch(
                "EXPLAIN SELECT * FROM data.events WHERE tenant_id = $1 AND source_day = $2"
                " AND user_pseudo_id = '' AND event_at < now() ORDER BY event_at",
                SHOP,
                day,
            )


async def counts(arena: Arena) -> Sequence[int]:
    """Events, sessions and visitors of the shop, as they lie there."""
    async with arena.connected(DATABASE) as admin:
        (row,) = await admin.fetch(
            "SELECT (SELECT count(*) FROM data.events WHERE tenant_id = $1),"
            " (SELECT count(*) FROM data.sessions WHERE tenant_id = $1),"
            " (SELECT count(DISTINCT user_pseudo_id) FROM data.user_day WHERE tenant_id = $1)",
            SHOP,
        )
    return tuple(row)
