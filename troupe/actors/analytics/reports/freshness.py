"""Whether a period can be reported: wrong figures are worse than late ones.

Its data is complete when the tenant's last complete day is not before the period's last, and every
day of the export that the period touches is here as the source has it. The export counts days in
its property's zone; where that is not the reporting zone, a day of the report touches two of them.
A table of the export may come days late, also when a later one is here already; one that has not
come by then stays away because nothing happened on that day.

Its task lists are ready when they have followed this data: a mail whose figures count a purchase
that its list of purchases does not have would be taken for wrong, and rightly so.

A report that is due earlier waits, and looks again; when its patience is over it goes out as a
notice that says so.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from troupe.actors.analytics.following import have_followed
from troupe.common.connections import BigQueryConfig, NotConnected, read_connection
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.ids import TenantId
from troupe.common.sql import load
from troupe.common.units import DAYS, MINUTES, SECONDS

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

LOOK_AGAIN: Final = 5 * MINUTES
FOLLOWED_SOON: Final = 10 * SECONDS
"""Tasks follow a load by seconds: it pays to look again earlier than for data."""
FOLLOW_PATIENCE: Final = 2 * MINUTES
"""For task lists alone, also where nobody waits for data: a report that somebody sends now."""
TABLES_COME_WITHIN: Final = 3 * DAYS

_QUERIES = load(__package__, "reports.sql")


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far a tenant's data reaches.

    Attributes:
        complete: Whether the period that was asked about is all there.
        data_until: Last complete day; None before the first load.
        followed: Whether the task lists are those of this data.
    """

    complete: bool
    data_until: date | None
    followed: bool

    @property
    def ready(self) -> bool:
        """Whether a report can be sent."""
        return self.complete and self.followed


async def freshness_of(database: Database, tenant: TenantId, days: DateRange) -> Freshness:
    """Look whether a period is complete.

    Raises:
        DatabaseError: The database failed.
    """
    zone = await _property_zone(database, tenant)

    async def unit(connection: "Connection") -> Freshness:
        row = await connection.fetchrow(
            _QUERIES["freshness"], tenant, days.start, days.end, zone, TABLES_COME_WITHIN
        )
        if row is None:
            return Freshness(complete=False, data_until=None, followed=False)
        followed = await have_followed(connection, tenant)
        return Freshness(row["complete"], row["data_until"], followed)

    return await database.run(unit, tenant=tenant, read_only=True, isolation="repeatable_read")


async def _property_zone(database: Database, tenant: TenantId) -> str | None:
    """Which zone the export counts its days in; None: the reporting zone."""
    try:
        config = (await read_connection(database, tenant, "bigquery")).config
    except NotConnected:
        return None
    return (config.property_time_zone or None) if isinstance(config, BigQueryConfig) else None
