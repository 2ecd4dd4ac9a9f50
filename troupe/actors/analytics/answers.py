"""Answers: figures of a tenant over periods, all of one answer from one snapshot of the data.

Problem. What an answer says belongs together: the figures, the data version that is named beside
them, the zone that turned "the last 28 days" into dates, the currency, how far the data reaches. A
load may commit at any moment, and read one after another these would come from both sides of it: a
figure under the wrong version would be kept by every cache that trusts the version.

Choice. A question is asked inside one REPEATABLE READ transaction: every statement in it sees the
database as it was at the first, which reads the tenant's settings and version. The question decides
what else to read when it knows them (nothing, when the caller has that version already), and a
chart, a table and a comparison may each take a statement of their own. It costs one statement more
than a single one would, on the same connection and in one crossing of the bridge: about 0.1 ms. A
read-only transaction of this level takes no locks and cannot fail for the sake of others.

Rejected: one statement per answer that returns the version too (a page needs several, and settings
come before dates); reading again until two versions agree (never, under a busy load).

One registry (`metrics`) turns the sums that are read here into figures.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar
from zoneinfo import ZoneInfo

from troupe.actors.analytics.filters import EVERYTHING, Filters
from troupe.actors.analytics.metrics import Measures
from troupe.actors.analytics.periods import ClockHour, Period, clock_hours
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")

QUERIES: Final = load(__package__, "answers.sql")
_MONEY_FIELDS: Final = frozenset(
    {"purchases", "purchases_in_currency", "gross_revenue", "refund_value"}
)
_AT_A_TIME: Final = 16
"""Records that are read without a pause: some 0.2 ms."""
_COUNT_FIELDS: Final = tuple(m.name for m in fields(Measures) if m.name not in _MONEY_FIELDS)


@dataclass(frozen=True, slots=True)
class Reporting:
    """How a tenant reports, and how far its data reaches.

    Attributes:
        tenant: Whose.
        tenant_name: For people.
        time_zone: IANA name; its midnights end days.
        currency: ISO 4217; money in others is listed, never added.
        week_start: ISO weekday on which a week begins, 1 (Monday) to 7 (Sunday).
        data_version: Raised with whatever analytics can see; 0 before the first load.
        first_day: First day with events; None before the first load.
        data_until: Last complete day; None before there is one.
        last_event_at: When the last event that is known happened; None before the first load.
    """

    tenant: TenantId
    tenant_name: str
    time_zone: str
    currency: str
    week_start: int
    data_version: int
    first_day: date | None
    data_until: date | None
    last_event_at: datetime | None = None

    @property
    def zone(self) -> ZoneInfo:
        """The reporting zone."""
        return ZoneInfo(self.time_zone)


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

    measures: Measures = field(default_factory=Measures)
    other_currencies: tuple[OtherCurrency, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a session belongs; the empty id is "no branch known".

    `name` and `city` are those of the master data, None for a branch that does not stand there.
    """

    location_id: str
    name: str | None
    city: str | None

    @property
    def key(self) -> str:
        """What tells it from others."""
        return self.location_id

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name or self.location_id


BranchSummaries = dict[Branch, Summary]


class Dimension(StrEnum):
    """What sessions can be told apart by, beside their branch."""

    CHANNEL = "channel"
    DEVICE = "device"
    COUNTRY = "country"


@dataclass(frozen=True, slots=True)
class Part:
    """One value of a dimension; the empty text is "not known"."""

    key: str

    @property
    def label(self) -> str:
        """What it is called."""
        return self.key


PartSummaries = dict[Part, Summary]
_DIMENSIONS: Final = frozenset(Dimension)


@dataclass(frozen=True, slots=True)
class FunnelCounts:
    """Sessions that begin in a period, and how many of them get to each step within the window."""

    sessions: int
    viewed: int
    carted: int
    checked_out: int
    purchased: int


@dataclass(frozen=True, slots=True)
class Location:
    """A branch of the master data, with whom to write to."""

    location_id: str
    name: str
    city: str | None
    email: str | None
    manager: str | None


@dataclass(frozen=True, slots=True)
class LocationPage:
    """Some locations in the order of their names.

    Attributes:
        locations: In order.
        total: How many there are on all pages.
        place: Where the next page begins, None when this is the last one.
    """

    locations: list[Location]
    total: int
    place: tuple[str, str] | None


