"""What the routes of schedules take and answer."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from troupe.http.conventions import AnswerModel, BodyModel, Instant, QueryModel
from troupe.platform.jobs import JobState
from troupe.platform.schedules import Outcome, Policy, Schedule, Slot

Name = Annotated[str, Field(min_length=1, max_length=100)]
Cron = Annotated[str, Field(min_length=9, max_length=200)]
Zone = Annotated[str, Field(min_length=1, max_length=100)]
Grace = Annotated[float, Field(ge=1, le=7 * 86_400)]
CatchUpLimit = Annotated[int, Field(ge=1, le=1000)]


class NewScheduleBody(BodyModel):
    """A schedule to make. What the fields mean exactly is told in docs/schedules.md."""

    name: Name
    """Unique within the tenant."""
    kind: Annotated[str, Field(min_length=1, max_length=100)]
    """The kind of job, one of those that `/api/v1/schedules/kinds` lists."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Of the job, as the kind takes them."""
    cron: Cron
    """Minute, hour, day of the month, month, day of the week."""
    zone: Zone | None = None
    """The time zone whose clock the line reads; the tenant's reporting zone by default."""
    policy: Policy = Policy.COALESCE
    """What becomes of slots that were missed."""
    grace_seconds: Grace = 60
    """Seconds after which a slot counts as missed."""
    catch_up_limit: CatchUpLimit = 100
    """Jobs that `catch_up` makes after one outage."""
    enabled: bool = True
    """Whether its slots happen."""


class ScheduleBody(BodyModel):
    """What to change of a schedule; what is not given stays."""

    name: Name | None = None
    arguments: dict[str, Any] | None = None
    """All of them: what is not named takes its default."""
    cron: Cron | None = None
    zone: Zone | None = None
    policy: Policy | None = None
    grace_seconds: Grace | None = None
    catch_up_limit: CatchUpLimit | None = None
    enabled: bool | None = None


class ScheduleAnswer(AnswerModel):
    """A schedule."""

    id: UUID
    name: str
    kind: str
    arguments: dict[str, Any]
    cron: str
    zone: str
    policy: Policy
    grace_seconds: float
    catch_up_limit: int
    enabled: bool
    version: int
    problem: str | None
    """Why it cannot be used at the moment; null: it can."""
    created_at: datetime
    changed_at: datetime

    @classmethod
    def of(cls, schedule: Schedule) -> "ScheduleAnswer":
        """From the platform's schedule."""
        return cls(**_fields(schedule))


class ListedSchedule(ScheduleAnswer):
    """A schedule in a list."""

    next_run: datetime | None
    """Null: it is paused, or its times cannot be told."""

    @classmethod
    def with_next(cls, schedule: Schedule, next_run: datetime | None) -> "ListedSchedule":
        """From the platform's schedule."""
        return cls(**_fields(schedule), next_run=next_run)


def _fields(schedule: Schedule) -> dict[str, Any]:
    return {
        "id": schedule.id,
        "name": schedule.name,
        "kind": schedule.kind,
        "arguments": dict(schedule.arguments),
        "cron": schedule.cron,
        "zone": schedule.zone,
        "policy": schedule.policy,
        "grace_seconds": schedule.grace,
        "catch_up_limit": schedule.catch_up_limit,
        "enabled": schedule.enabled,
        "version": schedule.version,
        "problem": schedule.problem,
        "created_at": schedule.created_at,
        "changed_at": schedule.changed_at,
    }


class KindAnswer(AnswerModel):
    """A kind of job that may be scheduled."""

    kind: str
    summary: str
    arguments: dict[str, Any]
    """JSON Schema of what it takes."""


class KindsAnswer(AnswerModel):
    """What may be scheduled."""

    data: list[KindAnswer]


class NextQuery(QueryModel):
    """How far to look ahead."""

    count: Annotated[int, Field(ge=1, le=100)] = 10
    """How many runs."""


class PreviewQuery(NextQuery):
    """A line that is not a schedule yet."""

    cron: Cron
    zone: Zone | None = None
    """The tenant's reporting zone by default."""
    after: Instant | None = None
    """From this instant on; now by default."""


class RunsAnswer(AnswerModel):
    """The next runs; none of a schedule that is paused."""

    data: list[datetime]
    zone: str
    """The time zone whose clock the line reads."""


class SlotAnswer(AnswerModel):
    """One instant at which a schedule was due."""

    slot: datetime
    outcome: Outcome
    """`enqueued`: it made a job; `skipped`; `coalesced`: a later slot's job stands for it too."""
    job_id: UUID | None
    job_state: JobState | None
    """Null: it made no job, or the job is forgotten by now."""
    written_at: datetime

    @classmethod
    def of(cls, slot: Slot) -> "SlotAnswer":
        """From the platform's slot."""
        return cls(
            slot=slot.instant,
            outcome=slot.outcome,
            job_id=slot.job_id,
            job_state=slot.job_state,
            written_at=slot.written_at,
        )
