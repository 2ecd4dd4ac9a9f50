"""Metrics of a group in several processes: everybody's, each under its name, no series twice."""

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from troupe.http.operations import Gauge, HttpMetrics


def one(replica: str, others: Mapping[str, Any] | None = None, *, count: int = 1) -> HttpMetrics:
    def gauges() -> Iterable[Gauge]:
        return [Gauge("troupe_pool_tasks_running", "Tasks running.", 3, {"kind": 'a "b"'})]

    async def told() -> Mapping[str, Any]:
        return others or {}

    metrics = HttpMetrics("data", gauges, replica=replica, others=told)
    for _ in range(count):
        metrics.begin()
        metrics.end("GET", "/api/v1/jobs", 200, 0.01)
    return metrics


async def test_figures_of_all_are_told_each_under_its_name() -> None:
    others = {"data-2": one("data-2", count=5).figures(), "data-3": None}
    text = (await one("data-1", others).text()).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    counted = {
        sample.labels["replica"]: sample.value
        for sample in families["troupe_http_requests"].samples
        if sample.name == "troupe_http_requests_total"
    }
    assert counted == {"data-1": 1, "data-2": 5}
    up = {s.labels["replica"]: s.value for s in families["troupe_replica_up"].samples}
    assert up == {"data-1": 1, "data-2": 1, "data-3": 0}
    gauge = families["troupe_pool_tasks_running"].samples
    assert [s.labels["kind"] for s in gauge] == ['a "b"'] * 2
    series = [line.rsplit(" ", 1)[0] for line in text.splitlines() if line[0] != "#"]
    assert len(series) == len(set(series))
    assert text.count("# TYPE troupe_http_request_seconds histogram") == 1


async def test_a_group_in_one_process_tells_what_it_always_told() -> None:
    text = (await one("").text()).decode()
    assert "replica" not in text
    assert 'troupe_http_requests_total{group="data",method="GET"' in text
