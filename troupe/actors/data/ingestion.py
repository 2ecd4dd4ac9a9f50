"""The job ``ingest``: the days of a range, from BigQuery to everything that is derived from them.

For each day exactly one table counts (daily, else fresh, else intraday). A day is read only if the
source changed since it was last read, or if we would read it differently now. Days are independent:
some are read at the same time, while those that are ready are published, a few at once; each
publication carries the checkpoint in its own transaction, behind the job's fence. A killed attempt
is therefore continued by the next one where it stopped, and an attempt that has lost its lease
publishes nothing.

The first day in flight uses the slot of the group's pool that the job has; every further one takes
a slot that happens to be free, day by day, and never waits in line for it: jobs that wait for each
other's slots would wait for ever, and other tenants' jobs come first.

Whose fault a failure is decides what it stops:

- The connection's credentials, the dataset, our own database: the whole job, at once.
- BigQuery being away or out of quota: the day is tried again here a few times; then the attempt
  fails and the job is tried again later, not before BigQuery says so.
- The tenant's budget being spent: the job, at the day that would exceed it. Loading it again on
  another day goes on from there.
- One day's table (gone, forbidden, a query that does not fit): that day. The others are loaded, and
  the job fails at the end with one sentence that says which are not.

Days that are ready when a job stops are still published, unless it is our database that failed.

A day that fails keeps what it had, marked stale. A day without a table is missing, which is not the
same as a day of no rows: those empty it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import date
from functools import partial
from typing import Final

import asyncpg
import pyarrow as pa
import trio

from troupe.actors.data.bigquery import Export, ExportTable
from troupe.actors.data.days import QUERIES as DAYS
from troupe.actors.data.days import Known, Tally, read_known
from troupe.actors.data.digest import Digest
from troupe.actors.data.extraction import Extraction
from troupe.actors.data.flattening import Family, FlattenQuery
from troupe.actors.data.job_requests import INGEST, days_of
from troupe.actors.data.patience import publish_patiently
from troupe.actors.data.publication import Reporting, StagedDay, digest, publish
from troupe.actors.data.reporting import TENANT, reporting_of
from troupe.actors.data.scan_budget import ScanBudget, ScanBudgetSpent, daily_bytes
from troupe.actors.data.source import Source
from troupe.actors.data.succession import Succession
from troupe.common.allocation import give_large_blocks_back
from troupe.common.config import DataSettings
from troupe.common.connections import BigQueryConfig, load_connection
from troupe.common.database import Database
from troupe.common.errors import (
    CredentialsRejected,
    DatabaseError,
    DatabaseUnavailable,
    NotFound,
    PeerRefused,
    PeerUnavailable,
    StorageFull,
    TroupeError,
)
from troupe.common.logs import get_logger
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import Vault
from troupe.common.tenant_settings import TenantSettings
from troupe.common.units import HOURS, MINUTES, SECONDS, MiB
from troupe.platform.errors import PermanentJobError
from troupe.platform.jobs import JobKind, JobRun, JobValue
from troupe.platform.memory import Memory
from troupe.platform.pool import Pool
from troupe.platform.threads import Threads

JOB_TIMEOUT: Final = 12 * HOURS
CONCURRENT_INGESTIONS: Final = 2
NOTE_DEADLINE: Final = 10 * SECONDS
DIGEST_DEADLINE: Final = 10 * MINUTES
CLOSE_DEADLINE: Final = 5 * SECONDS
DAY_ATTEMPTS: Final = 3
FIRST_DAY_PAUSE: Final = 1 * SECONDS
LONGEST_DAY_PAUSE: Final = 30 * SECONDS
SLOT_PAUSE: Final = 1 * SECONDS
"""Until the next look for a free slot of the pool."""

__all__ = ["INGEST", "DaysNotLoaded", "Ingestor", "NoRoom", "NothingExported", "ingest_kind"]

_log = get_logger(__name__)


class NothingExported(PeerRefused):
    """None of the days that were asked for has a table."""


class DaysNotLoaded(PermanentJobError):
    """Some days could not be loaded, and a retry would not help."""


class NoRoom(PermanentJobError):
    """Our database has no space left.

    Args:
        error: What it said.
    """

    def __init__(self, error: StorageFull) -> None:
        super().__init__(f"{error} The days that were loaded before stay as they are.")


class Ingestor:
    """Runs ``ingest`` jobs of one group.

    Args:
        database: The group's pool; asked for each time.
        vault: Opens the connections' secrets.
        threads: The group's worker threads.
        settings: The operator's.
        guard: Checks the hosts that tenants name.
        pool: The group's slots.
        connect: Opens a source, with the arguments of `Export`.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        threads: Threads,
        settings: DataSettings,
        *,
        guard: OutboundGuard,
        pool: Pool,
        connect: Callable[..., Source] = Export,
    ) -> None:
        self._database = database
        self._vault = vault
        self._threads = threads
        self._settings = settings
        self._guard = guard
        self._pool = pool
        self._connect = connect
        self._memory = Memory(settings.memory_mib * MiB)
        # What `Memory` counts is what the process takes only if it gives back what is not used.
        give_large_blocks_back()
        pa.set_memory_pool(pa.system_memory_pool())

    async def handle(self, run: JobRun) -> JobValue:
        """Do one attempt at a job; see the module's text."""
        await run.progress(phase="connecting", message="Looking at the source")
        tenant = run.job.tenant_id
        row = await self._database.fetch_row(TENANT, tenant, tenant=tenant, read_only=True)
        if row is None or row["state"] != "active":
            raise NotFound("The tenant is not active.")
        connection = await load_connection(self._database, self._vault, tenant, "bigquery")
        config = connection.config
        if not isinstance(config, BigQueryConfig):
            raise TypeError(f"a bigquery connection has {type(config).__name__}")
        settings = TenantSettings.model_validate(row["settings"])
        reporting = reporting_of(tenant, row, settings, config.property_time_zone)
        labels = {"tenant": str(tenant), "troupe_job": str(run.job.id)}
        export = await self._threads.run(
            lambda: self._connect(
                config,
                connection.secret,
                labels=labels,
                query_deadline=self._settings.query_deadline,
                guard=self._guard,
            )
        )
        try:
            ingestion = _Ingestion(
                run=run,
                database=self._database,
                threads=self._threads,
                extraction=Extraction(
                    export=export,
                    database=self._database,
                    threads=self._threads,
                    memory=self._memory,
                    budget=ScanBudget(
                        tenant, reporting.zone, daily_bytes(settings, self._settings)
                    ),
                    tenant=tenant,
                    job=run.job.id,
                    settings=settings,
                    cut=reporting.cut,
                    batch_rows=self._settings.batch_rows,
                ),
                reporting=reporting,
                pool=self._pool,
                days_in_flight=self._settings.days_in_flight,
            )
            return await ingestion.perform()
        finally:
            # Also ends what a thread that we had to leave is still reading.
            with trio.move_on_after(CLOSE_DEADLINE, shield=True):
                await self._threads.run(export.close, abandon=True)


