"""What the data group's routes take and answer."""

from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from troupe.http.conventions import (
    MAX_LIMIT,
    AnswerModel,
    BodyModel,
    Day,
    Instant,
    PageQuery,
    Preset,
    QueryModel,
    RangeQuery,
)
from troupe.platform.jobs import Job, JobState


class DaysBody(BodyModel):
    """Days of the export: two dates, or a range with a name."""

    start_date: date | None = None
    """First day, with `end_date`."""
    end_date: date | None = None
    """Last day, included."""
    preset: Preset | None = None
    """A range with a name, instead of the dates."""


class NewIngestion(DaysBody):
    """Which days to load: two dates, or a range with a name. Days are the export's own."""

    gaps: bool = False
    """Load only what is not there: days of the range that are missing, failed, stale or were never
    looked at; without a range those between the first known day and yesterday."""


class NewReconciliation(DaysBody):
    """Which days to count at the source, event by event."""


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
    created_from: Instant | None = None
    """Only those made at this instant or later."""
    created_before: Instant | None = None
    """Only those made before this instant."""


class RedriveBody(BodyModel):
    """Which jobs to run again: those that are dead or failed."""

    kind: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    """Only this kind."""
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = MAX_LIMIT
    """At most this many, oldest first."""


class RedriveAnswer(AnswerModel):
    """The jobs that run again."""

    data: list["JobAnswer"]


class AvailabilityQuery(QueryModel):
    """Which days to list; everything that is known when nothing is given. At most ten years."""

    start_date: Day | None = None
    """First day; the first that is known by default."""
    end_date: Day | None = None
    """Last day, included; the last that is known by default."""


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
    """Rows per second, lately."""
    seconds_left: int | None
    """Estimated by how fast it was lately; null where that cannot be told."""

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
    run_at: datetime
    """Not before."""
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
            run_at=job.run_at,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class SourceDay(AnswerModel):
    """What is known of one day of the export."""

    day: date
    state: str
    """`loaded`; `stale`: older than the source; `failed`: never loaded; `missing`: no table;
    `removed`: older than the tenant keeps; `unknown`: never looked at."""
    family: str | None
    """`daily`, `fresh` or `intraday`: which of the export's tables was loaded."""
    source_rows: int | None
    loaded_rows: int | None
    difference: int | None
    """Rows of the source less rows loaded; null where there is nothing to compare."""
    loaded_at: datetime | None
    checked_at: datetime | None
    problem: str | None
    """One sentence."""


class Gap(AnswerModel):
    """Days in a row that are not there, or not as the source has them."""

    first_day: date
    last_day: date
    days: int


class AvailabilityAnswer(AnswerModel):
    """Every day of a range, those without data too."""

    data: list[SourceDay]
    gaps: list[Gap]
    """What `POST /api/v1/ingestions` with `gaps` would load of these days."""
    missing_days: int
    """Days of the range that are missing, failed or were never looked at, up to yesterday."""
    stale_days: int
    """Days whose source is newer than what is loaded."""
    data_version: int
    data_until: date | None
    """The last complete day in the reporting zone."""
    kept_from: date
    """First day that the tenant's retention keeps."""


class ReconciliationQuery(RangeQuery):
    """Which days to compare; the last 7 when nothing is given."""


class EventQuality(AnswerModel):
    """One event of one day."""

    event_name: str
    source_rows: int | None
    """Counted at the source by a `reconcile` job; null: not counted."""
    loaded_rows: int
    difference: int | None
    """Rows of the source less rows loaded."""
    without_visitor: int
    """Loaded rows without `user_pseudo_id` (consent denied)."""
    without_session: int
    """Loaded rows without a session, those without a visitor included."""
    duplicates: int
    """Loaded rows that repeat another one."""


class MoneyQuality(AnswerModel):
    """What is odd about a day's purchases."""

    purchases: int
    """Purchase events."""
    duplicates: int
    """Not counted: the visitor's same transaction was there before."""
    without_key: int
    """Counted each for itself: no visitor, or no usable transaction id."""
    currency_missing: int
    """Taken to be in the reporting currency."""
    other_currency: int
    """In another than the reporting currency."""
    value_mismatch: int
    """`value` and `purchase_revenue` differ by more than a cent."""


class ReconciledDay(AnswerModel):
    """One day of the export: what the source has and what is loaded."""

    day: date
    state: str
    """As in `/api/v1/availability`."""
    source_rows: int | None
    """As the source's table said when the day was loaded."""
    loaded_rows: int | None
    difference: int | None
    counted_at: datetime | None
    """When the source's events were counted; null: they were not."""
    source_changed: bool
    """Whether they were counted in another state of the table than the loaded one."""
    events: list[EventQuality]
    money: MoneyQuality


class ReconciliationAnswer(AnswerModel):
    """What the source has and what is loaded, day by day."""

    data: list[ReconciledDay]
