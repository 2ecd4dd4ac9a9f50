"""What people looked at: pages, products and search terms, with their own figures.

Each kind has its registry, as `metrics` has one for sessions, and for the same reason: a figure is
defined once, wherever it is shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from troupe.actors.analytics.answers import Snapshot
from troupe.actors.analytics.filters import EVERYTHING, Filters
from troupe.actors.analytics.metrics import Figure, Unit, ratio
from troupe.actors.analytics.periods import Period
from troupe.common.dates import DateRange

if TYPE_CHECKING:
    import asyncpg


class Kind(StrEnum):
    """What is looked at."""

    PAGE = "page"
    PRODUCT = "product"
    TERM = "term"


@dataclass(frozen=True, slots=True)
class SubjectMeasures:
    """What one subject sums up to in a period; money is in the reporting currency."""

    views: int = 0
    cart_additions: int = 0
    failures: int = 0
    sessions: int = 0
    visitors: int = 0
    conversions: int = 0
    entrances: int = 0
    bounces: int = 0
    purchases: int = 0
    quantity: Decimal = Decimal(0)
    revenue: Decimal = Decimal(0)


_NAMES: Final = tuple(SubjectMeasures.__slots__)
_DECIMALS: Final = ("quantity", "revenue")
_DISTINCTS: Final = ("sessions", "visitors", "conversions")
"""No sums of days: to rank by one of these, it must be counted for every subject."""


@dataclass(frozen=True, slots=True)
class SubjectMetric:
    """One figure of a subject."""

    name: str
    title: str
    unit: Unit
    definition: str
    compute: Callable[[SubjectMeasures], Figure]


def _bounce_rate(measures: SubjectMeasures) -> Figure:
    return ratio(measures.bounces, measures.entrances)


_SESSIONS: Final = SubjectMetric(
    "sessions", "Sessions", Unit.COUNT, "Distinct sessions with it.", lambda m: m.sessions
)
_VISITORS: Final = SubjectMetric(
    "visitors", "Visitors", Unit.COUNT, "Distinct visitors with it.", lambda m: m.visitors
)
_OF_PAGES: Final = (
    SubjectMetric("views", "Page views", Unit.COUNT, "Page view events.", lambda m: m.views),
    _SESSIONS,
    _VISITORS,
    SubjectMetric(
        "entrances", "Entrances", Unit.COUNT,
        "Sessions that begin with it, on the day they start.",
        lambda m: m.entrances,
    ),
    SubjectMetric(
        "bounce_rate", "Bounce rate", Unit.RATIO,
        "Share of those sessions that were not engaged.",
        _bounce_rate,
    ),
)  # fmt: skip
_OF_PRODUCTS: Final = (
    SubjectMetric(
        "views", "Product views", Unit.COUNT, "Product view events with it.", lambda m: m.views
    ),
    SubjectMetric(
        "cart_additions", "Cart additions", Unit.COUNT,
        "Events that put it into a cart.",
        lambda m: m.cart_additions,
    ),
    SubjectMetric(
        "purchases", "Purchases", Unit.COUNT,
        "Deduplicated purchases with it, in any currency.",
        lambda m: m.purchases,
    ),
    SubjectMetric(
        "quantity", "Quantity", Unit.COUNT, "Pieces in those purchases.", lambda m: int(m.quantity)
    ),
    SubjectMetric(
        "revenue", "Revenue", Unit.MONEY,
        "Item revenue of purchases in the reporting currency.",
        lambda m: m.revenue,
    ),
    _SESSIONS,
    _VISITORS,
)  # fmt: skip
_OF_TERMS: Final = (
    SubjectMetric(
        "views", "Searches", Unit.COUNT, "Searches for it, failed ones included.",
        lambda m: m.views,
    ),
    SubjectMetric(
        "sessions", "Unique searches", Unit.COUNT, "Distinct sessions that searched for it.",
        lambda m: m.sessions,
    ),
    _VISITORS,
    SubjectMetric(
        "failures", "Failed searches", Unit.COUNT, "Searches for it that found nothing.",
        lambda m: m.failures,
    ),
    SubjectMetric(
        "failed_rate", "Failed rate", Unit.RATIO, "Share of searches for it that found nothing.",
        lambda m: ratio(m.failures, m.views),
    ),
    SubjectMetric(
        "conversions", "Conversions", Unit.COUNT,
        "Of those sessions, the ones with a purchase after the search.",
        lambda m: m.conversions,
    ),
    SubjectMetric(
        "conversion_rate", "Search conversion", Unit.RATIO,
        "Conversions per unique search.",
        lambda m: ratio(m.conversions, m.sessions),
    ),
)  # fmt: skip


def _by_name(metrics: Sequence[SubjectMetric]) -> Mapping[str, SubjectMetric]:
    return MappingProxyType({metric.name: metric for metric in metrics})


SUBJECT_METRICS: Final[Mapping[Kind, Mapping[str, SubjectMetric]]] = MappingProxyType(
    {
        Kind.PAGE: _by_name(_OF_PAGES),
        Kind.PRODUCT: _by_name(_OF_PRODUCTS),
        Kind.TERM: _by_name(_OF_TERMS),
    }
)


def sortable(kind: Kind) -> tuple[str, ...]:
    """Figures that subjects of a kind can be ranked by: those that are sums."""
    return tuple(name for name in SUBJECT_METRICS[kind] if name in _NAMES)


@dataclass(frozen=True, slots=True)
class Subject:
    """One page, product or term.

    Attributes:
        name: Address without query, item id, or normalised term.
        label: Page's title, product's name, or term as typed, if any is known.
        now: Its figures.
        before: Its figures in the period compared with; None when nothing is compared.
        place: Where it stands in the order.
    """

    name: str
    label: str | None
    now: SubjectMeasures
    before: SubjectMeasures | None
    place: tuple[Decimal, str]


@dataclass(frozen=True, slots=True)
class SubjectPage:
    """Some subjects, greatest first; `total` is how many there are on all pages."""

    subjects: list[Subject]
    total: int
    place: tuple[Decimal, str] | None


async def read_subjects(
    snapshot: Snapshot,
    kind: Kind,
    periods: Sequence[DateRange | Period],
    filters: Filters = EVERYTHING,
    *,
    by: str,
    after: tuple[Decimal, str] | None = None,
    limit: int,
) -> SubjectPage:
    """One page of what was looked at in a period.

    Args:
        snapshot: Of the tenant's data.
        kind: Pages, products or terms.
        periods: One, or two: the second is what the first is compared with.
        filters: What to look at.
        by: The figure to rank by, one of `sortable`.
        after: `SubjectPage.place` of the page before.
        limit: At most so many.
    """
    own = kind, snapshot.reporting.currency, by, *(after or (None, None)), limit + 1
    wanted = [Period.of(period) for period in periods]
    if filters == EVERYTHING and by not in _DISTINCTS and not any(p.until for p in wanted):
        firsts, lasts = [p.days.start for p in wanted], [p.days.end for p in wanted]
        rows = await snapshot.group("subjects_by_day", firsts, lasts, *own)
    else:
        rows = await snapshot.fetch("subjects", wanted, filters, *own)
    compared = len(periods) > 1
    found = [
        Subject(
            row["subject"],
            row["label"],
            _measures(row, ""),
            _measures(row, "_before") if compared else None,
            (Decimal(row["figure"]), row["subject"]),
        )
        for row in rows[:limit]
    ]
    more = len(rows) > limit
    return SubjectPage(found, rows[0]["total"] if rows else 0, found[-1].place if more else None)


def _measures(row: "asyncpg.Record", suffix: str) -> SubjectMeasures:
    counts = {name: row[name + suffix] or 0 for name in _NAMES if name not in _DECIMALS}
    quantity, revenue = (Decimal(row[name + suffix] or 0) for name in _DECIMALS)
    return SubjectMeasures(**counts, quantity=quantity, revenue=revenue)
