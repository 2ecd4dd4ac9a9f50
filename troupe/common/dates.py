"""Ranges of calendar days, what they are compared with, and how a chart cuts them.

Days are days of the tenant's reporting zone; nothing here knows an instant. The range to compare
with is shifted back by its own length (``previous``), by the fewest whole weeks that clear the
range (``weekday``: Mondays meet Mondays), or by a calendar year (``year``).
"""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

WEEK = 7


class Compare(StrEnum):
    """What a range is compared with."""

    PREVIOUS = "previous"
    WEEKDAY = "weekday"
    YEAR = "year"
    NONE = "none"


class Granularity(StrEnum):
    """The steps of a chart."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class DateRange:
    """Calendar days in the tenant's zone, both ends included."""

    start: date
    end: date

    @property
    def days(self) -> int:
        """Length in days, at least 1."""
        return (self.end - self.start).days + 1

    def shifted(self, days: int) -> "DateRange":
        """The same length, `days` later (earlier when negative)."""
        step = timedelta(days=days)
        return DateRange(self.start + step, self.end + step)

    def compared(self, compare: Compare) -> "DateRange | None":
        """The range to compare with, or None."""
        match compare:
            case Compare.PREVIOUS:
                return self.shifted(-self.days)
            case Compare.WEEKDAY:
                return self.shifted(-WEEK * -(-self.days // WEEK))
            case Compare.YEAR:
                return DateRange(_year_before(self.start), _year_before(self.end))
            case Compare.NONE:
                return None

    def cut(self, granularity: Granularity, week_start: int = 1) -> list["DateRange"]:
        """Cut along days, weeks or months; the outer steps end where the range ends.

        Args:
            granularity: Not `hour`: hours are instants, not days.
            week_start: ISO weekday on which a week begins, 1 (Monday) to 7 (Sunday).
        """
        starts: list[date] = []
        day = self.start
        while day <= self.end:
            starts.append(day)
            day = _next_start(day, granularity, week_start)
        ends = [start - timedelta(days=1) for start in starts[1:]] + [self.end]
        return [DateRange(start, end) for start, end in zip(starts, ends, strict=True)]


def _year_before(day: date) -> date:
    try:
        return day.replace(year=day.year - 1)
    except ValueError:  # 29 February
        return day.replace(year=day.year - 1, day=28)


def _next_start(day: date, granularity: Granularity, week_start: int) -> date:
    match granularity:
        case Granularity.DAY:
            return day + timedelta(days=1)
        case Granularity.WEEK:
            return day + timedelta(days=WEEK - (day.isoweekday() - week_start) % WEEK)
        case Granularity.MONTH:
            return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        case Granularity.HOUR:
            raise ValueError("hours are instants, not days")
