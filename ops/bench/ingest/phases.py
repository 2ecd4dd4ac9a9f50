"""Where the time goes: the product's own steps, one after the other on one connection.

An ingestion does these at the same time, for several days; here each is timed by itself. The limit
of the load is measured beside it: the very bytes that were sent, copied by the server from a file
of its own into the same kind of table.
"""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import asyncpg

from ops.bench.ingest.corpus import PROFILE, Corpus
from ops.bench.ingest.playback import Playback
from troupe.actors.data import publication
from troupe.actors.data.encoding import COPY_COLUMNS, EncodedBatch, encode, gathered
from troupe.actors.data.extraction import BATCH_BYTES
from troupe.actors.data.publication import DAYS, Reporting, StagedDay
from troupe.common.config import DataSettings
from troupe.common.ids import TenantId, new_id
from troupe.common.sql import load

FLATTEN = "flatten.sql"  # which BigQuery runs
PUBLISH_ATTEMPTS = 5
STEPS = ("read", "encode", "copy", "seal", "digest", "derive", "swap")


class _Watched:
    """A connection that adds up what each statement takes."""

    def __init__(self, connection: asyncpg.Connection, seconds: dict[str, float]) -> None:
        self._connection = connection
        self._seconds = seconds

    @contextmanager
    def _timed(self, sql: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds[sql] += time.perf_counter() - began

    async def execute(self, sql: str, *arguments: Any) -> str:
        with self._timed(sql):
            return await self._connection.execute(sql, *arguments)

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        with self._timed(sql):
            return await self._connection.fetch(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        with self._timed(sql):
            return await self._connection.fetchval(sql, *arguments)


class Phases:
    """A load, step by step.

    Attributes:
        seconds: By step.
        statements: By the name of a statement in derive.sql.
        rows: That were loaded.
        load_seconds: From Arrow in memory to committed rows, of the days of `server_seconds`.
        server_seconds: The same bytes copied by the server.
        sent_bytes: Of the copies.
    """

    def __init__(self, runtime: asyncpg.Connection, admin: asyncpg.Connection) -> None:
        self._runtime = runtime
        self._admin = admin
        self.seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
        self._by_sql: dict[str, float] = defaultdict(float)
        self.rows = 0
        self.sent_bytes = 0
        self.load_seconds = 0.0
        self.server_seconds = 0.0

    @property
    def statements(self) -> dict[str, float]:
        """What derivation took, by statement, the dearest first."""
        package = "troupe.actors.data"
        files = [file.name for file in resources.files(package).iterdir() if file.name != FLATTEN]
        named = [load(package, name).items() for name in files if name.endswith(".sql")]
        names = {sql: name for statements in named for name, sql in statements}
        found = {names[sql]: seconds for sql, seconds in self._by_sql.items()}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    async def run(self, corpus: Corpus) -> None:
        """Load all days of a corpus for a tenant of its own."""
        tenant = TenantId(new_id())
        async with self._of(tenant):
            await self._runtime.execute(
                "INSERT INTO platform.tenants (tenant_id, name, reporting_time_zone,"
                " reporting_currency) VALUES ($1, $2, $3, $4)",
                tenant,
                PROFILE.name,
                PROFILE.zone,
                PROFILE.currency,
            )
        reporting = Reporting(
            tenant=tenant,
            zone=PROFILE.zone,
            currency=PROFILE.currency,
            property_zone=PROFILE.zone,
            failed_search_event="no_search_results",
        )
        for recorded in corpus.tables():
            await self._day(Playback(corpus), reporting, recorded.table())

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began

    def _of(self, tenant: TenantId) -> "_Transaction":
        return _Transaction(self._runtime, tenant)

    async def _day(self, source: Playback, reporting: Reporting, table: Any) -> None:
        tenant = reporting.tenant
        async with self._of(tenant):
            name = await publication.stage(self._runtime, tenant, table.day, new_id())
        answer = source._answers / f"{table.day}.arrow"
        batches = gathered(
            self._arriving(source, answer), rows=DataSettings().batch_rows, size=BATCH_BYTES
        )
        before = self.seconds["encode"] + self.seconds["copy"]
        rows, sent = 0, []
        for batch in batches:
            with self._step("encode"):
                encoded = encode(batch, tenant, table.day)
            with self._step("copy"):
                async with self._of(tenant):
                    await publication.copy_batch(self._runtime, name, encoded)
            rows += encoded.rows
            sent.append(encoded)
        self.load_seconds += self.seconds["encode"] + self.seconds["copy"] - before
        await self._copy_on_the_server(name, sent)
        with self._step("seal"):
            async with self._of(tenant):
                await publication.seal(self._runtime, tenant, name)
        day = StagedDay(
            source_day=table.day,
            table=name,
            rows=rows,
            family=table.family.value,
            source_modified=datetime.now(UTC),
            source_rows=table.rows,
            extraction="phases",
            scanned_bytes=0,
        )
        watched = cast("asyncpg.Connection", _Watched(self._runtime, self._by_sql))
        with self._step("digest"):
            async with self._of(tenant):
                digested = await publication.digest(watched, reporting, day)
        began, swapped = time.perf_counter(), self._by_sql[DAYS["publish_day"]]
        for _ in range(PUBLISH_ATTEMPTS):
            # Autovacuum may stand in the way; the product tries again as well.
            try:
                async with self._of(tenant):
                    await publication.publish(watched, reporting, {day: digested})
                break
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                began, swapped = time.perf_counter(), self._by_sql[DAYS["publish_day"]]
        else:
            raise RuntimeError(f"{table.day} could not be published")
        swap = self._by_sql[DAYS["publish_day"]] - swapped
        self.seconds["swap"] += swap
        self.seconds["derive"] += time.perf_counter() - began - swap
        self.rows += rows

    def _arriving(self, source: Playback, answer: Path) -> Iterator[Any]:
        batches = source.batches(answer)
        while True:
            with self._step("read"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    async def _copy_on_the_server(self, name: str, sent: list[EncodedBatch]) -> None:
        """COPY the same bytes from a file into an empty table like the staged one, then drop it."""
        columns = ", ".join(COPY_COLUMNS)
        with tempfile.NamedTemporaryFile(suffix=".copy") as file:
            os.fchmod(file.fileno(), 0o644)
            await self._admin.execute(
                f"CREATE TABLE staging.limit (LIKE staging.{name} INCLUDING ALL)"
            )
            for batch in sent:
                file.seek(0)
                file.truncate()
                for piece in batch:
                    file.write(piece)
                    self.sent_bytes += len(piece)
                file.flush()
                began = time.perf_counter()
                await self._admin.execute(
                    f"COPY staging.limit ({columns}) FROM '{file.name}' (FORMAT binary)"
                )
                self.server_seconds += time.perf_counter() - began
            await self._admin.execute("DROP TABLE staging.limit")


class _Transaction:
    """A transaction of a tenant's own."""

    def __init__(self, connection: asyncpg.Connection, tenant: TenantId) -> None:
        self._connection = connection
        self._tenant = tenant
        self._transaction = connection.transaction()

    async def __aenter__(self) -> None:
        await self._transaction.start()
        await self._connection.execute(
            "SELECT set_config('troupe.tenant_id', $1, true)", str(self._tenant)
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await (self._transaction.rollback() if kind else self._transaction.commit())
