"""What is known of the days of a tenant's export: loaded, stale, failed, missing, unknown."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.sql import load

_QUERIES = load(__package__, "availability.sql")


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a tenant reports, and how far its data reaches."""

    zone: ZoneInfo
    data_version: int
    first_day: date | None
    data_until: date | None


@dataclass(frozen=True, slots=True)
class SourceDayStatus:
    """One day of the export."""

    day: date
    state: str
    family: str | None
    source_rows: int | None
    loaded_rows: int | None
    loaded_at: datetime | None
    checked_at: datetime | None
    problem: str | None


async def read_coverage(database: Database, tenant: TenantId) -> Coverage:
    """How the tenant reports, and how far its data reaches.

    Raises:
        NotFound: There is no such tenant.
    """
    row = await database.fetch_row(_QUERIES["tenant"], tenant, tenant=tenant, read_only=True)
    if row is None:
        raise NotFound("There is no such tenant.")
    return Coverage(
        ZoneInfo(row["reporting_time_zone"]),
        row["data_version"],
        row["first_day"],
        row["data_until"],
    )


async def read_days(
    database: Database,
    tenant: TenantId,
    *,
    first: date | None,
    last: date | None,
    limit: int,
) -> list[SourceDayStatus]:
    """Every day of a range, in order, also those that were never looked at.

    Args:
        database: Where.
        tenant: Whose.
        first: None: the first day that is known.
        last: None: the last day that is known.
        limit: Days at most.
    """
    rows: list[Any] = await database.fetch(
        _QUERIES["days"], tenant, first, last, limit, tenant=tenant, read_only=True
    )
    return [SourceDayStatus(**dict(row.items())) for row in rows]
