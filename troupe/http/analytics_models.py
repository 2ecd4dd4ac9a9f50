"""What the analytics group's routes take and answer."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from troupe.actors.analytics.answers import Branch, OtherCurrency, Part, Summary
from troupe.actors.analytics.filters import Filters
from troupe.actors.analytics.metrics import METRICS, Figure, Unit, change
from troupe.actors.analytics.series import Point
from troupe.common.dates import DateRange, Granularity
from troupe.http.conventions import AnswerModel, ChartQuery, CompareQuery, PageQuery, QueryModel

MAX_FILTER_VALUES = 100
MAX_SUBJECT = 1024
"""Characters of a page's address, as lists have it."""

FilterValues = Annotated[
    tuple[Annotated[str, Field(max_length=256)], ...], Field(max_length=MAX_FILTER_VALUES)
]
SubjectValues = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=MAX_SUBJECT)], ...],
    Field(max_length=MAX_FILTER_VALUES),
]


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise PydanticCustomError(
            "unknown_metric", "must be one of {names}", {"names": ", ".join(METRICS)}
        )
    return name


MetricName = Annotated[
    str, AfterValidator(_known_metric), Field(json_schema_extra={"enum": list(METRICS)})
]


class FilterQuery(QueryModel):
    """Mix-in for the query of anything that can be asked of a part of the data."""

    location: FilterValues = ()
    """Only these branches; the empty text means "no branch known"."""
    channel: FilterValues = ()
    """Only sessions of these channel groups."""
    device: FilterValues = ()
    """Only sessions on these device categories; the empty text means "not known"."""
    country: FilterValues = ()
    """Only sessions from these countries; the empty text means "not known"."""
    customer: FilterValues = ()
    """Only sessions of these customers; the empty text means "not logged in"."""
    page: SubjectValues = ()
    """Only sessions that viewed one of these pages: addresses without query."""
    product: SubjectValues = ()
    """Only sessions that viewed one of these products, put it into the cart or bought it."""
    term: SubjectValues = ()
    """Only sessions that searched for one of these terms."""

    @property
    def filters(self) -> Filters:
        """The same for the domain."""
        return Filters(
            self.location,
            self.channel,
            self.device,
            self.country,
            self.customer,
            self.page,
            self.product,
            self.term,
        )


class StatsQuery(CompareQuery, FilterQuery):
    """Key figures of a range."""


MetricNames = Annotated[tuple[MetricName, ...], Field(max_length=len(METRICS))]


class StatsChartQuery(ChartQuery, FilterQuery):
    """A range cut into steps."""

    metric: MetricNames = ("gross_revenue",)
    """The figures wanted at each step."""


class LocationStatsQuery(CompareQuery, FilterQuery, PageQuery):
    """Key figures of every branch."""

    sort: Annotated[str, Field(max_length=100)] = "-gross_revenue"
    """A metric, or `name`; a leading minus reverses."""


class PartStatsQuery(CompareQuery, FilterQuery, PageQuery):
    """Key figures of every channel, device or country."""

    sort: Annotated[str, Field(max_length=100)] = "-sessions"
    """A metric, or `name`; a leading minus reverses."""


class LocationsQuery(PageQuery):
    """The branches of the master data."""


class Days(AnswerModel):
    """A range of days in the tenant's reporting zone."""

    start_date: date
    end_date: date

    @classmethod
    def of(cls, days: DateRange) -> "Days":
        """From the domain's range."""
        return cls(start_date=days.start, end_date=days.end)


class MetricAnswer(AnswerModel):
    """One figure; null where it is not defined (a ratio of nothing)."""

    value: int | float | Decimal | None
    """Counts are integers, ratios numbers, money a decimal string."""
    currency: str | None = None
    """Of money."""
    previous: int | float | Decimal | None = None
    """The same in the period compared with."""
    change: float | None = None
    """Relative: 0.1 is ten percent more. Null also where there was nothing before."""


class OtherCurrencyAnswer(AnswerModel):
    """Money in another currency than the reporting one; never added to it."""

    currency: str
    purchases: int
    gross_revenue: Decimal
    refund_value: Decimal

    @classmethod
    def of(cls, other: OtherCurrency) -> "OtherCurrencyAnswer":
        """From the domain's figures."""
        return cls(
            currency=other.currency,
            purchases=other.purchases,
            gross_revenue=other.gross_revenue,
            refund_value=other.refund_value,
        )


