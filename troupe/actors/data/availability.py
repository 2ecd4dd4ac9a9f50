"""What is known of the days of an export, and how what is loaded compares with the source."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import asyncpg

from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import Conflict, InvalidInput, NotFound
from troupe.common.ids import TenantId
from troupe.common.sql import load
from troupe.common.tenant_settings import TenantSettings

QUERIES: Final = load(__package__, "availability.sql")
MAX_LISTED_DAYS: Final = 3660
GAP_STATES: Final = frozenset({"missing", "failed", "stale", "unknown"})
"""Days in these states are not there as the source may have them."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a tenant reports, and how far its data reaches.

    Attributes:
        zone: Reporting zone.
        currency: Reporting currency.
        settings: The tenant's.
        data_version: Of what is loaded; 0: nothing ever was.
        first_day: First day with events, in the reporting zone.
        data_until: Last complete day, in the reporting zone.
    """

    zone: ZoneInfo
    currency: str
    settings: TenantSettings
    data_version: int
    first_day: date | None
    data_until: date | None

    def kept_from(self, now: datetime) -> date:
        """First day that retention keeps."""
        return self.settings.first_kept(now.astimezone(self.zone).date())

    def refuse_removed(self, days: DateRange, now: datetime, pointer: str) -> None:
        """Refuse days that retention would take away again at once.

        Raises:
            InvalidInput: There are some.
        """
        kept = self.kept_from(now)
        if days.start < kept:
            raise InvalidInput(
                f"Days before {kept} are older than this tenant keeps.",
                [(pointer, f"must not be before {kept}, see the tenant's retention_days")],
            )


@dataclass(frozen=True, slots=True)
class SourceDayStatus:
    """One day of the export."""

    day: date
    state: str
    family: str | None
    source_rows: int | None
    loaded_rows: int | None
    difference: int | None
    loaded_at: datetime | None
    checked_at: datetime | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the source has and what is loaded, of some days.

    Attributes:
        days: One row per day; columns as in the statement ``reconciled_days``.
        events: One row per day and event, as in ``reconciled_events``.
    """

    days: Sequence[asyncpg.Record]
    events: Sequence[asyncpg.Record]


async def read_coverage(database: Database, tenant: TenantId) -> Coverage:
    """How the tenant reports, and how far its data reaches.

    Raises:
        NotFound: There is no such tenant.
    """
    row = await database.fetch_row(QUERIES["tenant"], tenant, tenant=tenant, read_only=True)
    if row is None:
        raise NotFound("There is no such tenant.")
    return Coverage(
        ZoneInfo(row["reporting_time_zone"]),
        row["reporting_currency"],
        TenantSettings.model_validate(row["settings"]),
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
        QUERIES["days"], tenant, first, last, limit, tenant=tenant, read_only=True
    )
    return [SourceDayStatus(**dict(row.items())) for row in rows]


def gaps_of(days: Iterable[SourceDayStatus], *, first: date, last: date) -> list[date]:
    """The days that are not there, or not as the source has them.

    Args:
        days: In order.
        first: Days before it are no gaps, because they are not kept.
        last: Days after it are no gaps, because they are not over.
    """
    return [day.day for day in days if first <= day.day <= last and day.state in GAP_STATES]


async def read_gaps(
    database: Database,
    tenant: TenantId,
    coverage: Coverage,
    wanted: DateRange | None,
    *,
    now: datetime,
    most: int,
) -> list[date]:
    """The days of a range that are not there, or not as the source has them.

    Args:
        database: Where.
        tenant: Whose.
        coverage: As just read.
        wanted: Which days; None: from the first that is known to yesterday.
        now: The present instant.
        most: Days at most.

    Raises:
        InvalidInput: Nothing is known yet, or too many days are missing.
        Conflict: None is missing.
    """
    yesterday = now.astimezone(coverage.zone).date() - timedelta(days=1)
    days = await read_days(
        database,
        tenant,
        first=wanted.start if wanted else None,
        last=min(wanted.end, yesterday) if wanted else yesterday,
        limit=MAX_LISTED_DAYS,
    )
    if not days and wanted is None:
        raise InvalidInput(
            "Nothing was ever loaded: say which days to load.",
            [("/start_date", "is needed, or a preset instead")],
        )
    gaps = gaps_of(days, first=coverage.kept_from(now), last=yesterday)
    if not gaps:
        raise Conflict("There are no gaps: every day that is over is loaded.")
    if len(gaps) > most:
        raise InvalidInput(
            f"{len(gaps)} days are missing; at most {most} can be loaded at a time.",
            [("/start_date", "name a shorter range")],
        )
    return gaps


def stretches(days: Iterable[date]) -> list[DateRange]:
    """Days in order, as ranges of days in a row.

    >>> first = date(2026, 9, 1)
    >>> [str(r.start) + "/" + str(r.end) for r in stretches([first, date(2026, 9, 2)])]
    ['2026-09-01/2026-09-02']
    """
    found: list[DateRange] = []
    for day in days:
        if found and found[-1].end + timedelta(days=1) == day:
            found[-1] = DateRange(found[-1].start, day)
        else:
            found.append(DateRange(day, day))
    return found


async def reconcile(
    database: Database, tenant: TenantId, days: DateRange, currency: str
) -> Reconciliation:
    """What the source has and what is loaded, as far as it is known here.

    Args:
        database: Where.
        tenant: Whose.
        days: Which.
        currency: The tenant's reporting currency.
    """

    async def unit(connection: asyncpg.Connection) -> Reconciliation:
        bounds = (tenant, days.start, days.end)
        return Reconciliation(
            await connection.fetch(QUERIES["reconciled_days"], *bounds, currency),
            await connection.fetch(QUERIES["reconciled_events"], *bounds),
        )

    return await database.run(unit, tenant=tenant, read_only=True)
