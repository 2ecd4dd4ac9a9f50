"""One attempt at a job: run the handler, learn how it ended, record that.

Recording is tried until it succeeds or the lease is lost; an answer that was lost on the way does
no harm, because a repeated statement finds its own attempt's ending (`ended_by`) and stops there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import asyncpg
import trio

from troupe.common.database import Database
from troupe.common.errors import DatabaseError
from troupe.common.logs import get_logger
from troupe.common.units import HOURS, MILLISECONDS, SECONDS
from troupe.platform.errors import JobInterrupted, JobTimedOut, LeaseLost, leaves, unexpected
from troupe.platform.jobs._enqueue import QUERIES
from troupe.platform.jobs._model import Job, JobValue, Progress
from troupe.platform.jobs._outcome import DEFAULT_RETRY, Verdict, judge
from troupe.platform.jobs._run import WRITE_DEADLINE, JobRun
from troupe.platform.supervision import Backoff

DEFAULT_TIMEOUT: Final = 1 * HOURS
_FIRST_PAUSE: Final = 100 * MILLISECONDS
_LONGEST_PAUSE: Final = 5 * SECONDS

log = get_logger(__name__)

Handler = Callable[[JobRun], Awaitable[JobValue]]
"""Does the work; what it returns (JSON) becomes the job's result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """How one kind of job is run.

    Attributes:
        handler: Does the work.
        concurrency: Jobs of this kind at a time in one process.
        timeout: Seconds that one attempt may take; then it is cancelled and has failed.
        retry: Waits between attempts.
    """

    handler: Handler
    concurrency: int = 4
    timeout: float = DEFAULT_TIMEOUT
    retry: Backoff = DEFAULT_RETRY

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.timeout <= 0:
            raise ValueError("concurrency must be at least 1, timeout positive")


class Ending(StrEnum):
    """Why a handler was cancelled."""

    CANCELLED = "cancelled"
    """Somebody asked for it."""
    INTERRUPTED = "interrupted"
    """The process shuts down."""
    LEASE_LOST = "lease_lost"
    """The attempt no longer holds the job."""


class Attempt:
    """One attempt.

    Attributes:
        job: As it was claimed.
        run: What the handler was given.
    """

    def __init__(self, database: Database, job: Job, kind: JobKind, chance: float) -> None:
        self.job = job
        self.run = JobRun(database, job)
        self._database = database
        self._kind = kind
        self._chance = chance
        self._scope = trio.CancelScope()
        self._ending: Ending | None = None

    @property
    def token(self) -> int:
        """The fencing token, unique among all attempts ever."""
        return self.job.fencing_token or 0

    def end(self, ending: Ending) -> None:
        """Cancel the handler; the first reason counts, but a lost lease trumps all."""
        if ending is Ending.LEASE_LOST:
            self.run.lose()
            self._ending = ending
        self._ending = self._ending or ending
        self._scope.cancel()

    async def execute(self) -> str:
        """Run the handler and record how it ended.

        Returns:
            The job's state now, or why there is nothing to record: ``lease_lost``, ``interrupted``.
        """
        result, error = await self._handle()
        if self.run.lost or (error is not None and _has(error, LeaseLost)):
            return Ending.LEASE_LOST.value
        if self._ending is Ending.INTERRUPTED and (error is not None or self._cut_short):
            return Ending.INTERRUPTED.value
        if error is not None and _has(error, JobInterrupted) and self.run.stopping.is_set():
            return Ending.INTERRUPTED.value
        if self._ending is Ending.CANCELLED and (error is not None or self._cut_short):
            return await self._record("cancel")
        if error is None and self._cut_short:
            error = JobTimedOut(f"The attempt took longer than {self._kind.timeout:g} s.")
        if error is None:
            try:
                return await self._record("complete", result)
            except (asyncpg.PostgresError, TypeError, ValueError) as unfit:
                log.exception("job_result_unfit", exc_info=unfit)
                verdict = Verdict("UnfitResult", "The handler's result has no JSON form.", True)
        else:
            verdict = judge(error)
            log.warning(
                "job_attempt_failed",
                attempt=self.job.attempt,
                of=self.job.max_attempts,
                permanent=verdict.permanent,
                error=verdict.message,
                exc_info=unexpected(error),
            )
        delay = self._kind.retry.delay(self.job.attempt, self._chance)
        return await self._record(
            "fail",
            verdict.permanent,
            max(delay, verdict.retry_after),
            verdict.kind,
            verdict.message,
        )

    async def write_progress(self) -> bool:
        """Write what the handler reported since the last time; False: another holds the job."""
        progress = self.run.take_unreported()
        if progress is None:
            return True

        async def unit(connection: asyncpg.Connection) -> bool:
            if await self._progress_in(connection, progress):
                return True
            # A handler may go on for a moment after it has finished its job by `complete_in`.
            return await connection.fetchval(QUERIES["ended_by"], *self.run.key) is not None

        try:
            return await self._database.run(
                unit, tenant=self.job.tenant_id, deadline=WRITE_DEADLINE
            )
        except DatabaseError:
            self.run.give_back_unreported(progress)
            raise

    @property
    def _cut_short(self) -> bool:
        return self._scope.cancelled_caught

    async def _handle(self) -> tuple[JobValue, Exception | None]:
        result: JobValue = None
        error: Exception | None = None
        self._scope.deadline = trio.current_time() + self._kind.timeout
        with self._scope:
            try:
                result = await self._kind.handler(self.run)
            except Exception as caught:  # noqa: BLE001 - any failure is the job's, not ours
                error = caught
            except BaseExceptionGroup as group:
                # Errors beside a cancellation or an interrupt: keep the former, pass on the latter.
                error, others = group.split(Exception)
                if others is not None:
                    raise others from None
        return result, error

    async def _record(self, query: str, *args: Any) -> str:
        progress = self.run.take_unreported()

        async def unit(connection: asyncpg.Connection) -> str | None:
            if progress is not None:
                await self._progress_in(connection, progress)
            state: str | None = await connection.fetchval(QUERIES[query], *self.run.key, *args)
            if state is None:
                state = await connection.fetchval(QUERIES["ended_by"], *self.run.key)
            return state

        pause = _FIRST_PAUSE
        while not self.run.lost:
            try:
                state = await self._database.run(
                    unit, tenant=self.job.tenant_id, deadline=WRITE_DEADLINE
                )
            except DatabaseError as error:
                log.warning("job_outcome_not_recorded", error=str(error), next_attempt=pause)
                await trio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return state or Ending.LEASE_LOST.value
        return Ending.LEASE_LOST.value

    async def _progress_in(self, connection: asyncpg.Connection, progress: Progress) -> bool:
        held = await connection.fetchval(
            QUERIES["progress"],
            *self.run.key,
            progress.done,
            progress.total,
            progress.phase,
            progress.message,
            dict(progress.detail),
        )
        return held is not None


def _has(error: Exception, kind: type[Exception]) -> bool:
    return any(isinstance(leaf, kind) for leaf in leaves(error))
