"""The runner: claims a group's jobs and runs them in the group's task pool.

It is one child of the group's supervisor. Inside are a few loops that have nothing to say to each
other but *wake up*: claim, keep the lease, look for requests to cancel, rescue what dead processes
left, write progress, listen. Each loop survives a database that is away; none waits without bound.

**Claiming.** A slot of the pool is taken first, then a job for it, so that no job is held by a
process that has no room to run it; several free slots make one batch. Tenants take turns: the
database hands out jobs tenant by tenant from behind the one that this process served last.
Notifications only make it quick: polling once a second finds everything too.

**Cancelling.** Requests are looked for twice a second while anything runs, or at once when
notified. The same look finds jobs that the database thinks we run although we do not know them: a
claim whose answer was lost. They are given back.

**Stopping.** A drain in three steps, each bounded: no more claims; running handlers are told and
may finish or leave; then they are cancelled. What was running goes back without losing an attempt,
in one statement. If the runner itself is cancelled or fails, the same statement is tried behind a
short shield; if even that is lost, the lease runs out and another process rescues.

Rejected: a lease per job (a heartbeat would rewrite the jobs table all the time); LISTEN alone (a
notification may be lost); advisory locks (they pin a session and break behind a pooler).
"""

import math
import random
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog.contextvars
import trio

from troupe.common.database import MISSED, Database
from troupe.common.errors import DatabaseError
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.errors import PoolSaturated
from troupe.platform.jobs._attempt import Attempt, Ending, JobKind
from troupe.platform.jobs._enqueue import QUERIES
from troupe.platform.jobs._lease import Lease
from troupe.platform.jobs._model import Job
from troupe.platform.pool import Pool, Slot
from troupe.platform.supervision import Backoff, ChildContext, ChildSpec, Observation

BATCH: Final = 64
"""Most jobs claimed by one statement."""
RESCUE_BATCH: Final = 200
CALL_DEADLINE: Final = 10 * SECONDS
"""For one statement of the runner's own."""
RELEASE_DEADLINE: Final = 3 * SECONDS
FIRST_PAUSE: Final = 100 * MILLISECONDS
LONGEST_PAUSE: Final = 5 * SECONDS
LISTEN_AGAIN: Final = 5 * SECONDS

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """How a runner behaves. Durations are in seconds.

    Attributes:
        lease: A process without a heartbeat for this long is dead; its jobs run again within twice
            that. Too short: a busy event loop loses its jobs.
        poll: Longest wait before looking for jobs without being notified.
        look: Longest wait before looking for requests to cancel, while anything runs.
        report: Time between two writes of one job's progress.
        drain: How long running jobs may go on after a stop was requested.
        concurrency: Jobs at a time in this process; None: as many as the pool has slots.
        listen: Whether to hold a connection for notifications.
    """

    lease: float = 15 * SECONDS
    poll: float = 1 * SECONDS
    look: float = 500 * MILLISECONDS
    report: float = 500 * MILLISECONDS
    drain: float = 5 * SECONDS
    concurrency: int | None = None
    listen: bool = True


