"""A job as it was claimed: what running it needs at once, the rest when somebody looks.

Most handlers want the arguments and little else; making a whole `Job` of every claim costs more
than a short job does.
"""

from typing import Any, Final, Self

import asyncpg

from troupe.common.ids import TenantId
from troupe.platform.jobs._model import NO_PROGRESS, Job, JobFailure, JobState, Progress

_KEY: Final = slice(0, 3)  # tenant, job, fencing token: where the statement puts them


class ClaimedJob:
    """What an attempt knows of its job.

    Attributes:
        tenant_id: Whose it is.
        kind: Names the handler.
        attempt: Attempts begun, this one included.
        max_attempts: Failures after which it is dead.
        token: The fencing token, unique among all attempts ever.
        key: Tenant, job and fencing token: what names this attempt in statements.
    """

    __slots__ = (
        "_group",
        "_job",
        "_row",
        "attempt",
        "key",
        "kind",
        "max_attempts",
        "tenant_id",
        "token",
    )

    def __init__(self, row: asyncpg.Record, group: str) -> None:
        """Take a row of ``platform.claim_jobs``."""
        self.key: tuple[Any, Any, int] = row[_KEY]
        self.tenant_id, _, self.token = self.key
        self.kind: str = row["kind"]
        self.attempt: int = row["attempt"]
        self.max_attempts: int = row["max_attempts"]
        self._row = row
        self._group = group
        self._job: Job | None = None

    @classmethod
    def of(cls, job: Job) -> Self:
        """The same, made of a job that was read otherwise."""
        made = cls.__new__(cls)
        made.key = (job.tenant_id, job.id, job.fencing_token or 0)
        made.tenant_id, _, made.token = made.key
        made.kind, made.attempt, made.max_attempts = job.kind, job.attempt, job.max_attempts
        made._job = job  # noqa: SLF001 - our own
        return made

    @property
    def id(self) -> Any:
        """The job's identifier."""
        return self.key[1]

    @property
    def job(self) -> Job:
        """The whole job."""
        if self._job is None:
            self._job = _read(self._row, self._group)
        return self._job


def _read(row: asyncpg.Record, group: str) -> Job:
    earlier = row["earlier"] or {}
    done, total, phase, message, detail = earlier.get("progress", (None,) * 5)
    kind = earlier.get("error_kind")
    return Job(
        tenant_id=TenantId(row["tenant_id"]),
        id=row["job_id"],
        group=group,
        kind=row["kind"],
        state=JobState.RUNNING,
        priority=row["priority"],
        run_at=row["run_at"],
        arguments=row["arguments"] or {},
        unique_key=row["unique_key"],
        idempotency_key=row["idempotency_key"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        fencing_token=row["fencing_token"],
        progress=Progress(done=done, total=total, phase=phase, message=message, detail=detail or {})
        if earlier
        else NO_PROGRESS,
        checkpoint=earlier.get("checkpoint"),
        error=JobFailure(kind, earlier["error_message"] or "") if kind else None,
        created_at=row["created_at"],
        started_at=row["started_at"],
    )
