"""Replacing source days: staged tables take their places, and everything derived follows.

One transaction, of one day or of some that are ready together, in this order:

1. The tenant's row in ``data.versions`` is locked. Days of one tenant are never published at the
   same time otherwise, because neighbours share sessions, rollups and duplicates; tenants do not
   wait for each other. What follows from a day alone has been worked out before (digest.py).
2. The staged rows are shown beside the other days' as ``pg_temp.events_after``, and what each day
   touches is derived anew from its digest and from there, day by day; days are added up once, at
   the end (derive.sql). Nobody is locked out meanwhile: readers see the old rows and figures.
3. The version is raised and announced.
4. The staged tables take the live ones' places. This locks the tenant's events, so nothing but the
   commit comes after it.

Whatever fails, fails before the commit: the old days and the old figures stay as they were. Running
the same days again gives the same tables, row by row, whichever of them are published together;
tests/integration/data proves it against a reading of the events in plain Python.

These are asyncio coroutines for `Database.run`: one crossing of the bridge per publication.
"""

import asyncio
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from troupe.actors.data.carts import CARTS, derive_cart_events, fold_episodes
from troupe.actors.data.digest import DIGEST, Digest, digest_day, holds
from troupe.actors.data.encoding import COPY_COLUMNS, EncodedBatch
from troupe.actors.data.searches import derive_searches, mark_searches
from troupe.actors.data.shopping import derive_funnels, put_interests
from troupe.common.ids import TenantId
from troupe.common.sql import load
from troupe.common.units import HOURS, KiB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

DERIVE: Final = load(__package__, "derive.sql")
DAYS: Final = load(__package__, "days.sql")
DERIVATION: Final = 2
"""Raise it when derived tables would look different now; all days are then derived anew."""
_SENT_AT_ONCE: Final = 128 * KiB


@dataclass(frozen=True, slots=True)
class Reporting:
    """What cuts and names one tenant's figures.

    Attributes:
        tenant: Whose.
        zone: Reporting zone: its midnights end days.
        currency: Reporting currency, which a purchase that names none is in.
        property_zone: Zone of the export's days.
        failed_search_event: The tenant's event that says a search found nothing.
        cart_idle: Seconds without activity after which what is left in a cart is abandoned.
    """

    tenant: TenantId
    zone: str
    currency: str
    property_zone: str
    failed_search_event: str
    cart_idle: float = 24 * HOURS

    @property
    def cut(self) -> str:
        """The second half of a day's fingerprint: what its rows are cut and named by."""
        return f"{self.zone} {self.currency}"

    @property
    def derived_as(self) -> str:
        """Says how days are derived now; kept with each, to compare later."""
        words = (self.zone, self.currency, self.failed_search_event, f"{self.cart_idle:g}")
        return " ".join((str(DERIVATION), *words))


@dataclass(frozen=True, slots=True)
class StagedDay:
    """A day whose rows are complete in a staged table, with where they came from.

    Attributes:
        source_day: In the property's zone.
        table: Name in schema ``staging``.
        rows: How many were copied.
        family: ``daily``, ``fresh`` or ``intraday``.
        source_modified: When the source's table was last written.
        source_rows: Rows that the source says it has.
        extraction: Fingerprint of the query.
        scanned_bytes: The dry run's estimate.
    """

    source_day: date
    table: str
    rows: int
    family: str
    source_modified: datetime
    source_rows: int
    extraction: str
    scanned_bytes: int


async def stage(connection: "Connection", tenant: TenantId, source_day: date, job: UUID) -> str:
    """Make an empty staged table; returns its name."""
    name: str = await connection.fetchval(DAYS["stage_day"], tenant, source_day, job)
    return name


async def copy_batch(connection: "Connection", table: str, batch: EncodedBatch) -> None:
    """Copy one batch into a staged table.

    Its transaction need not be durable: publishing the day is, and sees whether rows were lost.
    """
    status = await connection.copy_to_table(
        table,
        schema_name="staging",
        columns=COPY_COLUMNS,
        source=_sent(batch),
        format="binary",
    )
    if status != f"COPY {batch.rows}":
        raise AssertionError(f"{batch.rows} rows were sent, the server says {status}")


