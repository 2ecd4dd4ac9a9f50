"""Which days a report is about.

A schedule of 08:00 means one report for each local day of its reader. So the period follows from
the reader's calendar date at the slot (the day, week or month before it) and not from the
tenant's: where a reader's morning lies near the tenant's midnight, daylight saving moves it
across, and a report that asked for the tenant's yesterday would come twice in autumn and be left
out in spring.

The days themselves are the tenant's: what is counted on the 4th is what the tenant's clock calls
the 4th, in all branches. For a reader far to the east that day is still going on at eight; the
freshness gate waits for it.
"""

from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from troupe.common.dates import WEEK, Compare, DateRange


class ReportPeriod(StrEnum):
    """What a report sums up."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def period_before(day: date, period: ReportPeriod, week_start: int = 1) -> DateRange:
    """The last whole day, week or month before a day.

    Args:
        day: In the reader's calendar.
        period: How long.
        week_start: ISO weekday on which a week begins, 1 (Monday) to 7 (Sunday).

    >>> period_before(date(2026, 3, 2), ReportPeriod.MONTH)
    DateRange(start=datetime.date(2026, 2, 1), end=datetime.date(2026, 2, 28))
    """
    match period:
        case ReportPeriod.DAY:
            yesterday = day - timedelta(days=1)
            return DateRange(yesterday, yesterday)
        case ReportPeriod.WEEK:
            this_week = day - timedelta(days=(day.isoweekday() - week_start) % WEEK)
            return DateRange(this_week - timedelta(days=WEEK), this_week - timedelta(days=1))
        case ReportPeriod.MONTH:
            last = day.replace(day=1) - timedelta(days=1)
            return DateRange(last.replace(day=1), last)


def period_of(slot: datetime, zone: str, period: ReportPeriod, week_start: int = 1) -> DateRange:
    """The period of a report that is due at an instant, for readers in a zone."""
    return period_before(slot.astimezone(ZoneInfo(zone)).date(), period, week_start)


def compared_with(days: DateRange, period: ReportPeriod) -> DateRange:
    """What a report's figures are compared with.

    A day with the same weekday a week ago, a week with the one before it, a month with the calendar
    month before it.
    """
    if period is ReportPeriod.MONTH:
        return period_before(days.start, ReportPeriod.MONTH)
    before = days.compared(Compare.WEEKDAY)
    assert before is not None  # noqa: S101  # `compared` returns None for Compare.NONE alone
    return before


def charted(days: DateRange, period: ReportPeriod) -> DateRange:
    """The days that the chart shows: of a day its last two weeks, else the period itself."""
    if period is ReportPeriod.DAY:
        return DateRange(days.end - timedelta(days=2 * WEEK - 1), days.end)
    return days
