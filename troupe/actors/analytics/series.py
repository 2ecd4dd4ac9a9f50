"""A range along the hours, days, weeks or months, beside the range that it is compared with."""

from dataclasses import dataclass
from datetime import date, datetime

from troupe.actors.analytics.answers import Snapshot, Summary
from troupe.actors.analytics.filters import EVERYTHING, Filters
from troupe.actors.analytics.periods import Period, counterparts
from troupe.common.dates import Compare, DateRange, Granularity


@dataclass(frozen=True, slots=True)
class Point:
    """One step.

    Attributes:
        start: First day, or the instant (UTC) at which an hour begins.
        end: Last day, included, or the first instant after the hour.
        summary: What it sums up to.
    """

    start: date | datetime
    end: date | datetime
    summary: Summary


@dataclass(frozen=True, slots=True)
class Series:
    """The steps of a range.

    Attributes:
        points: In order.
        comparison: What each of them is compared with, None where there is no counterpart (a leap
            day in a common year). Hours meet by their place in the range, so a clock change may
            leave one over. Empty when nothing is compared.
    """

    points: tuple[Point, ...]
    comparison: tuple[Point | None, ...]


async def read_series(
    snapshot: Snapshot,
    days: DateRange,
    granularity: Granularity,
    compare: Compare = Compare.NONE,
    filters: Filters = EVERYTHING,
    until: datetime | None = None,
) -> Series:
    """Cut a range and sum up every step.

    Args:
        snapshot: Of the tenant's data.
        days: The range.
        granularity: Length of a step; weeks begin as the tenant's weeks do.
        compare: What the range is compared with.
        filters: What to look at.
        until: Where the last day of the comparison is cut off (`periods.same_hours`). Hours are
            compared one by one and need no cutting.
    """
    if granularity is Granularity.HOUR:
        earlier = days.compared(compare)
        return Series(
            await _hours(snapshot, days, filters),
            await _hours(snapshot, earlier, filters) if earlier else (),
        )
    steps = days.cut(granularity, snapshot.reporting.week_start)
    compared = counterparts(steps, compare)
    known = [Period(step) for step in compared if step is not None]
    if known and until is not None:
        known[-1] = Period(known[-1].days, until)
    found = iter(await snapshot.summaries([*steps, *known], filters))
    points = tuple(Point(step.start, step.end, next(found)) for step in steps)
    before = tuple(Point(step.start, step.end, next(found)) if step else None for step in compared)
    return Series(points, before)


async def _hours(snapshot: Snapshot, days: DateRange, filters: Filters) -> tuple[Point, ...]:
    return tuple(
        Point(hour.start, hour.end, summary)
        for hour, summary in await snapshot.hours(days, filters)
    )