async def _sent(batch: EncodedBatch) -> "AsyncIterator[bytes]":
    """The bytes of a batch, little by little: others use the same loop."""
    for piece in batch:
        for begin in range(0, len(piece), _SENT_AT_ONCE):
            yield piece[begin : begin + _SENT_AT_ONCE]
            await asyncio.sleep(0)


async def seal(connection: "Connection", tenant: TenantId, table: str) -> None:
    """End the loading of a staged table: who was erased stays so; it is guarded and indexed."""
    await connection.execute(DAYS["apply_erasures"], tenant, table)
    await connection.execute(DAYS["seal_day"], tenant, table)


async def discard(
    connection: "Connection", tenant: TenantId, job: UUID, table: str | None = None
) -> int:
    """Drop a staged table, or all that earlier attempts of the job left; returns how many."""
    dropped: int = await connection.fetchval(DAYS["discard_staged"], tenant, job, table)
    return dropped


async def digest(connection: "Connection", reporting: Reporting, day: StagedDay) -> Digest:
    """Work out what follows from a sealed day alone, for its publication.

    Locks nothing. Like that of the rows of a staged table its transaction need not be durable.
    """
    await connection.execute(DAYS["planner_settings"])
    await connection.execute(DERIVE["open_workbench"], reporting.tenant, [day.table])
    await connection.execute(DERIVE["open_digest"], reporting.tenant, day.table)
    found = await digest_day(connection, reporting, day.source_day, day.table)
    await connection.execute(DERIVE["close_workbench"])
    return found


async def publish(
    connection: "Connection", reporting: Reporting, days: "Mapping[StagedDay, Digest | None]"
) -> int:
    """Put sealed days in the live ones' places, with all that follows from them.

    Runs inside the caller's transaction, which belongs to the tenant.

    Args:
        connection: In that transaction.
        reporting: What cuts and names the tenant's figures.
        days: Which, each with what was worked out before; where that is nothing, or no longer
            holds, it is done here.

    Returns:
        The tenant's new data version.

    Raises:
        asyncpg.LockNotAvailableError: A long reader held a day; nothing has changed, try again.
    """
    tenant = reporting.tenant
    await take_turn(connection, tenant)
    await open_workbench(connection, tenant, [day.table for day in days])
    # All of them before the first is derived: a session that spans days is read from all its days.
    digests = [await _valid(connection, reporting, day, found) for day, found in days.items()]
    for day, found in zip(days, digests, strict=True):
        if len(days) > 1:
            await connection.execute(DERIVE["open_digest"], tenant, day.table)
        await derive(connection, reporting, day.source_day, found)
    version = await settle(connection, reporting)
    for day in days:
        await connection.execute(DAYS["publish_day"], tenant, day.table)
    return version


async def take_turn(connection: "Connection", tenant: TenantId) -> None:
    """Wait until nobody else changes what is derived for the tenant; until the transaction ends."""
    await connection.execute(DERIVE["ensure_version"], tenant)
    await connection.execute(DERIVE["lock_tenant"], tenant)
    await connection.execute(DAYS["planner_settings"])


async def open_workbench(
    connection: "Connection", tenant: TenantId, tables: "Sequence[str]"
) -> None:
    """Make what a publication notes things in, with these staged tables in their days' places."""
    await connection.execute(DERIVE["open_workbench"], tenant, tables)
    await connection.execute(CARTS["open_cart_bench"])


async def settle(connection: "Connection", reporting: Reporting) -> int:
    """Add up what the derived days changed, end the workbench; returns the new data version."""
    await fold_episodes(connection, reporting)
    await connection.execute(DERIVE["measure_new_tables"])
    await roll(connection, reporting)
    tenant = reporting.tenant
    version: int = await connection.fetchval(
        DERIVE["raise_version"], tenant, reporting.zone, reporting.property_zone
    )
    await connection.execute(DERIVE["announce"], str(tenant))
    await connection.execute(DERIVE["close_workbench"])
    return version


