"""The job ``reconcile``: the events of some days, counted at the source.

What was loaded is counted with every publication (``data.event_counts``). What the source has can
only be told by the source, by a query that costs something, so it is asked when somebody wants to
know, or as often as a schedule says. Both are put side by side in availability.py, with the day's
record of the table that was loaded: a table that was written since then may rightly differ. The
queries are on the tenant's scan budget like any other.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

import asyncpg
import trio

from troupe.actors.data.availability import QUERIES
from troupe.actors.data.bigquery import Export, ExportTable
from troupe.actors.data.encoding import MAX_KEY_CHARACTERS
from troupe.actors.data.flattening import FlattenQuery
from troupe.actors.data.job_requests import days_of
from troupe.actors.data.reporting import TENANT, reporting_of
from troupe.actors.data.scan_budget import ScanBudget, daily_bytes
from troupe.common.config import DataSettings
from troupe.common.connections import BigQueryConfig, load_connection
from troupe.common.database import Database
from troupe.common.errors import NotFound, PeerError
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import Vault
from troupe.common.sql import load
from troupe.common.tenant_settings import TenantSettings
from troupe.common.units import HOURS, SECONDS
from troupe.platform.jobs import JobKind, JobRun, JobValue
from troupe.platform.threads import Threads

JOB_TIMEOUT: Final = 2 * HOURS
CONCURRENT_RECONCILIATIONS: Final = 1
NOTE_DEADLINE: Final = 10 * SECONDS
CLOSE_DEADLINE: Final = 5 * SECONDS

_COUNT: Final = load(__package__, "count.sql")["count_events"]


def count_query(table: str) -> FlattenQuery:
    """The query that counts one table's events."""
    return FlattenQuery(_COUNT.replace("{table}", table), {}, "count")


class Reconciler:
    """Runs ``reconcile`` jobs of one group.

    Args:
        database: The group's pool.
        vault: Opens the connections' secrets.
        threads: The group's worker threads.
        settings: The operator's.
        guard: Checks the hosts that tenants name.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        threads: Threads,
        settings: DataSettings,
        *,
        guard: OutboundGuard,
    ) -> None:
        self._database = database
        self._vault = vault
        self._threads = threads
        self._settings = settings
        self._guard = guard

    async def handle(self, run: JobRun) -> JobValue:
        """Do one attempt at a job; see the module's text."""
        tenant = run.job.tenant_id
        await run.progress(phase="connecting", message="Looking at the source")
        connection = await load_connection(self._database, self._vault, tenant, "bigquery")
        config = connection.config
        if not isinstance(config, BigQueryConfig):
            raise TypeError(f"a bigquery connection has {type(config).__name__}")
        labels = {"tenant": str(tenant), "troupe_job": str(run.job.id)}
        row = await self._database.fetch_row(TENANT, tenant, tenant=tenant, read_only=True)
        if row is None or row["state"] != "active":
            raise NotFound("The tenant is not active.")
        settings = TenantSettings.model_validate(row["settings"])
        reporting = reporting_of(tenant, row, settings, config.property_time_zone)
        budget = ScanBudget(tenant, reporting.zone, daily_bytes(settings, self._settings))
        days = days_of(run.arguments, zone=reporting.property_zone, enqueued=run.job.created_at)
        export = await self._threads.run(
            lambda: Export(
                config,
                connection.secret,
                labels=labels,
                query_deadline=self._settings.query_deadline,
                guard=self._guard,
            )
        )
        try:
            return await self._count_all(run, export, budget, days)
        finally:
            with trio.move_on_after(CLOSE_DEADLINE, shield=True):
                await self._threads.run(export.close, abandon=True)

    async def _count_all(
        self, run: JobRun, export: Export, budget: ScanBudget, days: list[date]
    ) -> JobValue:
        exported = await self._threads.run(export.days, days[0], days[-1], abandon=True)
        counted = 0
        for number, day in enumerate(days):
            if run.stopping.is_set():
                raise run.leave()
            await run.progress(
                done=number, total=len(days), phase="counting", message=f"Counting {day}"
            )
            if day in exported:
                family = exported[day]
                table = await self._threads.run(export.table, day, family, abandon=True)
                await self._note(run, table, await self._counted(export, budget, table))
                counted += 1
        await run.progress(done=len(days), total=len(days), phase="counting", message="All counted")
        return {"days": len(days), "counted": counted}

    async def _counted(
        self, export: Export, budget: ScanBudget, table: ExportTable
    ) -> dict[str, int]:
        """Count one table's events, within the budget."""
        query = count_query(table.name)
        estimate = await self._threads.run(export.estimate, query, abandon=True)
        reservation = await self._database.run(
            lambda connection: budget.reserve(connection, estimate, table.name),
            tenant=budget.tenant,
            deadline=NOTE_DEADLINE,
        )
        most = reservation.billed_at_most
        try:
            return await self._threads.run(lambda: _counts(export, query, most), abandon=True)
        except PeerError:
            # BigQuery does not bill what failed.
            await self._database.run(
                lambda connection: budget.give_back(connection, reservation),
                tenant=budget.tenant,
                deadline=NOTE_DEADLINE,
            )
            raise

    async def _note(self, run: JobRun, table: ExportTable, counts: Mapping[str, int]) -> None:
        tenant = run.job.tenant_id

        async def unit(connection: asyncpg.Connection) -> None:
            await run.fence(connection)
            await connection.execute(
                QUERIES["note_counted"],
                tenant,
                table.day,
                list(counts),
                list(counts.values()),
                table.modified,
            )

        await self._database.run(unit, tenant=tenant, deadline=NOTE_DEADLINE)


def _counts(export: Export, query: FlattenQuery, at_most: int | None) -> dict[str, int]:
    """Rows per event, under the names that loading gives them."""
    counts: dict[str, int] = {}
    started = export.start(query, at_most=at_most)
    export.wait(started)
    for batch in export.batches(started):
        for row in batch.to_pylist():
            name = (row["event_name"] or "").replace("\0", "")[:MAX_KEY_CHARACTERS]
            counts[name] = counts.get(name, 0) + int(row["source_rows"])
    return counts


def reconcile_kind(
    database: Database,
    vault: Vault,
    threads: Threads,
    settings: DataSettings,
    *,
    guard: OutboundGuard,
) -> JobKind:
    """The kind ``reconcile`` for a `JobRunner`; arguments as `Reconciler`'s."""
    handler = Reconciler(database, vault, threads, settings, guard=guard).handle
    return JobKind(handler=handler, concurrency=CONCURRENT_RECONCILIATIONS, timeout=JOB_TIMEOUT)
