"""What the lists of top products, pages and terms take and answer."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from troupe.actors.analytics.metrics import Figure, Unit, change
from troupe.actors.analytics.subjects import SUBJECT_METRICS, Kind, Subject, SubjectMetric
from troupe.http.analytics_models import About, FilterQuery, MetricAnswer
from troupe.http.conventions import AnswerModel, CompareQuery, PageQuery


class TopQuery(CompareQuery, FilterQuery, PageQuery):
    """What was looked at most."""

    sort: Annotated[str | None, Field(max_length=100)] = None
    """The figure to rank by, greatest first: a sum, not a rate. Views by default (searches of
    terms), revenue of products."""


class TopSubject(AnswerModel):
    """One page, product or term."""

    name: str
    """Address without query, item id, or the term as it is compared."""
    label: str | None
    """Page's title, product's name, or the term as typed."""
    metrics: dict[str, MetricAnswer]

    @classmethod
    def of(cls, kind: Kind, subject: Subject, currency: str) -> "TopSubject":
        """From the domain's figures."""
        metrics = {
            name: _answer(metric, subject, currency)
            for name, metric in SUBJECT_METRICS[kind].items()
        }
        return cls(name=subject.name, label=subject.label, metrics=metrics)


class TopAnswer(About):
    """What was looked at most, one page."""

    data: list[TopSubject]
    next_cursor: str | None
    total: int


def _answer(metric: SubjectMetric, subject: Subject, currency: str) -> MetricAnswer:
    value = metric.compute(subject.now)
    previous = metric.compute(subject.before) if subject.before is not None else None
    difference = change(value, previous)
    return MetricAnswer(
        value=_plain(value, metric),
        currency=currency if metric.unit is Unit.MONEY else None,
        previous=_plain(previous, metric),
        change=None if difference is None else float(difference),
    )


def _plain(figure: Figure, metric: SubjectMetric) -> int | float | Decimal | None:
    if figure is not None and metric.unit is Unit.RATIO:
        return float(figure)
    return figure
