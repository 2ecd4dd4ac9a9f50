"""What the overview page shows, as plain values: the template only places and formats them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from troupe.actors.analytics.answers import (
    Branch,
    BranchSummaries,
    OtherCurrency,
    Reporting,
    Snapshot,
    Summary,
)
from troupe.actors.analytics.metrics import METRICS, Figure, Metric, Unit, change
from troupe.actors.analytics.series import Point, Series, read_series
from troupe.common.dates import DateRange, Granularity
from troupe.http.analytics import Asked
from troupe.http.dashboard import formats
from troupe.http.dashboard.chart import LineChart, line_chart, sparkline
from troupe.http.dashboard.view import CARDS, View

BRANCH_COLUMNS: Final = (
    "gross_revenue",
    "purchases",
    "sessions",
    "session_conversion_rate",
    "average_order_value",
    "cart_abandonment_rate",
)
NO_BRANCH: Final = "No branch known"
MAX_BRANCHES: Final = 200


@dataclass(frozen=True, slots=True)
class Reading:
    """What the page asks of a snapshot.

    Attributes:
        now: The range.
        before: The range that it is compared with.
        series: The range along its steps.
        branches: The range by branch.
        branches_before: The range that it is compared with by branch.
    """

    now: Summary
    before: Summary | None
    series: Series
    branches: BranchSummaries
    branches_before: BranchSummaries | None


async def read_overview(snapshot: Snapshot, asked: Asked, view: View) -> Reading:
    """Ask all that the page shows."""
    now, *before = await snapshot.summaries(asked.periods, view.branches)
    by_branch, *by_branch_before = await snapshot.branches(asked.periods, view.branches)
    series = await read_series(
        snapshot, asked.days, view.granularity, view.query.compare, view.branches
    )
    return Reading(
        now,
        before[0] if before else None,
        series,
        by_branch,
        by_branch_before[0] if by_branch_before else None,
    )


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure compares with the one before.

    Attributes:
        previous: The figure before.
        relative: 0.1 is ten percent more; None where there is nothing to divide by.
        text: The same for people.
        tone: ``good``, ``bad`` or ``flat``.
    """

    previous: Figure
    relative: Decimal | None
    text: str
    tone: str

    @classmethod
    def of(cls, metric: Metric, now: Summary, before: Summary) -> "Change":
        """From the sums of both."""
        value, previous = metric.compute(now.measures), metric.compute(before.measures)
        relative = change(value, previous)
        return cls(
            previous,
            relative,
            formats.relative(relative, value, previous),
            formats.tone(relative, metric.better),
        )


@dataclass(frozen=True, slots=True)
class Card:
    """One key figure; `spark` is the path of its small chart, empty when it has none."""

    metric: Metric
    value: Figure
    change: Change | None
    spark: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the chart.

    Attributes:
        label: On the axis.
        name: In full, for the table and the text under the pointer.
        value: The figure.
        previous: What it is compared with; None also when there is no counterpart.
    """

    label: str
    name: str
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
    change: Change | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The page."""

    days: DateRange
    comparison: DateRange | None
    is_empty: bool
    is_incomplete: bool
    cards: tuple[Card, ...]
    metric: Metric
    chart: LineChart
    chart_note: str
    steps: tuple[Step, ...]
    branch_columns: tuple[Metric, ...]
    branches: tuple[BranchRow, ...]
    branches_left_out: int
    branch_name: str
    other_currencies: tuple[OtherCurrency, ...]


def compose(asked: Asked, view: View, reading: Reading) -> Overview:
    """Lay out what was read."""
    metric = METRICS[view.query.metric]
    steps = _steps(asked.reporting, view.granularity, metric, reading.series)
    values, previous = [step.value for step in steps], [step.previous for step in steps]
    rows = _branch_rows(reading)
    data_until = asked.reporting.data_until
    return Overview(
        days=asked.days,
        comparison=asked.comparison,
        is_empty=not (reading.now.measures.events or reading.now.measures.purchases),
        is_incomplete=data_until is not None and data_until < asked.days.end,
        cards=_cards(view.granularity, reading),
        metric=metric,
        chart=line_chart(values, previous, whole=metric.unit is Unit.COUNT),
        chart_note=_chart_note(metric, steps, asked.reporting.currency),
        steps=steps,
        branch_columns=tuple(METRICS[name] for name in BRANCH_COLUMNS),
        branches=rows[:MAX_BRANCHES],
        branches_left_out=max(len(rows) - MAX_BRANCHES, 0),
        branch_name=next(
            (row.name for row in rows if row.branch.location_id == view.location),
            view.location or NO_BRANCH,
        ),
        other_currencies=reading.now.other_currencies,
    )


