"""What the lists of top products, pages and terms take and answer."""

from typing import Annotated

from pydantic import Field

from troupe.actors.analytics.subjects import SUBJECT_METRICS, Kind, Subject
from troupe.http.analytics_models import About, FilterQuery, MetricAnswer, written_metric
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


class TopAnswer(About):
    """What was looked at most, one page."""

    data: list[TopSubject]
    next_cursor: str | None
    total: int


def written_subject(kind: Kind, subject: Subject, currency: str) -> dict[str, object]:
    """What is written for a `TopSubject`, from the domain's figures."""
    now, before = subject.now, subject.before
    metrics = {}
    for name, metric in SUBJECT_METRICS[kind].items():
        previous = metric.compute(before) if before is not None else None
        metrics[name] = written_metric(metric.compute(now), previous, metric.unit, currency)
    return {"name": subject.name, "label": subject.label, "metrics": metrics}
