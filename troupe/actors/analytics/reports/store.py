"""Recipients, schedules, runs and deliveries of one tenant at a time.

Every method is one transaction of the tenant. A change of recipients or schedules also settles
*zones*: a schedule of the platform reads one clock, so a report has one for each zone that its
recipients live in, made and removed here in the same transaction.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import asyncpg

from troupe.actors.analytics.reports.mail import check_address
from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.records import (
    Delivery,
    HistoryStep,
    Recipient,
    ReportSchedule,
    Run,
    Suppression,
    TenantLook,
)
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.common.database import Database
from troupe.common.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from troupe.common.ids import TenantId, new_id
from troupe.common.sql import load
from troupe.platform.schedules import CronTimetable, check_interval

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
    try:
        CronTimetable("0 8 * * *", recipient.time_zone)
    except InvalidInput:
        raise InvalidInput(
            "The recipient cannot be stored.",
            [("/time_zone", "is not a time zone, such as Europe/Berlin")],
        ) from None
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
