"""What a job is, and what one asks for."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

import asyncpg

from troupe.common.ids import TenantId

JobValue = Any
"""What JSON can say; a Decimal is a number, digit for digit."""

DEFAULT_MAX_ATTEMPTS: Final = 5


class JobState(StrEnum):
    """Where a job is in its life."""

    AVAILABLE = "available"
    """Waits for its time and its turn."""
    RUNNING = "running"
    """Held by one attempt."""
    DONE = "done"
    """Completed."""
    FAILED = "failed"
    """Ended by an error that no retry mends."""
    CANCELLED = "cancelled"
    """Ended because somebody asked for it."""
    DEAD = "dead"
    """All attempts failed."""

    @property
    def finished(self) -> bool:
        """Whether nothing more happens by itself."""
        return self not in {JobState.AVAILABLE, JobState.RUNNING}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What to enqueue. The tenant is that of the transaction.

    Attributes:
        group: The actor group whose processes run it.
        kind: Names the handler.
        arguments: For the handler.
        priority: Higher runs earlier within the tenant; -32768 to 32767.
        run_at: Not before this instant (with time zone); None: `delay` decides.
        delay: Not before this many seconds from now, by the database's clock.
        unique_key: While a job of this kind and key waits or runs, another is not made.
        idempotency_key: A job of this kind and key is made once, also after it has finished.
        max_attempts: Failures after which it is dead.
    """

    group: str
    kind: str
    arguments: Mapping[str, JobValue] = field(default_factory=dict)
    priority: int = 0
    run_at: datetime | None = None
    delay: float = 0.0
    unique_key: str | None = None
    idempotency_key: str | None = None
    max_attempts: int = DEFAULT_MAX_ATTEMPTS

    def __post_init__(self) -> None:
        if self.run_at is not None and self.run_at.tzinfo is None:
            raise ValueError("run_at needs a time zone")
        if self.delay < 0 or self.max_attempts < 1:
            raise ValueError("delay must not be negative, max_attempts at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is.

    Attributes:
        done: Steps done.
        total: Steps in all, if known.
        phase: What it is doing, one word or two.
        message: One line for a person.
        detail: Whatever else the handler tells (rows, bytes, …).
    """

    done: int | None = None
    total: int | None = None
    phase: str | None = None
    message: str | None = None
    detail: Mapping[str, JobValue] = field(default_factory=dict)


NO_PROGRESS: Final = Progress()
_PROGRESS_COLUMNS: Final = (
    "progress_done",
    "progress_total",
    "progress_phase",
    "progress_message",
    "progress_detail",
)


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why an attempt failed.

    Attributes:
        kind: The error's class.
        message: One line for a person, without secrets.
    """

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stood when it was read.

    Attributes:
        tenant_id: Whose it is.
        id: Its identifier; newer jobs have larger ones.
        group: The actor group that runs it.
        kind: Names the handler.
        state: Where it is.
        priority: Higher runs earlier within the tenant.
        run_at: Not before.
        arguments: For the handler.
        unique_key: At most one live job of the kind has it.
        idempotency_key: At most one job of the kind has it.
        attempt: Attempts begun, without those interrupted by a shutdown.
        max_attempts: Failures after which it is dead.
        fencing_token: Names the last attempt; larger for later claims.
        cancel_requested: Whether somebody asked for its end.
        progress: As last reported.
        checkpoint: As last saved; where a retry goes on.
        error: The last failure, unless it is done.
        result: What the handler returned.
        created_at: When it was enqueued.
        started_at: When its last attempt began.
        finished_at: When it finished.
        deduplicated: Whether `enqueue` gave this job back instead of making another.
    """

    tenant_id: TenantId
    id: uuid.UUID
    group: str
    kind: str
    state: JobState
    priority: int
    run_at: datetime
    arguments: Mapping[str, JobValue]
    unique_key: str | None
    idempotency_key: str | None
    attempt: int = 0
    max_attempts: int
    fencing_token: int | None = None
    cancel_requested: bool = False
    progress: Progress = NO_PROGRESS
    checkpoint: JobValue = None
    error: JobFailure | None = None
    result: JobValue = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deduplicated: bool = False

    @classmethod
    def from_row(cls, row: asyncpg.Record, *, deduplicated: bool = False) -> Self:
        """The job in a row of ``platform.all_jobs``."""
        return cls(
            tenant_id=TenantId(row["tenant_id"]),
            id=row["job_id"],
            group=row["group_name"],
            kind=row["kind"],
            state=JobState(row["state"]),
            priority=row["priority"],
            run_at=row["run_at"],
            arguments=row["arguments"] or {},
            unique_key=row["unique_key"],
            idempotency_key=row["idempotency_key"],
            attempt=row["attempt"],
            max_attempts=row["max_attempts"],
            fencing_token=row["fencing_token"],
            cancel_requested=row["cancel_requested_at"] is not None,
            progress=_progress(row),
            checkpoint=row["checkpoint"],
            error=_failure(row),
            result=row["result"],
            created_at=row["created_at"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            deduplicated=deduplicated,
        )


def _progress(row: asyncpg.Record) -> Progress:
    values = [row[name] for name in _PROGRESS_COLUMNS]
    if not any(value is not None for value in values):
        return NO_PROGRESS
    done, total, phase, message, detail = values
    return Progress(done=done, total=total, phase=phase, message=message, detail=detail or {})


def _failure(row: asyncpg.Record) -> JobFailure | None:
    kind = row["error_kind"]
    return None if kind is None else JobFailure(kind, row["error_message"] or "")


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of a list.

    Attributes:
        data: The jobs, newest first.
        next_cursor: Where the next page begins; None: this is the last.
        total: Jobs on all pages together.
    """

    data: tuple[Job, ...]
    next_cursor: str | None
    total: int
