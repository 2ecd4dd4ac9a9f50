"""What an operator asks a group: is it alive, is it ready, how is it doing, what can it do.

``live`` says that the loop turns and the HTTP layer answers, nothing more: a probe that restarts
processes must not fail because the database does. ``ready`` says whether the group should be sent
requests now and shows why; it turns to 503 while the group starts or drains.

=====================================  =========  ======================================
metric                                 kind       labels
=====================================  =========  ======================================
``troupe_http_requests_total``         counter    group, method, route, status
``troupe_http_request_seconds``        histogram  group, method, route
``troupe_http_requests_in_flight``     gauge      group
=====================================  =========  ======================================

`route` is the template, never the path: the number of series is bounded by the number of routes.
Further gauges come from the group through a callback, read at the moment of the scrape.

A group in several processes answers as one: whichever instance is asked adds the figures of the
others, each under its name in the label `replica`, and says in ``troupe_replica_up`` who told any.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from quart import Response

from troupe.http import exact_json
from troupe.http.conventions import AnswerModel
from troupe.http.declaration import JSON_TYPE, Answer, Media
from troupe.http.docs_page import DOCS_POLICY, render
from troupe.http.openapi import document
from troupe.http.principal import Access
from troupe.http.request import current_request
from troupe.http.routes import Api

_KNOWN_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class Readiness:
    """A group's own view of itself at one moment.

    Attributes:
        ready: Whether requests should be sent here.
        parts: What stands behind it (actors and their state, pools); JSON values.
    """

    ready: bool
    parts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gauge:
    """One number that a group shows at ``/metrics``.

    Attributes:
        name: Full name, ``troupe_`` first, with its unit.
        description: One line.
        value: Now.
        labels: Of bounded variety.
    """

    name: str
    description: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


class LiveAnswer(AnswerModel):
    """The loop turns."""

    status: Literal["live"] = "live"
    group: str


class ReadyAnswer(AnswerModel):
    """Whether requests should be sent here, and why."""

    status: Literal["ready", "not_ready"]
    group: str
    parts: dict[str, Any]


Family = tuple[str, str, str, Sequence[tuple[str, Mapping[str, str], float]]]
"""A metric as plain values: name, description, kind, and its samples (name, labels, value)."""

Others = Callable[[], Awaitable[Mapping[str, Sequence[Any] | None]]]
"""Asks the other instances: name to families; None: that one did not answer."""


async def nobody_else() -> Mapping[str, Sequence[Any] | None]:
    """There are no other instances."""
    return {}


class _GroupGauges(Collector):
    def __init__(self, group: str, gauges: Callable[[], Iterable[Gauge]]) -> None:
        self._group = group
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for gauge in self._gauges():
            names = ["group", *gauge.labels]
            family = families.setdefault(
                gauge.name, GaugeMetricFamily(gauge.name, gauge.description, labels=names)
            )
            family.add_metric([self._group, *gauge.labels.values()], gauge.value)
        return families.values()


class HttpMetrics:
    """The metrics of one application, in a registry of its own.

    A registry per application, because several groups may live in one process and each answers for
    itself.
    """

    def __init__(
        self,
        group: str,
        gauges: Callable[[], Iterable[Gauge]],
        *,
        replica: str = "",
        others: Others = nobody_else,
    ) -> None:
        self.registry = CollectorRegistry()
        self._group = group
        self._replica = replica
        self._others = others
        labels = ("group", "method", "route")
        self._requests = Counter(
            "troupe_http_requests",
            "Requests answered.",
            (*labels, "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "troupe_http_request_seconds",
            "Seconds until the answer began.",
            labels,
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._in_flight = PrometheusGauge(
            "troupe_http_requests_in_flight",
            "Requests that wait for their answer.",
            ("group",),
            registry=self.registry,
        ).labels(group)
        self.registry.register(_GroupGauges(group, gauges))
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def begin(self) -> None:
        """A request arrived."""
        self._in_flight.inc()

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        """Its answer began, or it was given up (499)."""
        self._in_flight.dec()
        self.count(method, route, status, seconds)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered as soon as it arrived."""
        key = method if method in _KNOWN_METHODS else "OTHER", route, status
        if key not in self._children:
            labels = self._group, *key[:2]
            self._children[key] = (
                self._requests.labels(*labels, str(status)),
                self._seconds.labels(*labels),
            )
        answered, took = self._children[key]
        answered.inc()
        took.observe(seconds)

    def figures(self) -> list[Any]:
        """All metrics of this application as a list of `Family`, ready for JSON."""
        return [
            (
                metric.name,
                metric.documentation,
                metric.type,
                [(sample.name, sample.labels, sample.value) for sample in metric.samples],
            )
            for metric in self.registry.collect()
        ]

    async def text(self) -> bytes:
        """Prometheus' exposition format; of all instances, if the group has several."""
        if not self._replica:
            return generate_latest(self.registry)
        return _text_of(self._group, {**await self._others(), self._replica: self.figures()})


