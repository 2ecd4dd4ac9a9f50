"""What the data page shows: days of the export, jobs, and how what is loaded compares.

The rows belong to the data group. They are read with its own questions, so that a day is "stale"
here exactly where the API says so; whatever changes something is asked of its API by the browser.
"""

import calendar
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from troupe.actors.data.availability import (
    MAX_LISTED_DAYS,
    Coverage,
    SourceDayStatus,
    gaps_of,
    read_coverage,
    read_days,
    reconcile,
)
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.http.conventions import today_in
from troupe.http.dashboard.job_words import JobWords
from troupe.platform.jobs import JobState, JobStore

MONTHS: Final = 6
RECONCILED_DAYS: Final = 14
JOBS: Final = 12
STATES: Final[Mapping[str, tuple[str, str, str]]] = {
    "loaded": ("Loaded", "good", ""),
    "stale": ("Outdated", "warn", "↻"),
    "failed": ("Failed", "bad", "!"),
    "missing": ("Missing", "bad", "×"),
    "removed": ("Removed", "flat", "–"),
    "unknown": ("Not looked at", "flat", ""),
}
"""A day's state: what it is called, its tone, and its sign in the calendar."""
_WEEK: Final = 7
_FLAGS: Final = (
    ("duplicates", "not counted again"),
    ("without_key", "without a key"),
    ("currency_missing", "without a currency"),
    ("other_currency", "in another currency"),
    ("value_mismatch", "whose value differs"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One day of the calendar; `status` is None for what the calendar does not know."""

    day: date
    status: SourceDayStatus | None


@dataclass(frozen=True, slots=True)
class Month:
    """One month: its weeks, each of seven cells, None outside of the month."""

    first: date
    weeks: tuple[tuple[Cell | None, ...], ...]


@dataclass(frozen=True, slots=True)
class ReconciledDay:
    """One day of the comparison: the statement's row, and sums over its events."""

    row: Mapping[str, Any]
    without_visitor: int
    repeated: int

    @property
    def flags(self) -> tuple[str, ...]:
        """What is odd about its purchases."""
        return flags_of(self.row)


@dataclass(frozen=True, slots=True)
class DayDetail:
    """One day, in a sheet."""

    day: date
    status: SourceDayStatus
    row: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]

    @property
    def flags(self) -> tuple[str, ...]:
        """What is odd about its purchases."""
        return flags_of(self.row)


@dataclass(frozen=True, slots=True)
class Supply:
    """The page.

    Attributes:
        coverage: How the tenant reports.
        yesterday: The last day that is over, in the reporting zone.
        kept_from: First day that retention keeps.
        counts: Days by state.
        gaps: Days that are not there, or not as the source has them.
        weekdays: Their short names, in the tenant's order.
        months: Of the calendar.
        earlier: Whether there are days before the calendar's first month.
        later: Whether there are days after its last.
        jobs: Newest first.
        jobs_total: How many there are.
        running: Jobs that wait or run.
        reconciled: Days, newest first.
        day: What the address opens.
        job: Likewise.
    """

    coverage: Coverage
    yesterday: date
    kept_from: date
    counts: Mapping[str, int]
    gaps: tuple[date, ...]
    weekdays: tuple[str, ...]
    months: tuple[Month, ...]
    earlier: bool
    later: bool
    jobs: tuple[JobWords, ...]
    jobs_total: int | None
    running: int
    reconciled: tuple[ReconciledDay, ...]
    day: DayDetail | None
    job: JobWords | None


async def read_supply(
    database: Database,
    tenant: TenantId,
    *,
    week_start: int,
    now: datetime,
    until: date | None,
    state: JobState | None,
    day: date | None,
    job: UUID | None,
) -> Supply:
    """Read all that the page shows.

    Args:
        database: The group's pool.
        tenant: Whose.
        week_start: ISO weekday on which a week begins.
        now: The present instant.
        until: In the calendar's last month; None: the last that is over or known.
        state: Only jobs in this state.
        day: To be opened.
        job: Likewise.

    Raises:
        NotFound: There is no such job.
        DatabaseError: The database failed.
    """
    coverage = await read_coverage(database, tenant)
    yesterday = today_in(coverage.zone, now) - timedelta(days=1)
    kept = coverage.kept_from(now)
    days = await _known_days(database, tenant, yesterday)
    last = max(yesterday, days[-1].day) if days else yesterday
    first = min((one.day for one in days), default=last)
    shown = min(max(until or last, first), last)
    months = lay_out(days, shown, last=last, week_start=week_start)
    store = JobStore(database)
    page = await store.list(tenant, state=state, limit=JOBS)
    running = await store.list(tenant, state=JobState.RUNNING, limit=1)
    waiting = await store.list(tenant, state=JobState.AVAILABLE, limit=1)
    compared = await _reconciled(database, tenant, coverage, days)
    return Supply(
        coverage=coverage,
        yesterday=yesterday,
        kept_from=kept,
        counts=Counter(one.state for one in days if one.day <= yesterday),
        gaps=tuple(gaps_of(days, first=kept, last=yesterday)),
        weekdays=tuple(
            calendar.day_abbr[(week_start - 1 + offset) % _WEEK] for offset in range(_WEEK)
        ),
        months=months,
        earlier=bool(months) and first < months[0].first,
        later=bool(months) and _month(last) > months[-1].first,
        jobs=tuple(JobWords.of(one) for one in page.data),
        jobs_total=page.total,
        running=(running.total or 0) + (waiting.total or 0),
        reconciled=compared,
        day=await _detail(database, tenant, coverage, day) if day is not None else None,
        job=JobWords.of(await store.get(tenant, job)) if job is not None else None,
    )


def lay_out(
    days: Iterable[SourceDayStatus], shown: date, *, last: date, week_start: int
) -> tuple[Month, ...]:
    """The calendar's months up to the one of `shown`, oldest first; those without any day left out.

    Args:
        days: What is known.
        shown: In the last month.
        last: Days after it are not over, and left out.
        week_start: ISO weekday on which a week begins.
    """
    known = {one.day: one for one in days}
    weeks = calendar.Calendar(firstweekday=week_start - 1)
    first_known = min(known, default=shown)
    months: list[Month] = []
    first = _month(shown)
    while len(months) < MONTHS and first >= _month(first_known):
        laid = tuple(
            tuple(
                Cell(day, known.get(day)) if day.month == first.month and day <= last else None
                for day in week
            )
            for week in weeks.monthdatescalendar(first.year, first.month)
        )
        months.append(Month(first, laid))
        first = _month(first - timedelta(days=1))
    return tuple(reversed(months))


def flags_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What is odd about a day's purchases, in words; what is not odd is left out."""
    return tuple(f"{row[name]} {text}" for name, text in _FLAGS if row[name])


def _month(day: date) -> date:
    return day.replace(day=1)


async def _known_days(
    database: Database, tenant: TenantId, yesterday: date
) -> list[SourceDayStatus]:
    """From the first day that is known to the last, or to yesterday if that is later."""
    days = await read_days(database, tenant, first=None, last=None, limit=MAX_LISTED_DAYS)
    if days and days[-1].day < yesterday:
        days += await read_days(
            database,
            tenant,
            first=days[-1].day + timedelta(days=1),
            last=yesterday,
            limit=MAX_LISTED_DAYS,
        )
    return days


async def _reconciled(
    database: Database, tenant: TenantId, coverage: Coverage, days: Sequence[SourceDayStatus]
) -> tuple[ReconciledDay, ...]:
    if not days:
        return ()
    end = days[-1].day
    start = max(days[0].day, end - timedelta(days=RECONCILED_DAYS - 1))
    found = await reconcile(database, tenant, DateRange(start, end), coverage.currency)
    without: Counter[date] = Counter()
    repeated: Counter[date] = Counter()
    for event in found.events:
        without[event["source_day"]] += event["without_visitor"]
        repeated[event["source_day"]] += event["duplicates"]
    return tuple(
        ReconciledDay(dict(row), without[row["day"]], repeated[row["day"]])
        for row in reversed(found.days)
    )


async def _detail(database: Database, tenant: TenantId, coverage: Coverage, day: date) -> DayDetail:
    statuses = await read_days(database, tenant, first=day, last=day, limit=1)
    found = await reconcile(database, tenant, DateRange(day, day), coverage.currency)
    if not statuses or not found.days:
        raise NotFound("There is no such day.")
    events = [dict(event) for event in found.events]
    return DayDetail(day, statuses[0], dict(found.days[0]), events)
