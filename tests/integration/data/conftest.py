"""A tenant with an export at the BigQuery stand-in, and the data group's job runner."""

import ipaddress
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio

from tests.support.postgres import TestDatabase
from troupe.actors.auth.connections import put_connection
from troupe.actors.auth.tenants import create_tenant
from troupe.actors.data.ingestion import ingest_kind
from troupe.actors.data.job_requests import GROUP, INGEST, RECONCILE, ingest_job
from troupe.actors.data.reconciliation import reconcile_kind
from troupe.common.bridge import aio, open_bridge
from troupe.common.config import DataSettings
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing, Vault
from troupe.common.units import MILLISECONDS, MINUTES, SECONDS
from troupe.platform.jobs import Job, JobRunner, JobState, JobStore, RunnerSettings
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor
from troupe.platform.threads import Threads
from troupe_demo.bigquery import StandIn, create_service_account, start
from troupe_demo.ga4 import HARBOR_SHOP, TOOL_SHOP, TenantProfile, generate

LAST_DAY = date(2026, 9, 30)
DAYS = 6
EVENTS = 3000
PROFILES = (TOOL_SHOP, HARBOR_SHOP)
PATIENCE = 2 * MINUTES
LOOPBACK = OutboundGuard([ipaddress.ip_network("127.0.0.0/8")])
NOTE_PUBLICATIONS = """
    CREATE TABLE public.publications (tenant_id uuid, source_day date, transaction xid8);
    CREATE FUNCTION public.note_publication() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO public.publications
        VALUES (NEW.tenant_id, NEW.source_day, pg_current_xact_id());
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_publication AFTER INSERT OR UPDATE OF loaded_at ON data.source_days
        FOR EACH ROW WHEN (NEW.loaded_at IS NOT NULL) EXECUTE FUNCTION public.note_publication();
"""


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports of two shops; never changed."""
    root = tmp_path_factory.mktemp("generated")
    generate(root, PROFILES, days=DAYS, events=EVENTS, seed=5, last_day=LAST_DAY)
    return root


@pytest.fixture
def exports(generated: Path, tmp_path: Path) -> Path:
    """A copy of the exports that a test may change."""
    root = tmp_path / "exports"
    for file in generated.rglob("*.parquet"):
        target = root / file.relative_to(generated)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return root


@dataclass
class Shop:
    """One tenant of a test.

    Attributes:
        tenant: Its id.
        profile: Its export.
        folder: Where the export's tables lie.
        first: Its first exported day.
        last: Its last one.
    """

    tenant: TenantId
    profile: TenantProfile
    folder: Path
    first: date
    last: date

    @property
    def days(self) -> list[date]:
        return [
            self.first + timedelta(days=number)
            for number in range((self.last - self.first).days + 1)
        ]

    def table(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def rewrite(self, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
        """Write a table again, as Google does with late hits."""
        path = self.table(name)
        partial = path.with_suffix(".partial")
        pq.write_table(change(pq.read_table(path)), partial)
        partial.replace(path)


@dataclass
class World:
    """What a test has to work with."""

    where: TestDatabase
    database: Database
    admin: asyncpg.Connection
    vault: Vault
    exports: Path
    bigquery: StandIn
    store: JobStore

    def account(self, project: str, **changes: Any) -> bytes:
        """A service account's file that points at the stand-in."""
        made = create_service_account(self.exports, project, self.bigquery.token_uri)
        return json.dumps(made | changes).encode()

    async def shop(self, profile: TenantProfile = TOOL_SHOP, **settings: Any) -> Shop:
        """A tenant connected to its export."""
        zone = settings.pop("zone", profile.zone)
        tenant = await create_tenant(
            self.database,
            profile.name,
            reporting_time_zone=zone,
            reporting_currency=profile.currency,
        )
        await self.connect(tenant, profile, **settings)
        folder = self.exports / profile.project / profile.dataset
        return Shop(tenant, profile, folder, LAST_DAY - timedelta(days=DAYS - 1), LAST_DAY)

    async def connect(
        self,
        tenant: TenantId,
        profile: TenantProfile,
        *,
        secret: bytes | None = None,
        **config: Any,
    ) -> None:
        """Point a tenant at an export."""
        await put_connection(
            self.database,
            self.vault,
            tenant,
            "bigquery",
            {
                "project": profile.project,
                "dataset": profile.dataset,
                "property_time_zone": profile.zone,
                "api_endpoint": self.bigquery.url,
                "storage_endpoint": self.bigquery.grpc,
            }
            | config,
            secret or self.account(profile.project),
        )

    @asynccontextmanager
    async def running(self, *, slots: int = 8, **settings: Any) -> AsyncIterator[JobRunner]:
        """The data group's job runner."""
        pool, threads = Pool("data", limit=slots), Threads(8)
        data = DataSettings(**settings)
        kinds = {
            INGEST: ingest_kind(
                self.database, self.vault, threads, data, guard=LOOPBACK, pool=pool
            ),
            RECONCILE: reconcile_kind(self.database, self.vault, threads, data, guard=LOOPBACK),
        }
        runner = JobRunner(
            GROUP,
            kinds,
            pool=pool,
            database=lambda: self.database,
            settings=RunnerSettings(poll=0.2, look=0.1, report=0.1, drain=2.0),
        )
        supervisor = Supervisor("root", [runner.child_spec()])
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            try:
                yield runner
            finally:
                supervisor.request_stop()

    async def enqueue(self, shop: Shop, first: date | None = None, last: date | None = None) -> Job:
        wanted = ingest_job(first or shop.first, last or shop.last)
        return await self.store.enqueue(shop.tenant, wanted)

    async def until(self, job: Job, holds: Callable[[Job], bool]) -> Job:
        """Wait until something holds of a job."""
        with trio.fail_after(PATIENCE):
            while not holds(found := await self.store.get(job.tenant_id, job.id)):
                await trio.sleep(30 * MILLISECONDS)
        return found

    async def finished(self, job: Job) -> Job:
        """Wait until a job has ended."""
        return await self.until(job, lambda seen: seen.state.finished)

    async def ingest(
        self, shop: Shop, first: date | None = None, last: date | None = None, **settings: Any
    ) -> Job:
        """Run one ingestion to its end."""
        job = await self.enqueue(shop, first, last)
        async with self.running(**settings):
            return await self.finished(job)

    async def loaded(
        self, shop: Shop, first: date | None = None, last: date | None = None, **settings: Any
    ) -> Job:
        """Run one ingestion that must succeed."""
        job = await self.ingest(shop, first, last, **settings)
        assert job.state is JobState.DONE, job.error
        return job

    async def rows(self, sql: str, *args: object) -> list[dict[str, Any]]:
        """Rows of a statement, as the superuser sees them."""
        return [dict(row) for row in await aio(self.admin.fetch(sql, *args))]

    async def value(self, sql: str, *args: object) -> Any:
        return await aio(self.admin.fetchval(sql, *args))

    async def change(self, sql: str, *args: object) -> None:
        """Change something behind everybody's back."""
        await aio(self.admin.execute(sql, *args))

    async def tables(self, schema: str) -> list[str]:
        """Names of the tables in a schema."""
        rows = await self.rows(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')"
            " AND relnamespace = $1::regnamespace ORDER BY 1",
            schema,
        )
        return [row["relname"] for row in rows]

    async def published(self, shop: Shop) -> list[date]:
        """The days that took effect, in order, each as often as it did.

        Every transaction in which some did has raised the shop's data version by one.
        """
        rows = await self.rows(
            "SELECT source_day, transaction FROM public.publications WHERE tenant_id = $1"
            " ORDER BY source_day",
            shop.tenant,
        )
        version = await self.value(
            "SELECT data_version FROM data.versions WHERE tenant_id = $1", shop.tenant
        )
        assert (version or 0) == len({row["transaction"] for row in rows})
        return [row["source_day"] for row in rows]

    async def source_days(self, shop: Shop) -> dict[date, dict[str, Any]]:
        rows = await self.rows("SELECT * FROM data.source_days WHERE tenant_id = $1", shop.tenant)
        return {row["source_day"]: row for row in rows}


@pytest.fixture
def bigquery(exports: Path) -> Iterator[StandIn]:
    with start(exports) as stand_in:
        yield stand_in


@pytest.fixture
async def world(
    fresh_database: TestDatabase, exports: Path, bigquery: StandIn
) -> AsyncIterator[World]:
    async with open_bridge():
        admin = await aio(asyncpg.connect(fresh_database.admin_url))
        try:
            await aio(admin.execute(NOTE_PUBLICATIONS))
            async with open_database(
                fresh_database.runtime_url, connections=5, application_name="data tests"
            ) as database:
                yield World(
                    where=fresh_database,
                    database=database,
                    admin=admin,
                    vault=Vault(KeyRing([b"k" * 32])),
                    exports=exports,
                    bigquery=bigquery,
                    store=JobStore(database),
                )
        finally:
            with trio.CancelScope(shield=True):
                await aio(admin.close(timeout=5 * SECONDS))