class About(AnswerModel):
    """What every answer says about itself."""

    range: Days
    comparison: Days | None
    comparison_until: datetime | None
    """When the last day of `range` is not over yet, the last day of `comparison` counts up to the
    same hour, which ends at this instant; null: all of it."""
    time_zone: str
    currency: str
    data_version: int
    """Raised whenever what analytics can see has changed."""
    data_until: date | None
    """The last complete day; null before the first ingestion."""


class StatsAnswer(About):
    """Key figures of a range."""

    metrics: dict[str, MetricAnswer]
    other_currencies: list[OtherCurrencyAnswer]


class ChartPoint(AnswerModel):
    """One step of a chart."""

    start: date | datetime
    """First day of the step, or the instant at which the hour begins."""
    end: date | datetime
    """Last day of the step, included, or the instant at which the hour ends."""
    values: dict[str, int | float | Decimal | None]

    @classmethod
    def of(cls, point: Point, names: Sequence[str]) -> "ChartPoint":
        """The named metrics at one point of a series."""
        measures = point.summary.measures
        values = {
            name: plain(METRICS[name].compute(measures), METRICS[name].unit) for name in names
        }
        return cls(start=point.start, end=point.end, values=values)


class ChartAnswer(About):
    """A range cut into steps, and the range that it is compared with."""

    granularity: Granularity
    points: list[ChartPoint]
    comparison_points: list[ChartPoint]
    """What the points are compared with, in the same order and as long as they; only a leap day has
    no counterpart in a common year."""


class LocationStats(AnswerModel):
    """Key figures of one branch."""

    location_id: str
    """Empty: no branch known."""
    name: str | None
    city: str | None
    metrics: dict[str, MetricAnswer]
    other_currencies: list[OtherCurrencyAnswer]


class LocationStatsAnswer(About):
    """Key figures of every branch, one page."""

    data: list[LocationStats]
    next_cursor: str | None
    total: int


class PartStats(AnswerModel):
    """Key figures of one channel, device or country."""

    name: str
    """Empty: not known, or what happened outside of sessions."""
    metrics: dict[str, MetricAnswer]
    other_currencies: list[OtherCurrencyAnswer]


class PartStatsAnswer(About):
    """Key figures of every channel, device or country, one page."""

    data: list[PartStats]
    next_cursor: str | None
    total: int


class Location(AnswerModel):
    """A branch of the master data."""

    location_id: str
    name: str
    city: str | None
    email: str | None
    manager: str | None


def plain(figure: Figure, unit: Unit) -> int | float | Decimal | None:
    """A figure as the API writes it: ratios as numbers, money as `Decimal`."""
    if figure is not None and unit is Unit.RATIO:
        return float(figure)
    return figure


def written_branch(
    branch: Branch, now: Summary, before: Summary | None, currency: str
) -> dict[str, object]:
    """What is written for a `LocationStats`, from the branch's sums now and before."""
    return {
        "location_id": branch.location_id,
        "name": branch.name,
        "city": branch.city,
        **written_figures(now, before, currency),
    }


def written_part(
    part: Part, now: Summary, before: Summary | None, currency: str
) -> dict[str, object]:
    """Likewise for a `PartStats`."""
    return {"name": part.key, **written_figures(now, before, currency)}


def written_figures(now: Summary, before: Summary | None, currency: str) -> dict[str, object]:
    """Every metric of the registry for one pair of sums, and money in other currencies."""
    metrics = {}
    for name, metric in METRICS.items():
        value = metric.compute(now.measures)
        previous = metric.compute(before.measures) if before is not None else None
        metrics[name] = written_metric(value, previous, metric.unit, currency)
    others = [OtherCurrencyAnswer.of(other) for other in now.other_currencies]
    return {"metrics": metrics, "other_currencies": others}


def written_metric(value: Figure, previous: Figure, unit: Unit, currency: str) -> dict[str, object]:
    """What is written for a `MetricAnswer`; hundreds of models would take their time."""
    difference = change(value, previous)
    return {
        "value": plain(value, unit),
        "currency": currency if unit is Unit.MONEY else None,
        "previous": plain(previous, unit),
        "change": None if difference is None else float(difference),
    }
