"""What one report says: figures, days, tasks. A pure value, in nobody's language yet.

Everything in it is read from one snapshot, by the functions that the API and the dashboard use
(`Answers.ask`, `METRICS`), so a figure in a mail is the figure on the page at the same data
version.

Task lists come through a seam. A `TaskSource` knows one kind of list; the report asks those it is
given and says which of `TASK_KINDS` nobody offers, instead of leaving a gap that looks like
"nothing to do".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Protocol

from troupe.actors.analytics.answers import Answers, Branch, OtherCurrency, Snapshot
from troupe.actors.analytics.filters import EVERYTHING, Filters
from troupe.actors.analytics.following import have_followed
from troupe.actors.analytics.metrics import METRICS, Better, Figure, Unit, change
from troupe.actors.analytics.reports.periods import ReportPeriod, charted, compared_with
from troupe.common.dates import DateRange
from troupe.common.ids import TenantId

FIGURES: Final = (
    "gross_revenue",
    "purchases",
    "average_order_value",
    "sessions",
    "session_conversion_rate",
    "total_users",
    "cart_abandonment_rate",
    "failed_search_rate",
)
CHARTED: Final = "gross_revenue"
TASK_KINDS: Final = (
    "purchases",
    "cart-abandonment",
    "search-analysis",
    "repeat-visits",
    "performance",
)
MOST_TASKS: Final = 5000
"""Rows of one list in the attachment; a spreadsheet with more is nobody's to-do list."""


@dataclass(frozen=True, slots=True)
class FigureLine:
    """One key figure and what it was before."""

    name: str
    title: str
    unit: Unit
    better: Better
    value: Figure
    before: Figure

    @property
    def change(self) -> Decimal | None:
        """Relative."""
        return change(self.value, self.before)


@dataclass(frozen=True, slots=True)
class ChartDay:
    """One day of the chart, and the day that it is compared with."""

    day: date
    value: Decimal
    before: Decimal | None


@dataclass(frozen=True, slots=True)
class Phrase:
    """Something said in every language of reports."""

    en: str
    de: str


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in a currency of its own."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class TaskColumn:
    """One field of a task list.

    Attributes:
        name: Of the field in the API.
        title: Its heading.
        unit: How a number is written; None: as text.
        in_mail: Whether the mail shows it; there is little room.
        in_workbook: Whether the attachment does.
        width: Percent of the mail's width, so that lists lie below each other; 0: what is left.
    """

    name: str
    title: Phrase
    unit: Unit | None = None
    in_mail: bool = True
    in_workbook: bool = True
    width: int = 0


Cell = str | int | Decimal | datetime | date | Money | Phrase | None
"""An instant is written as it stands: on the clock of the reporting zone, without a zone."""


