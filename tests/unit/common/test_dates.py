import itertools
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.common.dates import Compare, DateRange, Granularity

DAYS = st.dates(date(2001, 1, 1), date(2090, 1, 1))
CUTS = st.sampled_from([Granularity.DAY, Granularity.WEEK, Granularity.MONTH])


@st.composite
def ranges(draw: st.DrawFn) -> DateRange:
    start = draw(DAYS)
    return DateRange(start, date.fromordinal(start.toordinal() + draw(st.integers(0, 800))))


@given(ranges(), CUTS, st.integers(1, 7))
def test_a_cut_covers_the_range_once(
    whole: DateRange, granularity: Granularity, week_start: int
) -> None:
    steps = whole.cut(granularity, week_start)
    assert steps[0].start == whole.start
    assert steps[-1].end == whole.end
    assert sum(step.days for step in steps) == whole.days
    assert all(b.start.toordinal() == a.end.toordinal() + 1 for a, b in itertools.pairwise(steps))


@given(ranges(), st.integers(1, 7))
def test_weeks_begin_on_the_chosen_day(whole: DateRange, week_start: int) -> None:
    for step in whole.cut(Granularity.WEEK, week_start)[1:]:
        assert step.start.isoweekday() == week_start


@given(ranges())
def test_comparisons_have_the_same_length_and_end_before(whole: DateRange) -> None:
    previous = whole.compared(Compare.PREVIOUS)
    weekday = whole.compared(Compare.WEEKDAY)
    assert previous is not None
    assert weekday is not None
    assert previous.end.toordinal() == whole.start.toordinal() - 1
    assert weekday.end < whole.start
    assert weekday.start.weekday() == whole.start.weekday()
    assert previous.days == weekday.days == whole.days


def test_the_year_before_a_leap_day_is_the_28th() -> None:
    leap = DateRange(date(2024, 2, 29), date(2024, 2, 29))
    assert leap.compared(Compare.YEAR) == DateRange(date(2023, 2, 28), date(2023, 2, 28))
    assert leap.compared(Compare.NONE) is None


def test_hours_are_not_days() -> None:
    with pytest.raises(ValueError, match="instants"):
        DateRange(date(2026, 1, 1), date(2026, 1, 2)).cut(Granularity.HOUR)
