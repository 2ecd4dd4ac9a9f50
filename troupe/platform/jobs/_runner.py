"""The runner: claims a group's jobs and runs them in the group's task pool.

It is one child of the group's supervisor. Inside are a few loops that have nothing to say to each
other but *wake up*: claim, record, keep the lease, look for requests to cancel, rescue what dead
processes left, write progress, listen, tend. Each loop survives a database that is away; none waits
without bound.

**Claiming.** Slots of the pool are taken first, then jobs for them, so that no job is held by a
process that has no room to run it; several free slots make one batch. How often, and when to be
notified instead, stands in `_claims.py`. Notifications only make it quick: polling once a second
finds everything too.

**Running.** Attempts run in workers, tasks that are used again (`_workers.py`). An attempt that has
ended gives its slot back and leaves its outcome to the recorder (`_recorder.py`); until that is
written the attempt is held, and counts in `jobs_unrecorded`.

**Cancelling.** Requests are looked for twice a second while anything runs, or at once when
notified.

**A claim whose answer was lost** leaves jobs that the database thinks we run. After every claim
that failed, what the database holds for this process is compared with what it runs; the rest is
given back.

**Stopping.** A drain in three steps, each bounded: no more claims; running handlers are told and
may finish or leave; then they are cancelled. What was running goes back without losing an attempt,
in one statement. If the runner itself is cancelled or fails, the same statement is tried behind a
short shield; if even that is lost, the lease runs out and another process rescues.

**Tending.** Any process turns the ring of tickets and makes and drops days of the history: the
statements find out by themselves whether there is anything to do.

Rejected: a lease per job (a heartbeat would rewrite the jobs table all the time); LISTEN alone (a
notification may be lost); advisory locks (they pin a session and break behind a pooler).
"""

import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg
import trio

from troupe.common.database import MISSED, Database
from troupe.common.errors import DatabaseError
from troupe.common.logs import get_logger, log_context
from troupe.common.units import MILLISECONDS, MINUTES, SECONDS, MiB
from troupe.platform.errors import PoolSaturated
from troupe.platform.jobs._attempt import Attempt, Ending, JobKind, Outcome
from troupe.platform.jobs._claimed import ClaimedJob
from troupe.platform.jobs._claims import Claims
from troupe.platform.jobs._enqueue import QUERIES
from troupe.platform.jobs._lease import Lease
from troupe.platform.jobs._recorder import Recorder
from troupe.platform.jobs._workers import Workers
from troupe.platform.pool import Pool, Slot
from troupe.platform.supervision import Backoff, ChildContext, ChildSpec, Observation

BATCH: Final = 500
"""Most jobs claimed by one statement."""
RESCUE_BATCH: Final = 200
CALL_DEADLINE: Final = 4 * SECONDS
"""For one statement of the runner's own."""
RELEASE_DEADLINE: Final = 3 * SECONDS
FIRST_PAUSE: Final = 100 * MILLISECONDS
LONGEST_PAUSE: Final = 5 * SECONDS
LISTEN_AGAIN: Final = 5 * SECONDS
TURN_RING_EVERY: Final = 1 * SECONDS
RING_BYTES: Final = MiB // 2
"""Size at which tickets move to the next table: about 5,000 of them."""
TEND_HISTORY_EVERY: Final = 10 * MINUTES
HISTORY_AHEAD: Final = 7
"""Days for which the history has partitions in advance."""
FORGET_BATCH: Final = 10_000

log = get_logger(__name__)
_level = logging.getLogger(__name__)  # asked before a line is put together that nobody will see


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """How a runner behaves. Durations are in seconds unless the name says otherwise.

    Attributes:
        lease: A process without a heartbeat for this long is dead; its jobs run again within twice
            that. Too short: a busy event loop loses its jobs.
        poll: Longest wait before looking for jobs without being notified.
        look: Longest wait before looking for requests to cancel, while anything runs.
        report: Time between two writes of one job's progress.
        drain: How long running jobs may go on after a stop was requested.
        concurrency: Jobs at a time in this process; None: as many as the pool has slots.
        listen: Whether to hold a connection for notifications.
        history_days: Days for which finished jobs and idempotency keys are remembered.
    """

    lease: float = 15 * SECONDS
    poll: float = 1 * SECONDS
    look: float = 500 * MILLISECONDS
    report: float = 500 * MILLISECONDS
    drain: float = 5 * SECONDS
    concurrency: int | None = None
    listen: bool = True
    history_days: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.history_days <= 400:
            raise ValueError("history_days must lie between 1 and 400")


