"""A process that runs jobs, for tests that kill or stop it: ``python worker.py URL LEASE``.

Each job leaves ``steps`` effects, one after the other, each under its fence. Every line on standard
output is one word about what just happened.
"""

import sys

import asyncpg
import trio

from tests.integration.jobs.conftest import GROUP, effect_in, kind
from troupe.common.bridge import open_bridge
from troupe.common.database import open_database
from troupe.platform.errors import LeaseLost
from troupe.platform.jobs import JobRun, JobRunner, RunnerSettings
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(url: str, lease: float) -> None:
    async with open_bridge(), open_database(url, connections=4) as database:

        async def commit(run: JobRun, step: int) -> None:
            async def unit(connection: asyncpg.Connection) -> None:
                await run.fence(connection)
                await effect_in(connection, run, step)

            try:
                await database.run(unit, tenant=run.job.tenant_id)
            except LeaseLost:
                say("lost")
                raise

        async def work(run: JobRun) -> None:
            say("begun")
            try:
                for step in range(run.arguments["steps"]):
                    await commit(run, step)
                    await trio.sleep(0.02)
            except trio.Cancelled:
                # A handler that will not take a cancellation for an answer: it tries once more.
                with trio.CancelScope(shield=True):
                    await commit(run, -1)
                raise

        runner = JobRunner(
            GROUP,
            {"work": kind(work)},
            pool=Pool(GROUP, limit=4),
            database=lambda: database,
            settings=RunnerSettings(lease=lease, poll=0.1),
        )
        await Supervisor("worker", [runner.child_spec()]).serve()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], float(sys.argv[2]))
