"""The program itself, with effects that can be counted; for tests only.

``python -m tests.support.chaos.effectful ARGUMENTS`` is ``troupe ARGUMENTS``, except that

- the data group also runs jobs of the kind ``note``: each leaves one row in ``public.effects``, in
  the transaction that completes it and under its fence;
- a schedule's line counts hundredths of a second, and another process leads soon after the death of
  one that led;
- processes of groups are like it.

With EFFECTFUL_FLAW=unfenced in the environment it is the broken twin: the effect is committed by
itself, without the fence and before the job is completed, as careless handlers do.
"""

import os
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg
import trio

from tests.integration.schedules.conftest import read_beat
from tests.support.chaos.worker import COMPLETION, EFFECT
from troupe import instance, placement
from troupe.cli import main
from troupe.common.database import Database
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform import jobs, schedules
from troupe.platform.jobs import JobKind, JobRun, JobRunner
from troupe.platform.schedules import Scheduler, SchedulerSettings
from troupe.platform.supervision import Backoff

NOTE = "note"
MODULE = "tests.support.chaos.effectful"
INSTANCE = "--instance"
LONGEST = 100 * MILLISECONDS


def noting(database: Callable[[], Database]) -> JobKind:
    """The kind ``note``."""
    flawed = os.environ.get("EFFECTFUL_FLAW") == "unfenced"

    async def note(run: JobRun) -> None:
        async def sound(connection: asyncpg.Connection) -> None:
            await run.fence(connection)
            await connection.execute(EFFECT, *run.key, COMPLETION)
            await run.complete_in(connection, None)

        async def careless(connection: asyncpg.Connection) -> None:
            await connection.execute(EFFECT, *run.key, COMPLETION)

        await trio.sleep(random.uniform(0, LONGEST))
        await database().run(careless if flawed else sound, tenant=run.job.tenant_id)
        if flawed:
            await trio.sleep(random.uniform(0, LONGEST))

    retry = Backoff(first=50 * MILLISECONDS, factor=1.0, jitter=0.5)
    return JobKind(handler=note, concurrency=8, retry=retry)


def job_runner(group: str, kinds: Mapping[str, JobKind], **options: Any) -> JobRunner:
    """In place of `JobRunner` when the wiring of a group is imported."""
    return JobRunner(group, {**kinds, NOTE: noting(options["database"])}, **options)


def scheduler(*, database: Callable[[], Database]) -> Scheduler:
    """In place of `Scheduler` when the wiring of a group is imported."""
    return Scheduler(
        database=database, settings=SchedulerSettings(lease=1 * SECONDS, poll=0.5), read=read_beat
    )


if __name__ == "__main__":
    jobs.JobRunner = job_runner
    schedules.Scheduler = scheduler
    placement.COMMAND = (sys.executable, "-m", MODULE, INSTANCE)
    if sys.argv[1:2] == [INSTANCE]:
        os._exit(instance.main(int(sys.argv[2])))
    main()
