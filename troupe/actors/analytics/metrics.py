"""The registry of metrics: one definition of every figure, for API, page, exports and e-mails.

A figure that is computed in two places differs between them sooner or later. So a metric is defined
here once, as a pure function of a row of *measures* (the sums and distinct counts that one SQL
statement returns), together with all that is needed to show it: title, unit, and whether more is
better. Definitions are those of METRICS ("Session", "Users", "Money", "Cart abandonment",
"Search"); each metric's docstring-like ``definition`` says it in a person's words.

Money is Decimal throughout. Ratios are Decimals rounded half-even to six places, or None where the
denominator is zero: no division by zero turns into a zero that looks like a measurement.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Final

RATIO_PLACES: Final = Decimal("0.000001")
CENT: Final = Decimal("0.01")
_EXACT: Final = Context(prec=1000, rounding=ROUND_HALF_EVEN)
"""Whoever can send a hit can claim a purchase of 1e308; that may look absurd, but must not fail."""


class Unit(StrEnum):
    """What a figure measures."""

    COUNT = "count"
    MONEY = "money"
    RATIO = "ratio"


class Better(StrEnum):
    """Which direction of change is good news."""

    MORE = "more"
    LESS = "less"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Measures:
    """What one range (or bucket, or branch) of the database sums up to.

    Money is in the tenant's reporting currency; `purchases` counts every currency,
    `purchases_in_currency` the reporting one only.
    """

    events: int = 0
    events_without_consent: int = 0
    page_views: int = 0
    sessions: int = 0
    engaged_sessions: int = 0
    sessions_with_cart: int = 0
    sessions_with_checkout: int = 0
    sessions_with_purchase: int = 0
    sessions_with_cart_without_purchase: int = 0
    searches: int = 0
    failed_searches: int = 0
    total_users: int = 0
    active_users: int = 0
    new_users: int = 0
    returning_users: int = 0
    purchasers: int = 0
    purchases: int = 0
    purchases_in_currency: int = 0
    gross_revenue: Decimal = Decimal(0)
    refund_value: Decimal = Decimal(0)


Figure = int | Decimal | None


def ratio(part: int | Decimal, whole: int | Decimal) -> Decimal | None:
    """`part` of `whole`, six places, or None when there is no whole."""
    if not whole:
        return None
    return (Decimal(part) / Decimal(whole)).quantize(RATIO_PLACES, context=_EXACT)


def change(now: Figure, before: Figure) -> Decimal | None:
    """Relative change, or None where either is unknown or there is nothing to compare with."""
    if now is None or before is None or not before:
        return None
    return ratio(_EXACT.subtract(Decimal(now), Decimal(before)), abs(Decimal(before)))


def _bounce_rate(measures: Measures) -> Decimal | None:
    engaged = ratio(measures.engaged_sessions, measures.sessions)
    return None if engaged is None else 1 - engaged


def _average_order_value(measures: Measures) -> Decimal | None:
    if not measures.purchases_in_currency:
        return None
    average = measures.gross_revenue / measures.purchases_in_currency
    return average.quantize(CENT, context=_EXACT)


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure: how it is computed and how it is shown."""

    name: str
    title: str
    unit: Unit
    better: Better
    definition: str
    compute: Callable[[Measures], Figure]
    hourly: bool = True
    """Whether a value per clock hour exists (distinct users are kept per day)."""


_ALL: Final = (
    Metric(
        "gross_revenue", "Revenue", Unit.MONEY, Better.MORE,
        "Revenue of deduplicated purchases in the reporting currency.",
        lambda m: m.gross_revenue,
    ),
    Metric(
        "net_revenue", "Net revenue", Unit.MONEY, Better.MORE,
        "Revenue less refunds; a refund counts on its own day.",
        lambda m: _EXACT.subtract(m.gross_revenue, m.refund_value),
    ),
    Metric(
        "refund_value", "Refunds", Unit.MONEY, Better.LESS,
        "Value of refunds in the reporting currency, on the day of the refund.",
        lambda m: m.refund_value,
    ),
    Metric(
        "purchases", "Purchases", Unit.COUNT, Better.MORE,
        "Purchases in any currency, each (visitor, transaction) once for all time.",
        lambda m: m.purchases,
    ),
    Metric(
        "average_order_value", "Average order", Unit.MONEY, Better.MORE,
        "Revenue per purchase in the reporting currency.",
        _average_order_value,
    ),
    Metric(
        "sessions", "Sessions", Unit.COUNT, Better.MORE,
        "Distinct (stream, visitor, session id), on the day they start.",
        lambda m: m.sessions,
    ),
    Metric(
        "engaged_sessions", "Engaged sessions", Unit.COUNT, Better.MORE,
        "Sessions that Google Analytics marked as engaged.",
        lambda m: m.engaged_sessions,
    ),
    Metric(
        "bounce_rate", "Bounce rate", Unit.RATIO, Better.LESS,
        "Share of sessions that were not engaged.",
        _bounce_rate,
    ),
    Metric(
        "session_conversion_rate", "Session conversion", Unit.RATIO, Better.MORE,
        "Sessions with a purchase per session.",
        lambda m: ratio(m.sessions_with_purchase, m.sessions),
    ),
    Metric(
        "purchaser_conversion_rate", "Purchaser conversion", Unit.RATIO, Better.MORE,
        "Visitors who purchased per active user.",
        lambda m: ratio(m.purchasers, m.active_users),
        hourly=False,
    ),
    Metric(
        "cart_abandonment_rate", "Cart abandonment", Unit.RATIO, Better.LESS,
        "Sessions with a cart and no purchase per session with a cart.",
        lambda m: ratio(m.sessions_with_cart_without_purchase, m.sessions_with_cart),
    ),
    Metric(
        "total_users", "Visitors", Unit.COUNT, Better.MORE,
        "Distinct visitors with any event.",
        lambda m: m.total_users,
        hourly=False,
    ),
    Metric(
        "active_users", "Active users", Unit.COUNT, Better.MORE,
        "Distinct visitors with an engaged session, a first visit or engagement time.",
        lambda m: m.active_users,
        hourly=False,
    ),
    Metric(
        "new_users", "New users", Unit.COUNT, Better.MORE,
        "Distinct visitors with a first visit.",
        lambda m: m.new_users,
        hourly=False,
    ),
    Metric(
        "returning_users", "Returning users", Unit.COUNT, Better.MORE,
        "Distinct visitors in their second or a later session.",
        lambda m: m.returning_users,
        hourly=False,
    ),
    Metric(
        "page_views", "Page views", Unit.COUNT, Better.MORE,
        "Page view events.",
        lambda m: m.page_views,
    ),
    Metric(
        "searches", "Searches", Unit.COUNT, Better.NEITHER,
        "Searches, failed ones included.",
        lambda m: m.searches,
    ),
    Metric(
        "failed_search_rate", "Failed searches", Unit.RATIO, Better.LESS,
        "Share of searches that found nothing.",
        lambda m: ratio(m.failed_searches, m.searches),
    ),
    Metric(
        "events", "Events", Unit.COUNT, Better.NEITHER,
        "All events, those without consent included.",
        lambda m: m.events,
    ),
    Metric(
        "events_without_consent", "Events without consent", Unit.COUNT, Better.NEITHER,
        "Events without visitor or session id; they count as events only.",
        lambda m: m.events_without_consent,
    ),
)  # fmt: skip

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({metric.name: metric for metric in _ALL})