class _Merged(CollectorRegistry):
    """Families of several instances, each sample under the name of its own."""

    def __init__(self, group: str, replicas: Mapping[str, Sequence[Family] | None]) -> None:
        super().__init__()
        up = Metric("troupe_replica_up", "Whether the instance told its figures.", "gauge")
        families = {up.name: up}
        for replica, told in sorted(replicas.items()):
            labels = {"group": group, "replica": replica}
            up.add_sample(up.name, labels, float(told is not None))
            for name, description, kind, samples in told or ():
                family = families.setdefault(name, Metric(name, description, kind))
                for sample, own, value in samples:
                    family.add_sample(sample, {**own, "replica": replica}, value)
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families.values()


def _text_of(group: str, replicas: Mapping[str, Sequence[Family] | None]) -> bytes:
    return generate_latest(_Merged(group, replicas))


def declare_operations(
    api: Api,
    *,
    metrics: HttpMetrics,
    readiness: Callable[[], Readiness],
    title: str,
    version: str,
    description: str,
) -> None:
    """Declare the five routes that every port has.

    Args:
        api: Of the application.
        metrics: Of the application.
        readiness: Asked at every request to ``/health/ready``; must not wait.
        title: Of the document.
        version: Of the program.
        description: Of the application, for the document.
    """
    written: dict[str, bytes] = {}

    def current_document() -> dict[str, Any]:
        return document(
            api.routes,
            title=title,
            version=version,
            description=description,
            session_cookie=api.session_cookie,
        )

    @api.get(
        "/health/live",
        requires=Access.PUBLIC,
        answers={200: LiveAnswer},
        summary="Whether the process turns",
        tag="operations",
        counted=False,
    )
    async def live() -> LiveAnswer:
        return LiveAnswer(group=api.group)

    @api.get(
        "/health/ready",
        requires=Access.PUBLIC,
        answers={200: ReadyAnswer, 503: ReadyAnswer},
        summary="Whether requests should be sent here",
        tag="operations",
        counted=False,
    )
    async def ready() -> Answer:
        state = readiness()
        is_ready = state.ready and not current_request().draining.is_set()
        answer = ReadyAnswer(
            status="ready" if is_ready else "not_ready",
            group=api.group,
            parts=dict(state.parts),
        )
        return Answer(answer, 200 if is_ready else 503)

    @api.get(
        "/metrics",
        requires=Access.PUBLIC,
        answers={200: Media(CONTENT_TYPE_LATEST, "Prometheus' exposition format")},
        summary="Metrics of the group here, of all its instances",
        tag="operations",
        counted=False,
    )
    async def metrics_text() -> bytes:
        return await metrics.text()

    @api.get(
        "/openapi.json",
        requires=Access.PUBLIC,
        answers={200: Media(JSON_TYPE, "OpenAPI 3.1")},
        summary="This application, for machines",
        tag="operations",
        counted=False,
    )
    async def openapi() -> bytes:
        if "document" not in written:
            written["document"] = exact_json.dumps(current_document())
        return written["document"]

    @api.get(
        "/docs",
        requires=Access.PUBLIC,
        answers={200: Media("text/html; charset=utf-8", "This application, for people")},
        summary="This application, for people",
        tag="operations",
        counted=False,
    )
    async def docs() -> Response:
        if "page" not in written:
            written["page"] = render(current_document()).encode()
        headers = {"Content-Security-Policy": DOCS_POLICY}
        return Response(written["page"], 200, headers, content_type="text/html; charset=utf-8")