def branch_name(branch: Branch) -> str:
    """What a person calls the branch."""
    return branch.name or branch.location_id or NO_BRANCH


def _cards(granularity: Granularity, reading: Reading) -> tuple[Card, ...]:
    cards: list[Card] = []
    for metric in (METRICS[name] for name in CARDS):
        known = metric.hourly or granularity is not Granularity.HOUR
        along = [metric.compute(point.summary.measures) for point in reading.series.points]
        cards.append(
            Card(
                metric,
                metric.compute(reading.now.measures),
                Change.of(metric, reading.now, reading.before) if reading.before else None,
                sparkline(along) if known else "",
            )
        )
    return tuple(cards)


def _steps(
    reporting: Reporting, granularity: Granularity, metric: Metric, series: Series
) -> tuple[Step, ...]:
    """The chart's steps; hours that a clock change leaves over on either side are cut off."""
    single_day = len(series.points) <= 25
    steps: list[Step] = []
    for index, point in enumerate(series.points):
        earlier = series.comparison[index] if index < len(series.comparison) else None
        label, name = _names(reporting, granularity, point, single_day=single_day)
        steps.append(
            Step(
                label,
                name,
                metric.compute(point.summary.measures),
                metric.compute(earlier.summary.measures) if earlier else None,
            )
        )
    return tuple(steps)


def _names(
    reporting: Reporting, granularity: Granularity, point: Point, *, single_day: bool
) -> tuple[str, str]:
    """What a step is called on the axis and in full."""
    start, end = point.start, point.end
    if isinstance(start, datetime) and isinstance(end, datetime):
        start, end = start.astimezone(reporting.zone), end.astimezone(reporting.zone)
        time, day = formats.clock(start), start.date()
        name = f"{formats.weekday(day)}, {time}–{formats.clock(end)}"
        return time if single_day else f"{formats.day(day)}, {time}", name
    if granularity is Granularity.DAY:
        return formats.day(start), formats.weekday(start)
    if granularity is Granularity.MONTH:
        return formats.month(start), formats.days(start, end)
    return formats.day(start), formats.days(start, end)


def _branch_rows(reading: Reading) -> tuple[BranchRow, ...]:
    revenue = METRICS["gross_revenue"]
    best = max(
        (summary.measures.gross_revenue for summary in reading.branches.values()),
        default=Decimal(0),
    )
    rows: list[tuple[Decimal, BranchRow]] = []
    for branch, summary in reading.branches.items():
        earned = summary.measures.gross_revenue
        cells = tuple(
            Cell(METRICS[name], METRICS[name].compute(summary.measures)) for name in BRANCH_COLUMNS
        )
        before = reading.branches_before[branch] if reading.branches_before is not None else None
        row = BranchRow(
            branch,
            branch_name(branch),
            cells,
            max(100 * earned / best, Decimal(0)) if best > 0 else Decimal(0),
            Change.of(revenue, summary, before) if before is not None else None,
        )
        rows.append((earned, row))
    rows.sort(key=lambda pair: (-pair[0], pair[1].name.casefold(), pair[1].branch.location_id))
    return tuple(row for _, row in rows)


def _chart_note(metric: Metric, steps: Sequence[Step], currency: str) -> str:
    """What the chart says, for people who cannot see it."""
    known = [(step.value, step.name) for step in steps if step.value is not None]
    if not known:
        return f"{metric.title}: nothing measured."
    low, high = min(known, key=lambda pair: pair[0]), max(known, key=lambda pair: pair[0])
    return (
        f"{metric.title}: lowest {formats.figure(low[0], metric.unit, currency)} ({low[1]}),"
        f" highest {formats.figure(high[0], metric.unit, currency)} ({high[1]})."
    )