class _Bell:
    """Wakes one loop; rings that nobody heard yet are one."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, at_most: float) -> bool:
        """Return once it has rung since the last time, or in so many seconds; whether it rang."""
        with trio.move_on_after(at_most):
            await self._rung.wait()
        rang = self._rung.is_set()
        self._rung = trio.Event()
        return rang


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
        self._limited = {name for name, kind in kinds.items() if kind.limit or kind.tenant_limit}
        self._pool = pool
        self._open_database = database
        self._settings = settings or RunnerSettings()
        self._chance = chance
        self._outcomes: Counter[str] = Counter()
        self._reset()

    def _reset(self) -> None:
        self._attempts: dict[int, Attempt] = {}
        self._ended: set[int] = set()  # of those: ended, not yet recorded
        # Until then (trio clock) the database may come to think that we run what we do not.
        self._uncertain_until, self._next_comparison = -math.inf, math.inf
        self._full = False  # whether the last claim left out what there was no room for
        self._stopping = trio.Event()  # what handlers see
        self._work = _Bell()
        self._look = _Bell()
        self._settled_bell = _Bell()

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
        self._recorder = Recorder(self._database, self._settled)
        self._claims = Claims(
            self._database,
            self._group,
            self._kinds,
            longest_wait=self._settings.poll,
            listens=self._settings.listen,
        )
        await self._lease.register()
        await self._database.execute(
            QUERIES["register_kinds"], self._group, list(self._kinds), deadline=CALL_DEADLINE
        )
        context.observe(self._observation)
        context.when_stopping(self._work.ring)
        log.info("job_runner_started", group=self._group, kinds=sorted(self._kinds))
        try:
            async with trio.open_nursery() as loops:
                for loop in (
                    self._recorder.run,
                    self._keep_lease,
                    self._rescue,
                    self._watch,
                    self._time_out,
                    self._report,
                    self._turn_ring,
                    self._tend_history,
                ):
                    loops.start_soon(loop)
                if self._settings.listen:
                    loops.start_soon(self._listen)
                context.started(self)
                async with trio.open_nursery() as attempts:
                    self._workers = Workers(self._perform, self._cut_short, attempts)
                    await self._claim_until(context.stopping)
                    await self._drain()
                    attempts.cancel_scope.cancel()  # only idle workers are left
                loops.cancel_scope.cancel()
        finally:
            for attempt in self._attempts.values():
                attempt.slot.release()  # the pool outlives us
            await self._give_back()

    async def _drain(self) -> None:
        self._stopping.set()
        await self._wait_until_settled(self._settings.drain)
        for token, attempt in self._attempts.items():
            if token not in self._ended:
                attempt.end(Ending.INTERRUPTED)
        # Cancelled handlers clean up for as long as the supervisor lets them; then what has ended
        # is recorded, for as long as a statement may take.
        while len(self._attempts) > len(self._ended):
            await self._settled_bell.wait(self._settings.drain)
        await self._wait_until_settled(CALL_DEADLINE)

    async def _wait_until_settled(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            while self._attempts:
                await self._settled_bell.wait(seconds)

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
                "jobs_running": len(self._attempts) - len(self._ended),
                "jobs_unrecorded": len(self._ended),
                **{f"jobs_{outcome}": count for outcome, count in sorted(self._outcomes.items())},
            }
        )

    # ---- claiming and running

    async def _claim_until(self, stopping: trio.Event) -> None:
        pause = FIRST_PAUSE
        while not stopping.is_set():
            try:
                await self._claim_batch()
            except DatabaseError as error:
                log.warning("job_claim_failed", group=self._group, error=str(error), pause=pause)
                # It may have been carried out all the same, or will be by a server that is slow.
                self._compare()
                await self._work.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            if self._claims.wait > 0 and await self._work.wait(self._claims.wait):
                self._claims.hurry()

    async def _claim_batch(self) -> None:
        """Claim and begin what there is room for."""
        await self._recorder.wait_for_room()
        if self._next_comparison <= trio.current_time():
            await self._release_unknown()
            now = trio.current_time()
            again = now < self._uncertain_until
            self._next_comparison = now + self._settings.lease / 3 if again else math.inf
        running = [
            attempt.claimed.kind
            for token, attempt in self._attempts.items()
            if token not in self._ended
        ]
        room = self._claims.room(running)
        slots = await self._reserve(sum(room.values()), len(running))
        self._full = not slots
        if not slots:
            self._claims.wait = self._settings.poll
            return
        try:
            jobs = await self._claims.claim(self._lease.process_id, room, len(slots))
            self._full = len(jobs) == len(slots) or len(room) < len(self._kinds)
            for job in jobs:
                self._begin(job, slots.pop())
        finally:
            for slot in slots:
                slot.release()

    def _compare(self) -> None:
        """Compare with the database what we run: as soon as it can be asked, and for a while."""
        self._uncertain_until = trio.current_time() + 2 * self._settings.lease
        self._next_comparison = -math.inf

    async def _release_unknown(self) -> None:
        """Give back what the database thinks that we run and we do not know of.

        Nothing is claimed meanwhile. What ends meanwhile is not harmed: its token is spent.
        """
        rows = await self._database.fetch(
            QUERIES["jobs_of_process"],
            self._lease.process_id,
            read_only=True,
            deadline=CALL_DEADLINE,
        )
        unknown = [tuple(row) for row in rows if row["fencing_token"] not in self._attempts]
        if unknown:
            log.warning("jobs_without_attempt_released", jobs=len(unknown))
            keys = zip(*unknown, strict=True)
            outcomes = {str(token): {"ending": "released"} for _, _, token in unknown}
            await self._database.execute(QUERIES["finish"], *keys, outcomes, deadline=CALL_DEADLINE)

    async def _reserve(self, wanted: int, running: int) -> list[Slot]:
        """Slots for at most `wanted` jobs; waits for the first one, in turn with all others."""
        most = self._settings.concurrency or self._pool.limit
        wanted = min(wanted, most - running, BATCH)
        slots: list[Slot] = []
        if wanted > 0:
            try:
                slots.append(await self._pool.acquire(deadline=self._settings.poll))
            except PoolSaturated:
                return slots
        while len(slots) < wanted and (slot := self._pool.try_acquire()) is not None:
            slots.append(slot)
        return slots

    def _begin(self, job: ClaimedJob, slot: Slot) -> None:
        slot.assign(job.tenant_id)
        attempt = Attempt(
            self._database,
            job,
            self._kinds[job.kind],
            slot=slot,
            stopping=self._stopping,
            chance=self._chance,
        )
        self._attempts[job.token] = attempt
        self._workers.give(attempt)

    async def _perform(self, attempt: Attempt, scope: trio.CancelScope) -> None:
        job = attempt.claimed
        with log_context(tenant_id=job.tenant_id, job_id=job.id, job_kind=job.kind):
            if _level.isEnabledFor(logging.DEBUG):
                log.debug("job_started", attempt=job.attempt, fencing_token=job.token)
            outcome = await attempt.execute(scope)
        self._ended_with(attempt, outcome)

    def _cut_short(self, attempt: Attempt) -> None:
        self._ended_with(attempt, attempt.outcome(None, None, cut_short=True))

    def _ended_with(self, attempt: Attempt, outcome: Outcome | Ending) -> None:
        attempt.slot.release()
        self._ended.add(attempt.claimed.token)
        self._settled_bell.ring()
        if isinstance(outcome, Ending):
            self._settled(attempt, outcome)
        else:
            self._recorder.add(attempt, outcome)
        if self._full:
            self._work.ring()

    def _settled(self, attempt: Attempt, outcome: str) -> None:
        """An attempt's outcome is recorded, or there is none to record."""
        job = attempt.claimed
        del self._attempts[job.token]
        self._ended.discard(job.token)
        self._outcomes[outcome] += 1
        if outcome is Ending.LEASE_LOST:
            self._compare()  # if nobody has declared us dead, the job is still ours, and stuck
        if job.kind in self._limited:
            self._work.ring()  # its place is free
        if _level.isEnabledFor(logging.INFO):
            with log_context(tenant_id=job.tenant_id, job_id=job.id, job_kind=job.kind):
                seconds = round(trio.current_time() - attempt.begun, 3)
                log.info("job_ended", outcome=outcome, attempt=job.attempt, seconds=seconds)
        self._settled_bell.ring()

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
                    log.warning("jobs_rescued", **Counter(row["state"] for row in rows))
                    self._work.ring()
            # Processes that started together shall not rescue together.
            await trio.sleep(self._settings.lease / 3 * (0.75 + 0.5 * self._chance()))

    async def _watch(self) -> None:
        """Look for requests to cancel."""
        while True:
            await self._look.wait(self._settings.look)
            if not self._attempts:
                continue
            try:
                rows = await self._database.fetch(
                    QUERIES["jobs_to_cancel"],
                    self._lease.process_id,
                    read_only=True,
                    deadline=CALL_DEADLINE,
                )
            except DatabaseError as error:
                log.warning("job_watch_failed", group=self._group, error=str(error))
                continue
            for row in rows:
                if attempt := self._attempts.get(row["fencing_token"]):
                    attempt.end(Ending.CANCELLED)

    async def _time_out(self) -> None:
        """End attempts that take too long."""
        while True:
            await trio.sleep(self._settings.look)
            for token, attempt in self._attempts.items():
                if token not in self._ended and attempt.overdue:
                    attempt.end(Ending.TIMED_OUT)

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

    async def _turn_ring(self) -> None:
        while True:
            await trio.sleep(TURN_RING_EVERY * (0.75 + 0.5 * self._chance()))
            try:
                await self._database.execute(
                    QUERIES["turn_ring"], RING_BYTES, deadline=CALL_DEADLINE
                )
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("job_ring_not_turned", group=self._group, error=str(error))

    async def _tend_history(self) -> None:
        keep = self._settings.history_days
        while True:
            try:
                forgotten = await self._database.fetch_value(
                    QUERIES["forget_old_jobs"], keep, FORGET_BATCH, deadline=CALL_DEADLINE
                )
                made, dropped = await self._database.fetch_row(
                    QUERIES["tend_history"], keep, HISTORY_AHEAD, deadline=CALL_DEADLINE
                ) or (0, 0)
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("job_history_not_tended", group=self._group, error=str(error))
            else:
                if forgotten or made or dropped:
                    log.info(
                        "job_history_tended",
                        days_made=made,
                        days_dropped=dropped,
                        keys_forgotten=forgotten,
                    )
            await trio.sleep(TEND_HISTORY_EVERY * (0.75 + 0.5 * self._chance()))

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
