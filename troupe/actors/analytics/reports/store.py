"""What is written down of a tenant's reports, by its nouns.

Every method of every part is one transaction of the tenant that it names.
"""

from typing import TYPE_CHECKING

from troupe.actors.analytics.reports.deliveries import Deliveries, Runs
from troupe.actors.analytics.reports.recipients import Recipients
from troupe.actors.analytics.reports.records import TenantLook
from troupe.actors.analytics.reports.schedules import ReportSchedules
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.actors.analytics.reports.statements import QUERIES, Actor, audit, outdated
from troupe.actors.analytics.reports.suppressions import Suppressions
from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]


class ReportStore:
    """Settings, and the parts that hold everything else.

    Args:
        database: The group's pool.

    Attributes:
        database: The same.
        recipients: Who gets reports.
        suppressions: Who gets none.
        schedules: What is sent when.
        runs: Occasions.
        deliveries: Mails.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.recipients = Recipients(database)
        self.suppressions = Suppressions(database)
        self.schedules = ReportSchedules(database)
        self.runs = Runs(database)
        self.deliveries = Deliveries(database)

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
                raise outdated()
            await audit(connection, actor, "report.settings_put", "", {"version": written})
            return int(written)

        return await self.database.run(unit, tenant=tenant)
