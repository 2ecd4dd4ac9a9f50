"""Recipients, schedules, runs and deliveries of one tenant at a time.

Every method is one transaction of the tenant. A change of recipients or schedules also settles
*zones*: a schedule of the platform reads one clock, so a report has one for each zone that its
recipients live in, made and removed here in the same transaction.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import asyncpg

from troupe.actors.analytics.reports.mail import check_address
from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.periods import ReportPeriod
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from troupe.common.ids import TenantId, new_id
from troupe.common.sql import load
from troupe.platform.schedules import CronTimetable, Policy, check_interval

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")

QUERIES: Final = load(__package__, "reports.sql")
GROUP: Final = "analytics"
PLAN: Final = "report_plan"
DELIVER: Final = "report_deliver"
COLLECT: Final = "report_bounces"
MOST_RECIPIENTS: Final = 5000
MOST_SCHEDULES: Final = 20
MOST_ZONES: Final = 40
SECRET_BYTES: Final = 16

Actor = tuple[str, UUID | None]
"""Kind and identifier of who acts, as the audit log has them."""


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
    patience: int = 6 * 3600
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


class ReportStore:
    """See the module's text."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # ---- settings

    async def look(self, tenant: TenantId) -> TenantLook:
        """How a tenant's reports look.

        Raises:
            NotFound: There is no such tenant.
        """

        async def unit(connection: "Connection") -> TenantLook:
            about = await connection.fetchrow(QUERIES["tenant"], tenant)
            if about is None:
                raise NotFound("There is no such tenant.")
            row = await connection.fetchrow(QUERIES["settings"], tenant)
            settings = (
                ReportSettings()
                if row is None
                else ReportSettings.model_validate_json(row["settings"])
            )
            return TenantLook(
                about["name"], about["reporting_time_zone"], about["week_start"], settings,
                0 if row is None else row["version"],
            )  # fmt: skip

        return await self.database.run(unit, tenant=tenant, read_only=True)

    async def put_settings(
        self, tenant: TenantId, settings: ReportSettings, version: int, actor: Actor
    ) -> int:
        """Replace the settings; returns the new version.

        Raises:
            PreconditionFailed: Another version is there.
        """

        async def unit(connection: "Connection") -> int:
            written = await connection.fetchval(
                QUERIES["put_settings"], tenant, settings.model_dump(mode="json"), version
            )
            if written is None:
                raise _outdated()
            await _audit(connection, actor, "report.settings_put", "", {"version": written})
            return int(written)

        return await self.database.run(unit, tenant=tenant)

    # ---- recipients

    async def recipients(
        self,
        tenant: TenantId,
        *,
        after: tuple[str, str] | None = None,
        limit: int,
        location: str | None = None,
    ) -> tuple[list[Recipient], tuple[str, str] | None, int]:
        """Some recipients by branch and address, where the next page begins, and how many."""

        async def unit(
            connection: "Connection",
        ) -> tuple[list[Recipient], tuple[str, str] | None, int]:
            rows = await connection.fetch(
                QUERIES["recipients"], tenant, *(after or (None, None)), limit + 1, location
            )
            total = await connection.fetchval(QUERIES["count_recipients"], tenant, location)
            last = rows[limit - 1] if len(rows) > limit else None
            place = None if last is None else (last["sort_location"], last["sort_address"])
            return [Recipient.of(row) for row in rows[:limit]], place, total

        return await self.database.run(unit, tenant=tenant, read_only=True)

    async def recipient(self, tenant: TenantId, recipient_id: UUID) -> Recipient:
        """One recipient.

        Raises:
            NotFound: The tenant has no such recipient.
        """
        row = await self.database.fetch_row(
            QUERIES["recipient"], tenant, recipient_id, tenant=tenant, read_only=True
        )
        return Recipient.of(_found(row, "recipient"))

    async def create_recipient(self, tenant: TenantId, new: Recipient, actor: Actor) -> Recipient:
        """Add a recipient.

        Raises:
            InvalidInput: Its address, branch or zone cannot be used.
            Conflict: The address is listed for the branch, or there are too many.
        """
        wanted = _checked_recipient(new)
        identifier = new_id()

        async def unit(connection: "Connection") -> Recipient:
            await connection.execute(QUERIES["lock_reports"], tenant)
            if (
                await connection.fetchval(QUERIES["count_recipients"], tenant, None)
                >= MOST_RECIPIENTS
            ):
                raise Conflict(f"There are {MOST_RECIPIENTS} recipients already.")
            await self._know_location(connection, tenant, wanted.location_id)
            await connection.execute(
                QUERIES["create_recipient"], tenant, identifier, *wanted.values(),
                secrets.token_bytes(SECRET_BYTES),
            )  # fmt: skip
            await self._settle_zones(connection, tenant)
            detail = {"location_id": wanted.location_id}
            await _audit(connection, actor, "report.recipient_added", str(identifier), detail)
            row = await connection.fetchrow(QUERIES["recipient"], tenant, identifier)
            return Recipient.of(_found(row, "recipient"))

        return await self._once(unit, tenant, "The address is listed for this branch already.")

    async def change_recipient(
        self, tenant: TenantId, wanted: Recipient, actor: Actor
    ) -> Recipient:
        """Change a recipient, to the version that `wanted` was made from.

        Raises:
            PreconditionFailed: Another version is there.
            InvalidInput: Its address, branch or zone cannot be used.
            Conflict: The address is listed for the branch already.
        """
        wanted = _checked_recipient(wanted)

        async def unit(connection: "Connection") -> Recipient:
            await connection.execute(QUERIES["lock_reports"], tenant)
            await self._know_location(connection, tenant, wanted.location_id)
            key = (tenant, wanted.id)
            written = await connection.fetchval(
                QUERIES["change_recipient"], *key, wanted.version, *wanted.values()
            )
            if written is None:
                raise _outdated()
            await self._settle_zones(connection, tenant)
            await _audit(connection, actor, "report.recipient_changed", str(wanted.id), {})
            return Recipient.of(
                _found(await connection.fetchrow(QUERIES["recipient"], *key), "recipient")
            )

        return await self._once(unit, tenant, "The address is listed for this branch already.")

    async def delete_recipient(self, tenant: TenantId, recipient_id: UUID, actor: Actor) -> None:
        """Remove a recipient; mails that are queued for them still go.

        Raises:
            NotFound: The tenant has no such recipient.
        """

        async def unit(connection: "Connection") -> None:
            await connection.execute(QUERIES["lock_reports"], tenant)
            gone = await connection.fetchval(QUERIES["delete_recipient"], tenant, recipient_id)
            if gone is None:
                raise NotFound("There is no such recipient.")
            await self._settle_zones(connection, tenant)
            await _audit(connection, actor, "report.recipient_removed", str(recipient_id), {})

        await self.database.run(unit, tenant=tenant)

    # ---- suppressions

    async def suppressions(
        self, tenant: TenantId, *, after: str | None = None, limit: int
    ) -> tuple[list[Suppression], str | None]:
        """Some suppressed addresses, and where the next page begins."""
        rows = await self.database.fetch(
            QUERIES["suppressions"], tenant, after, limit + 1, tenant=tenant, read_only=True
        )
        found = [
            Suppression(
                row["address"], row["hard_bounces"], row["last_bounce"], row["suppressed_at"],
                row["reason"],
            )
            for row in rows[:limit]
        ]  # fmt: skip
        return found, found[-1].address if len(rows) > limit else None

    async def suppress(self, tenant: TenantId, address: str, actor: Actor) -> None:
        """Let an address have no more mail."""
        lowered = check_address(address).lower()

        async def unit(connection: "Connection") -> None:
            await connection.execute(QUERIES["suppress"], tenant, lowered, "person")
            await _audit(connection, actor, "report.suppressed", lowered, {})

        await self.database.run(unit, tenant=tenant)

    async def lift(self, tenant: TenantId, address: str, actor: Actor) -> None:
        """Let an address have mail again.

        Raises:
            NotFound: It is not suppressed.
        """

        async def unit(connection: "Connection") -> None:
            lowered = address.lower()
            if await connection.fetchval(QUERIES["lift"], tenant, lowered) is None:
                raise NotFound("The address is not suppressed.")
            await _audit(connection, actor, "report.suppression_lifted", lowered, {})

        await self.database.run(unit, tenant=tenant)

    # ---- schedules

    async def schedules(
        self, tenant: TenantId, *, after: str | None = None, limit: int
    ) -> tuple[list[ReportSchedule], str | None, int]:
        """Some schedules by name, where the next page begins, and how many there are."""

        async def unit(
            connection: "Connection",
        ) -> tuple[list[ReportSchedule], str | None, int]:
            rows = await connection.fetch(QUERIES["schedules"], tenant, after, limit + 1)
            total = await connection.fetchval(QUERIES["count_schedules"], tenant)
            found = [ReportSchedule.of(row) for row in rows[:limit]]
            return found, found[-1].name if len(rows) > limit else None, total

        return await self.database.run(unit, tenant=tenant, read_only=True)

    async def schedule(self, tenant: TenantId, report_id: UUID) -> ReportSchedule:
        """One schedule.

        Raises:
            NotFound: The tenant has no such schedule.
        """
        row = await self.database.fetch_row(
            QUERIES["schedule"], tenant, report_id, tenant=tenant, read_only=True
        )
        return ReportSchedule.of(_found(row, "report schedule"))

    async def create_schedule(
        self, tenant: TenantId, new: ReportSchedule, actor: Actor, *, now: datetime
    ) -> ReportSchedule:
        """Make a schedule.

        Raises:
            InvalidInput: Its line cannot be used.
            Conflict: There is one of this name, or there are too many.
        """
        check_interval(new.cron, "UTC", now)
        identifier = new_id()

        async def unit(connection: "Connection") -> ReportSchedule:
            await connection.execute(QUERIES["lock_reports"], tenant)
            if await connection.fetchval(QUERIES["count_schedules"], tenant) >= MOST_SCHEDULES:
                raise Conflict(f"There are {MOST_SCHEDULES} report schedules already.")
            await connection.execute(QUERIES["create_schedule"], tenant, identifier, *new.values())
            await self._settle_zones(connection, tenant)
            detail = {"name": new.name, "cron": new.cron}
            await _audit(connection, actor, "report.schedule_made", str(identifier), detail)
            row = await connection.fetchrow(QUERIES["schedule"], tenant, identifier)
            return ReportSchedule.of(_found(row, "report schedule"))

        return await self._once(unit, tenant, "There is a report schedule of this name already.")

    async def change_schedule(
        self, tenant: TenantId, wanted: ReportSchedule, actor: Actor, *, now: datetime
    ) -> ReportSchedule:
        """Change a schedule, to the version that `wanted` was made from.

        Raises:
            PreconditionFailed: Another version is there.
            InvalidInput: Its line cannot be used.
            Conflict: There is another one of this name.
        """
        check_interval(wanted.cron, "UTC", now)

        async def unit(connection: "Connection") -> ReportSchedule:
            await connection.execute(QUERIES["lock_reports"], tenant)
            key = (tenant, wanted.id)
            written = await connection.fetchval(
                QUERIES["change_schedule"], *key, wanted.version, *wanted.values()
            )
            if written is None:
                raise _outdated()
            await self._settle_zones(connection, tenant)
            await _audit(connection, actor, "report.schedule_changed", str(wanted.id), {})
            row = await connection.fetchrow(QUERIES["schedule"], *key)
            return ReportSchedule.of(_found(row, "report schedule"))

        return await self._once(unit, tenant, "There is a report schedule of this name already.")

    async def delete_schedule(self, tenant: TenantId, report_id: UUID, actor: Actor) -> None:
        """Remove a schedule; its runs and deliveries stay.

        Raises:
            NotFound: The tenant has no such schedule.
        """

        async def unit(connection: "Connection") -> None:
            await connection.execute(QUERIES["lock_reports"], tenant)
            for row in await connection.fetch(QUERIES["zone_ids"], tenant, report_id):
                await connection.execute(
                    QUERIES["drop_platform_schedule"], tenant, row["schedule_id"]
                )
            if await connection.fetchval(QUERIES["delete_schedule"], tenant, report_id) is None:
                raise NotFound("There is no such report schedule.")
            await _audit(connection, actor, "report.schedule_removed", str(report_id), {})

        await self.database.run(unit, tenant=tenant)

    async def _settle_zones(self, connection: "Connection", tenant: TenantId) -> None:
        """Let each report have one schedule of the platform for each zone of its recipients."""
        present = {
            (row["report_id"], row["zone"]): row
            for row in await connection.fetch(QUERIES["present_zones"], tenant)
        }
        reports = await connection.fetch(QUERIES["wanted_zones"], tenant)
        for report in reports:
            if len(report["wanted"]) > MOST_ZONES:
                raise Conflict(f"Recipients of a report may live in {MOST_ZONES} zones.")
            says = tuple(report[name] for name in ("cron", "policy", "grace_seconds", "enabled"))
            for zone in report["wanted"]:
                there = present.pop((report["report_id"], zone), None)
                if there is None:
                    await self._add_zone(connection, tenant, report, zone)
                elif says != tuple(
                    there[name] for name in ("cron", "policy", "grace_seconds", "enabled")
                ):
                    await connection.execute(
                        QUERIES["retime_platform_schedule"], tenant, there["schedule_id"], *says
                    )
        for left in present.values():
            await connection.execute(QUERIES["drop_platform_schedule"], tenant, left["schedule_id"])

    async def _add_zone(
        self, connection: "Connection", tenant: TenantId, report: asyncpg.Record, zone: str
    ) -> None:
        CronTimetable(report["cron"], zone)  # InvalidInput, if this host does not know the zone
        schedule = new_id()
        report_id = report["report_id"]
        await connection.execute(
            QUERIES["add_platform_schedule"],
            tenant,
            schedule,
            f"report {report_id} {zone}",
            GROUP,
            PLAN,
            {"report_id": str(report_id), "zone": zone},
            report["cron"],
            zone,
            report["policy"],
            report["grace_seconds"],
            report["enabled"],
        )
        await connection.execute(QUERIES["add_zone"], tenant, report_id, zone, schedule)

    # ---- runs and deliveries

    async def run(self, tenant: TenantId, run_id: UUID) -> Run:
        """One run.

        Raises:
            NotFound: The tenant has no such run.
        """
        row = await self.database.fetch_row(
            QUERIES["run"], tenant, run_id, tenant=tenant, read_only=True
        )
        return Run.of(_found(row, "report run"))

    async def runs(
        self, tenant: TenantId, *, before: UUID | None = None, limit: int
    ) -> tuple[list[tuple[Run, Mapping[str, int]]], UUID | None]:
        """Some runs, newest first, each with its deliveries by state."""

        async def unit(
            connection: "Connection",
        ) -> tuple[list[tuple[Run, Mapping[str, int]]], UUID | None]:
            rows = await connection.fetch(QUERIES["runs"], tenant, before, limit + 1)
            runs = [Run.of(row) for row in rows[:limit]]
            counts = await _counts(connection, tenant, [run.id for run in runs])
            place = runs[-1].id if len(rows) > limit else None
            return [(run, counts.get(run.id, {})) for run in runs], place

        return await self.database.run(unit, tenant=tenant, read_only=True)

    async def counts(self, tenant: TenantId, run_id: UUID) -> Mapping[str, int]:
        """Deliveries of a run by state."""

        async def unit(connection: "Connection") -> Mapping[str, int]:
            return (await _counts(connection, tenant, [run_id])).get(run_id, {})

        return await self.database.run(unit, tenant=tenant, read_only=True)

    async def deliveries(
        self,
        tenant: TenantId,
        *,
        before: UUID | None = None,
        limit: int,
        run_id: UUID | None = None,
        state: State | None = None,
    ) -> tuple[list[Delivery], UUID | None]:
        """Some deliveries, newest first, and where the next page begins."""
        rows = await self.database.fetch(
            QUERIES["deliveries"], tenant, before, limit + 1, run_id,
            None if state is None else state.value, tenant=tenant, read_only=True,
        )  # fmt: skip
        found = [Delivery.of(row) for row in rows[:limit]]
        return found, found[-1].id if len(rows) > limit else None

    async def delivery(self, tenant: TenantId, delivery_id: UUID) -> Delivery:
        """One delivery.

        Raises:
            NotFound: The tenant has no such delivery.
        """
        row = await self.database.fetch_row(
            QUERIES["delivery"], tenant, delivery_id, tenant=tenant, read_only=True
        )
        return Delivery.of(_found(row, "delivery"))

    async def history(self, tenant: TenantId, delivery_id: UUID) -> list[HistoryStep]:
        """Every step of a delivery, in order."""
        rows = await self.database.fetch(
            QUERIES["history"], tenant, delivery_id, tenant=tenant, read_only=True
        )
        return [
            HistoryStep(
                row["step"], State(row["state"]), row["attempts"], row["server_answer"], row["at"]
            )
            for row in rows
        ]

    # ---- within

    async def _know_location(
        self, connection: "Connection", tenant: TenantId, location: str | None
    ) -> None:
        if location is None:
            return
        if not await connection.fetchval(QUERIES["known_location"], tenant, location):
            raise InvalidInput(
                "The recipient cannot be stored.",
                [("/location_id", "is not a branch of the master data")],
            )

    async def _once(
        self, unit: Callable[["Connection"], Awaitable[T]], tenant: TenantId, message: str
    ) -> T:
        try:
            return await self.database.run(unit, tenant=tenant)
        except asyncpg.UniqueViolationError:
            raise Conflict(message) from None


def _checked_recipient(recipient: Recipient) -> Recipient:
    CronTimetable("0 8 * * *", recipient.time_zone)  # InvalidInput about /zone
    return replace(recipient, address=check_address(recipient.address))


def _found(row: asyncpg.Record | None, what: str) -> asyncpg.Record:
    if row is None:
        raise NotFound(f"There is no such {what}.")
    return row


def _outdated() -> PreconditionFailed:
    return PreconditionFailed("It was changed since you have read it. Read it again.")


async def _counts(
    connection: "Connection", tenant: TenantId, runs: Sequence[UUID]
) -> dict[UUID, dict[str, int]]:
    found: dict[UUID, dict[str, int]] = {}
    for row in await connection.fetch(QUERIES["run_counts"], tenant, list(runs)):
        found.setdefault(row["run_id"], {})[row["state"]] = row["count"]
    return found


async def _audit(
    connection: "Connection", actor: Actor, action: str, target: str, detail: Mapping[str, Any]
) -> None:
    kind, identifier = actor
    await connection.execute(
        QUERIES["append_audit"], kind, identifier, action, target, dict(detail)
    )
