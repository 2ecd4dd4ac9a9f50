"""How ranges of days meet instants and other ranges: clock hours, and steps that are compared.

Both are less plain than they look. A day has 23, 24 or 25 hours, and in a zone that shifts by half
an hour one of them is half as long. And a chart that lays one range over another must compare like
with like: January against the 31 days before it, not against the five that happen to lie in the
same column of a calendar that was cut by months; and a day that is still going on against the same
hours of the day that it is compared with, not against all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from troupe.common.dates import Compare, DateRange

ONE_DAY: Final = timedelta(days=1)
LAST_HOUR: Final = 23
_PACE: Final = timedelta(minutes=15)
"""Offsets of all zones in use since 1972, and their changes, are multiples of this."""


@dataclass(frozen=True, slots=True)
class Period:
    """Days, of which the last may end early.

    Attributes:
        days: In the tenant's reporting zone.
        until: The instant, beginning of a clock hour, where the last day is cut off; None: whole.
    """

    days: DateRange
    until: datetime | None = None

    @classmethod
    def of(cls, span: "DateRange | Period") -> "Period":
        """Whole days as a period."""
        return span if isinstance(span, Period) else cls(span)


@dataclass(frozen=True, slots=True)
class ClockHour:
    """One hour of the clock on the wall.

    Attributes:
        key: How the rollups name it: what ``date_trunc('hour', …, zone)`` gives. In the half hour
            that is left of an hour when a clock is set forward in it, this lies before `start`.
        start: The first instant in it, UTC.
        end: The first instant after it, UTC.
    """

    key: datetime
    start: datetime
    end: datetime


def clock_hours(days: DateRange, zone: ZoneInfo) -> list[ClockHour]:
    """Every clock hour of the days, in order and without gaps."""
    midnight = datetime.min.time()
    moment = datetime.combine(days.start, midnight, zone).astimezone(UTC)
    end = datetime.combine(days.end + ONE_DAY, midnight, zone).astimezone(UTC)
    hours: list[tuple[datetime, datetime]] = []
    while moment < end:
        local = moment.astimezone(zone)
        key = moment - timedelta(minutes=local.minute, seconds=local.second)
        if not hours or hours[-1][0] != key:
            hours.append((key, moment))
        moment += _PACE
    ends = [*(start for _, start in hours), end][1:]
    return [ClockHour(key, start, after) for (key, start), after in zip(hours, ends, strict=True)]


def same_hours(
    days: DateRange,
    comparison: DateRange,
    zone: ZoneInfo,
    *,
    data_until: date | None,
    last_event_at: datetime | None,
) -> datetime | None:
    """Where to cut the last day of a comparison, because the range's own is not over yet.

    The last day of a range is partial when events of it are known and it is not complete. Then its
    counterpart counts up to the same hour on the clock: the end of the hour of the last event.

    Args:
        days: The range.
        comparison: What it is compared with.
        zone: The tenant's reporting zone.
        data_until: Last complete day.
        last_event_at: When the last event that is known happened.

    Returns:
        An instant, UTC, or None when nothing is to be cut.
    """
    if last_event_at is None or (data_until is not None and days.end <= data_until):
        return None
    last = last_event_at.astimezone(zone)
    if last.date() != days.end or last.hour == LAST_HOUR:
        return None
    return datetime.combine(comparison.end, time(last.hour + 1), zone).astimezone(UTC)


def counterparts(steps: Sequence[DateRange], compare: Compare) -> list[DateRange | None]:
    """What each step of a range is compared with; together they cover what the range is.

    A step meets as many days as it has itself, the same number of days or exactly a year before.
    Only a leap day has no counterpart in a common year (None), and 28 February of a common year
    meets both last days of a leap February.

    Args:
        steps: A range, cut; in order and without gaps.
        compare: What the whole range is compared with.

    Returns:
        As many as there are steps; an empty list when nothing is compared.
    """
    if not steps:
        return []
    whole = DateRange(steps[0].start, steps[-1].end)
    comparison = whole.compared(compare)
    if comparison is None:
        return []
    if compare is not Compare.YEAR:
        distance = (comparison.start - whole.start).days
        return [step.shifted(distance) for step in steps]
    found: list[DateRange | None] = []
    free = comparison.start
    for step, after in zip(steps, [*(s.start for s in steps[1:]), None], strict=True):
        start = max(_year_before(step.start), free)
        end = _year_before(step.end)
        if after is not None:
            end = max(end, _year_before(after) - ONE_DAY)
        found.append(DateRange(start, end) if start <= end else None)
        free = max(free, end + ONE_DAY)
    return found


def _year_before(day: date) -> date:
    earlier = DateRange(day, day).compared(Compare.YEAR)
    assert earlier is not None  # noqa: S101  # `compared` returns None for Compare.NONE alone
    return earlier.start
