"""What the routes of reports take and answer."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.periods import ReportPeriod
from troupe.actors.analytics.reports.previewing import Part
from troupe.actors.analytics.reports.records import (
    Delivery,
    HistoryStep,
    Recipient,
    ReportSchedule,
    Run,
    Suppression,
)
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.http.conventions import AnswerModel, BodyModel, Day, PageQuery, QueryModel
from troupe.platform.schedules import Policy

Language = Literal["en", "de"]
Format = Literal["html", "text"]
Address = Annotated[str, Field(min_length=3, max_length=254)]
PersonName = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Zone = Annotated[str, Field(min_length=1, max_length=100)]
Location = Annotated[str, Field(min_length=1, max_length=200)]
ScheduleName = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^\S([^\x00-\x1f\x7f]*\S)?$")
]
Cron = Annotated[str, Field(min_length=9, max_length=200)]
Grace = Annotated[float, Field(ge=1, le=7 * 86_400)]
Patience = Annotated[int, Field(ge=0, le=7 * 86_400)]
Locations = Annotated[tuple[Location, ...], Field(min_length=1, max_length=1000)]


class SettingsBody(ReportSettings, BodyModel):
    """How reports look and leave."""


class SettingsAnswer(ReportSettings, AnswerModel):
    """How reports look and leave."""


class NewRecipientBody(BodyModel):
    """Somebody who is to get reports."""

    location_id: Location | None = None
    """The branch; null: the whole company."""
    address: Address
    """One plain e-mail address."""
    name: PersonName = ""
    """For the greeting."""
    language: Language = "en"
    time_zone: Zone | None = None
    """Schedules read this zone's clock; the reporting zone by default."""
    format: Format = "html"
    """`html` has plain text beside it; `text` is plain text alone."""
    workbook: bool = True
    """Whether the XLSX is attached."""
    enabled: bool = True
    """Whether they get anything."""


class RecipientBody(BodyModel):
    """What to change of a recipient; what is not given stays."""

    location_id: Location | None = None
    address: Address | None = None
    name: PersonName | None = None
    language: Language | None = None
    time_zone: Zone | None = None
    format: Format | None = None
    workbook: bool | None = None
    enabled: bool | None = None


class RecipientAnswer(AnswerModel):
    """Somebody who gets reports."""

    id: UUID
    location_id: str | None
    address: str
    name: str
    language: Language
    time_zone: str
    format: Format
    workbook: bool
    enabled: bool
    version: int
    suppressed_at: datetime | None
    """Since when no mail goes to the address; null: it does."""
    suppressed_because: Literal["unsubscribed", "bounced", "person"] | None
    hard_bounces: int

    @classmethod
    def of(cls, recipient: Recipient) -> "RecipientAnswer":
        """From the domain's recipient."""
        values = {name: getattr(recipient, name) for name in cls.model_fields}
        return cls.model_validate(values)


class RecipientsQuery(PageQuery):
    """Recipients by branch and address."""

    location: Location | None = None
    """Only of this branch."""


class SuppressionBody(BodyModel):
    """An address that is to get no more mail."""

    address: Address


class SuppressionAnswer(AnswerModel):
    """An address that gets no mail."""

    address: str
    reason: Literal["unsubscribed", "bounced", "person"]
    suppressed_at: datetime
    hard_bounces: int
    last_bounce: str | None

    @classmethod
    def of(cls, one: Suppression) -> "SuppressionAnswer":
        """From the domain's suppression."""
        return cls.model_validate({name: getattr(one, name) for name in cls.model_fields})


class NewScheduleBody(BodyModel):
    """A schedule of reports to make."""

    name: ScheduleName
    """Unique within the tenant."""
    period: ReportPeriod = ReportPeriod.DAY
    """What a report sums up: the day, week or month before."""
    cron: Cron = "0 8 * * *"
    """Minute, hour, day of the month, month, day of the week, on each recipient's clock."""
    locations: Locations | None = None
    """Only recipients of these branches; null: all, those of the whole company included."""
    policy: Policy = Policy.COALESCE
    """What becomes of slots that were missed."""
    grace_seconds: Grace = 3600
    """Seconds after which a slot counts as missed."""
    patience_seconds: Patience = 12 * 3600
    """Seconds to wait for complete data before a notice goes out instead."""
    enabled: bool = True


class ScheduleBody(BodyModel):
    """What to change of a schedule; what is not given stays."""

    name: ScheduleName | None = None
    period: ReportPeriod | None = None
    cron: Cron | None = None
    locations: Locations | None = None
    policy: Policy | None = None
    grace_seconds: Grace | None = None
    patience_seconds: Patience | None = None
    enabled: bool | None = None