class Snapshot:
    """A tenant's data as it was at one moment; usable within one question only.

    Attributes:
        reporting: The tenant's settings and version at that moment.
    """

    def __init__(self, connection: "Connection", reporting: Reporting) -> None:
        self._connection = connection
        self.reporting = reporting

    async def summaries(
        self, periods: Sequence[DateRange | Period], filters: Filters = EVERYTHING
    ) -> list[Summary]:
        """One summary a period, in the order given.

        Args:
            periods: Of any length, overlapping or not.
            filters: What to look at.
        """
        wanted = [Period.of(period) for period in periods]
        if not wanted:
            return []
        if filters.by_branch_only and not any(period.until for period in wanted):
            rows = await self._connection.fetch(
                QUERIES["measures_by_period"],
                self.reporting.tenant,
                [period.days.start for period in wanted],
                [period.days.end for period in wanted],
                filters.branches,
            )
            return await self._summarised(rows)
        if filters.by_branch_only and any(period.until is None for period in wanted):
            # Only what is cut needs the longer way.
            whole = await self.summaries([p for p in wanted if p.until is None], filters)
            cut = await self.summaries([p for p in wanted if p.until is not None], filters)
            return [(whole if p.until is None else cut).pop(0) for p in wanted]
        parts = await self._parts("", wanted, filters)
        return [found.get("", Summary()) for found in parts]

    async def hours(
        self, period: DateRange, filters: Filters = EVERYTHING
    ) -> list[tuple[ClockHour, Summary]]:
        """Every clock hour of a period with its summary, hours without data included.

        Distinct users are kept per day: those measures are zero here, and no metric that is marked
        as hourly reads them.
        """
        found: dict[datetime, Summary] = {}
        if filters.by_branch_only:
            rows = await self._connection.fetch(
                QUERIES["measures_by_hour"],
                self.reporting.tenant,
                period.start,
                period.end,
                filters.branches,
            )
            hours = [row["hour"] for row in rows]
            found = dict(zip(hours, await self._summarised(rows), strict=True))
        else:
            (parts,) = await self._parts("hour", [Period(period)], filters)
            found = {
                datetime.fromtimestamp(int(part), UTC): _without_visitors(summary)
                for part, summary in parts.items()
            }
        nothing = Summary()
        return [
            (hour, found.get(hour.key, nothing))
            for hour in clock_hours(period, self.reporting.zone)
        ]

    async def branches(
        self, periods: Sequence[DateRange | Period], filters: Filters = EVERYTHING
    ) -> list[BranchSummaries]:
        """For each period a summary per branch; every period has the same branches.

        Branches are those of the master data and those with data in any of the periods.
        """
        wanted = [Period.of(period) for period in periods]
        if not filters.by_branch_only or any(period.until for period in wanted):
            return await self._branches_of_sessions(wanted, filters)
        rows = await self._connection.fetch(
            QUERIES["measures_by_location"],
            self.reporting.tenant,
            [period.days.start for period in wanted],
            [period.days.end for period in wanted],
            filters.branches,
        )
        answer: list[BranchSummaries] = [{} for _ in wanted]
        for row, summary in zip(rows, await self._summarised(rows), strict=True):
            branch = Branch(row["branch_id"], row["name"], row["city"])
            answer[row["period"] - 1][branch] = summary
        return answer

    @property
    def connection(self) -> "asyncpg.Connection[asyncpg.Record]":
        """The transaction, for lists that are read beside figures."""
        return self._connection

    async def branch(self, location_id: str) -> Branch:
        """What a branch is called; without a name when the master data does not know it."""
        rows = await self._connection.fetch(
            QUERIES["branches_known"], self.reporting.tenant, [location_id]
        )
        return Branch(*rows[0].values()) if rows else Branch(location_id, None, None)

    async def parts(
        self,
        dimension: Dimension,
        periods: Sequence[DateRange | Period],
        filters: Filters = EVERYTHING,
    ) -> list[PartSummaries]:
        """For each period a summary per value of a dimension; every period has the same values.

        What happened outside of sessions stands under the empty value.
        """
        found = await self._parts(dimension, [Period.of(period) for period in periods], filters)
        names = sorted({name for parts in found for name in parts})
        nothing = Summary()
        return [{Part(name): parts.get(name, nothing) for name in names} for parts in found]

    async def funnels(
        self,
        periods: Sequence[DateRange | Period],
        window_seconds: int,
        filters: Filters = EVERYTHING,
    ) -> list[FunnelCounts]:
        """How far the sessions of each period get within a window.

        Args:
            periods: Sessions count where they begin.
            window_seconds: Longest time from the product view to a step.
            filters: What to look at.
        """
        wanted = [Period.of(period) for period in periods]
        rows = await self._connection.fetch(
            QUERIES["funnel"], *self._arguments(wanted, filters), window_seconds * 1_000_000
        )
        return [FunnelCounts(*row.values()) for row in rows]

    async def fetch(
        self,
        name: str,
        periods: Sequence[DateRange | Period],
        filters: Filters,
        *arguments: object,
    ) -> "list[asyncpg.Record]":
        """Rows of a query that takes tenant, periods, filters, and then what is its own.

        It joins sessions of ranges of days, and is planned for that; `look` is for others.
        """
        wanted = [Period.of(period) for period in periods]
        await self._connection.execute(QUERIES["plan_for_joins"])
        rows = await self._connection.fetch(
            QUERIES[name], *self._arguments(wanted, filters), *arguments
        )
        await self._connection.execute(QUERIES["plan_as_usual"])
        return rows

    async def look(self, name: str, *arguments: object) -> "list[asyncpg.Record]":
        """Rows of a query that takes the tenant, and then what is its own."""
        return await self._connection.fetch(QUERIES[name], self.reporting.tenant, *arguments)

    async def group(self, name: str, *arguments: object) -> "list[asyncpg.Record]":
        """The same of a query that groups many rows."""
        await self._connection.execute(QUERIES["plan_for_groups"])
        rows = await self.look(name, *arguments)
        await self._connection.execute(QUERIES["plan_as_usual"])
        return rows

    def _arguments(self, periods: Sequence[Period], filters: Filters) -> tuple[object, ...]:
        return (
            self.reporting.tenant,
            [period.days.start for period in periods],
            [period.days.end for period in periods],
            [period.until for period in periods],
            *filters.arguments(),
        )

    async def _parts(
        self, apart: str, periods: Sequence[Period], filters: Filters
    ) -> list[dict[str, Summary]]:
        """By part; the only part is the empty one when nothing is told apart.

        From what is added up by day, where that knows; from sessions; or, where a day is cut or
        hours are told apart, from all their activity.
        """
        chosen = filters.by_one_part
        if apart == "hour" or any(period.until for period in periods):
            rows = await self.fetch(
                "measures_of_parts", periods, filters, apart, self.reporting.time_zone
            )
        elif apart in _DIMENSIONS and filters == EVERYTHING:
            return await self._added_up(apart, None, periods)
        elif chosen is not None and chosen[0] == apart:
            return await self._added_up(apart, chosen[1], periods)
        elif chosen is not None and not apart and len(chosen[1]) == 1:
            found = await self._added_up(*chosen, periods)
            return [{"": next(iter(parts.values()))} if parts else {} for parts in found]
        else:
            rows = await self.fetch("measures_of_sessions", periods, filters, apart)
        return await self._by_part(rows, len(periods))

    async def _added_up(
        self, dimension: str, parts: list[str] | None, periods: Sequence[Period]
    ) -> list[dict[str, Summary]]:
        rows = await self.look(
            "measures_by_part",
            [period.days.start for period in periods],
            [period.days.end for period in periods],
            dimension,
            parts,
        )
        return await self._by_part(rows, len(periods))

    async def _by_part(
        self, rows: "list[asyncpg.Record]", periods: int
    ) -> list[dict[str, Summary]]:
        answer: list[dict[str, Summary]] = [{} for _ in range(periods)]
        for row, summary in zip(rows, await self._summarised(rows), strict=True):
            answer[row["period"] - 1][row["part_name"]] = summary
        return answer

    async def _branches_of_sessions(
        self, periods: Sequence[Period], filters: Filters
    ) -> list[BranchSummaries]:
        found = await self._parts("location", periods, filters)
        rows = await self._connection.fetch(
            QUERIES["branches_known"], self.reporting.tenant, filters.branches
        )
        known = {row["location_id"]: Branch(*row.values()) for row in rows}
        with_data = {name for parts in found for name in parts}
        branches = sorted(
            (known.get(name, Branch(name, None, None)) for name in known.keys() | with_data),
            key=lambda branch: branch.location_id,
        )
        nothing = Summary()
        return [
            {branch: parts.get(branch.location_id, nothing) for branch in branches}
            for parts in found
        ]

    async def _summarised(self, records: "list[asyncpg.Record]") -> list[Summary]:
        """One a record. Other tasks have their turn meanwhile: there may be a thousand."""
        found: list[Summary] = []
        for record in records:
            if found and not len(found) % _AT_A_TIME:
                await asyncio.sleep(0)
            found.append(self._summary(record))
        return found

    def _summary(self, record: "asyncpg.Record") -> Summary:
        counts = {name: record[name] or 0 for name in _COUNT_FIELDS if name in record}
        purchases, in_currency = 0, 0
        gross, refunds = Decimal(0), Decimal(0)
        others: list[OtherCurrency] = []
        entries: Sequence[Mapping[str, str | int]] = record["currencies"] or ()
        for entry in entries:
            currency, bought = str(entry["currency"]), int(entry["purchases"])
            money = Decimal(entry["gross_revenue"]), Decimal(entry["refund_value"])
            purchases += bought
            if currency == self.reporting.currency:
                in_currency, (gross, refunds) = bought, money
            else:
                others.append(OtherCurrency(currency, bought, *money))
        measures = Measures(
            **counts,
            purchases=purchases,
            purchases_in_currency=in_currency,
            gross_revenue=gross,
            refund_value=refunds,
        )
        return Summary(measures, tuple(others))


