"""The overview's lists: the funnel, channels, devices, countries; top products, pages, terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from troupe.actors.analytics.answers import Dimension, FunnelCounts, PartSummaries
from troupe.actors.analytics.metrics import METRICS, Better, Figure, Metric, ratio
from troupe.actors.analytics.ranking import Ranking
from troupe.actors.analytics.subjects import SUBJECT_METRICS, Kind, SubjectMetric, SubjectPage
from troupe.http.dashboard.changes import Change

TOP_ROWS: Final = 8
NOT_KNOWN: Final = "Not known"
RANKED_BY: Final[Mapping[Kind, str]] = {
    Kind.PRODUCT: "revenue",
    Kind.PAGE: "views",
    Kind.TERM: "views",
}
PART_METRICS: Final = ("sessions", "session_conversion_rate", "gross_revenue")
_TITLES: Final[Mapping[Dimension, tuple[str, str]]] = {
    Dimension.CHANNEL: ("Channels", "Channel"),
    Dimension.DEVICE: ("Devices", "Device"),
    Dimension.COUNTRY: ("Countries", "Country"),
}
_STEPS: Final = (
    ("view", "Product viewed"),
    ("cart", "Put into the cart"),
    ("checkout", "Checkout begun"),
    ("purchase", "Purchased"),
)
_SUBJECTS: Final[Mapping[Kind, tuple[str, str, str, tuple[str, ...]]]] = {
    Kind.PRODUCT: ("products", "Top products", "Product", ("revenue", "purchases", "views")),
    Kind.PAGE: ("pages", "Top pages", "Page", ("views", "entrances", "bounce_rate")),
    Kind.TERM: ("terms", "Top search terms", "Term", ("views", "failed_rate", "conversion_rate")),
}


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """One step of the funnel.

    Attributes:
        name: As in the API.
        title: For people.
        sessions: That got there.
        of_first: Share of those at the first step; None: there were none.
        of_previous: Share of those at the step before; None at the first.
        change: Against the period before.
    """

    name: str
    title: str
    sessions: int
    of_first: Decimal | None
    of_previous: Decimal | None
    change: Change | None


def funnel_steps(funnels: Sequence[FunnelCounts]) -> tuple[FunnelStep, ...]:
    """The steps of a period; the second of two periods is what it is compared with."""
    counts, *earlier = [(one.viewed, one.carted, one.checked_out, one.purchased) for one in funnels]
    return tuple(
        FunnelStep(
            name,
            title,
            counts[at],
            ratio(counts[at], counts[0]),
            ratio(counts[at], counts[at - 1]) if at else None,
            Change.of(counts[at], earlier[0][at], Better.MORE) if earlier else None,
        )
        for at, (name, title) in enumerate(_STEPS)
    )


@dataclass(frozen=True, slots=True)
class PartRow:
    """One channel, device or country; `share` is its part of all sessions listed, in percent."""

    key: str
    title: str
    values: tuple[Figure, ...]
    share: Decimal
    change: Change | None
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class PartList:
    """Channels, devices or countries: those with most sessions, and how many more there are."""

    parameter: str
    title: str
    column: str
    metrics: tuple[Metric, ...]
    rows: tuple[PartRow, ...]
    left_out: int


def part_lists(
    parts: Mapping[Dimension, Sequence[PartSummaries]], narrowed: Mapping[str, str]
) -> tuple[PartList, ...]:
    """All lists of parts.

    Args:
        parts: Of a period, and perhaps of the one that it is compared with.
        narrowed: Filters in force.
    """
    return tuple(_part_list(one, found, narrowed) for one, found in parts.items())


def _part_list(
    dimension: Dimension, found: Sequence[PartSummaries], narrowed: Mapping[str, str]
) -> PartList:
    now, *earlier = found
    metrics = tuple(METRICS[name] for name in PART_METRICS)
    ranked = [
        part
        for part in Ranking("sessions", descending=True).order(now)
        if now[part].measures.sessions or now[part].measures.purchases
    ]
    whole = sum(now[part].measures.sessions for part in ranked)
    rows = tuple(
        PartRow(
            part.key,
            _named(dimension, part.key),
            tuple(metric.compute(now[part].measures) for metric in metrics),
            100 * (ratio(now[part].measures.sessions, whole) or Decimal(0)),
            Change.between(metrics[0], now[part].measures, earlier[0][part].measures)
            if earlier
            else None,
            narrowed.get(dimension.value) == part.key,
        )
        for part in ranked[:TOP_ROWS]
    )
    title, column = _TITLES[dimension]
    return PartList(dimension.value, title, column, metrics, rows, len(ranked) - len(rows))


def _named(dimension: Dimension, key: str) -> str:
    if not key:
        return NOT_KNOWN
    return key.capitalize() if dimension is Dimension.DEVICE else key


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """One product, page or term; `share` is its first figure in percent of the greatest."""

    name: str
    title: str
    values: tuple[Figure, ...]
    share: Decimal
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class SubjectList:
    """Products, pages or terms: the greatest, and how many there are in all."""

    parameter: str
    name: str
    title: str
    column: str
    metrics: tuple[SubjectMetric, ...]
    rows: tuple[SubjectRow, ...]
    total: int


def subject_lists(
    subjects: Mapping[Kind, SubjectPage], narrowed: Mapping[str, str]
) -> tuple[SubjectList, ...]:
    """All lists of subjects, products first.

    Args:
        subjects: What was read of each kind.
        narrowed: Filters in force.
    """
    return tuple(_subject_list(kind, subjects[kind], narrowed) for kind in _SUBJECTS)


def _subject_list(kind: Kind, page: SubjectPage, narrowed: Mapping[str, str]) -> SubjectList:
    name, title, column, wanted = _SUBJECTS[kind]
    metrics = tuple(SUBJECT_METRICS[kind][one] for one in wanted)
    listed = [
        (subject, tuple(metric.compute(subject.now) for metric in metrics))
        for subject in page.subjects
    ]
    best = max((Decimal(values[0] or 0) for _, values in listed), default=Decimal(0))
    rows = tuple(
        SubjectRow(
            subject.name,
            subject.label or subject.name or NOT_KNOWN,
            values,
            100 * (Decimal(values[0] or 0) / best) if best > 0 else Decimal(0),
            narrowed.get(kind.value) == subject.name,
        )
        for subject, values in listed
    )
    return SubjectList(kind.value, name, title, column, metrics, rows, page.total)
