"""What is sent when: the report schedules of a tenant."""

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from troupe.actors.analytics.reports.records import ReportSchedule
from troupe.actors.analytics.reports.statements import (
    QUERIES,
    Actor,
    audit,
    found_or,
    once,
    outdated,
)
from troupe.actors.analytics.reports.zones import settle_zones
from troupe.common.database import Database
from troupe.common.errors import Conflict, NotFound
from troupe.common.ids import TenantId, new_id
from troupe.platform.schedules import check_interval

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

MOST_SCHEDULES: Final = 20
_TAKEN: Final = "There is a report schedule of this name already."


class ReportSchedules:
    """The report schedules of one tenant at a time.

    Args:
        database: The group's pool.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
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

        return await self._database.run(unit, tenant=tenant, read_only=True)

    async def one(self, tenant: TenantId, report_id: UUID) -> ReportSchedule:
        """One schedule.

        Raises:
            NotFound: The tenant has no such schedule.
        """
        row = await self._database.fetch_row(
            QUERIES["schedule"], tenant, report_id, tenant=tenant, read_only=True
        )
        return ReportSchedule.of(found_or(row, "report schedule"))

    async def add(
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
            await settle_zones(connection, tenant)
            detail = {"name": new.name, "cron": new.cron}
            await audit(connection, actor, "report.schedule_made", str(identifier), detail)
            row = await connection.fetchrow(QUERIES["schedule"], tenant, identifier)
            return ReportSchedule.of(found_or(row, "report schedule"))

        return await once(self._database, unit, tenant, _TAKEN)

    async def change(
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
                raise outdated()
            await settle_zones(connection, tenant)
            await audit(connection, actor, "report.schedule_changed", str(wanted.id), {})
            row = await connection.fetchrow(QUERIES["schedule"], *key)
            return ReportSchedule.of(found_or(row, "report schedule"))

        return await once(self._database, unit, tenant, _TAKEN)

    async def remove(self, tenant: TenantId, report_id: UUID, actor: Actor) -> None:
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
            await audit(connection, actor, "report.schedule_removed", str(report_id), {})

        await self._database.run(unit, tenant=tenant)
