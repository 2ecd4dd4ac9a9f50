"""How far a day is from what is usual."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from troupe.actors.analytics.deviation import deviation

ZERO = Decimal(0)
figures = st.none() | st.integers(0, 10**9) | st.decimals(0, 10**9, places=2)


@given(figures, st.lists(figures, max_size=4), st.decimals(0, 10**6, places=2))
def test_it_is_the_mean_of_what_is_known(
    value: Decimal | int | None, before: list[Decimal | int | None], least: Decimal
) -> None:
    found = deviation(value, before, least)
    known = [Fraction(one) for one in before if one is not None]
    usual = sum(known) / len(known) if known else Fraction(0)
    if value is None or len(known) < 2 or usual <= 0 or usual < Fraction(least):
        assert found is None
        return
    assert found is not None
    assert found.value == value
    assert abs(Fraction(found.usual) - usual) <= Fraction(1, 10**6)
    percent = (Fraction(value) - usual) / usual * 100
    assert abs(Fraction(found.percent) - percent) <= Fraction(1, 10**6)


def test_half_is_half() -> None:
    found = deviation(Decimal(50), [100, 100, None], ZERO)
    assert found is not None
    assert found.percent == -50


def test_one_day_is_no_habit() -> None:
    assert deviation(5, [10, None, None], ZERO) is None
