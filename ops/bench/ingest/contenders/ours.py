"""``python -m ops.bench.ingest.contenders.ours ORDER``: the data group's job runner, for one job.

The process is the product's own but for HTTP: a `JobRunner` with the kind ``ingest`` under a
supervisor, the group's default pools, a job taken from PostgreSQL. It begins to count when the
libraries are loaded and the connections open, when the job is enqueued, and ends when the job is
recorded as done, both by the job's own record.

Asked for rows only, it does what the others do: the product's own extraction, as many days at a
time as a job has, until the rows of all days are committed, indexed and analysed. Nothing is
derived.
"""

import ipaddress
import json
import os
import sys
import time
from collections import deque
from datetime import date
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import trio

from ops.bench.ingest.contenders.peak import peak_bytes
from ops.bench.ingest.corpus import PROFILE, Corpus
from ops.bench.ingest.playback import Playback
from troupe.actors.auth.connections import put_connection
from troupe.actors.auth.tenants import create_tenant
from troupe.actors.data.bigquery import Export
from troupe.actors.data.extraction import Extraction
from troupe.actors.data.ingestion import ingest_kind
from troupe.actors.data.job_requests import GROUP, INGEST, ingest_job
from troupe.actors.data.scan_budget import ScanBudget
from troupe.common import logs
from troupe.common.bridge import open_bridge
from troupe.common.config import DataGroup, DataSettings
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId, new_id
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing, Vault
from troupe.common.tenant_settings import TenantSettings
from troupe.common.units import MILLISECONDS, MiB
from troupe.platform.jobs import JobRunner, JobState, JobStore, RunnerSettings
from troupe.platform.memory import Memory
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor
from troupe.platform.threads import Threads

LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")
LOOK: Final = 100 * MILLISECONDS
"""Between two looks at the job; a hundred a second took a tenth of all the time."""


async def _stage(
    database: Database, tenant: TenantId, corpus: Corpus, settings: DataSettings
) -> int:
    """Load the rows of all days, and no more."""
    extraction = Extraction(
        export=Playback(corpus),
        database=database,
        threads=Threads(DataGroup().tasks),
        memory=Memory(settings.memory_mib * MiB),
        budget=ScanBudget(tenant, PROFILE.zone, None),
        tenant=tenant,
        job=new_id(),
        settings=TenantSettings(),
        cut=f"{PROFILE.zone} {PROFILE.currency}",
        batch_rows=settings.batch_rows,
    )
    waiting = deque(recorded.table() for recorded in corpus.tables())
    rows = 0

    async def one_after_another() -> None:
        nonlocal rows
        while waiting:
            table = waiting.popleft()
            staged = await extraction.stage(table, extraction.query(table), _unseen)
            rows += staged.rows

    async with trio.open_nursery() as nursery:
        for _ in range(settings.days_in_flight):
            nursery.start_soon(one_after_another)
    return rows


async def _unseen(_rows: int, _size: int) -> None:
    pass


async def _load(url: str, order: dict[str, Any]) -> dict[str, Any]:
    corpus, vault = Corpus(Path(order["corpus"])), Vault(KeyRing([b"k" * 32]))
    group = DataGroup()
    touched = frozenset(date.fromisoformat(day) for day in order["touched"])
    endpoints, secret = order["connection"]
    connect = (lambda *_, **__: Playback(corpus, touched)) if not endpoints else Export
    async with (
        open_bridge(),
        open_database(
            url, connections=group.database_connections, application_name="ingest benchmark"
        ) as database,
    ):
        tenant = TenantId(UUID(order["tenant"])) if order["tenant"] else None
        if tenant is None:
            tenant = await create_tenant(
                database,
                PROFILE.name,
                reporting_time_zone=PROFILE.zone,
                reporting_currency=PROFILE.currency,
            )
        config = {"project": PROFILE.project, "dataset": PROFILE.dataset, **endpoints}
        config["property_time_zone"] = PROFILE.zone
        await put_connection(database, vault, tenant, "bigquery", config, secret.encode())
        settings = DataSettings(**order["settings"])
        if order["rows_only"]:
            cpu, began = time.process_time(), time.monotonic()
            rows = await _stage(database, tenant, corpus, settings)
            return {
                "seconds": time.monotonic() - began,
                "cpu_seconds": time.process_time() - cpu,
                "peak_bytes": peak_bytes(),
                "rows": rows,
            }
        pool, store = Pool(GROUP, limit=group.tasks), JobStore(database)
        kind = ingest_kind(
            database,
            vault,
            Threads(group.tasks),
            settings,
            guard=OutboundGuard([LOOPBACK]),
            pool=pool,
            connect=connect,
        )
        runner = JobRunner(
            GROUP, {INGEST: kind}, pool=pool, database=lambda: database, settings=RunnerSettings()
        )
        supervisor = Supervisor("root", [runner.child_spec()])
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            wanted = ingest_job(
                date.fromisoformat(order["first"]), date.fromisoformat(order["last"])
            )
            cpu = time.process_time()
            job = await store.enqueue(tenant, wanted)
            while not (seen := await store.get(tenant, job.id)).state.finished:  # noqa: ASYNC110
                await trio.sleep(LOOK)
            cpu = time.process_time() - cpu
            supervisor.request_stop()
        if seen.state is not JobState.DONE or seen.finished_at is None:
            raise SystemExit(f"the ingestion failed: {seen.error}")
    return {
        "seconds": (seen.finished_at - job.created_at).total_seconds(),
        "cpu_seconds": cpu,
        "peak_bytes": peak_bytes(),
        "tenant": str(tenant),
        "rows": seen.result["rows"],
        "unchanged": seen.result["unchanged"],
    }


if __name__ == "__main__":
    logs.configure(level="warning")
    print(json.dumps(trio.run(_load, os.environ["INGEST_BENCH_URL"], json.loads(sys.argv[1]))))
