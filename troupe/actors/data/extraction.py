"""One day from BigQuery into a staged table.

Two sides meet here. A worker thread waits for the query, decodes Arrow and encodes batches; trio
copies each batch into PostgreSQL in a short transaction of its own. Between them lie at most
`HANDED_OVER` encoded batches: when PostgreSQL is slower the thread waits, and with it BigQuery,
whose stream sends no further than we take; when BigQuery is slower no connection and no transaction
is held. So vacuum is never held back by a transfer.

Memory is bounded twice. A batch ends at a number of rows or bytes, whatever the day's size; and all
days of all ingestions of the group draw on one `Memory`. The thread asks for a `PIECE` before it
reads on; encoded, the batch keeps its own size of that until it is copied. Who waits for memory
holds none that another one waits for: what lies encoded is copied in any case.

The thread cannot be killed, only left: when the day is cancelled its channel and its account close,
the query is cancelled at BigQuery, and the thread ends at its next batch or when its call's time is
up.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import trio

from troupe.actors.data.bigquery import CANCEL_TIMEOUT, ExportTable
from troupe.actors.data.bigquery_errors import was_answered
from troupe.actors.data.encoding import EncodedBatch, encode, gathered
from troupe.actors.data.flattening import FlattenQuery, flatten_query
from troupe.actors.data.publication import StagedDay, copy_batch, discard, seal, stage
from troupe.actors.data.scan_budget import Reservation, ScanBudget
from troupe.actors.data.source import Source
from troupe.common.database import Database
from troupe.common.errors import DatabaseError, PeerError, TroupeError
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.tenant_settings import TenantSettings
from troupe.common.units import MINUTES, SECONDS, MiB
from troupe.platform.memory import Account, Memory
from troupe.platform.threads import Threads

HANDED_OVER: Final = 1
BATCH_BYTES: Final = 4 * MiB
"""Of a batch as Arrow, unless one row is larger."""
PIECE: Final = 3 * BATCH_BYTES
"""What reading one more batch may take: the batch, its encoded form, what has come of the next."""
COPY_DEADLINE: Final = 2 * MINUTES
SEAL_DEADLINE: Final = 10 * MINUTES
NOTE_DEADLINE: Final = 10 * SECONDS
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
        memory: The group's, for rows on their way.
        budget: What the tenant's queries may scan.
        tenant: Whose.
        job: The job that it is done for; staged tables carry it.
        settings: Names of parameters and properties.
        cut: What days and money are cut by (zone, currency); rows are read again when it changes.
        batch_rows: Rows per batch at most.
    """

    export: Source
    database: Database
    threads: Threads
    memory: Memory
    budget: ScanBudget
    tenant: TenantId
    job: UUID
    settings: TenantSettings
    cut: str
    batch_rows: int

    def query(self, table: ExportTable) -> FlattenQuery:
        """How a table is read now. Takes some milliseconds."""
        return flatten_query(table.name, table.schema, self.settings)

    def fingerprint(self, query: FlattenQuery) -> str:
        """Says how a table is read and cut now; kept with its rows, to compare later."""
        return f"{query.fingerprint} {self.cut}"

    async def stage(self, table: ExportTable, query: FlattenQuery, on_batch: OnBatch) -> StagedDay:
        """Load a table's rows into a staged table, sealed and ready to be published.

        A failure, or a cancellation, leaves nothing behind.

        Args:
            table: Which.
            query: How it is read: `query` of it.
            on_batch: Told of every batch that has been copied.

        Raises:
            ScanBudgetSpent: The query would scan more than the tenant has left today.
            PeerError: BigQuery failed; see `bigquery_errors`.
            DatabaseError: PostgreSQL failed.
        """
        estimate = await self.threads.run(self.export.estimate, query, abandon=True)
        answer = await self._answered(table, query, estimate)
        name = await self.database.run(
            lambda connection: stage(connection, self.tenant, table.day, self.job),
            tenant=self.tenant,
        )
        try:
            rows = await self._fill(name, table, answer, on_batch)
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
            extraction=self.fingerprint(query),
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

    async def _answered(self, table: ExportTable, query: FlattenQuery, estimate: int) -> object:
        """Run a query to its end, within the budget."""
        reservation = await self.database.run(
            lambda connection: self.budget.reserve(connection, estimate, table.name),
            tenant=self.tenant,
            deadline=NOTE_DEADLINE,
        )
        started = None
        try:
            started = await self.threads.run(
                lambda: self.export.start(query, at_most=reservation.billed_at_most), abandon=True
            )
            await self.threads.run(self.export.wait, started, abandon=True)
        except BaseException as error:
            if started is not None:
                await self._cancel(started)
            if isinstance(error, PeerError) and was_answered(error):
                await self._give_back(reservation)
            raise
        return started

    async def _fill(self, name: str, table: ExportTable, answer: object, on_batch: OnBatch) -> int:
        send, receive = trio.open_memory_channel[EncodedBatch](HANDED_OVER)
        failures: list[TroupeError] = []
        copied = 0
        with self.memory.account() as account:
            async with trio.open_nursery() as nursery, receive:
                nursery.start_soon(self._produce, answer, table, account, send, failures)
                try:
                    async for batch in receive:
                        await self._copy(name, batch)
                        account.give(min(batch.size, PIECE))
                        copied += batch.rows
                        await on_batch(batch.rows, batch.size)
                except TroupeError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]
        return copied

    async def _produce(
        self,
        answer: object,
        table: ExportTable,
        account: Account,
        send: trio.MemorySendChannel[EncodedBatch],
        failures: list[TroupeError],
    ) -> None:
        async def hand_over(batch: EncodedBatch) -> None:
            account.give(PIECE - min(batch.size, PIECE))
            await send.send(batch)

        def produce() -> None:
            arrived = self.export.batches(answer)
            batches = gathered(arrived, rows=self.batch_rows, size=BATCH_BYTES)
            while True:
                trio.from_thread.run(account.take, PIECE)
                batch = next(batches, None)
                if batch is None:
                    return
                encoded = encode(batch, self.tenant, table.day)
                del batch
                trio.from_thread.run(hand_over, encoded)

        async with send:
            try:
                await self.threads.run(produce, abandon=True)
            except TroupeError as error:
                failures.append(error)

    async def _copy(self, name: str, batch: EncodedBatch) -> None:
        await self.database.run(
            lambda connection: copy_batch(connection, name, batch),
            tenant=self.tenant,
            durable=False,
            deadline=COPY_DEADLINE,
        )

    async def _cancel(self, started: object) -> None:
        with trio.move_on_after(CANCEL_TIMEOUT, shield=True):
            try:
                await self.threads.run(self.export.cancel, started, abandon=True)
            except PeerError as error:
                _log.info("bigquery_job_not_cancelled", export=self.export.name, error=str(error))

    async def _give_back(self, reservation: Reservation) -> None:
        with trio.move_on_after(NOTE_DEADLINE, shield=True):
            try:
                await self.database.run(
                    lambda connection: self.budget.give_back(connection, reservation),
                    tenant=self.tenant,
                    deadline=NOTE_DEADLINE,
                )
            except DatabaseError as error:
                # The budget stays too strict by this query for the rest of the day.
                _log.warning("scan_not_given_back", export=self.export.name, error=str(error))