async def _valid(
    connection: "Connection", reporting: Reporting, day: StagedDay, digest: Digest | None
) -> Digest:
    """A staged day's digest, made again if it must be; and the day's own record."""
    tenant = reporting.tenant
    await connection.execute(DERIVE["open_digest"], tenant, day.table)
    if digest is None or not await holds(connection, reporting, digest):
        # Who was erased since the day was sealed is not brought back by it.
        await connection.execute(DAYS["apply_erasures"], tenant, day.table)
        await connection.execute(DIGEST["clear_digest"], tenant)
        digest = await digest_day(connection, reporting, day.source_day, day.table)
    await connection.execute(
        DERIVE["note_source_day"],
        tenant,
        day.source_day,
        day.family,
        day.source_modified,
        day.source_rows,
        day.rows,
        day.extraction,
        day.scanned_bytes,
        reporting.derived_as,
        digest.first_event_at,
        digest.last_event_at,
    )
    return digest


async def derive(
    connection: "Connection", reporting: Reporting, source_day: date, digest: Digest
) -> None:
    """Derive anew whatever a source day touches, up to what `settle` adds up.

    The workbench is open, and the day's digest on it.
    """
    tenant, zone = reporting.tenant, reporting.zone

    async def run(name: str, *arguments: Any) -> None:
        await connection.execute(DERIVE[name], *arguments)

    await run("note_changed_transactions", tenant, source_day)
    await run("note_changed_sessions", tenant, source_day)
    await run("note_known_sessions", tenant)
    await run("note_spanning_sessions", source_day)
    await run("measure_workbench")
    await run("note_days_before", tenant, source_day)
    await run("drop_changed_sessions", tenant)
    spanned = await connection.fetchval(DERIVE["source_days_of_spanning"], source_day)
    if spanned:
        await run("drop_part_sessions", tenant)
        await connection.execute(
            DIGEST["digest_sessions"],
            tenant,
            source_day,
            spanned,
            zone,
            False,
            reporting.failed_search_event,
        )
    await run("put_sessions", tenant, digest.days)
    await put_interests(connection, tenant, source_day)
    await run("drop_activity", tenant, source_day)
    await run("put_activity", tenant)
    await run("measure_new_tables")
    for name in ("purchases", "refunds"):
        await run(f"drop_{name}", tenant, source_day)
        await run(f"derive_{name}", tenant, source_day, zone, reporting.currency)
        await run(f"move_{name}", tenant, source_day)
    await run("mark_counted", tenant)
    await run("count_session_purchases", tenant)
    await derive_searches(connection, reporting, source_day)
    await mark_searches(connection, reporting)
    await derive_cart_events(connection, reporting, source_day)
    await run("drop_event_counts", tenant, source_day)
    counts = digest.counts
    await run(
        "put_event_counts",
        tenant,
        source_day,
        [count.event_name for count in counts],
        [count.loaded_rows for count in counts],
        [count.without_visitor for count in counts],
        [count.without_session for count in counts],
        [count.duplicates for count in counts],
    )
    await derive_funnels(connection, tenant, source_day)


async def roll(connection: "Connection", reporting: Reporting) -> None:
    """Roll anew the days that were noted as changed."""
    tenant, zone = reporting.tenant, reporting.zone

    async def run(name: str, *arguments: Any) -> None:
        await connection.execute(DERIVE[name], *arguments)

    days = await connection.fetchval(DERIVE["changed_days"])
    if not days:
        return
    sources = await connection.fetchval(DERIVE["source_days_of_days"], tenant, days, zone) or []
    earliest = await connection.fetchval(DERIVE["earliest_session_day"], tenant, days)
    await run("open_roll_bench")
    await run("place_activity", tenant, days, sources, earliest)
    await run("place_deals", tenant, days, earliest)
    await run("close_roll_bench")
    await run("drop_rollups", tenant, days)
    await run("roll_hours", tenant, days, zone)
    await run("roll_days", tenant, days)
    await run("drop_outdated_users", tenant, days)
    await run("roll_users", tenant, days)
    await run("roll_money", tenant, days, zone)
    await run("roll_daily_money", tenant, days)
    await run("roll_parts", tenant, days)
    await run("roll_part_money", tenant)
    await run("drop_outdated_parts", tenant, days)
    await run("roll_visitor_parts", tenant, days)
