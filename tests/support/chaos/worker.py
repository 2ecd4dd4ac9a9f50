"""A process that runs jobs, to be killed, stopped and cut off: ``python -m … OPTIONS`` (JSON).

It says ``ready`` on standard output, and when it is asked to end (SIGTERM) one line of JSON about
how its life was (`Report`). Logs go to standard error.

The kinds of jobs, all of group ``chaos``:

- ``steps`` and ``limited``: effects one after the other, each in a fenced transaction that takes a
  moment, and a completion, together with a last effect or apart from it. A handler that is
  cancelled tries to commit once more.
- ``nap``: sleeps, then leaves one effect; its result tells when it slept.

Whatever the database has acknowledged is written to an operation log, if there is to be one.

Two broken twins prove that the checks can fail: ``unfenced`` leaves effects without the fence;
``by_id`` completes whatever attempt holds the job, as queues do that match the identifier only.
"""

import json
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import asyncpg
import trio

from tests.support.chaos.operations import OperationLog
from troupe.common import logs
from troupe.common.bridge import open_bridge
from troupe.common.database import Database, PoolSettings, open_database
from troupe.common.units import SECONDS
from troupe.platform.errors import LeaseLost
from troupe.platform.jobs import ClaimedJob, JobKind, JobRun, JobRunner, RunnerSettings
from troupe.platform.pool import Pool
from troupe.platform.supervision import Backoff, Intensity, Supervisor

GROUP = "chaos"
UNIT_DEADLINE = 3 * SECONDS
LAST_WORD = 2 * SECONDS
"""For what a cancelled handler still tries."""
COMPLETION = 1_000_000
"""The step of the effect that goes with a completion."""
LAST = -1
"""The step of a cancelled handler's last effect."""

EFFECT = """
    INSERT INTO public.effects (tenant_id, job_id, fencing_token, step) VALUES ($1, $2, $3, $4)
"""
EFFECT_ONCE = """
    INSERT INTO public.effects (tenant_id, job_id, fencing_token, step)
    SELECT $1, $2, $3, $4
    WHERE NOT EXISTS (SELECT FROM public.effects e WHERE e.job_id = $2 AND e.step = $4)
"""

