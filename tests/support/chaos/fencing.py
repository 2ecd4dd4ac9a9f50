"""Trials of the fence: workers are stopped past their lease, or killed, in the midst of everything.

A trial is one attempt that held a job when its process was stopped by SIGSTOP at a random moment.
Then either the process is killed, or it is continued after a random time, mostly past its lease,
when its jobs are others'; it has not noticed and goes on where it was: before the fence, inside of
a fenced transaction, at the completion. Workers are tormented independently, all the time.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from tests.support.chaos import checks
from tests.support.chaos.fleet import Fleet, Worker
from tests.support.chaos.ground import TENANTS, Ground
from tests.support.chaos.worker import COMPLETION, Flaw, Options
from troupe.common.errors import DatabaseError
from troupe.common.units import MILLISECONDS, MINUTES

KINDS = ("steps", "limited")
LIMIT, TENANT_LIMIT = 6, 3

HELD = """
    SELECT count(*) FROM platform.jobs j JOIN platform.processes p USING (process_id)
    WHERE j.state = 'running' AND p.pid = $1
"""
WAITING = """
    SELECT kind, count(*) AS jobs FROM platform.jobs WHERE state = 'available' GROUP BY 1
"""
RUNNING = """
    SELECT kind, tenant_id, count(*) AS running FROM platform.jobs
    WHERE state = 'running' GROUP BY 1, 2
"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much torment. Durations are in seconds.

    Attributes:
        trials: Attempts to be interrupted.
        seed: Of the random moments.
        workers: Processes at a time.
        slots: Jobs at a time in each.
        lease: Theirs; short, so that it is over soon.
        kills: The share of interruptions that kill.
        backlog: Jobs of each kind that wait; with few, what was taken away runs again soon.
        flaw: Of a broken twin.
    """

    trials: int
    seed: int
    workers: int = 4
    slots: int = 10
    lease: float = 1.0
    kills: float = 0.2
    backlog: int = 40
    flaw: Flaw = ""


@dataclass
class Tally:
    """What happened.

    Attributes:
        stopped: Attempts that were stopped and continued.
        killed: Attempts that were killed.
        past_lease: Of the stopped: those continued after their lease had run out.
        most: Most jobs of the limited kind that were seen running at a time, and of one tenant.
        outcomes: How attempts ended in those workers that lived to tell.
    """

    stopped: int = 0
    killed: int = 0
    past_lease: int = 0
    most: tuple[int, int] = (0, 0)
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def trials(self) -> int:
        return self.stopped + self.killed


class Torment:
    """One run of trials."""

    def __init__(self, ground: Ground, fleet: Fleet, plan: Plan) -> None:
        self.tally = Tally()
        self.enqueued = 0
        self._ground = ground
        self._fleet = fleet
        self._plan = plan
        self._chance = random.Random(plan.seed)
        self._options = Options(
            url=ground.where.runtime_url,
            slots=plan.slots,
            lease=plan.lease,
            poll=0.2,
            limit=LIMIT,
            tenant_limit=TENANT_LIMIT,
            flaw=plan.flaw,
        )

    async def run(self) -> None:
        """Torment until there were enough trials, then let everything finish."""
        async with trio.open_nursery() as watching:
            watching.start_soon(self._sample)
            async with trio.open_nursery() as nursery:
                feeding = await nursery.start(self._feed)
                async with trio.open_nursery() as tormenting:
                    for chance in self._chances():
                        tormenting.start_soon(self._torment, chance)
                feeding.cancel()
            await self._ground.all_finish(patience=3 * MINUTES)
            watching.cancel_scope.cancel()
        for worker in self._fleet.workers:
            if worker.alive:
                report = await worker.finish()
                self.tally.outcomes.update(report.outcomes)

    def _chances(self) -> Iterator[random.Random]:
        for _ in range(self._plan.workers):
            yield random.Random(self._chance.random())

    async def _torment(self, chance: random.Random) -> None:
        """Stop one worker again and again; another takes its place when it was killed."""
        worker = await self._fleet.start(self._options)
        while self.tally.trials < self._plan.trials:
            await trio.sleep(chance.uniform(0.1, 1.0))
            worker.stop()
            held = await self._ground.look(HELD, worker.pid)
            if chance.random() < self._plan.kills:
                worker.kill()
                self.tally.killed += held
                worker = await self._replace(worker)
            else:
                leases = chance.uniform(0.8, 2.5)
                await trio.sleep(leases * self._plan.lease)
                worker.resume()
                self.tally.stopped += held
                self.tally.past_lease += held if leases > 1 else 0

    async def _replace(self, worker: Worker) -> Worker:
        await worker.wait()
        return await self._fleet.start(self._options)

    async def _feed(
        self, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep jobs waiting, of several tenants."""
        chance = random.Random(self._plan.seed + 1)
        with trio.CancelScope() as scope:
            task_status.started(scope)
            while True:
                waiting = {row["kind"]: row["jobs"] for row in await self._ground.rows(WAITING)}
                for kind in KINDS:
                    # Of the limited kind few run at a time; all the others must have enough to do.
                    if waiting.get(kind, 0) < self._plan.backlog:
                        with trio.CancelScope(shield=True):  # what is enqueued must be counted
                            await self._enqueue(kind, chance)
                await trio.sleep(50 * MILLISECONDS)

    async def _enqueue(self, kind: str, chance: random.Random) -> None:
        tenants = TENANTS[:4]
        count = max(1, self._plan.backlog // len(tenants))
        await self._ground.enqueue(
            kind,
            count,
            lambda: {
                "steps": chance.randrange(0, 8),
                "hold": 30 * MILLISECONDS,
                "pause": 100 * MILLISECONDS,
                "together": chance.random() < 0.5,
            },
            tenants,
        )
        self.enqueued += count * len(tenants)

    async def _sample(self) -> None:
        """Look at what runs, many times a second."""
        while True:
            try:
                rows = await self._ground.rows(RUNNING)
            except DatabaseError:
                rows = []
            running = [row["running"] for row in rows if row["kind"] == "limited"]
            everywhere, of_tenant = self.tally.most
            self.tally.most = (
                max(everywhere, sum(running)),
                max(of_tenant, max(running, default=0)),
            )
            await trio.sleep(10 * MILLISECONDS)


async def torment(ground: Ground, fleet: Fleet, plan: Plan) -> tuple[Tally, list[str]]:
    """Run trials and check what is left.

    Returns:
        What happened, and what is wrong.
    """
    run = Torment(ground, fleet, plan)
    await run.run()
    found = [
        *await checks.stale_effects(ground),
        *await checks.doubled_completions(ground, COMPLETION),
        *await checks.exceeded_limits(ground, "limited", LIMIT, TENANT_LIMIT),
        *await checks.lost_jobs(ground, run.enqueued),
    ]
    everywhere, of_tenant = run.tally.most
    if everywhere > LIMIT or of_tenant > TENANT_LIMIT:
        found.append(f"{everywhere} jobs seen at a time, {of_tenant} of a tenant")
    return run.tally, found
