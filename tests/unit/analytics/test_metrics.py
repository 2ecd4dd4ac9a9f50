from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from troupe.actors.analytics.metrics import METRICS, Measures, Unit, change, ratio

COUNTS = st.integers(0, 10**9)


def test_a_metric_is_named_once_and_explains_itself() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())
    assert all(metric.title and metric.definition.endswith(".") for metric in METRICS.values())


def test_nothing_measured_is_unknown_and_not_zero() -> None:
    empty = Measures()
    for metric in METRICS.values():
        value = metric.compute(empty)
        assert value is None if metric.unit is Unit.RATIO else value in {None, 0}


def test_figures_follow_their_definitions() -> None:
    measures = Measures(
        sessions=200,
        engaged_sessions=150,
        sessions_with_purchase=10,
        sessions_with_cart=40,
        sessions_with_cart_without_purchase=30,
        searches=8,
        failed_searches=2,
        active_users=100,
        purchasers=9,
        purchases=12,
        purchases_in_currency=11,
        gross_revenue=Decimal("1100.05"),
        refund_value=Decimal("100.05"),
    )
    assert {
        name: METRICS[name].compute(measures)
        for name in (
            "net_revenue",
            "average_order_value",
            "bounce_rate",
            "session_conversion_rate",
            "purchaser_conversion_rate",
            "cart_abandonment_rate",
            "failed_search_rate",
            "purchases",
        )
    } == {
        "net_revenue": Decimal("1000.00"),
        "average_order_value": Decimal("100.00"),
        "bounce_rate": Decimal("0.25"),
        "session_conversion_rate": Decimal("0.05"),
        "purchaser_conversion_rate": Decimal("0.09"),
        "cart_abandonment_rate": Decimal("0.75"),
        "failed_search_rate": Decimal("0.25"),
        "purchases": 12,
    }


@given(COUNTS, COUNTS)
def test_a_ratio_is_exact_to_six_places(part: int, whole: int) -> None:
    value = ratio(part, whole)
    if whole == 0:
        assert value is None
    else:
        assert value is not None
        assert abs(value * whole - part) <= Decimal("0.0000005") * whole


def test_change_is_relative_to_the_size_of_what_was() -> None:
    assert change(Decimal(110), Decimal(100)) == Decimal("0.1")
    assert change(Decimal(-50), Decimal(-100)) == Decimal("0.5")
    assert change(5, 0) is None
    assert change(None, 3) is None
