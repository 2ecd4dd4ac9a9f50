from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.actors.analytics.periods import clock_hours, counterparts
from troupe.common.dates import Compare, DateRange, Granularity

CUTS = st.sampled_from([Granularity.DAY, Granularity.WEEK, Granularity.MONTH])


@st.composite
def ranges(draw: st.DrawFn) -> DateRange:
    start = draw(st.dates(date(2001, 1, 1), date(2090, 1, 1)))
    return DateRange(start, start + timedelta(days=draw(st.integers(0, 800))))


@given(ranges(), CUTS, st.integers(1, 7), st.sampled_from(list(Compare)))
def test_counterparts_cover_what_the_range_is_compared_with(
    whole: DateRange, granularity: Granularity, week_start: int, compare: Compare
) -> None:
    steps = whole.cut(granularity, week_start)
    found = counterparts(steps, compare)
    comparison = whole.compared(compare)
    if comparison is None:
        assert found == []
        return
    assert len(found) == len(steps)
    known = [step for step in found if step is not None]
    assert (known[0].start, known[-1].end) == (comparison.start, comparison.end)
    assert all(b.start - a.end == timedelta(days=1) for a, b in pairwise(known))
    for step, other in zip(steps, found, strict=True):
        if compare is not Compare.YEAR:
            assert other is not None
            assert other.days == step.days
        elif other is None:
            assert step == DateRange(step.start, step.start)
            assert (step.start.month, step.start.day) == (2, 29)
        else:
            assert abs(other.days - step.days) <= 1


def test_a_leap_day_has_no_counterpart_in_a_common_year() -> None:
    def days(year: int, *numbers: tuple[int, int]) -> list[DateRange]:
        return [DateRange(date(year, *number), date(year, *number)) for number in numbers]

    leap = days(2024, (2, 28), (2, 29), (3, 1))
    assert counterparts(leap, Compare.YEAR) == [
        *days(2023, (2, 28)),
        None,
        *days(2023, (3, 1)),
    ]
    common = days(2025, (2, 28), (3, 1))
    assert counterparts(common, Compare.YEAR) == [
        DateRange(date(2024, 2, 28), date(2024, 2, 29)),
        *days(2024, (3, 1)),
    ]
    month = DateRange(date(2025, 2, 1), date(2025, 3, 31)).cut(Granularity.MONTH)
    assert counterparts(month, Compare.YEAR)[0] == DateRange(date(2024, 2, 1), date(2024, 2, 29))
    assert counterparts([], Compare.YEAR) == []


@pytest.mark.parametrize(
    ("zone", "day", "count"),
    [
        ("UTC", date(2026, 3, 29), 24),
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Asia/Kolkata", date(2026, 10, 25), 24),
        ("Australia/Lord_Howe", date(2026, 10, 4), 24),  # one of them is half an hour
        ("Pacific/Apia", date(2011, 12, 30), 0),  # the day that Samoa left out
    ],
)
def test_a_day_has_the_hours_of_its_clock(zone: str, day: date, count: int) -> None:
    hours = clock_hours(DateRange(day, day), ZoneInfo(zone))
    assert len(hours) == count
    assert all(a.end == b.start for a, b in pairwise(hours))
    assert all(hour.key <= hour.start < hour.end for hour in hours)


def test_an_hour_that_a_clock_cuts_short_is_short() -> None:
    day = date(2026, 10, 4)
    hours = clock_hours(DateRange(day, day), ZoneInfo("Australia/Lord_Howe"))
    short = [hour for hour in hours if hour.end - hour.start != timedelta(hours=1)]
    (only,) = short
    assert only.start == datetime(2026, 10, 3, 15, 30, tzinfo=UTC)
    assert only.end == datetime(2026, 10, 3, 16, 0, tzinfo=UTC)
    assert only.key == datetime(2026, 10, 3, 15, 0, tzinfo=UTC)
