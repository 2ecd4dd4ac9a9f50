"""What the overview page shows, as plain values: the template only places and formats them.

One question fetches the range, what it is compared with, and every step of the chart for both, so
all figures of a page come from one snapshot of the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from troupe.actors.analytics.answers import Answers, Branch, OtherCurrency, Reporting, Summary
from troupe.actors.analytics.metrics import METRICS, Figure, Metric, change
from troupe.common.dates import DateRange, Granularity
from troupe.common.ids import TenantId
from troupe.http.dashboard import formats
from troupe.http.dashboard.chart import LineChart, line_chart, sparkline

CARDS: Final = (
    "gross_revenue",
    "purchases",
    "average_order_value",
    "sessions",
    "session_conversion_rate",
    "total_users",
)
BRANCH_COLUMNS: Final = (
    "gross_revenue",
    "purchases",
    "sessions",
    "session_conversion_rate",
    "average_order_value",
    "cart_abandonment_rate",
)
NO_BRANCH: Final = "No branch known"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the address of the page asks for."""

    preset: str
    compare: str
    granularity: Granularity
    metric: str
    location: str | None


@dataclass(frozen=True, slots=True)
class Card:
    """One key figure."""

    metric: Metric
    value: Figure
    previous: Figure
    change: Decimal | None
    tone: str
    spark: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """One step of the chart."""

    label: str
    long_label: str
    title: str
    value: Figure
    previous: Figure


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a branch."""

    metric: Metric
    value: Figure


@dataclass(frozen=True, slots=True)
class BranchRow:
    """One branch; `share` is its revenue in percent of the strongest branch's."""

    branch: Branch
    name: str
    cells: tuple[Cell, ...]
    share: Decimal
    change: Decimal | None
    tone: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The page."""

    period: DateRange
    comparison: DateRange | None
    cards: tuple[Card, ...]
    metric: Metric
    chart: LineChart
    chart_note: str
    buckets: tuple[Bucket, ...]
    branch_columns: tuple[Metric, ...]
    branches: tuple[BranchRow, ...]
    branch_name: str
    other_currencies: tuple[OtherCurrency, ...]
    data_version: int


def branch_name(branch: Branch) -> str:
    """What a person calls the branch."""
    return branch.name or branch.location_id or NO_BRANCH


def _step_label(step: DateRange, *, year: bool) -> str:
    if step.days == 1:
        return formats.day(step.start, year=year)
    return f"{formats.day(step.start)} – {formats.day(step.end, year=year)}"


def _cards(now: Summary, before: Summary | None, steps: Sequence[Summary]) -> tuple[Card, ...]:
    cards: list[Card] = []
    for name in CARDS:
        metric = METRICS[name]
        value = metric.compute(now.measures)
        previous = metric.compute(before.measures) if before else None
        difference = change(value, previous)
        cards.append(
            Card(
                metric,
                value,
                previous,
                difference,
                formats.tone(difference, metric.better),
                sparkline([metric.compute(step.measures) for step in steps]),
            )
        )
    return tuple(cards)


def _branch_rows(
    now: dict[Branch, Summary], before: dict[Branch, Summary] | None
) -> tuple[BranchRow, ...]:
    best = max((summary.measures.gross_revenue for summary in now.values()), default=Decimal(0))
    revenue = METRICS["gross_revenue"]
    rows: list[BranchRow] = []
    for branch, summary in now.items():
        earned = summary.measures.gross_revenue
        difference = change(earned, before[branch].measures.gross_revenue) if before else None
        rows.append(
            BranchRow(
                branch,
                branch_name(branch),
                tuple(
                    Cell(METRICS[name], METRICS[name].compute(summary.measures))
                    for name in BRANCH_COLUMNS
                ),
                100 * earned / best if best else Decimal(0),
                difference,
                formats.tone(difference, revenue.better),
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.share, row.name)))


def _buckets(
    steps: Sequence[DateRange],
    values: Sequence[Figure],
    previous: Sequence[Figure],
    metric: Metric,
    currency: str,
) -> tuple[Bucket, ...]:
    buckets: list[Bucket] = []
    for index, (step, value) in enumerate(zip(steps, values, strict=True)):
        earlier = previous[index] if index < len(previous) else None
        long_label = _step_label(step, year=True)
        title = f"{long_label}: {formats.figure(value, metric.unit, currency)}"
        if earlier is not None:
            title += f" (before: {formats.figure(earlier, metric.unit, currency)})"
        buckets.append(Bucket(formats.day(step.start), long_label, title, value, earlier))
    return tuple(buckets)


async def overview(
    answers: Answers,
    tenant: TenantId,
    reporting: Reporting,
    choice: Choice,
    period: DateRange,
    comparison: DateRange | None,
) -> Overview:
    """Ask all that the page shows."""
    metric = METRICS[choice.metric]
    steps = period.cut(choice.granularity, reporting.week_start)
    earlier = comparison.cut(choice.granularity, reporting.week_start) if comparison else []
    whole = [period, comparison] if comparison else [period]
    branches = None if choice.location is None else [choice.location]
    currency = reporting.currency

    figures = await answers.summaries(
        tenant, [*whole, *steps, *earlier], currency=currency, branches=branches
    )
    by_branch = await answers.branches(tenant, whole, currency=currency, branches=branches)

    now, *rest = figures.value
    before = rest.pop(0) if comparison else None
    series, behind = rest[: len(steps)], rest[len(steps) :]
    values = [metric.compute(step.measures) for step in series]
    previous = [metric.compute(step.measures) for step in behind]
    rows = _branch_rows(by_branch.value[0], by_branch.value[1] if comparison else None)
    return Overview(
        period=period,
        comparison=comparison,
        cards=_cards(now, before, series),
        metric=metric,
        chart=line_chart(values, previous),
        chart_note=_chart_note(metric, steps, values, currency),
        buckets=_buckets(steps, values, previous, metric, currency),
        branch_columns=tuple(METRICS[name] for name in BRANCH_COLUMNS),
        branches=rows,
        branch_name=next(
            (row.name for row in rows if row.branch.location_id == choice.location),
            choice.location or NO_BRANCH,
        ),
        other_currencies=now.other_currencies,
        data_version=min(figures.data_version, by_branch.data_version),
    )


def _chart_note(
    metric: Metric, steps: Sequence[DateRange], values: Sequence[Figure], currency: str
) -> str:
    """What the chart says, for people who cannot see it."""
    known: list[tuple[Figure, date]] = [
        (value, step.start) for value, step in zip(values, steps, strict=True) if value is not None
    ]
    if not known:
        return f"{metric.title}: nothing measured."
    low = min(known, key=lambda pair: pair[0] or 0)
    high = max(known, key=lambda pair: pair[0] or 0)
    return (
        f"{metric.title}: lowest {formats.figure(low[0], metric.unit, currency)} on"
        f" {formats.day(low[1])}, highest {formats.figure(high[0], metric.unit, currency)} on"
        f" {formats.day(high[1])}."
    )