Flaw = Literal["", "unfenced", "by_id"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a worker is told. Durations are in seconds."""

    url: str
    listen_url: str | None = None
    slots: int = 8
    connections: int = 4
    lease: float = 15.0
    poll: float = 1.0
    listen: bool = True
    limit: int | None = None
    """Of the kind ``limited``."""
    tenant_limit: int | None = None
    statement_cache_size: int = 200
    probe_interval: float = PoolSettings().probe_interval
    flaw: Flaw = ""
    log: str = ""
    """Path of the operation log; empty: none."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a worker's life was: restarts of its runner, outcomes of its attempts."""

    restarts: int
    outcomes: dict[str, int]


class Handlers:
    """What the kinds of jobs do."""

    def __init__(self, database: Database, flaw: Flaw, log: OperationLog) -> None:
        self._database = database
        self._flaw = flaw
        self._log = log

    async def steps(self, run: JobRun) -> dict[str, int | None]:
        """Arguments: steps, hold (seconds in a transaction), pause (between two), together."""
        arguments = run.arguments
        result = {"token": run.job.fencing_token}
        by_id = self._flaw == "by_id"
        try:
            for step in range(arguments["steps"]):
                if not by_id:  # the fence would stop it before it comes to its completion
                    await self._commit(run, step)
                await trio.sleep(random.uniform(0, 2) * float(arguments["pause"]))
            if arguments["together"] or by_id:
                await self._commit(run, COMPLETION, result)
        except trio.Cancelled:
            # One that will not take a cancellation for an answer.
            with trio.move_on_after(LAST_WORD, shield=True):
                await (self._insist(run, result) if by_id else self._commit(run, LAST))
            raise
        return result

    async def _insist(self, run: JobRun, result: Any) -> None:
        """Complete the job as soon as anybody holds it."""
        while True:
            try:
                await self._commit(run, LAST, result)
            except LeaseLost:
                await trio.sleep(0.05)
            else:
                return

    async def nap(self, run: JobRun) -> dict[str, float]:
        """Arguments: seconds, together."""
        times = {"began": time.time()}
        await trio.sleep(float(run.arguments["seconds"]))
        times["ended"] = time.time()
        together = run.arguments["together"]

        async def unit(connection: asyncpg.Connection) -> None:
            await run.fence(connection)
            await connection.execute(EFFECT if together else EFFECT_ONCE, *run.key, COMPLETION)
            if together:
                await run.complete_in(connection, times)

        await self._run(run, unit)
        self._log.effect(run.key, COMPLETION)
        return times

    async def _commit(self, run: JobRun, step: int, result: Any = None) -> None:
        hold = random.uniform(0, 2) * float(run.arguments["hold"])

        async def unit(connection: asyncpg.Connection) -> None:
            if not self._flaw:
                await run.fence(connection)
            await connection.execute("SELECT pg_sleep($1)", hold)
            await connection.execute(EFFECT, *run.key, step)
            if result is not None:
                holder = await self._holder(connection, run)
                await holder.complete_in(connection, result)

        await self._run(run, unit)
        self._log.effect(run.key, step)

    async def _holder(self, connection: asyncpg.Connection, run: JobRun) -> JobRun:
        if self._flaw != "by_id":
            return run
        find = "SELECT fencing_token FROM platform.jobs WHERE tenant_id = $1 AND job_id = $2"
        token = await connection.fetchval(find, run.job.tenant_id, run.job.id)
        return JobRun(self._database, ClaimedJob.of(replace(run.job, fencing_token=token)))

    async def _run(self, run: JobRun, unit: Callable[[asyncpg.Connection], Any]) -> None:
        await self._database.run(unit, tenant=run.job.tenant_id, deadline=UNIT_DEADLINE)


def kinds(database: Database, options: Options) -> dict[str, JobKind]:
    """The kinds of jobs, each with all slots and a quick retry."""
    log = OperationLog(Path(options.log) if options.log else None)
    handlers = Handlers(database, options.flaw, log)
    retry = Backoff(first=0.05, factor=1.0, jitter=0.5)
    return {
        "steps": JobKind(handler=handlers.steps, concurrency=options.slots, retry=retry),
        "limited": JobKind(
            handler=handlers.steps,
            concurrency=options.slots,
            retry=retry,
            limit=options.limit,
            tenant_limit=options.tenant_limit,
        ),
        "nap": JobKind(handler=handlers.nap, concurrency=options.slots, retry=retry),
    }


async def main(options: Options) -> None:
    """Run jobs until SIGTERM."""
    settings = PoolSettings(
        statement_cache_size=options.statement_cache_size, probe_interval=options.probe_interval
    )
    async with (
        open_bridge(),
        open_database(
            options.url,
            connections=options.connections,
            listen_url=options.listen_url,
            settings=settings,
        ) as database,
    ):
        runner = JobRunner(
            GROUP,
            kinds(database, options),
            pool=Pool(GROUP, limit=options.slots),
            database=lambda: database,
            settings=RunnerSettings(
                lease=options.lease, poll=options.poll, listen=options.listen, drain=2.0
            ),
        )
        # A restart would hide a fault of the runner: it is counted, and reported.
        supervisor = Supervisor(
            "worker", [runner.child_spec()], intensity=Intensity(restarts=1000, period=1)
        )
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                await nursery.start(supervisor.serve)
                say("ready")
                await anext(signals)
                restarts = supervisor.snapshot().find("jobs").restarts
                supervisor.request_stop()
        say(json.dumps(asdict(Report(restarts=restarts, outcomes=runner.outcomes))))


def say(line: str) -> None:
    """Tell whoever started us."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logs.configure(style="json")
    trio.run(main, Options(**json.loads(sys.argv[1])))
