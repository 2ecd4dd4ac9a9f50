"""Processes are killed: how soon their jobs run again, and what that costs the others.

Capacity. A killed process's slots are gone until another has started, and so is the work in them:
that is the price of the kill itself, paid by any system, and depends on how long a process takes to
start (a Python program: about a second). What is asserted is the rest: jobs done per second that a
slot was there, compared with the same before the kills. The plain throughput is told beside it.
"""

import random
import time
from dataclasses import dataclass
from functools import partial

import trio

from tests.support.chaos import checks
from tests.support.chaos.fleet import Fleet, Worker
from tests.support.chaos.ground import Ground
from tests.support.chaos.recovery import Throughput, drain, enqueue_naps, naps
from tests.support.chaos.worker import COMPLETION, Options
from troupe.common.units import MILLISECONDS, SECONDS

SLOTS = 4
WORKERS = 3
NAP = 250 * MILLISECONDS
LEASE = 2 * SECONDS
WARM_UP = 2 * SECONDS

HELD = """
    SELECT j.job_id, j.fencing_token
    FROM platform.jobs j JOIN platform.processes p USING (process_id)
    WHERE j.state = 'running' AND p.pid = $1
"""
AGAIN = """
    SELECT max(again) AS last, count(again) AS jobs FROM (
        SELECT h.job_id, extract(epoch FROM min(e.done_at) - $3)::float AS again
        FROM unnest($1::uuid[], $2::bigint[]) AS h (job_id, fencing_token)
        LEFT JOIN public.effects e ON e.job_id = h.job_id AND e.fencing_token > h.fencing_token
        GROUP BY 1) a
"""


async def seconds_until_all_run_again(
    ground: Ground, fleet: Fleet, *, kills: int, jobs: int, seed: int
) -> list[float]:
    """Kill a process with all the jobs, again and again.

    Returns:
        For each kill: seconds until the last of its jobs has left an effect in its next attempt.
    """
    chance = random.Random(seed)
    options = Options(
        url=ground.where.runtime_url, slots=jobs, connections=8, lease=LEASE, poll=0.2
    )
    endless = {"steps": 1_000_000, "hold": 0.0, "pause": 0.2, "together": False}
    await ground.enqueue("steps", jobs, lambda: endless)
    victim = await fleet.start(options)
    waited = []
    for _ in range(kills):
        await ground.soon(partial(_holds, ground, victim, jobs), "all jobs run")
        heir = await fleet.start(options)
        await trio.sleep(chance.uniform(0, LEASE))
        held = await ground.rows(HELD, victim.pid)
        victim.kill()
        killed = await ground.look("SELECT clock_timestamp()")
        columns = [[row["job_id"] for row in held], [row["fencing_token"] for row in held]]
        await ground.soon(partial(_all_again, ground, columns, killed), "all jobs run again")
        (again,) = await ground.rows(AGAIN, *columns, killed)
        waited.append(again["last"])
        victim = heir
    return waited


async def _holds(ground: Ground, worker: Worker, jobs: int) -> bool:
    return len(await ground.rows(HELD, worker.pid)) == jobs


async def _all_again(ground: Ground, columns: list[list[object]], killed: object) -> bool:
    (again,) = await ground.rows(AGAIN, *columns, killed)
    return bool(again["jobs"] == len(columns[0]))


@dataclass(frozen=True, kw_only=True)
class Endurance:
    """What repeated kills cost; throughput is in jobs per second.

    Attributes:
        kills: How many.
        before: Throughput before.
        during: Throughput during.
        slots: The share of the slots that was there during the kills, over time.
    """

    kills: int
    before: float
    during: float
    slots: float

    @property
    def share(self) -> float:
        """Of the throughput before, for each slot that was there."""
        return self.during / self.slots / self.before

    def __str__(self) -> str:
        return (
            f"{self.kills} kills: {self.before:.1f} jobs/s before, {self.during:.1f} during"
            f" ({100 * self.during / self.before:.1f} %), {100 * self.slots:.1f} % of the slots"
            f" were there: {100 * self.share:.1f} % per slot"
        )


async def endure(
    ground: Ground, fleet: Fleet, *, before: float, during: float, every: float
) -> tuple[Endurance, list[str]]:
    """Kill one of three workers every so many seconds, and start another in its place.

    Returns:
        How it went, and what is wrong.
    """
    options = Options(url=ground.where.runtime_url, slots=SLOTS, lease=LEASE, poll=0.2)
    count = int((WARM_UP + before + during + 2 * every) * WORKERS * SLOTS / NAP / 4)
    await enqueue_naps(ground, count, NAP)
    workers = [await fleet.start(options) for _ in range(WORKERS)]
    await trio.sleep(WARM_UP)
    began = time.time()
    await trio.sleep(before)
    struck = time.time()
    kills, missing = 0, 0.0
    while time.time() - struck < during:
        await trio.sleep(every)
        victim = kills % WORKERS
        workers[victim].kill()
        killed = time.time()
        workers[victim] = await fleet.start(options)
        missing += time.time() - killed
        kills += 1
    end = time.time()
    waiting = await ground.look("SELECT count(*) FROM platform.jobs WHERE state = 'available'")
    for worker in workers:
        await worker.finish()
    await drain(ground)

    throughput = Throughput(await naps(ground), NAP)
    endurance = Endurance(
        kills=kills,
        before=throughput.between(began, struck),
        during=throughput.between(struck, end),
        slots=1 - missing / (end - struck) / WORKERS,
    )
    found = [
        *await checks.lost_jobs(ground, 4 * count),
        *await checks.doubled_effects(ground, COMPLETION),
    ]
    if not waiting:
        found.append("the load ran out, so nothing was measured")
    return endurance, found