def _without_visitors(summary: Summary) -> Summary:
    measures = replace(
        summary.measures,
        total_users=0,
        active_users=0,
        new_users=0,
        returning_users=0,
        purchasers=0,
    )
    return replace(summary, measures=measures)


Question = Callable[[Snapshot], Awaitable[T]]


class Answers:
    """What the dashboard, the exports and the reports ask.

    Args:
        database: The group's pool.

    Attributes:
        database: The same.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def ask(self, tenant: TenantId, question: Question[T]) -> T:
        """Ask a question of one snapshot.

        Args:
            tenant: Whose data.
            question: ``async def question(snapshot) -> T``. Runs in asyncio, while the connection
                is held: it reads, and leaves the rest to its caller.

        Raises:
            NotFound: There is no such tenant.
            DatabaseError: The database failed.
        """

        async def unit(connection: "Connection") -> T:
            row = await connection.fetchrow(QUERIES["reporting"], tenant)
            if row is None:
                raise NotFound("There is no such tenant.")
            return await question(Snapshot(connection, Reporting(tenant, *row.values())))

        return await self.database.run(
            unit, tenant=tenant, read_only=True, isolation="repeatable_read"
        )

    async def reporting(self, tenant: TenantId) -> Reporting:
        """How a tenant reports now, and how far its data reaches.

        Raises:
            NotFound: There is no such tenant.
            DatabaseError: The database failed.
        """
        row = await self.database.fetch_row(
            QUERIES["reporting"], tenant, tenant=tenant, read_only=True
        )
        if row is None:
            raise NotFound("There is no such tenant.")
        return Reporting(tenant, *row.values())

    async def locations(
        self, tenant: TenantId, *, after: tuple[str, str] | None, limit: int
    ) -> LocationPage:
        """One page of the branches of the master data, by name.

        Args:
            tenant: Whose.
            after: `LocationPage.place` of the page before.
            limit: At most so many.
        """
        rows = await self.database.fetch(
            QUERIES["locations"],
            tenant,
            *(after or (None, None)),
            limit + 1,
            tenant=tenant,
            read_only=True,
        )
        found = [row for row in rows if row["location_id"] is not None]
        last = found[limit - 1] if len(found) > limit else None
        return LocationPage(
            [
                Location(row["location_id"], row["name"], row["city"], row["email"], row["manager"])
                for row in found[:limit]
            ],
            rows[0]["total"],
            (last["sort_name"], last["location_id"]) if last is not None else None,
        )
