"""Which days a report is about: one report for each local day, in any zone, for two years."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile

import pytest

from troupe.actors.analytics.reports.periods import (
    ReportPeriod,
    charted,
    compared_with,
    period_before,
    period_of,
)
from troupe.common.dates import DateRange
from troupe.platform.schedules import CronTimetable

ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Darwin",  # 08:00 there is at midnight in Berlin, in summer after it, else before
    "Australia/Lord_Howe",
    "America/Santiago",
]
START = datetime(2025, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("zone", ZONES)
def test_two_years_at_eight_are_one_report_for_each_local_day(zone: str) -> None:
    slots = list(takewhile(lambda at: at < END, CronTimetable("0 8 * * *", zone).after(START)))
    days = [period_of(slot, zone, ReportPeriod.DAY).start for slot in slots]
    assert len(slots) in {730, 731}
    assert days == [days[0] + timedelta(days=number) for number in range(len(days))]


def test_the_tenant_s_own_yesterday_would_come_twice_and_be_left_out() -> None:
    """The broken twin: why the period follows from the reader's calendar."""
    zone = "Australia/Darwin"
    slots = takewhile(lambda at: at < END, CronTimetable("0 8 * * *", zone).after(START))
    counts = Counter(period_of(slot, "Europe/Berlin", ReportPeriod.DAY).start for slot in slots)
    assert max(counts.values()) == 2
    first, last = min(counts), max(counts)
    assert len(counts) < (last - first).days + 1


@pytest.mark.parametrize("week_start", range(1, 8))
def test_weeks_lie_side_by_side(week_start: int) -> None:
    seen = set()
    for number in range(60):
        day = date(2026, 1, 1) + timedelta(days=number)
        week = period_before(day, ReportPeriod.WEEK, week_start)
        assert week.days == 7
        assert week.start.isoweekday() == week_start
        assert week.end < day <= week.end + timedelta(days=7)
        seen.add(week.start)
    starts = sorted(seen)
    assert starts == [starts[0] + timedelta(days=7 * number) for number in range(len(starts))]


def test_a_month_is_the_one_before() -> None:
    assert period_before(date(2026, 3, 1), ReportPeriod.MONTH) == DateRange(
        date(2026, 2, 1), date(2026, 2, 28)
    )
    assert period_before(date(2026, 1, 31), ReportPeriod.MONTH).start == date(2025, 12, 1)


def test_what_is_compared_is_alike() -> None:
    sunday = DateRange(date(2026, 11, 22), date(2026, 11, 22))
    assert compared_with(sunday, ReportPeriod.DAY).start == date(2026, 11, 15)
    week = DateRange(date(2026, 11, 16), date(2026, 11, 22))
    assert compared_with(week, ReportPeriod.WEEK) == week.shifted(-7)
    march = DateRange(date(2026, 3, 1), date(2026, 3, 31))
    assert compared_with(march, ReportPeriod.MONTH) == DateRange(
        date(2026, 2, 1), date(2026, 2, 28)
    )


def test_the_chart_of_a_day_shows_two_weeks() -> None:
    day = date(2026, 11, 22)
    assert charted(DateRange(day, day), ReportPeriod.DAY) == DateRange(date(2026, 11, 9), day)
