"""A process that asks for jobs and remembers which were promised: ``python -m … URL LOG SEED``.

It says ``ready`` on standard output and goes on until SIGTERM. Every job has an idempotency key. A
request that fails is repeated with its key, as a good client would, until it is acknowledged or the
client has lost its patience.
"""

import random
import signal
import sys
import uuid
from pathlib import Path

import trio

from tests.support.chaos.ground import MAX_ATTEMPTS, TENANTS
from tests.support.chaos.operations import OperationLog
from tests.support.chaos.worker import GROUP, say
from troupe.common import logs
from troupe.common.bridge import open_bridge
from troupe.common.database import Database, open_database
from troupe.common.errors import DatabaseError
from troupe.common.ids import TenantId
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.jobs import NewJob, enqueue

TRIES = 20
DEADLINE = 1 * SECONDS
PAUSE = 150 * MILLISECONDS
HOLD = 30 * MILLISECONDS
STEP = 100 * MILLISECONDS
KINDS = ("steps", "limited")


async def ask(database: Database, log: OperationLog, new: NewJob, tenant: TenantId) -> None:
    """Ask for one job until it is promised."""
    assert new.idempotency_key is not None
    for _ in range(TRIES):
        try:
            await database.run(
                lambda connection: enqueue(connection, new), tenant=tenant, deadline=DEADLINE
            )
        except DatabaseError:
            log.enqueued(new.idempotency_key, acknowledged=False)
            await trio.sleep(PAUSE)
        else:
            log.enqueued(new.idempotency_key, acknowledged=True)
            return


async def ask_for_ever(url: str, log: OperationLog, chance: random.Random) -> None:
    """Ask for one job after the other."""
    async with open_bridge(), open_database(url, connections=2) as database:
        say("ready")
        while True:
            new = NewJob(
                group=GROUP,
                kind=chance.choice(KINDS),
                idempotency_key=str(uuid.UUID(int=chance.getrandbits(128))),
                max_attempts=MAX_ATTEMPTS,
                arguments={
                    "steps": chance.randrange(0, 6),
                    "hold": HOLD,
                    "pause": STEP,
                    "together": chance.random() < 0.5,
                },
            )
            await ask(database, log, new, chance.choice(TENANTS[:4]))
            await trio.sleep(PAUSE)


async def main(url: str, path: Path, seed: str) -> None:
    """Ask until SIGTERM."""
    log = OperationLog(path)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_for_ever, url, log, random.Random(seed))
            await anext(signals)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logs.configure(style="json")
    trio.run(main, sys.argv[1], Path(sys.argv[2]), sys.argv[3])