def ingest_kind(
    database: Database,
    vault: Vault,
    threads: Threads,
    settings: DataSettings,
    *,
    guard: OutboundGuard,
    pool: Pool,
    connect: Callable[..., Source] = Export,
) -> JobKind:
    """The kind ``ingest`` for a `JobRunner`; the arguments are those of `Ingestor`."""
    ingestor = Ingestor(database, vault, threads, settings, guard=guard, pool=pool, connect=connect)
    return JobKind(handler=ingestor.handle, concurrency=CONCURRENT_INGESTIONS, timeout=JOB_TIMEOUT)


class _Ingestion:
    """One attempt at one job."""

    def __init__(
        self,
        *,
        run: JobRun,
        database: Database,
        threads: Threads,
        extraction: Extraction,
        reporting: Reporting,
        pool: Pool,
        days_in_flight: int,
    ) -> None:
        self._run = run
        self._database = database
        self._threads = threads
        self._extraction = extraction
        self._export = extraction.export
        self._reporting = reporting
        self._tenant = reporting.tenant
        self._pool = pool
        self._days_in_flight = days_in_flight
        self._succession = Succession(days_in_flight)
        self._unpublished: set[str] = set()
        self._tally = Tally(
            days_of(run.arguments, zone=reporting.property_zone, enqueued=run.job.created_at)
        )
        self._tally.restore(run.checkpoint)
        self._known: dict[date, Known] = {}

    async def perform(self) -> JobValue:
        tally = self._tally
        first, last = tally.days[0], tally.days[-1]
        await self._extraction.sweep()
        exported = await self._threads.run(self._export.days, first, last, abandon=True)
        families = {day: exported[day] for day in tally.days if day in exported}
        await self._note_missing([day for day in tally.days if day not in families])
        if not families:
            span = f"{first}" if first == last else f"{first} to {last}"
            raise NothingExported(f"{self._export.name} has no events table for {span}.")
        self._known = await self._database.run(
            lambda connection: read_known(connection, self._tenant, first, last),
            tenant=self._tenant,
            read_only=True,
        )
        todo = [(day, family) for day, family in families.items() if day not in tally.done]
        await self._tell(f"Loading {len(todo)} days")
        await self._load_all(todo)
        if tally.failed:
            day, problem = min(tally.failed.items())
            raise DaysNotLoaded(
                f"{len(tally.failed)} of {len(tally.days)} days could not be loaded; {day}:"
                f" {problem}"
            )
        missing = len(tally.missing)
        await self._tell(f"{missing} days are missing at the source" if missing else "All loaded")
        return {
            "days": len(tally.days),
            "unchanged": tally.unchanged,
            "missing": [day.isoformat() for day in tally.missing],
            "rows": tally.rows,
        }

    async def _load_all(self, todo: Iterable[tuple[date, Family]]) -> None:
        """Load days, some at a time, oldest first, until all are done or one stops the job."""
        waiting = deque(todo)
        failures: list[TroupeError] = []

        async def load_one_after_another(loaders: trio.Nursery, *, in_own_slot: bool) -> None:
            try:
                while waiting:
                    await self._succession.room()
                    slot = None if in_own_slot else self._pool.try_acquire(self._tenant)
                    if slot is None and not in_own_slot:
                        await trio.sleep(SLOT_PAUSE)
                        continue
                    with nullcontext() if slot is None else slot, self._succession.loading():
                        if self._run.stopping.is_set():
                            raise self._run.leave()
                        if waiting:
                            await self._load(*waiting.popleft())
            except TroupeError as error:
                failures.append(error)
                scope = nursery if isinstance(error, DatabaseError) else loaders
                scope.cancel_scope.cancel()

        async def publish_until_all_are() -> None:
            try:
                await self._publish_what_is_ready()
            except TroupeError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish_until_all_are)
                async with trio.open_nursery() as loaders:
                    for number in range(min(self._days_in_flight, len(waiting))):
                        loaders.start_soon(
                            partial(load_one_after_another, loaders, in_own_slot=not number)
                        )
                self._succession.close()
        finally:
            # At the same time, since each may take as long as tidying up may.
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    for table in self._unpublished:
                        nursery.start_soon(self._extraction.discard, table)
        if failures:
            raise failures[0]

    async def _load(self, day: date, family: Family) -> None:
        known = self._known.get(day)
        if known is not None and known.outranks(family):
            await self._leave_as_it_is(day)
            return
        try:
            await self._patiently(day, family, known)
        except CredentialsRejected:
            raise
        except ScanBudgetSpent as error:
            await self._note_failed(day, error)
            raise
        except PeerRefused as error:
            await self._note_failed(day, error)
            self._tally.failed[day] = str(error)
            await self._tell()
        except PeerUnavailable as error:
            await self._note_failed(day, error)
            raise
        except StorageFull as error:
            raise NoRoom(error) from error

    async def _patiently(self, day: date, family: Family, known: Known | None) -> None:
        """Load a day; when BigQuery asks to wait, wait and load it anew."""
        pause = FIRST_DAY_PAUSE
        for attempt in range(1, DAY_ATTEMPTS + 1):
            try:
                table, query = await self._threads.run(self._look_up, day, family, abandon=True)
                fingerprint = self._extraction.fingerprint(query)
                if known is not None and known.is_current(table, fingerprint):
                    await self._leave_as_it_is(day)
                else:
                    self._tally.reading.pop(day, None)
                    await self._make_ready(
                        await self._extraction.stage(table, query, partial(self._count, table))
                    )
            except PeerUnavailable as error:
                wait = max(pause, error.retry_after or 0.0)
                if attempt == DAY_ATTEMPTS or wait > LONGEST_DAY_PAUSE:
                    raise
                _log.info("day_postponed", day=str(day), seconds=wait, reason=str(error))
                await trio.sleep(wait)
                pause *= 4
            else:
                return

    def _look_up(self, day: date, family: Family) -> tuple[ExportTable, FlattenQuery]:
        table = self._export.table(day, family)
        return table, self._extraction.query(table)

    async def _count(self, table: ExportTable, rows: int, size: int) -> None:
        self._tally.arrived(table.day, rows, size, table.rows)
        await self._tell()

    async def _tell(self, message: str | None = None) -> None:
        await self._run.progress(phase="loading", message=message, **self._tally.progress())

    # ---- what is written

    async def _make_ready(self, day: StagedDay) -> None:
        self._unpublished.add(day.table)
        await self._succession.hand_over(day, await self._digest(day))

    async def _digest(self, day: StagedDay) -> Digest:
        found = await self._database.run(
            lambda connection: digest(connection, self._reporting, day),
            tenant=self._tenant,
            durable=False,
            deadline=DIGEST_DEADLINE,
        )
        if found.rows != day.rows:
            raise DatabaseUnavailable(
                f"PostgreSQL has {found.rows} of {day.rows} rows of {day.source_day}: it crashed"
                " meanwhile."
            )
        return found

    async def _publish_what_is_ready(self) -> None:
        """Publish days, some together, until no more come."""
        with suppress(trio.EndOfChannel):
            while True:
                await self._publish(await self._succession.next_together())

    async def _publish(self, days: Mapping[StagedDay, Digest]) -> None:
        finished = {day.source_day for day in days}

        async def unit(connection: asyncpg.Connection) -> int:
            await self._run.fence(connection)
            version = await publish(connection, self._reporting, days)
            await self._run.save_checkpoint_in(connection, self._tally.checkpoint(finished))
            return version

        try:
            version = await publish_patiently(self._database, self._tenant, unit)
        except StorageFull as error:
            raise NoRoom(error) from error
        self._tally.done |= finished
        self._succession.published(days)
        self._unpublished.difference_update(day.table for day in days)
        for day in days:
            _log.info(
                "day_published",
                tenant_id=str(self._tenant),
                day=str(day.source_day),
                family=day.family,
                rows=day.rows,
                data_version=version,
            )
        await self._tell(f"{', '.join(str(day) for day in sorted(finished))} loaded")

    async def _leave_as_it_is(self, day: date) -> None:
        await self._note("note_checked", day)
        self._tally.unchanged += 1
        self._tally.done.add(day)
        await self._tell()

    async def _note_missing(self, days: Sequence[date]) -> None:
        if days:
            await self._note("note_missing", days)
        self._tally.missing = list(days)

    async def _note_failed(self, day: date, error: TroupeError) -> None:
        try:
            await self._note("note_failed", day, str(error))
        except DatabaseError as unnoted:
            # What is told is why the day failed, not that we could not write it down.
            _log.warning("failed_day_not_noted", day=str(day), error=str(unnoted))

    async def _note(self, query: str, *arguments: object) -> None:
        async def unit(connection: asyncpg.Connection) -> None:
            await self._run.fence(connection)
            await connection.execute(DAYS[query], self._tenant, *arguments)

        # Not durable by itself, but before the job's end is, which comes after it.
        await self._database.run(unit, tenant=self._tenant, durable=False, deadline=NOTE_DEADLINE)
