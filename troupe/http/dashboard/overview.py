"""What the overview page shows, as plain values: the template only places and formats them."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from troupe.actors.analytics.answers import (
    Branch,
    BranchSummaries,
    OtherCurrency,
    Snapshot,
    Summary,
)
from troupe.actors.analytics.filters import Filters
from troupe.actors.analytics.metrics import METRICS, Figure, Metric, Unit, change
from troupe.actors.analytics.series import Series, read_series
from troupe.common.dates import DateRange, Granularity
from troupe.http.asked import Asked
from troupe.http.dashboard import formats
from troupe.http.dashboard.chart import LineChart, line_chart, sparkline
from troupe.http.dashboard.steps import Step, describe, known_figure, lay_out_steps
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
HOURS_A_DAY: Final = 24
LONGEST_BY_HOURS: Final = 2 * HOURS_A_DAY + 1
"""Hours up to which hours are labelled, and not days."""


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

    def alone(self) -> "Reading":
        """The same without what the range is compared with."""
        return Reading(self.now, None, Series(self.series.points, ()), self.branches, None)


async def read_overview(snapshot: Snapshot, asked: Asked, view: View) -> Reading:
    """Ask all that the page shows."""
    filters = Filters.of_branches(view.branches)
    now, *before = await snapshot.summaries(asked.periods, filters)
    by_branch, *by_branch_before = await snapshot.branches(asked.periods, filters)
    series = await read_series(
        snapshot,
        asked.days,
        view.granularity,
        view.query.compare,
        filters,
        asked.comparison_until,
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
class Notice:
    """A sentence above the figures; one that `warns` says that they are not what they seem."""

    text: str
    warns: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """The page.

    Attributes:
        days: The range.
        comparison: What it is compared with; None also when that lies before the data.
        is_empty: Nothing was recorded in the range.
        is_incomplete: The range ends after the last complete day.
        notices: What a reader must know before trusting the figures.
        cards: Key figures.
        metric: The chart's figure.
        chart: Its geometry.
        chart_note: What it says, for people who cannot see it.
        steps: Of the chart.
        branch_columns: Figures of the table of branches.
        branches: Its rows, highest revenue first.
        branches_left_out: How many more there are.
        branch_name: Of the only branch that is shown.
        other_currencies: What was sold beside the reporting currency.
    """

    days: DateRange
    comparison: DateRange | None
    is_empty: bool
    is_incomplete: bool
    notices: tuple[Notice, ...]
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
    reporting, metric = asked.reporting, METRICS[view.query.metric]
    if not _is_comparable(asked):
        reading = reading.alone()
    is_empty = not (reading.now.measures.events or reading.now.measures.purchases)
    steps = lay_out_steps(asked, view.granularity, metric, reading.series)
    values, previous = [step.value for step in steps], [step.previous for step in steps]
    by_hour = view.granularity is Granularity.HOUR
    rows = _branch_rows(reading)
    return Overview(
        days=asked.days,
        comparison=asked.comparison if reading.before is not None else None,
        is_empty=is_empty,
        is_incomplete=reporting.data_until is not None and reporting.data_until < asked.days.end,
        notices=tuple(_notices(asked, view, is_empty=is_empty)),
        cards=_cards(asked, view.granularity, reading),
        metric=metric,
        chart=line_chart(
            values,
            previous,
            whole=metric.unit is Unit.COUNT,
            labels_by=HOURS_A_DAY if len(steps) > LONGEST_BY_HOURS and by_hour else 1,
        ),
        chart_note=describe(metric, steps, reporting.currency),
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


def _is_comparable(asked: Asked) -> bool:
    """Whether there is data to compare with: days before the first one are unknown, not zero."""
    first = asked.reporting.first_day
    return asked.comparison is not None and first is not None and first <= asked.comparison.end


def _notices(asked: Asked, view: View, *, is_empty: bool) -> Iterator[Notice]:
    first, until = asked.reporting.first_day, asked.reporting.data_until
    if first is None:
        return
    begins = f"The data begins on {formats.day(first, year=True)}"
    if is_empty:
        reach = f" and reaches until {formats.day(until, year=True)}" if until else ""
        where = " for this branch" if view.location is not None else ""
        yield Notice(f"Nothing was recorded in this period{where}. {begins}{reach}.", warns=True)
        return
    if until is not None and until < asked.days.end:
        text = f"Days after {formats.day(until, year=True)} are missing or incomplete."
        yield Notice(text, warns=True)
    if asked.comparison is not None and asked.comparison.start < first:
        compared = formats.days(asked.comparison.start, asked.comparison.end)
        if _is_comparable(asked):
            yield Notice(f"{begins}: the comparison with {compared} is incomplete.", warns=True)
        else:
            yield Notice(f"{begins}: there is nothing to compare with ({compared}).", warns=False)


def branch_name(branch: Branch) -> str:
    """What a person calls the branch."""
    return branch.name or branch.location_id or NO_BRANCH


def _cards(asked: Asked, granularity: Granularity, reading: Reading) -> tuple[Card, ...]:
    cards: list[Card] = []
    for metric in (METRICS[name] for name in CARDS):
        exists = metric.hourly or granularity is not Granularity.HOUR
        along = [known_figure(asked, metric, point) for point in reading.series.points]
        cards.append(
            Card(
                metric,
                metric.compute(reading.now.measures),
                Change.of(metric, reading.now, reading.before) if reading.before else None,
                sparkline(along) if exists else "",
            )
        )
    return tuple(cards)


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
