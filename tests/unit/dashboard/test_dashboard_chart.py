import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.http.dashboard.chart import MAX_SLOTS, PATH_WIDTH, Scale, Value, line_chart, sparkline

VALUES = st.lists(
    st.one_of(st.none(), st.integers(-(10**6), 10**9), st.decimals("-1e30", "1e30", places=2)),
    max_size=60,
)


def coordinates(path: str) -> list[tuple[float, float]]:
    numbers = [float(text) for text in re.findall(r"-?\d+\.\d", path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@given(VALUES, VALUES)
def test_everything_is_drawn_inside_the_chart(values: list[Value], behind: list[Value]) -> None:
    chart = line_chart(values, behind)
    for path in (chart.line, chart.comparison, chart.area):
        for x, y in coordinates(path):
            assert 0 <= x <= PATH_WIDTH
            assert -0.1 <= y <= chart.bottom + 0.1
    assert all(0 < dot.x < 100 and 0 <= dot.y <= chart.bottom + 0.1 for dot in chart.dots)
    assert len(chart.dots) == sum(value is not None for value in values)
    assert any(tick.value == 0 and tick.y == chart.baseline for tick in chart.y_ticks)
    assert len(chart.x_labels) <= 8
    assert len(chart.y_ticks) <= 8


@given(st.lists(st.floats(-1e300, 1e300), max_size=20), st.booleans())
def test_a_scale_is_round_and_holds_all_values(values: list[float], whole: bool) -> None:
    scale = Scale.around(values, steps=5, whole=whole)
    slack = scale.step * 1e-6
    assert scale.low <= 0 <= scale.high
    assert all(scale.low - slack <= value <= scale.high + slack for value in values)
    assert 1 <= len(scale.ticks()) <= 8
    if whole:
        assert scale.step >= 1


def test_counts_have_no_halves_on_their_axis() -> None:
    assert [tick.value for tick in line_chart([0, 1, 2], whole=True).y_ticks] == [0, 1, 2]
    assert [tick.value for tick in line_chart([0, 1]).y_ticks][1] == Decimal("0.2")


def test_missing_values_break_the_line() -> None:
    chart = line_chart([1, 2, None, 3, None, 4, 5])
    assert chart.line.count("M") == 3
    assert chart.area.count("Z") == 2  # one value alone has no area
    assert [dot.index for dot in chart.dots] == [0, 1, 3, 5, 6]


def test_a_value_without_neighbours_is_a_dot() -> None:
    many: list[Value] = [*[1] * 40, None, 5, None, *[1] * 40]
    assert [dot.index for dot in line_chart(many).dots if dot.shown] == [41]
    (alone,) = line_chart([3], [4]).comparison_dots
    assert (alone.x, alone.index) == (50, 0)
    assert line_chart([3, 4], [4, 5]).comparison_dots == ()


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 800])
def test_a_chart_of_any_length_can_be_laid_out(count: int) -> None:
    chart = line_chart([7] * count)
    assert (chart.slot is None) == (count > MAX_SLOTS)
    assert all(dot.shown for dot in chart.dots) == (count <= 31)


@pytest.mark.parametrize("value", [Decimal("1e308"), Decimal("-1e400"), 2**63])
def test_an_absurd_value_does_not_break_the_chart(value: Value) -> None:
    chart = line_chart([0, value, 5], [None, 1])
    assert "inf" not in chart.line
    assert "nan" not in chart.line
    assert "inf" not in sparkline([0, value])


def test_labels_can_be_bound_to_days() -> None:
    week = line_chart([1] * 168, labels_by=24)
    assert [label.index for label in week.x_labels] == list(range(0, 168, 24))
    assert [label.index for label in line_chart([1] * 10).x_labels] == [0, 2, 4, 6, 8]


def test_a_sparkline_needs_two_values() -> None:
    assert sparkline([]) == sparkline([1]) == sparkline([None, 1]) == ""
    assert sparkline([5, 5]).startswith("M2.0 16.0")
    assert coordinates(sparkline([1, 2, 3]))[-1] == (118, 3)
