from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.actors.analytics.periods import clock_hours, counterparts, same_hours
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


BERLIN = ZoneInfo("Europe/Berlin")
TODAY = date(2026, 10, 26)
LAST_WEEK = DateRange(date(2026, 10, 20), TODAY)


@pytest.mark.parametrize(
    ("last_event_at", "data_until", "cut"),
    [
        # 14:20 in Berlin: hours up to 15:00, in winter time as in summer time.
        (datetime(2026, 10, 26, 13, 20, tzinfo=UTC), date(2026, 10, 25), (13, 0)),
        (datetime(2026, 10, 26, 13, 20, tzinfo=UTC), None, (13, 0)),
        (datetime(2026, 10, 25, 23, 0, tzinfo=UTC), date(2026, 10, 25), (-1, 0)),
        # The day is complete, or in its last hour, or nothing of it is known, or nothing at all.
        (datetime(2026, 10, 26, 13, 20, tzinfo=UTC), TODAY, None),
        (datetime(2026, 10, 26, 22, 30, tzinfo=UTC), date(2026, 10, 25), None),
        (datetime(2026, 10, 25, 22, 59, tzinfo=UTC), date(2026, 10, 24), None),
        (datetime(2026, 10, 27, 8, 0, tzinfo=UTC), date(2026, 10, 25), None),
        (None, None, None),
    ],
)
def test_a_partial_day_is_compared_to_the_same_hours(
    last_event_at: datetime | None, data_until: date | None, cut: tuple[int, int] | None
) -> None:
    comparison = LAST_WEEK.compared(Compare.PREVIOUS)
    assert comparison is not None
    found = same_hours(
        LAST_WEEK, comparison, BERLIN, data_until=data_until, last_event_at=last_event_at
    )
    if cut is None:
        assert found is None
    else:
        midnight = datetime(2026, 10, 19, tzinfo=UTC)
        assert found == midnight + timedelta(hours=cut[0], minutes=cut[1])


def test_the_same_hours_follow_the_clock_on_the_wall() -> None:
    """Compared with the day on which the clock is set back: 15:00 is 15:00."""
    now = DateRange(TODAY, TODAY)
    found = same_hours(
        now,
        now.shifted(-1),
        BERLIN,
        data_until=None,
        last_event_at=datetime(2026, 10, 26, 1, 20, tzinfo=UTC),  # 02:20
    )
    assert found == datetime(2026, 10, 25, 2, 0, tzinfo=UTC)  # 03:00, an hour later than usual
