"""What the data group's routes take and answer."""

from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from troupe.http.conventions import AnswerModel, BodyModel, PageQuery, Preset, QueryModel
from troupe.platform.jobs import Job, JobState


class NewIngestion(BodyModel):
    """Which days to load: two dates, or a range with a name. Days are the export's own."""

    start_date: date | None = None
    """First day, with `end_date`."""
    end_date: date | None = None
    """Last day, included."""
    preset: Preset | None = None
    """A range with a name, instead of the dates."""


class NewImport(BodyModel):
    """An import of master data."""

    again: bool = False
    """Read the files also if they look unchanged."""


class JobsQuery(PageQuery):
    """Which jobs to list."""

    kind: Annotated[str | None, Field(max_length=100)] = None
    """Only this kind, such as `ingest`."""
    state: JobState | None = None
    """Only those in this state."""


class AvailabilityQuery(QueryModel):
    """Which days to list; everything that is known when nothing is given."""

    start_date: date | None = None
    """First day."""
    end_date: date | None = None
    """Last day, included."""


class JobProgress(AnswerModel):
    """How far a job is; null where it has not said yet."""

    done: int | None
    """Steps (days, of an ingestion) that are finished."""
    total: int | None
    """Steps in all."""
    phase: str | None
    message: str | None
    rows: int | None
    """Rows written so far."""
    bytes: int | None
    """Bytes written so far."""
    rate: int | None
    """Rows per second of this attempt."""
    seconds_left: int | None
    """Estimated."""

    @property
    def share(self) -> float | None:
        """Part that is done, between 0 and 1."""
        return self.done / self.total if self.total and self.done is not None else None


class JobError(AnswerModel):
    """Why the last attempt failed."""

    kind: str
    message: str
    """One sentence for a person."""


class JobAnswer(AnswerModel):
    """A job."""

    id: UUID
    kind: str
    state: JobState
    arguments: dict[str, Any]
    attempt: int
    max_attempts: int
    cancel_requested: bool
    progress: JobProgress
    percent: float | None
    """Of the steps, 0 to 100."""
    error: JobError | None
    result: Any
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> "JobAnswer":
        """From the platform's job."""
        detail = job.progress.detail
        progress = JobProgress(
            done=job.progress.done,
            total=job.progress.total,
            phase=job.progress.phase,
            message=job.progress.message,
            rows=detail.get("rows"),
            bytes=detail.get("bytes"),
            rate=detail.get("rate"),
            seconds_left=detail.get("seconds_left"),
        )
        share = progress.share
        return cls(
            id=job.id,
            kind=job.kind,
            state=job.state,
            arguments=dict(job.arguments),
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            cancel_requested=job.cancel_requested,
            progress=progress,
            percent=None if share is None else round(100 * share, 1),
            error=JobError(kind=job.error.kind, message=job.error.message) if job.error else None,
            result=job.result,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class SourceDay(AnswerModel):
    """What is known of one day of the export."""

    day: date
    state: str
    """`loaded`; `stale`: older than the source; `failed`: never loaded; `missing`: no table;
    `unknown`: never looked at."""
    family: str | None
    """`daily`, `fresh` or `intraday`: which of the export's tables was loaded."""
    source_rows: int | None
    loaded_rows: int | None
    loaded_at: datetime | None
    checked_at: datetime | None
    problem: str | None
    """One sentence."""


class AvailabilityAnswer(AnswerModel):
    """Every day of a range, those without data too."""

    data: list[SourceDay]
    data_version: int
    data_until: date | None
    """The last complete day in the reporting zone."""