class _Bell:
    """Wakes one loop; rings that nobody heard yet are one."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, at_most: float) -> None:
        """Return once it has rung since the last time, or after so many seconds."""
        with trio.move_on_after(at_most):
            await self._rung.wait()
        self._rung = trio.Event()


class JobRunner:
    """Runs the jobs of one group in this process.

    Args:
        group: Whose jobs.
        kinds: What can be run here; jobs of other kinds are left alone.
        pool: The group's task pool.
        database: Gives the open database; asked once for each start.
        settings: How it behaves.
        chance: Source of random numbers between 0 and 1, for jitter.
    """

    def __init__(
        self,
        group: str,
        kinds: Mapping[str, JobKind],
        *,
        pool: Pool,
        database: Callable[[], Database],
        settings: RunnerSettings | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if not kinds:
            raise ValueError(f"{group}: a runner needs at least one kind of job")
        self._group = group
        self._kinds = dict(kinds)
        self._pool = pool
        self._open_database = database
        self._settings = settings or RunnerSettings()
        self._chance = chance
        self._outcomes: Counter[str] = Counter()
        # The tenant served last; where to begin is left to chance, so that processes differ.
        self._served = uuid.uuid4()
        self._reset()

    def _reset(self) -> None:
        self._attempts: dict[int, Attempt] = {}
        self._claims = 0
        self._claiming = False
        self._next_look = -math.inf  # of the watch, while nothing runs
        self._work = _Bell()
        self._look = _Bell()
        self._settled = _Bell()

    def child_spec(self, name: str = "jobs", *, backoff: Backoff | None = None) -> ChildSpec:
        """The runner as a child of a supervisor, with time for its drain."""
        return ChildSpec(
            name=name,
            start=self._live,
            shutdown=self._settings.drain + RELEASE_DEADLINE + CALL_DEADLINE,
            backoff=backoff or Backoff(first=200 * MILLISECONDS),
            kind="job_runner",
        )

    @property
    def outcomes(self) -> dict[str, int]:
        """How attempts have ended since the runner was made: by the state they left, or why."""
        return dict(self._outcomes)

    # ---- life

    async def _live(self, context: ChildContext) -> None:
        self._reset()
        self._database = self._open_database()
        self._lease = Lease(self._database, self._group, self._settings.lease)
        await self._lease.register()
        context.observe(self._observation)
        context.when_stopping(self._work.ring)
        log.info("job_runner_started", group=self._group, kinds=sorted(self._kinds))
        try:
            async with trio.open_nursery() as loops:
                for loop in (self._keep_lease, self._rescue, self._watch, self._report):
                    loops.start_soon(loop)
                if self._settings.listen:
                    loops.start_soon(self._listen)
                context.started(self)
                async with trio.open_nursery() as attempts:
                    await self._claim_until(context.stopping, attempts)
                    await self._drain()
                loops.cancel_scope.cancel()
        finally:
            await self._give_back()

    async def _drain(self) -> None:
        for attempt in self._attempts.values():
            attempt.run.stopping.set()
        with trio.move_on_after(self._settings.drain):
            while self._attempts:
                await self._settled.wait(self._settings.drain)
        for attempt in self._attempts.values():
            attempt.end(Ending.INTERRUPTED)

    async def _give_back(self) -> None:
        """End the lease, and with it whatever still runs under it."""
        with trio.move_on_after(RELEASE_DEADLINE, shield=True):
            try:
                released = await self._lease.release(deadline=RELEASE_DEADLINE)
            except DatabaseError as error:
                log.warning("job_runner_not_released", group=self._group, error=str(error))
            else:
                log.info("job_runner_stopped", group=self._group, released=released)

    def _observation(self) -> Observation:
        return Observation(
            details={
                "jobs_running": len(self._attempts),
                **{f"jobs_{outcome}": count for outcome, count in sorted(self._outcomes.items())},
            }
        )

    # ---- claiming and running

    async def _claim_until(self, stopping: trio.Event, attempts: trio.Nursery) -> None:
        pause = FIRST_PAUSE
        while not stopping.is_set():
            try:
                found = await self._claim_batch(attempts)
            except DatabaseError as error:
                log.warning("job_claim_failed", group=self._group, error=str(error), pause=pause)
                self._next_look = -math.inf  # it may have been carried out all the same
                self._look.ring()
                await self._work.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            if not found:
                await self._work.wait(self._settings.poll)

    async def _claim_batch(self, attempts: trio.Nursery) -> bool:
        """Claim and begin what there is room for; whether there was anything."""
        limits = self._free_by_kind()
        slots = await self._reserve(sum(limits.values()))
        try:
            jobs = await self._claim(limits, len(slots)) if slots else []
            for job in jobs:
                self._begin(job, slots.pop(), attempts)
            return bool(jobs)
        finally:
            for slot in slots:
                slot.release()

    def _free_by_kind(self) -> dict[str, int]:
        busy = Counter(attempt.job.kind for attempt in self._attempts.values())
        free = {name: kind.concurrency - busy[name] for name, kind in self._kinds.items()}
        return {name: count for name, count in free.items() if count > 0}

    async def _reserve(self, wanted: int) -> list[Slot]:
        """Slots for at most `wanted` jobs; waits for the first one, in turn with all others."""
        most = self._settings.concurrency or self._pool.limit
        wanted = min(wanted, most - len(self._attempts), BATCH)
        slots: list[Slot] = []
        if wanted > 0:
            try:
                slots.append(await self._pool.acquire(deadline=self._settings.poll))
            except PoolSaturated:
                return slots
        while len(slots) < wanted and (slot := self._pool.try_acquire()) is not None:
            slots.append(slot)
        return slots

    async def _claim(self, limits: Mapping[str, int], wanted: int) -> list[Job]:
        self._claims += 1
        self._claiming = True
        try:
            rows = await self._database.fetch(
                QUERIES["claim"],
                self._group,
                self._lease.process_id,
                list(limits.keys()),
                list(limits.values()),
                wanted,
                self._served,
                deadline=CALL_DEADLINE,
            )
        finally:
            self._claiming = False
        jobs = [Job.from_row(row) for row in rows]
        if jobs:
            before = self._served
            self._served = max(
                (job.tenant_id for job in jobs), key=lambda tenant: (tenant <= before, tenant)
            )
        return jobs

    def _begin(self, job: Job, slot: Slot, attempts: trio.Nursery) -> None:
        slot.assign(job.tenant_id)
        attempt = Attempt(self._database, job, self._kinds[job.kind], self._chance())
        self._attempts[attempt.token] = attempt
        attempts.start_soon(self._run, attempt, slot, name=f"{job.kind} {job.id}")

    async def _run(self, attempt: Attempt, slot: Slot) -> None:
        job = attempt.job
        begun = trio.current_time()
        context = {"tenant_id": str(job.tenant_id), "job_id": str(job.id), "job_kind": job.kind}
        try:
            with slot, structlog.contextvars.bound_contextvars(**context):
                log.info("job_started", attempt=job.attempt, fencing_token=job.fencing_token)
                outcome = await attempt.execute()
                self._outcomes[outcome] += 1
                seconds = round(trio.current_time() - begun, 3)
                log.info("job_ended", outcome=outcome, attempt=job.attempt, seconds=seconds)
        finally:
            del self._attempts[attempt.token]
            self._settled.ring()
            self._work.ring()

    # ---- the other loops

    async def _keep_lease(self) -> None:
        normal = self._settings.lease / 3
        pause = normal
        while True:
            await trio.sleep(pause)
            try:
                if not await self._lease.extend():
                    log.error("job_process_declared_dead", group=self._group)
                    self._lose_all()
                    await self._lease.register()
                pause = normal
            except DatabaseError as error:
                log.warning("job_lease_not_extended", group=self._group, error=str(error))
                if self._lease.run_out:
                    self._lose_all()
                pause = normal / 3

    def _lose_all(self) -> None:
        for attempt in self._attempts.values():
            attempt.end(Ending.LEASE_LOST)

    async def _rescue(self) -> None:
        while True:
            try:
                rows = await self._database.fetch(
                    QUERIES["rescue"], RESCUE_BATCH, deadline=CALL_DEADLINE
                )
            except DatabaseError as error:
                log.warning("job_rescue_failed", group=self._group, error=str(error))
            else:
                if rows:
                    states = Counter(row["state"] for row in rows)
                    log.warning("jobs_rescued", **states)
                    self._work.ring()
            # Processes that started together shall not rescue together.
            await trio.sleep(self._settings.lease / 3 * (0.75 + 0.5 * self._chance()))

    async def _watch(self) -> None:
        """Look for requests to cancel, and for jobs that we hold without knowing."""
        while True:
            await self._look.wait(self._settings.look)
            if self._attempts or trio.current_time() >= self._next_look:
                try:
                    certain = await self._compare()
                except DatabaseError as error:
                    log.warning("job_watch_failed", group=self._group, error=str(error))
                    certain = False
                if certain:
                    self._next_look = trio.current_time() + self._settings.lease / 3

    async def _compare(self) -> bool:
        """Compare what we run with what the database thinks; whether we could be certain.

        A claim under way at any time of it explains jobs that we do not know yet.
        """
        claims, quiet = self._claims, not self._claiming
        rows = await self._database.fetch(
            QUERIES["jobs_of_process"], self._lease.process_id, deadline=CALL_DEADLINE
        )
        certain = quiet and claims == self._claims
        for row in rows:
            attempt = self._attempts.get(row["fencing_token"])
            if attempt is None and certain:
                await self._release_unknown(row)
            elif attempt is not None and row["cancel_requested"]:
                attempt.end(Ending.CANCELLED)
        return certain

    async def _release_unknown(self, row: asyncpg.Record) -> None:
        log.warning("job_without_attempt_released", job_id=str(row["job_id"]))
        await self._database.execute(
            QUERIES["release"],
            row["tenant_id"],
            row["job_id"],
            row["fencing_token"],
            tenant=TenantId(row["tenant_id"]),
            deadline=CALL_DEADLINE,
        )
        self._work.ring()

    async def _report(self) -> None:
        while True:
            await trio.sleep(self._settings.report)
            for attempt in list(self._attempts.values()):
                try:
                    if not await attempt.write_progress():
                        attempt.end(Ending.LEASE_LOST)
                except DatabaseError as error:
                    log.warning("job_progress_not_written", group=self._group, error=str(error))
                    break

    async def _listen(self) -> None:
        while True:
            try:
                async with self._database.listen(f"troupe_jobs_{self._group}") as payloads:
                    async for payload in payloads:
                        if payload in {"cancel", MISSED}:
                            self._look.ring()
                        if payload != "cancel":
                            self._work.ring()
            except DatabaseError as error:
                log.warning("job_listen_failed", group=self._group, error=str(error))
            await trio.sleep(LISTEN_AGAIN)
