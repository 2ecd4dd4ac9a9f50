"""One attempt at a job: run the handler, learn how it ended.

What is learned becomes an `Outcome`, which the recorder writes down (`_recorder.py`).
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import asyncpg
import trio

from troupe.common.database import Database, dumps
from troupe.common.errors import DatabaseError
from troupe.common.logs import get_logger
from troupe.common.units import HOURS
from troupe.platform.errors import JobInterrupted, JobTimedOut, LeaseLost, leaves, unexpected
from troupe.platform.jobs._claimed import ClaimedJob
from troupe.platform.jobs._enqueue import QUERIES
from troupe.platform.jobs._model import JobValue
from troupe.platform.jobs._outcome import DEFAULT_RETRY, judge
from troupe.platform.jobs._run import WRITE_DEADLINE, JobRun
from troupe.platform.pool import Slot
from troupe.platform.supervision import Backoff

DEFAULT_TIMEOUT: Final = 1 * HOURS
_NUL: Final = "\\u0000"

log = get_logger(__name__)

Handler = Callable[[JobRun], Awaitable[JobValue]]
"""Does the work; what it returns (JSON) becomes the job's result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """How one kind of job is run.

    Attributes:
        handler: Does the work.
        concurrency: Jobs of this kind at a time in one process.
        limit: Jobs of this kind at a time in all processes together; None: no limit. What counts
            is which attempts hold their jobs, so that a process that has lost its lease may for a
            moment still be busy with one more. All processes should name the same.
        tenant_limit: The same for the jobs of one tenant.
        timeout: Seconds that one attempt may take; then it is cancelled and has failed. Looked at
            every `RunnerSettings.look` seconds.
        retry: Waits between attempts.
    """

    handler: Handler
    concurrency: int = 4
    limit: int | None = None
    tenant_limit: int | None = None
    timeout: float = DEFAULT_TIMEOUT
    retry: Backoff = DEFAULT_RETRY

    def __post_init__(self) -> None:
        limits = (self.concurrency, self.limit, self.tenant_limit)
        if any(limit is not None and limit < 1 for limit in limits) or self.timeout <= 0:
            raise ValueError("concurrency and limits must be at least 1, timeout positive")


class Ending(StrEnum):
    """Why a handler was cancelled."""

    CANCELLED = "cancelled"
    """Somebody asked for it."""
    INTERRUPTED = "interrupted"
    """The process shuts down."""
    TIMED_OUT = "timed_out"
    """It took longer than its kind allows."""
    LEASE_LOST = "lease_lost"
    """The attempt no longer holds the job."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to record about an attempt.

    Attributes:
        ending: As `platform.finish_jobs` calls it: done, cancelled, failed, retry.
        detail: What goes with it: result, error_kind, error_message, delay in seconds; None for
            nothing.
    """

    ending: str
    detail: Mapping[str, Any] | None = None

    @classmethod
    def unfit(cls) -> "Outcome":
        """For a handler whose result cannot be stored."""
        message = "The handler's result has no JSON form."
        return cls("failed", {"error_kind": "UnfitResult", "error_message": message})


DONE: Final = Outcome("done")
CANCELLED: Final = Outcome("cancelled")


class Attempt:
    """One attempt.

    Args:
        database: Where the job is.
        claimed: The job.
        kind: How it is run.
        slot: Of the pool; released by whoever runs the attempt.
        stopping: Set when the process shuts down.
        chance: Source of random numbers between 0 and 1, for jitter.

    Attributes:
        claimed: The job.
        slot: The place in the pool that it takes.
        run: What the handler is given.
        begun: When the handler began (trio clock).
    """

    __slots__ = (
        "_chance",
        "_database",
        "_ending",
        "_kind",
        "_scope",
        "begun",
        "claimed",
        "run",
        "slot",
    )

    def __init__(
        self,
        database: Database,
        claimed: ClaimedJob,
        kind: JobKind,
        *,
        slot: Slot,
        stopping: trio.Event,
        chance: Callable[[], float],
    ) -> None:
        self.claimed = claimed
        self.slot = slot
        self.run = JobRun(database, claimed, stopping)
        self.begun = math.inf
        self._database = database
        self._kind = kind
        self._chance = chance
        self._scope: trio.CancelScope | None = None
        self._ending: Ending | None = None

    @property
    def overdue(self) -> bool:
        """Whether the handler has run for longer than it may."""
        return trio.current_time() - self.begun > self._kind.timeout

    def end(self, ending: Ending) -> None:
        """Cancel the handler; the first reason counts, but a lost lease trumps all."""
        if ending is Ending.LEASE_LOST:
            self.run.lose()
            self._ending = ending
        self._ending = self._ending or ending
        if self._scope is not None:
            self._scope.cancel()

    async def execute(self, scope: trio.CancelScope) -> Outcome | Ending:
        """Run the handler.

        Args:
            scope: What it runs in; cancelled when the attempt is ended. It is the caller's, since a
                scope of one's own costs more than a short job does.

        Returns:
            As `outcome`.

        Raises:
            trio.Cancelled: The attempt was ended, or the scope cancelled from outside. If it was
                ended, `outcome` tells what to record.
        """
        self.begun = trio.current_time()
        self._scope = scope
        if self._ending is not None:  # before it began
            scope.cancel()
        try:
            return self.outcome(await self._kind.handler(self.run), None)
        except Exception as error:  # noqa: BLE001 - any failure is the job's, not ours
            return self.outcome(None, error)
        except BaseExceptionGroup as group:
            # Errors beside a cancellation or an interrupt: keep the former, pass on the latter.
            errors, others = group.split(Exception)
            if others is not None:
                raise others from None
            return self.outcome(None, errors)
        finally:
            self._scope = None

    def outcome(
        self, result: JobValue, error: Exception | None, *, cut_short: bool = False
    ) -> Outcome | Ending:
        """What to record, or why there is nothing to record: lease lost, or interrupted.

        Args:
            result: What the handler returned.
            error: What it raised.
            cut_short: Whether it was cancelled.
        """
        if self.run.lost or (error is not None and _has(error, LeaseLost)):
            return Ending.LEASE_LOST
        stopped = error is not None or cut_short
        if self._ending is Ending.INTERRUPTED and stopped:
            return Ending.INTERRUPTED
        if error is not None and _has(error, JobInterrupted) and self.run.stopping.is_set():
            return Ending.INTERRUPTED
        if self._ending is Ending.CANCELLED and stopped:
            return CANCELLED
        if cut_short and error is None:
            error = JobTimedOut(f"The attempt took longer than {self._kind.timeout:g} s.")
        return self._completed(result) if error is None else self._failed(error)

    def _completed(self, result: JobValue) -> Outcome:
        if result is None:
            return DONE
        try:
            fit = _NUL not in dumps(result)
        except (TypeError, ValueError, RecursionError):
            log.exception("job_result_unfit", job_id=str(self.claimed.id))
            fit = False
        return Outcome("done", {"result": result}) if fit else Outcome.unfit()

    def _failed(self, error: Exception) -> Outcome:
        verdict = judge(error)
        log.warning(
            "job_attempt_failed",
            attempt=self.claimed.attempt,
            of=self.claimed.max_attempts,
            permanent=verdict.permanent,
            error=verdict.message,
            exc_info=unexpected(error),
        )
        detail = {"error_kind": verdict.kind, "error_message": verdict.message}
        if verdict.permanent:
            return Outcome("failed", detail)
        delay = self._kind.retry.delay(self.claimed.attempt, self._chance())
        return Outcome("retry", {**detail, "delay": max(delay, verdict.retry_after)})

    async def write_progress(self) -> bool:
        """Write what the handler reported since the last time; False: another holds the job."""
        progress = self.run.take_unreported()
        if progress is None:
            return True

        async def unit(connection: asyncpg.Connection) -> bool:
            held = await connection.fetchval(
                QUERIES["progress"],
                *self.claimed.key,
                progress.done,
                progress.total,
                progress.phase,
                progress.message,
                dict(progress.detail),
            )
            if held is not None:
                return True
            # A handler may go on for a moment after it has finished its job by `complete_in`.
            key = [[part] for part in self.claimed.key]
            return await connection.fetchrow(QUERIES["endings"], *key) is not None

        try:
            return await self._database.run(
                unit, tenant=self.claimed.tenant_id, deadline=WRITE_DEADLINE
            )
        except DatabaseError:
            self.run.give_back_unreported(progress)
            raise


def _has(error: Exception, kind: type[Exception]) -> bool:
    return any(isinstance(leaf, kind) for leaf in leaves(error))
