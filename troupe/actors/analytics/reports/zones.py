"""One schedule of the platform for each zone that a report's recipients live in.

A schedule of the platform reads one clock. Whoever changes recipients or reports settles the zones
in the same transaction, one at a time for each tenant (`lock_reports`), so what is due and who gets
it never disagree.
"""

from typing import TYPE_CHECKING, Final

from troupe.actors.analytics.reports.statements import GROUP, PLAN, QUERIES
from troupe.common.errors import Conflict
from troupe.common.ids import TenantId, new_id
from troupe.platform.schedules import CronTimetable

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

MOST_ZONES: Final = 40


async def settle_zones(connection: "Connection", tenant: TenantId) -> None:
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
                await _add_zone(connection, tenant, report, zone)
            elif says != tuple(
                there[name] for name in ("cron", "policy", "grace_seconds", "enabled")
            ):
                await connection.execute(
                    QUERIES["retime_platform_schedule"], tenant, there["schedule_id"], *says
                )
    for left in present.values():
        await connection.execute(QUERIES["drop_platform_schedule"], tenant, left["schedule_id"])


async def _add_zone(
    connection: "Connection", tenant: TenantId, report: "asyncpg.Record", zone: str
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
