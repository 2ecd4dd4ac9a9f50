"""Answers: figures of a tenant over periods, each from one snapshot of the derived tables.

Every answer is a pure function of (tenant, data version, request). One SQL statement computes it,
and the same statement returns the version it saw, so a figure can never be older than the version
named beside it. A chart is the same question asked for every bucket, a comparison the same question
asked for an earlier period; there is one query for all of them, and one registry (`metrics`) turns
its sums into figures.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Generic, TypeVar

import asyncpg

from troupe.actors.analytics.metrics import Measures
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.sql import load

T = TypeVar("T")

_QUERIES = load(__package__, "answers.sql")
_MONEY_FIELDS: Final = frozenset(
    {"purchases", "purchases_in_currency", "gross_revenue", "refund_value"}
)
_COUNT_FIELDS: Final = tuple(f.name for f in fields(Measures) if f.name not in _MONEY_FIELDS)


@dataclass(frozen=True, slots=True)
class Reporting:
    """How a tenant reports, and how far its data reaches."""

    tenant_name: str
    time_zone: str
    currency: str
    week_start: int
    data_version: int
    first_day: date | None
    data_until: date | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class OtherCurrency:
    """Money in a currency that is not the reporting one; listed, never added."""

    currency: str
    purchases: int
    gross_revenue: Decimal
    refund_value: Decimal


@dataclass(frozen=True, slots=True)
class Summary:
    """What one period, hour or branch sums up to."""

    measures: Measures
    other_currencies: tuple[OtherCurrency, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch of the master data; the empty id is "no branch known"."""

    location_id: str
    name: str | None
    city: str | None


@dataclass(frozen=True, slots=True)
class Location:
    """A branch of the master data, with whom to write to."""

    location_id: str
    name: str
    city: str | None
    email: str | None
    manager: str | None


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A value and the data version that it was read at."""

    value: T
    data_version: int


def _summary(record: asyncpg.Record, currency: str) -> Summary:
    counts = {name: record[name] or 0 for name in _COUNT_FIELDS if name in record}
    purchases, in_currency = 0, 0
    gross, refunds = Decimal(0), Decimal(0)
    others: list[OtherCurrency] = []
    for entry in record["currencies"] or ():
        purchases += entry["purchases"]
        money = Decimal(entry["gross_revenue"]), Decimal(entry["refund_value"])
        if entry["currency"] == currency:
            in_currency = entry["purchases"]
            gross, refunds = money
        else:
            others.append(OtherCurrency(entry["currency"], entry["purchases"], *money))
    measures = Measures(
        **counts,
        purchases=purchases,
        purchases_in_currency=in_currency,
        gross_revenue=gross,
        refund_value=refunds,
    )
    return Summary(measures, tuple(others))


def _version(records: Iterable[asyncpg.Record], otherwise: int) -> int:
    return next((record["data_version"] for record in records), otherwise)


class Answers:
    """Questions that the dashboard, the exports and the reports ask."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reporting(self, tenant: TenantId) -> Reporting:
        """The tenant's zone, currency, week start and data version.

        Raises:
            NotFound: There is no such tenant.
        """
        row = await self._database.fetch_row(_QUERIES["settings"], tenant, tenant=tenant)
        if row is None:
            raise NotFound("there is no such tenant")
        return Reporting(
            row["name"],
            row["reporting_time_zone"],
            row["reporting_currency"],
            row["week_start"],
            row["data_version"],
            row["first_day"],
            row["data_until"],
            row["updated_at"],
        )

    async def summaries(
        self,
        tenant: TenantId,
        periods: Sequence[DateRange],
        *,
        currency: str,
        branches: Sequence[str] | None = None,
    ) -> Versioned[list[Summary]]:
        """One summary a period, in the order given, all from one snapshot."""
        rows = await self._database.fetch(
            _QUERIES["measures_by_period"],
            tenant,
            [period.start for period in periods],
            [period.end for period in periods],
            branches,
            tenant=tenant,
        )
        return Versioned([_summary(row, currency) for row in rows], _version(rows, 0))

    async def hours(
        self,
        tenant: TenantId,
        period: DateRange,
        *,
        currency: str,
        branches: Sequence[str] | None = None,
    ) -> Versioned[dict[datetime, Summary]]:
        """Summaries by the beginning of each clock hour; hours without data are absent.

        Distinct users are kept per day: those measures are zero here, and no metric that is marked
        as hourly reads them.
        """
        rows = await self._database.fetch(
            _QUERIES["measures_by_hour"],
            tenant,
            period.start,
            period.end,
            branches,
            tenant=tenant,
        )
        return Versioned({row["hour"]: _summary(row, currency) for row in rows}, _version(rows, 0))

    async def branches(
        self,
        tenant: TenantId,
        periods: Sequence[DateRange],
        *,
        currency: str,
        branches: Sequence[str] | None = None,
    ) -> Versioned[list[dict[Branch, Summary]]]:
        """For each period a summary per branch; every period has the same branches."""
        rows = await self._database.fetch(
            _QUERIES["measures_by_location"],
            tenant,
            [period.start for period in periods],
            [period.end for period in periods],
            branches,
            tenant=tenant,
        )
        answer: list[dict[Branch, Summary]] = [{} for _ in periods]
        for row in rows:
            branch = Branch(row["branch_id"], row["name"], row["city"])
            answer[row["period"] - 1][branch] = _summary(row, currency)
        return Versioned(answer, _version(rows, 0))

    async def locations(
        self, tenant: TenantId, *, after: tuple[str, str] | None, limit: int
    ) -> tuple[list[Location], int]:
        """The branches of the master data by name, and how many there are.

        Args:
            tenant: Whose.
            after: Name and id of the last one already seen.
            limit: At most so many.
        """
        rows = await self._database.fetch(
            _QUERIES["locations"], tenant, *(after or (None, None)), limit, tenant=tenant
        )
        found = [
            Location(row["location_id"], row["name"], row["city"], row["email"], row["manager"])
            for row in rows
        ]
        return found, rows[0]["total"] if rows else 0