@dataclass(frozen=True, slots=True)
class TaskTable:
    """One kind of tasks.

    Attributes:
        kind: One of `TASK_KINDS`.
        title: Its heading.
        columns: In order.
        rows: At most `MOST_TASKS`, the most urgent first.
        total: How many there are.
    """

    kind: str
    title: Phrase
    columns: tuple[TaskColumn, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: int


class TaskSource(Protocol):
    """Where one kind of tasks comes from."""

    @property
    def kind(self) -> str:
        """One of `TASK_KINDS`."""
        ...

    async def read(self, snapshot: Snapshot, days: DateRange, filters: Filters) -> TaskTable:
        """The tasks of a period; runs in asyncio, inside the snapshot's transaction."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What a report is about.

    Attributes:
        location_id: The branch; None: the whole company.
        period: How long.
        days: The period's days, in the tenant's reporting zone.
    """

    location_id: str | None
    period: ReportPeriod
    days: DateRange


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What a report says.

    Attributes:
        subject: What it is about.
        tenant_name: Of the company.
        branch: What the branch is called; None: the whole company.
        comparison: The days that figures are compared with.
        data_version: Of all figures.
        data_until: Last complete day; None before there is one.
        time_zone: The reporting zone.
        currency: The reporting currency.
        figures: In order.
        others: Money in other currencies.
        days: Of the chart.
        tasks: The lists that somebody offers.
        missing: Kinds that nobody offers yet.
        tasks_followed: Whether the lists are those of the data that the figures are of.
    """

    subject: Subject
    tenant_name: str
    branch: str | None
    comparison: DateRange
    data_version: int
    data_until: date | None
    time_zone: str
    currency: str
    figures: tuple[FigureLine, ...]
    others: tuple[OtherCurrency, ...]
    days: tuple[ChartDay, ...]
    tasks: tuple[TaskTable, ...]
    missing: tuple[str, ...]
    tasks_followed: bool = True


class ReportReader:
    """Reads reports.

    Args:
        answers: Over the group's pool.
        sources: The task lists that there are.

    Attributes:
        database: The same pool.
    """

    def __init__(self, answers: Answers, sources: Sequence[TaskSource] = ()) -> None:
        self.database = answers.database
        self._answers = answers
        self._sources = tuple(sources)

    async def read(self, tenant: TenantId, subject: Subject) -> ReportContent:
        """A report's content, from one snapshot.

        Raises:
            NotFound: There is no such tenant.
            DatabaseError: The database failed.
        """

        async def question(snapshot: Snapshot) -> ReportContent:
            return await self._read(snapshot, subject)

        return await self._answers.ask(tenant, question)

    async def _read(self, snapshot: Snapshot, subject: Subject) -> ReportContent:
        branch, filters = None, EVERYTHING
        if subject.location_id is not None:
            branch = await snapshot.branch(subject.location_id)
            filters = Filters(locations=(subject.location_id,))
        comparison = compared_with(subject.days, subject.period)
        chart = charted(subject.days, subject.period)
        # Days of a month have no counterparts in the month before: 31 against 28.
        shift = None if subject.period is ReportPeriod.MONTH else -_distance(subject, comparison)
        shown = [DateRange(day, day) for day in _each(chart)]
        compared = [day.shifted(shift) for day in shown] if shift is not None else []
        now, before, *days = await snapshot.summaries(
            [subject.days, comparison, *shown, *compared], filters
        )
        revenue = [_revenue(METRICS[CHARTED].compute(one.measures)) for one in days]
        earlier: Sequence[Decimal | None] = revenue[len(shown) :] or [None] * len(shown)
        reporting = snapshot.reporting
        return ReportContent(
            subject=subject,
            tenant_name=reporting.tenant_name,
            branch=_called(branch),
            comparison=comparison,
            data_version=reporting.data_version,
            data_until=reporting.data_until,
            time_zone=reporting.time_zone,
            currency=reporting.currency,
            figures=tuple(
                FigureLine(
                    name,
                    METRICS[name].title,
                    METRICS[name].unit,
                    METRICS[name].better,
                    METRICS[name].compute(now.measures),
                    METRICS[name].compute(before.measures),
                )
                for name in FIGURES
            ),
            others=now.other_currencies,
            days=tuple(
                ChartDay(day.start, value, was)
                for day, value, was in zip(shown, revenue, earlier, strict=False)
            ),
            tasks=tuple([await one.read(snapshot, subject.days, filters) for one in self._sources]),
            missing=tuple(
                kind for kind in TASK_KINDS if kind not in {one.kind for one in self._sources}
            ),
            tasks_followed=await have_followed(snapshot.connection, reporting.tenant),
        )


def _called(branch: Branch | None) -> str | None:
    return None if branch is None else branch.label


def _distance(subject: Subject, comparison: DateRange) -> int:
    return (subject.days.start - comparison.start).days


def _each(days: DateRange) -> list[date]:
    return [days.shifted(number).start for number in range(days.days)]


def _revenue(value: Figure) -> Decimal:
    return Decimal(value or 0)
