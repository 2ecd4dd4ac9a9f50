"""Whether the data of a period is complete; wrong figures are worse than late ones.

Complete means that the tenant's last complete day is not before the period's last, and that no day
of the export within it is known to be failed or stale. A report that is due earlier waits, and
looks again every few minutes; when its patience is over it goes out as a notice that says so.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.ids import TenantId
from troupe.common.sql import load
from troupe.common.units import MINUTES

LOOK_AGAIN: Final = 5 * MINUTES

_QUERIES = load(__package__, "reports.sql")


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far a tenant's data reaches.

    Attributes:
        complete: Whether the period that was asked about is all there.
        data_until: Last complete day; None before the first load.
    """

    complete: bool
    data_until: date | None


async def freshness_of(database: Database, tenant: TenantId, days: DateRange) -> Freshness:
    """Look whether a period is complete.

    Raises:
        DatabaseError: The database failed.
    """
    row = await database.fetch_row(
        _QUERIES["freshness"], tenant, days.start, days.end, tenant=tenant, read_only=True
    )
    if row is None:
        return Freshness(complete=False, data_until=None)
    return Freshness(row["complete"], row["data_until"])
