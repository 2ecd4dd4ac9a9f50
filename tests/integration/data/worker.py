"""``python -m tests.integration.data.worker URL``: a process that runs ingestions until killed."""

import ipaddress
import sys

import trio

from troupe.actors.data.ingestion import ingest_kind
from troupe.actors.data.job_requests import GROUP, INGEST
from troupe.common import logs
from troupe.common.bridge import open_bridge
from troupe.common.config import DataSettings
from troupe.common.database import open_database
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing, Vault
from troupe.common.units import SECONDS
from troupe.platform.jobs import JobRunner, RunnerSettings
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor
from troupe.platform.threads import Threads

KEYS = KeyRing([b"k" * 32])
LEASE = 1 * SECONDS
LOOPBACK = OutboundGuard([ipaddress.ip_network("127.0.0.0/8")])


async def main(url: str) -> None:
    async with (
        open_bridge(),
        open_database(url, connections=4, application_name="data worker") as database,
    ):
        pool, settings = Pool(GROUP, limit=8), DataSettings(batch_rows=200)
        kind = ingest_kind(database, Vault(KEYS), Threads(8), settings, guard=LOOPBACK, pool=pool)
        runner = JobRunner(
            GROUP,
            {INGEST: kind},
            pool=pool,
            database=lambda: database,
            settings=RunnerSettings(lease=LEASE, poll=0.1, look=0.1, report=0.1),
        )
        supervisor = Supervisor("worker", [runner.child_spec()])
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            await trio.sleep_forever()


if __name__ == "__main__":
    logs.configure(level="warning")
    trio.run(main, sys.argv[1])
