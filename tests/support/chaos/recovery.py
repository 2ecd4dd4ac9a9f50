"""Throughput before, during and after a fault of the database, under a steady load.

The load. One worker process with all its slots busy: there is always more to do. Jobs sleep, so
that what bounds the throughput is slots, not processors. The rest of a job (a claim, a fenced
transaction, a completion) takes 10 ms or, on a busy machine, several times that: the longer jobs
sleep beside it, the finer are the differences that can be told from noise.

The measure. What counts in a window is the sleep that lies there, in jobs of average length:
windows need not fit the jobs, and a slot that waits for the database counts as idle. Only jobs that
are done count, and of each only the attempt that completed it, as its result tells.
"""

import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import asyncpg
import trio

from tests.support.chaos import checks
from tests.support.chaos.fleet import Fleet
from tests.support.chaos.ground import TENANTS, Ground
from tests.support.chaos.worker import COMPLETION, EFFECT_ONCE, Options
from troupe.common.units import MILLISECONDS, MINUTES, SECONDS
from troupe.platform.jobs import JobKind, JobRun

SLOTS = 16
LONGEST_NAP = 1.5
"""Of the average."""
WINDOW = 1 * SECONDS
STEP = 100 * MILLISECONDS
WARM_UP = 2 * SECONDS
LONGEST_FAULT = 20 * SECONDS

NAPS = """
    SELECT (result ->> 'began')::float AS began, (result ->> 'ended')::float AS ended
    FROM platform.all_jobs WHERE state = 'done' AND result ? 'began'
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How long to look, in seconds, and what is enough.

    Attributes:
        before: The baseline.
        grace: From the fault's end until it must be as before.
        after: What is compared with the baseline.
        share: Of the baseline.
        nap: How long jobs sleep, on average.
    """

    before: float
    grace: float
    after: float
    share: float
    nap: float


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What came of it; throughput is in jobs per second.

    Attributes:
        before: Throughput of the baseline.
        after: Throughput once it must be as before.
        back_after: Seconds from the fault's end until a whole window has 95 % of the baseline; 0:
            it was never lost.
        outcomes: How attempts ended.
    """

    before: float
    after: float
    back_after: float
    outcomes: dict[str, int]

    def __str__(self) -> str:
        share = 100 * self.after / self.before
        return (
            f"{self.before:.1f} jobs/s before, {self.after:.1f} after ({share:.1f} %),"
            f" back after {self.back_after:.1f} s, {self.outcomes}"
        )


class Throughput:
    """Jobs per second in any window.

    Args:
        naps: When each job began and ended to sleep.
        nap: How long jobs sleep on average, in seconds.
    """

    def __init__(self, naps: Iterable[tuple[float, float]], nap: float) -> None:
        self._nap = nap
        self._naps = list(naps)

    def between(self, start: float, end: float) -> float:
        """In a window."""
        inside = sum(max(0.0, min(ended, end) - max(began, start)) for began, ended in self._naps)
        return inside / self._nap / (end - start)

    def back_after(self, moment: float, enough: float, at_most: float) -> float:
        """Seconds until a whole window has enough; ``at_most`` if it takes longer."""
        waited = 0.0
        while waited < at_most:
            if self.between(moment + waited, moment + waited + WINDOW) >= enough:
                return waited
            waited += STEP
        return at_most


async def naps(ground: Ground) -> list[tuple[float, float]]:
    """When jobs began and ended to sleep, of those that are done."""
    return [(row["began"], row["ended"]) for row in await ground.rows(NAPS)]


async def survive(
    ground: Ground,
    fleet: Fleet,
    options: Options,
    size: Size,
    fault: Callable[[], Awaitable[None]],
) -> tuple[Recovery, list[str]]:
    """Run a fault under load and check what is left.

    Args:
        ground: The database, reached past whatever the fault is in.
        fleet: Starts the worker.
        options: For the worker; its slots are ours to say.
        size: How long, and what is enough.
        fault: Returns when it is over.

    Returns:
        How it went, and what is wrong.
    """
    enqueued = await _enqueue(ground, size)
    worker = await fleet.start(options)
    await trio.sleep(WARM_UP)
    began = time.time()
    await trio.sleep(size.before)
    struck = time.time()
    await fault()
    over = time.time()
    await trio.sleep(size.grace + size.after)
    end = time.time()
    # What is still asleep when the worker ends is done again later, and would count nowhere.
    await trio.sleep(LONGEST_NAP * size.nap)
    assert worker.alive
    report = await worker.finish()
    waiting = await ground.look("SELECT count(*) FROM platform.jobs WHERE state = 'available'")
    await drain(ground)

    throughput = Throughput(await naps(ground), size.nap)
    # What the fault interrupts counts nowhere: the baseline ends before any of that began.
    before = throughput.between(began, struck - LONGEST_NAP * size.nap)
    recovery = Recovery(
        before=before,
        after=throughput.between(over + size.grace, end),
        back_after=throughput.back_after(over, 0.95 * before, size.grace + size.after),
        outcomes=report.outcomes,
    )
    found = [
        *await checks.lost_jobs(ground, enqueued),
        *await checks.doubled_effects(ground, COMPLETION),
    ]
    if recovery.after < size.share * before or recovery.back_after > size.grace:
        found.append(f"too slow: {recovery}")
    if report.restarts:
        found.append(f"the runner was restarted {report.restarts} times")
    if not waiting:
        found.append("the load ran out, so nothing was measured")
    return recovery, found


async def enqueue_naps(ground: Ground, count: int, nap: float) -> None:
    """Enqueue four times so many jobs: of two tenants, completed in either way."""
    chance = random.Random(count)
    for together in (True, False):

        def arguments(together: bool = together) -> dict[str, float | bool]:
            # Were they all equal, jobs would begin and end together for ever.
            seconds = chance.uniform(2 - LONGEST_NAP, LONGEST_NAP) * nap
            return {"seconds": round(seconds, 3), "together": together}

        await ground.enqueue("nap", count, arguments, TENANTS[:2])


async def _enqueue(ground: Ground, size: Size) -> int:
    seconds = WARM_UP + size.before + LONGEST_FAULT + size.grace + size.after
    seconds += LONGEST_NAP * size.nap
    count = int(seconds * SLOTS / size.nap / 4)
    await enqueue_naps(ground, count, size.nap)
    return 4 * count


async def drain(ground: Ground) -> None:
    """Run what is left, without sleeping: whatever is not lost can be run."""

    async def at_once(run: JobRun) -> None:
        async def unit(connection: asyncpg.Connection) -> None:
            await run.fence(connection)
            await connection.execute(EFFECT_ONCE, *run.key, COMPLETION)

        await ground.database.run(unit, tenant=run.job.tenant_id)

    async with ground.running({"nap": JobKind(handler=at_once, concurrency=SLOTS)}, slots=SLOTS):
        await ground.all_finish(patience=3 * MINUTES)
