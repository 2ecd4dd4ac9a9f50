"""The job ``reconcile``: the events of some days, counted at the source.

What was loaded is counted with every publication (``data.event_counts``). What the source has can
only be told by the source, by a query that costs something, so it is asked when somebody wants to
know, or as often as a schedule says. Both are put side by side in availability.py, with the day's
record of the table that was loaded: a table that was written since then may rightly differ.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

import asyncpg
import trio

from troupe.actors.data.availability import QUERIES
from troupe.actors.data.bigquery import Export, ExportTable
from troupe.actors.data.days import GROUP, days_of
from troupe.actors.data.encoding import MAX_KEY_CHARACTERS
from troupe.actors.data.flattening import FlattenQuery
from troupe.common.config import DataSettings
from troupe.common.connections import BigQueryConfig, load_connection
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.secrets import Vault
from troupe.common.sql import load
from troupe.common.units import HOURS, SECONDS
from troupe.platform.jobs import JobKind, JobRun, JobValue, NewJob
from troupe.platform.threads import Threads

RECONCILE: Final = "reconcile"
"""The kind's name."""
JOB_TIMEOUT: Final = 2 * HOURS
CONCURRENT_RECONCILIATIONS: Final = 1
NOTE_DEADLINE: Final = 10 * SECONDS
CLOSE_DEADLINE: Final = 5 * SECONDS
_BATCH_ROWS: Final = 10_000

_COUNT: Final = load(__package__, "count.sql")["count_events"]


def reconcile_job(days: DateRange) -> NewJob:
    """What to enqueue; while one for the same days waits or runs, that one is given back."""
    arguments = {"start_date": days.start.isoformat(), "end_date": days.end.isoformat()}
    return NewJob(
        group=GROUP,
        kind=RECONCILE,
        arguments=arguments,
        unique_key=f"{days.start}/{days.end}",
    )


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
    """

    def __init__(
        self, database: Database, vault: Vault, threads: Threads, settings: DataSettings
    ) -> None:
        self._database = database
        self._vault = vault
        self._threads = threads
        self._settings = settings

    async def handle(self, run: JobRun) -> JobValue:
        """Do one attempt at a job; see the module's text."""
        tenant = run.job.tenant_id
        await run.progress(phase="connecting", message="Looking at the source")
        connection = await load_connection(self._database, self._vault, tenant, "bigquery")
        config = connection.config
        if not isinstance(config, BigQueryConfig):
            raise TypeError(f"a bigquery connection has {type(config).__name__}")
        labels = {"tenant": str(tenant), "troupe_job": str(run.job.id)}
        days = days_of(
            run.arguments, zone=config.property_time_zone or "UTC", enqueued=run.job.created_at
        )
        export = await self._threads.run(
            lambda: Export(
                config,
                connection.secret,
                labels=labels,
                query_deadline=self._settings.query_deadline,
            )
        )
        try:
            return await self._count_all(run, export, days)
        finally:
            with trio.move_on_after(CLOSE_DEADLINE, shield=True):
                await self._threads.run(export.close, abandon=True)

    async def _count_all(self, run: JobRun, export: Export, days: list[date]) -> JobValue:
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
                counts = await self._threads.run(_counts, export, table, abandon=True)
                await self._note(run, table, counts)
                counted += 1
        await run.progress(done=len(days), total=len(days), phase="counting", message="All counted")
        return {"days": len(days), "counted": counted}

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


def _counts(export: Export, table: ExportTable) -> dict[str, int]:
    """Rows per event, under the names that loading gives them."""
    counts: dict[str, int] = {}
    for batch in export.batches(export.start(count_query(table.name)), rows=_BATCH_ROWS):
        for row in batch.to_pylist():
            name = (row["event_name"] or "").replace("\0", "")[:MAX_KEY_CHARACTERS]
            counts[name] = counts.get(name, 0) + int(row["source_rows"])
    return counts


def reconcile_kind(
    database: Database, vault: Vault, threads: Threads, settings: DataSettings
) -> JobKind:
    """The kind ``reconcile`` for a `JobRunner`; arguments as `Reconciler`'s."""
    handler = Reconciler(database, vault, threads, settings).handle
    return JobKind(handler=handler, concurrency=CONCURRENT_RECONCILIATIONS, timeout=JOB_TIMEOUT)
