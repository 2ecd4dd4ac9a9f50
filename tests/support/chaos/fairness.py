"""One tenant's backlog beside another tenant's job, and equal tenants beside each other."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from tests.support.chaos.fleet import Fleet
from tests.support.chaos.ground import TENANTS, Ground
from tests.support.chaos.worker import GROUP, Options
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.jobs import JobKind, JobRun, NewJob, enqueue

RUN_TIME = 200 * MILLISECONDS
"""The longest that a job of the busy tenant takes."""
SLOTS = 4
JAIN_SLOTS = 8
NAP = 50 * MILLISECONDS
WARM_UP = 1 * SECONDS

DONE = """
    SELECT t AS tenant, (
        SELECT count(*) FROM platform.job_history h
        WHERE h.tenant_id = t AND h.finished_at BETWEEN $2 AND $3) AS jobs
    FROM unnest($1::uuid[]) AS t
"""


@dataclass(frozen=True)
class Waits:
    """How long single jobs waited beside a backlog, in seconds, and how large it was in the end."""

    waits: list[float]
    backlog: int

    def __str__(self) -> str:
        ordered = sorted(self.waits)
        return (
            f"{len(ordered)} jobs beside {self.backlog} waiting ones: median"
            f" {1000 * ordered[len(ordered) // 2]:.0f} ms, longest {1000 * ordered[-1]:.0f} ms"
        )


async def waits_beside_backlog(ground: Ground, *, backlog: int, jobs: int, seed: int) -> Waits:
    """Enqueue a tenant's backlog, then single jobs of another tenant now and then.

    Returns:
        From each one's commit until its handler ran.
    """
    chance = random.Random(seed)
    begun: dict[object, float] = {}

    async def busy(_run: JobRun) -> None:
        await trio.sleep(chance.uniform(RUN_TIME / 2, RUN_TIME))

    async def single(run: JobRun) -> None:
        begun[run.job.id] = time.time()
        await trio.lowlevel.checkpoint()

    await ground.enqueue("busy", backlog, tenants=TENANTS[:1])
    kinds = {
        "busy": JobKind(handler=busy, concurrency=SLOTS),
        "single": JobKind(handler=single, concurrency=SLOTS),
    }
    new = NewJob(group=GROUP, kind="single")
    waits = []
    async with ground.running(kinds, slots=SLOTS):
        await trio.sleep(WARM_UP)
        for _ in range(jobs):
            await trio.sleep(chance.uniform(0, 2 * RUN_TIME))
            job = await ground.database.run(lambda c: enqueue(c, new), tenant=TENANTS[1])
            enqueued = time.time()

            async def has_begun(job_id: object = job.id) -> bool:
                return job_id in begun

            await ground.soon(has_begun, "the single job begins", patience=10 * SECONDS)
            waits.append(max(0.0, begun[job.id] - enqueued))
        left = await ground.look(
            "SELECT count(*) FROM platform.jobs WHERE kind = 'busy' AND state = 'available'"
        )
    return Waits(waits, left)


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 if all have the same, 1/n if one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


async def done_by_tenant(
    ground: Ground, fleet: Fleet, *, workers: int, backlog: int, seconds: float
) -> list[int]:
    """Ten tenants with the same to do: jobs done of each within a window."""
    napping = {"seconds": NAP, "together": False}
    await ground.enqueue("nap", backlog, lambda: napping, TENANTS)
    options = Options(url=ground.where.runtime_url, slots=JAIN_SLOTS // workers)
    for _ in range(workers):
        await fleet.start(options)
    await trio.sleep(WARM_UP)
    began = await ground.look("SELECT clock_timestamp()")
    await trio.sleep(seconds)
    ended = await ground.look("SELECT clock_timestamp()")
    waiting = "SELECT count(DISTINCT tenant_id) FROM platform.jobs WHERE state = 'available'"
    assert await ground.look(waiting) == len(TENANTS), "a tenant ran out of jobs"
    return [row["jobs"] for row in await ground.rows(DONE, list(TENANTS), began, ended)]
