"""What the overview page shows, as plain values: the template only places and formats them.

Key figures, chart and branches are here, what sessions can be told apart by in `breakdowns`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from troupe.actors.analytics.answers import (
    Branch,
    BranchSummaries,
    Dimension,
    FunnelCounts,
    OtherCurrency,
    PartSummaries,
    Snapshot,
    Summary,
)
from troupe.actors.analytics.metrics import METRICS, Figure, Metric, Unit
from troupe.actors.analytics.series import Series, read_series
from troupe.actors.analytics.subjects import Kind, SubjectPage, read_subjects
from troupe.common.dates import DateRange, Granularity
from troupe.common.units import DAYS
from troupe.http.asked import Asked
from troupe.http.dashboard import formats
from troupe.http.dashboard.breakdowns import (
    NOT_KNOWN,
    RANKED_BY,
    TOP_ROWS,
    FunnelStep,
    PartList,
    SubjectList,
    funnel_steps,
    part_lists,
    subject_lists,
)
from troupe.http.dashboard.changes import Change
from troupe.http.dashboard.chart import LineChart, line_chart, sparkline
from troupe.http.dashboard.steps import Step, describe, known_figure, lay_out_steps
from troupe.http.dashboard.view import CARDS, FILTERS, View

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
    """What the page asks of a snapshot; lists have one entry, or two when something is compared.

    Attributes:
        summaries: The range, and what it is compared with.
        series: The range along its steps.
        branches: By branch.
        parts: By channel, device, country.
        funnels: How far sessions got.
        subjects: Products, pages and terms.
    """

    summaries: list[Summary]
    series: Series
    branches: list[BranchSummaries]
    parts: dict[Dimension, list[PartSummaries]]
    funnels: list[FunnelCounts]
    subjects: dict[Kind, SubjectPage]

    @property
    def now(self) -> Summary:
        """The range."""
        return self.summaries[0]

    @property
    def before(self) -> Summary | None:
        """What it is compared with."""
        return self.summaries[1] if self.summaries[1:] else None

    def alone(self) -> "Reading":
        """The same without what the range is compared with."""
        return Reading(
            self.summaries[:1],
            Series(self.series.points, ()),
            self.branches[:1],
            {dimension: found[:1] for dimension, found in self.parts.items()},
            self.funnels[:1],
            self.subjects,
        )


async def read_overview(snapshot: Snapshot, asked: Asked, view: View) -> Reading:
    """Ask all that the page shows."""
    filters, periods = view.filters, asked.periods
    return Reading(
        await snapshot.summaries(periods, filters),
        await read_series(
            snapshot,
            asked.days,
            view.granularity,
            view.query.compare,
            filters,
            asked.comparison_until,
        ),
        await snapshot.branches(periods, filters),
        {one: await snapshot.parts(one, periods, filters) for one in Dimension},
        await snapshot.funnels(periods, int(1 * DAYS), filters),
        {
            kind: await read_subjects(
                snapshot, kind, periods[:1], filters, by=RANKED_BY[kind], limit=TOP_ROWS
            )
            for kind in Kind
        },
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
        notices: What a reader must know before trusting the figures.
        cards: Key figures.
        metric: The chart's figure.
        chart: Its geometry.
        chart_note: What it says, for people who cannot see it.
        steps: Of the chart.
        branch_columns: Figures of the table of branches.
        branches: Its rows, highest revenue first.
        branches_left_out: How many more there are.
        narrowed: Filters in force: parameter, what it is called, what it is narrowed to.
        other_currencies: What was sold beside the reporting currency.
        funnel: From product view to purchase.
        parts: Channels, devices, countries.
        subjects: Products, pages, terms.
    """

    days: DateRange
    comparison: DateRange | None
    is_empty: bool
    notices: tuple[Notice, ...]
    cards: tuple[Card, ...]
    metric: Metric
    chart: LineChart
    chart_note: str
    steps: tuple[Step, ...]
    branch_columns: tuple[Metric, ...]
    branches: tuple[BranchRow, ...]
    branches_left_out: int
    narrowed: tuple[tuple[str, str, str], ...]
    other_currencies: tuple[OtherCurrency, ...]
    funnel: tuple[FunnelStep, ...]
    parts: tuple[PartList, ...]
    subjects: tuple[SubjectList, ...]


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
    subjects = subject_lists(reading.subjects, view.narrowed)
    return Overview(
        days=asked.days,
        comparison=asked.comparison if reading.before is not None else None,
        is_empty=is_empty,
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
        narrowed=tuple(_narrowed(view, rows, subjects)),
        other_currencies=reading.now.other_currencies,
        funnel=funnel_steps(reading.funnels),
        parts=part_lists(reading.parts, view.narrowed),
        subjects=subjects,
    )


def _narrowed(
    view: View, rows: tuple[BranchRow, ...], subjects: tuple[SubjectList, ...]
) -> Iterator[tuple[str, str, str]]:
    branches = {row.branch.location_id: row.name for row in rows}
    titles = {one.parameter: {row.name: row.title for row in one.rows} for one in subjects}
    for name, value in view.narrowed.items():
        if name == "location":
            shown = branches.get(value, value or NO_BRANCH)
        elif name in titles:
            # What it is must be said: a term may be called like a product.
            shown = f"{FILTERS[name]}: {titles[name].get(value, value)}"
        else:
            shown = value or NOT_KNOWN
        yield name, FILTERS[name], shown


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
        where = " for what is chosen" if view.narrowed else ""
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
                Change.between(metric, reading.now.measures, reading.before.measures)
                if reading.before
                else None,
                sparkline(along) if exists else "",
            )
        )
    return tuple(cards)


def _branch_rows(reading: Reading) -> tuple[BranchRow, ...]:
    revenue = METRICS["gross_revenue"]
    now, *earlier = reading.branches
    best = max(
        (summary.measures.gross_revenue for summary in now.values()),
        default=Decimal(0),
    )
    rows: list[tuple[Decimal, BranchRow]] = []
    for branch, summary in now.items():
        earned = summary.measures.gross_revenue
        cells = tuple(
            Cell(METRICS[name], METRICS[name].compute(summary.measures)) for name in BRANCH_COLUMNS
        )
        before = earlier[0][branch] if earlier else None
        row = BranchRow(
            branch,
            branch_name(branch),
            cells,
            max(100 * earned / best, Decimal(0)) if best > 0 else Decimal(0),
            Change.between(revenue, summary.measures, before.measures) if before else None,
        )
        rows.append((earned, row))
    rows.sort(key=lambda pair: (-pair[0], pair[1].name.casefold(), pair[1].branch.location_id))
    return tuple(row for _, row in rows)
