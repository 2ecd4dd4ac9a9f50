"""One day from BigQuery into a staged table.

Two sides meet here. A worker thread waits for the query, decodes Arrow and encodes batches; trio
copies each batch into PostgreSQL in a short transaction of its own. Between them lie at most
`HANDED_OVER` encoded batches: when PostgreSQL is slower the thread waits, when BigQuery is slower
no connection and no transaction is held. So memory is bounded by the batch, whatever the day's
size, and vacuum is never held back by a transfer.

The thread cannot be killed, only left: when the day is cancelled its channel closes, the query is
cancelled at BigQuery, and the thread ends at its next batch or when its call's time is up.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import trio
from google.cloud.bigquery import QueryJob

from troupe.actors.data.bigquery import CANCEL_TIMEOUT, Export, ExportTable
from troupe.actors.data.encoding import EncodedBatch, encode
from troupe.actors.data.flattening import FlattenQuery, flatten_query
from troupe.actors.data.publication import StagedDay, copy_batch, discard, seal, stage
from troupe.common.database import Database
from troupe.common.errors import PeerError, TroupeError
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.tenant_settings import TenantSettings
from troupe.common.units import MINUTES, SECONDS
from troupe.platform.threads import Threads

HANDED_OVER: Final = 1
COPY_DEADLINE: Final = 2 * MINUTES
SEAL_DEADLINE: Final = 10 * MINUTES
CLEAN_UP_DEADLINE: Final = 5 * SECONDS

_log = get_logger(__name__)

OnBatch = Callable[[int, int], Awaitable[None]]
"""Told of each batch in the database: rows and bytes."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """Reads the days of one ingestion.

    Attributes:
        export: Where from.
        database: Where to.
        threads: The group's worker threads.
        tenant: Whose.
        job: The job that it is done for; staged tables carry it.
        settings: Names of parameters and properties.
        cut: What days and money are cut by (zone, currency); rows are read again when it changes.
        batch_rows: Rows per batch.
    """

    export: Export
    database: Database
    threads: Threads
    tenant: TenantId
    job: UUID
    settings: TenantSettings
    cut: str
    batch_rows: int

    def fingerprint(self, table: ExportTable) -> str:
        """Says how a table would be read and cut now; kept with its rows, to compare later."""
        return f"{self._query(table).fingerprint} {self.cut}"

    def _query(self, table: ExportTable) -> FlattenQuery:
        return flatten_query(table.name, table.schema, self.settings)

    async def stage(self, table: ExportTable, on_batch: OnBatch) -> StagedDay:
        """Load a table's rows into a staged table, sealed and ready to be published.

        A failure, or a cancellation, leaves nothing behind.

        Raises:
            PeerError: BigQuery failed; see `bigquery_errors`.
            DatabaseError: PostgreSQL failed.
        """
        query = self._query(table)
        estimate = await self.threads.run(self.export.estimate, query, abandon=True)
        name = await self.database.run(
            lambda connection: stage(connection, self.tenant, table.day, self.job),
            tenant=self.tenant,
        )
        try:
            rows = await self._fill(name, table, query, on_batch)
            await self.database.run(
                lambda connection: seal(connection, self.tenant, name),
                tenant=self.tenant,
                deadline=SEAL_DEADLINE,
            )
        except BaseException:
            await self.discard(name)
            raise
        return StagedDay(
            source_day=table.day,
            table=name,
            rows=rows,
            family=table.family.value,
            source_modified=table.modified,
            source_rows=table.rows,
            extraction=self.fingerprint(table),
            scanned_bytes=estimate,
        )

    async def sweep(self) -> None:
        """Drop what earlier attempts at this job left behind."""
        dropped = await self.database.run(
            lambda connection: discard(connection, self.tenant, self.job), tenant=self.tenant
        )
        if dropped:
            _log.info("staged_days_swept", job_id=str(self.job), dropped=dropped)

    async def discard(self, name: str) -> None:
        """Drop a staged table that will not be published; no effect on one that has been."""
        with trio.move_on_after(CLEAN_UP_DEADLINE, shield=True):
            try:
                await self.database.run(
                    lambda connection: discard(connection, self.tenant, self.job, name),
                    tenant=self.tenant,
                    deadline=CLEAN_UP_DEADLINE,
                )
            except (TroupeError, asyncpg.PostgresError) as error:
                # The next attempt's sweep, or the next job's, drops it.
                _log.warning("staged_day_not_discarded", table=name, error=str(error))

    async def _fill(
        self, name: str, table: ExportTable, query: FlattenQuery, on_batch: OnBatch
    ) -> int:
        job = await self.threads.run(self.export.start, query, abandon=True)
        send, receive = trio.open_memory_channel[EncodedBatch](HANDED_OVER)
        failures: list[TroupeError] = []
        copied = 0
        finished = False
        try:
            async with trio.open_nursery() as nursery, receive:
                nursery.start_soon(self._produce, job, table, send, failures)
                try:
                    async for batch in receive:
                        await self._copy(name, batch)
                        copied += batch.rows
                        await on_batch(batch.rows, batch.size)
                except TroupeError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()
            finished = not failures
        finally:
            if not finished:
                await self._cancel(job)
        if failures:
            raise failures[0]
        return copied

    async def _produce(
        self,
        job: QueryJob,
        table: ExportTable,
        send: trio.MemorySendChannel[EncodedBatch],
        failures: list[TroupeError],
    ) -> None:
        def produce() -> None:
            for batch in self.export.batches(job, rows=self.batch_rows):
                trio.from_thread.run(send.send, encode(batch, self.tenant, table.day))

        async with send:
            try:
                await self.threads.run(produce, abandon=True)
            except TroupeError as error:
                failures.append(error)

    async def _copy(self, name: str, batch: EncodedBatch) -> None:
        await self.database.run(
            lambda connection: copy_batch(connection, name, batch),
            tenant=self.tenant,
            deadline=COPY_DEADLINE,
        )

    async def _cancel(self, job: QueryJob) -> None:
        with trio.move_on_after(CANCEL_TIMEOUT, shield=True):
            try:
                await self.threads.run(self.export.cancel, job, abandon=True)
            except PeerError as error:
                _log.info("bigquery_job_not_cancelled", job=job.job_id, error=str(error))
