"""``python -m ops.bench.ingest.contenders.ours ORDER``: the data group's job runner, for one job.

The process is the product's own but for HTTP: a `JobRunner` with the kind ``ingest`` under a
supervisor, the group's default pools, a job taken from PostgreSQL. It begins to count when the
libraries are loaded and the connections open, just before the job is enqueued, and ends when the
job is recorded as done.
"""

import ipaddress
import json
import os
import resource
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any, Final

import trio

from ops.bench.ingest.corpus import PROFILE, Corpus
from ops.bench.ingest.playback import Playback
from troupe.actors.auth.connections import put_connection
from troupe.actors.auth.tenants import create_tenant
from troupe.actors.data.bigquery import Export
from troupe.actors.data.days import GROUP, INGEST, ingest_job
from troupe.actors.data.ingestion import ingest_kind
from troupe.common import logs
from troupe.common.bridge import open_bridge
from troupe.common.config import DataGroup, DataSettings
from troupe.common.database import open_database
from troupe.common.ids import TenantId
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing, Vault
from troupe.common.units import MILLISECONDS, KiB
from troupe.platform.jobs import JobRunner, JobState, JobStore, RunnerSettings
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor
from troupe.platform.threads import Threads

LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")
LOOK: Final = 10 * MILLISECONDS


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
        tenant = TenantId(order["tenant"]) if order["tenant"] else None
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
        pool, store = Pool(GROUP, limit=group.tasks), JobStore(database)
        kind = ingest_kind(
            database,
            vault,
            Threads(group.tasks),
            DataSettings(**order["settings"]),
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
            cpu, began = time.process_time(), time.monotonic()
            job = await store.enqueue(tenant, wanted)
            # Asks PostgreSQL, as a client would.
            while not (seen := await store.get(tenant, job.id)).state.finished:  # noqa: ASYNC110
                await trio.sleep(LOOK)
            seconds, cpu = time.monotonic() - began, time.process_time() - cpu
            supervisor.request_stop()
        if seen.state is not JobState.DONE:
            raise SystemExit(f"the ingestion failed: {seen.error}")
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KiB,
        "tenant": str(tenant),
        "rows": seen.result["rows"],
        "unchanged": seen.result["unchanged"],
    }


if __name__ == "__main__":
    logs.configure(level="warning")
    print(json.dumps(trio.run(_load, os.environ["INGEST_BENCH_URL"], json.loads(sys.argv[1]))))