class ScheduleAnswer(AnswerModel):
    """A schedule of reports."""

    id: UUID
    name: str
    period: ReportPeriod
    cron: str
    locations: list[str] | None
    policy: Policy
    grace_seconds: float
    patience_seconds: int
    enabled: bool
    version: int
    zones: list[str]
    """Of its recipients; it is due on each of their clocks."""

    @classmethod
    def of(cls, schedule: ReportSchedule) -> "ScheduleAnswer":
        """From the domain's schedule."""
        assert schedule.id is not None  # noqa: S101  # it is stored
        return cls(
            id=schedule.id,
            name=schedule.name,
            period=schedule.period,
            cron=schedule.cron,
            locations=None if schedule.locations is None else list(schedule.locations),
            policy=schedule.policy,
            grace_seconds=schedule.grace,
            patience_seconds=schedule.patience,
            enabled=schedule.enabled,
            version=schedule.version,
            zones=list(schedule.zones),
        )


class NextQuery(QueryModel):
    """How far to look ahead, and on whose clock."""

    count: Annotated[int, Field(ge=1, le=100)] = 10
    """How many runs."""
    zone: Zone | None = None
    """The reporting zone by default."""


class PreviewQuery(QueryModel):
    """A report to look at."""

    period: ReportPeriod = ReportPeriod.DAY
    """What it sums up."""
    day: Day | None = None
    """The period is the last whole one before this day; today by default."""
    location: Location | None = None
    """The branch; without it the whole company."""
    recipient: UUID | None = None
    """As this recipient would get it, with their branch."""
    language: Language = "en"
    """Of nobody in particular."""
    notice: bool = False
    """Show the notice that figures are late."""
    part: Part = Part.HTML
    """What of the mail to show; `mail` is all of it."""


class MessageQuery(QueryModel):
    """A mail to look at."""

    part: Part = Part.MAIL
    """What of it to show; `mail` is all of it."""


class UnsubscribeQuery(QueryModel):
    """What a link in a mail says."""

    token: Annotated[str, Field(max_length=200)]
    """Whose it is, and the proof."""


class SendBody(BodyModel):
    """A report to send at once."""

    period: ReportPeriod = ReportPeriod.DAY
    day: Day | None = None
    """The period is the last whole one before this day; today by default."""
    to: Literal["myself", "locations", "all"]
    """`myself` is a test: one mail, to your own address."""
    locations: Locations | None = None
    """With `locations`: their recipients. With `myself`: at most one, which the test is about."""
    language: Language = "en"
    """Of a test."""


class RunAnswer(AnswerModel):
    """One occasion on which reports are sent."""

    id: UUID
    report_id: UUID | None
    """Its schedule; null: somebody sent it."""
    name: str
    zone: str
    slot: datetime | None
    period: ReportPeriod
    first_day: date
    last_day: date
    state: Literal["waiting", "sending", "done", "cancelled"]
    """`waiting`: for complete data."""
    notice: bool
    """Whether notices that figures are late are sent instead of figures."""
    wait_until: datetime
    problem: str | None
    """Why it does not go on; null: it does."""
    requested_by: str
    created_at: datetime
    finished_at: datetime | None
    job_id: UUID | None
    mails: dict[str, int]
    """Deliveries by state."""

    @classmethod
    def of(cls, run: Run, mails: Mapping[str, int]) -> "RunAnswer":
        """From the domain's run."""
        own = {"first_day", "last_day", "mails"}
        values = {name: getattr(run, name) for name in cls.model_fields if name not in own}
        days = {"first_day": run.days.start, "last_day": run.days.end}
        return cls.model_validate({**values, **days, "mails": dict(mails)})


class DeliveriesQuery(PageQuery):
    """Mails, newest first."""

    run: UUID | None = None
    """Only of this run."""
    state: State | None = None
    """Only those that are in this state."""


class DeliveryAnswer(AnswerModel):
    """One mail to one address."""

    id: UUID
    run_id: UUID
    location_id: str | None
    period: ReportPeriod
    first_day: date
    last_day: date
    address: str
    language: str
    message_id: str
    state: State
    attempts: int
    due_at: datetime
    """When it is offered again, of a deferred one."""
    notice: bool
    data_version: int | None
    server_answer: str | None
    """What the mail server said last."""
    settled_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryAnswer":
        """From the domain's delivery."""
        return cls.model_validate(_plain(delivery, cls))


class StepAnswer(AnswerModel):
    """One step of a mail's way."""

    step: int
    state: State
    attempts: int
    server_answer: str | None
    at: datetime

    @classmethod
    def of(cls, step: HistoryStep) -> "StepAnswer":
        """From the domain's step."""
        return cls.model_validate({name: getattr(step, name) for name in cls.model_fields})


class DeliveryDetail(DeliveryAnswer):
    """One mail with its whole history."""

    history: list[StepAnswer]

    @classmethod
    def with_history(cls, delivery: Delivery, steps: list[HistoryStep]) -> "DeliveryDetail":
        """From the domain's delivery and steps."""
        values = _plain(delivery, DeliveryAnswer)
        return cls.model_validate({**values, "history": [StepAnswer.of(step) for step in steps]})


def _plain(delivery: Delivery, model: type[AnswerModel]) -> dict[str, object]:
    return {name: getattr(delivery, name) for name in model.model_fields}
