"""What there is to know of reports: recipients, schedules, runs, deliveries; plain values."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg

from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.periods import ReportPeriod
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.common.dates import DateRange
from troupe.platform.schedules import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """Who gets the reports of a branch.

    Attributes:
        id: None: not stored yet.
        location_id: The branch; None: the whole company.
        address: One plain address.
        name: For the greeting.
        language: ``en`` or ``de``.
        time_zone: IANA name; schedules read its clock.
        format: ``html`` or ``text``.
        workbook: Whether the XLSX is attached.
        enabled: Whether they get anything.
        version: Rises with each change.
        suppressed_at: Since when no mail goes to the address; None: it does.
        suppressed_because: ``unsubscribed``, ``bounced`` or ``person``.
        hard_bounces: Of the address.
    """

    id: UUID | None = None
    location_id: str | None
    address: str
    name: str = ""
    language: str = "en"
    time_zone: str = "UTC"
    format: str = "html"
    workbook: bool = True
    enabled: bool = True
    version: int = 0
    suppressed_at: datetime | None = None
    suppressed_because: str | None = None
    hard_bounces: int = 0

    @classmethod
    def of(cls, row: asyncpg.Record) -> "Recipient":
        """From a row."""
        return cls(
            id=row["recipient_id"],
            location_id=row["location_id"],
            address=row["address"],
            name=row["name"],
            language=row["language"],
            time_zone=row["time_zone"],
            format=row["format"],
            workbook=row["workbook"],
            enabled=row["enabled"],
            version=row["version"],
            suppressed_at=row["suppressed_at"],
            suppressed_because=row["reason"],
            hard_bounces=row["hard_bounces"],
        )

    def values(self) -> tuple[Any, ...]:
        """What people wrote, in the order of the statements."""
        return (
            self.location_id, self.address, self.name, self.language, self.time_zone,
            self.format, self.workbook, self.enabled,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSchedule:
    """What is sent when.

    Attributes:
        id: None: not stored yet.
        name: Unique within the tenant.
        period: What it sums up.
        cron: When, on the clock of each recipient's zone.
        locations: Only these branches; None: every recipient.
        policy: What becomes of slots that were missed.
        grace: Seconds after which a slot counts as missed.
        patience: Seconds to wait for complete data before a notice goes out.
        enabled: Whether its slots happen.
        version: Rises with each change.
        zones: Of its recipients.
    """

    id: UUID | None = None
    name: str
    period: ReportPeriod = ReportPeriod.DAY
    cron: str = "0 8 * * *"
    locations: tuple[str, ...] | None = None
    policy: Policy = Policy.COALESCE
    grace: float = 3600.0
    patience: int = 12 * 3600
    enabled: bool = True
    version: int = 0
    zones: tuple[str, ...] = ()

    @classmethod
    def of(cls, row: asyncpg.Record) -> "ReportSchedule":
        """From a row."""
        return cls(
            id=row["report_id"],
            name=row["name"],
            period=ReportPeriod(row["period"]),
            cron=row["cron"],
            locations=None if row["locations"] is None else tuple(row["locations"]),
            policy=Policy(row["policy"]),
            grace=row["grace_seconds"],
            patience=row["patience_seconds"],
            enabled=row["enabled"],
            version=row["version"],
            zones=tuple(row["zones"]),
        )

    def values(self) -> tuple[Any, ...]:
        """What people wrote, in the order of the statements."""
        return (
            self.name, self.period.value, self.cron,
            None if self.locations is None else list(self.locations),
            self.policy.value, self.grace, self.patience, self.enabled,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One occasion.

    Attributes:
        id: Its identifier; newer ones are larger.
        report_id: Its schedule; None: somebody sent it now.
        name: Of the schedule, or what it was.
        zone: Whose clock made it due; empty: nobody's.
        slot: When it was due; None: somebody sent it now.
        period: What it sums up.
        days: The period's days.
        state: ``waiting``, ``sending``, ``done``, ``cancelled``.
        notice: Whether notices were sent instead of figures.
        wait_until: When patience for the data ends.
        job_id: The job that works on it.
        requested_by: Who sent it now.
        problem: Why it does not go on.
        created_at: When it was planned.
        finished_at: When nothing was left to do.
    """

    id: UUID
    report_id: UUID | None
    name: str
    zone: str
    slot: datetime | None
    period: ReportPeriod
    days: DateRange
    state: str
    notice: bool
    wait_until: datetime
    job_id: UUID | None
    requested_by: str
    problem: str | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, row: asyncpg.Record) -> "Run":
        """From a row."""
        return cls(
            id=row["run_id"],
            report_id=row["report_id"],
            name=row["name"],
            zone=row["zone"],
            slot=row["slot"],
            period=ReportPeriod(row["period"]),
            days=DateRange(row["first_day"], row["last_day"]),
            state=row["state"],
            notice=row["notice"],
            wait_until=row["wait_until"],
            job_id=row["job_id"],
            requested_by=row["requested_by"],
            problem=row["problem"],
            created_at=row["created_at"],
            finished_at=row["finished_at"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One mail to one address; the fields mean what 0016_reports.sql says."""

    id: UUID
    run_id: UUID
    series: str
    location_id: str | None
    period: ReportPeriod
    first_day: date
    last_day: date
    recipient: str
    address: str
    name: str
    language: str
    time_zone: str
    format: str
    workbook: bool
    message_id: str
    dated: datetime
    state: State
    attempts: int
    due_at: datetime
    notice: bool
    data_version: int | None
    content_hash: bytes | None
    server_answer: str | None
    settled_at: datetime | None

    @classmethod
    def of(cls, row: asyncpg.Record) -> "Delivery":
        """From a row."""
        values = {name: row[name] for name in cls.__dataclass_fields__ if name in row}
        values |= {
            "id": row["delivery_id"],
            "period": ReportPeriod(row["period"]),
            "state": State(row["state"]),
        }
        return cls(**values)

    @property
    def days(self) -> DateRange:
        """The period's days."""
        return DateRange(self.first_day, self.last_day)

    @property
    def is_test(self) -> bool:
        """Whether somebody sent it to themselves."""
        return self.recipient == "test"


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """One step of a delivery."""

    step: int
    state: State
    attempts: int
    server_answer: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that gets no mail."""

    address: str
    hard_bounces: int
    last_bounce: str | None
    suppressed_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class TenantLook:
    """A tenant's settings and what else a mail says of it."""

    name: str
    time_zone: str
    week_start: int
    settings: ReportSettings
    version: int
