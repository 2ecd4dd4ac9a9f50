"""What the API answers equals what an independent script counts in the exported files."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.e2e.conftest import Demo, Tenant

# Metric of the API: figure of the script.
COUNTS = {
    "events": "events",
    "events_without_consent": "consent_denied_events",
    "page_views": "page_views",
    "searches": "searches",
    "sessions": "sessions",
    "engaged_sessions": "engaged_sessions",
    "total_users": "total_users",
    "active_users": "active_users",
    "new_users": "new_users",
    "returning_users": "returning_users",
    "purchases": "purchases",
}


@pytest.fixture(params=[0, 1], ids=["first tenant", "second tenant"])
def tenant(request: pytest.FixtureRequest, demo: Demo) -> Tenant:
    index: int = request.param
    return demo.tenants[index]


def _money(truth: dict[str, Any], currency: str, figure: str) -> Decimal:
    return Decimal(truth["money"].get(currency, {}).get(figure, "0"))


def _compare(metrics: dict[str, Any], truth: dict[str, Any], currency: str) -> None:
    counted = {name: metrics[name]["value"] for name in COUNTS}
    assert counted == {name: truth[figure] for name, figure in COUNTS.items()}
    assert Decimal(metrics["gross_revenue"]["value"]) == _money(truth, currency, "gross")
    assert Decimal(metrics["refund_value"]["value"]) == _money(truth, currency, "refunded")


def test_the_whole_range(tenant: Tenant) -> None:
    start, end = tenant.first_day, tenant.last_day
    truth = tenant.truth(start, end)
    answer = tenant.get("analytics", "/api/v1/stats", start_date=start, end_date=end)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    _compare(body["metrics"], truth["total"], body["currency"])
    others = {entry["currency"]: entry for entry in body["other_currencies"]}
    expected = {name for name in truth["total"]["money"] if name != body["currency"]}
    assert set(others) == expected
    for name, entry in others.items():
        assert Decimal(entry["gross_revenue"]) == _money(truth["total"], name, "gross")


def test_each_day_of_the_chart(tenant: Tenant) -> None:
    start, end = tenant.first_day, tenant.last_day - timedelta(days=1)
    days = tenant.truth(start, end)["days"]
    names = ["gross_revenue", "purchases", "sessions", "total_users", "page_views"]
    answer = tenant.get(
        "analytics",
        "/api/v1/stats/chart",
        start_date=start,
        end_date=end,
        metric=names,
        granularity="day",
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert len(body["points"]) == (end - start).days + 1
    for point in body["points"]:
        truth = days[point["start"]]
        values = point["values"]
        assert values["purchases"] == truth["purchases"], point["start"]
        assert values["sessions"] == truth["sessions"], point["start"]
        assert values["total_users"] == truth["total_users"], point["start"]
        assert values["page_views"] == truth["page_views"], point["start"]
        assert Decimal(values["gross_revenue"]) == _money(truth, body["currency"], "gross")


def test_the_hours_of_a_day_add_up_to_it(tenant: Tenant) -> None:
    day = tenant.last_day - timedelta(days=3)
    truth = tenant.truth(day, day)["total"]
    answer = tenant.get(
        "analytics",
        "/api/v1/stats/chart",
        start_date=day,
        end_date=day,
        metric=["sessions", "purchases", "gross_revenue"],
        granularity="hour",
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    points = [point["values"] for point in body["points"]]
    assert len(points) in {23, 24, 25}
    assert sum(values["sessions"] for values in points) == truth["sessions"]
    assert sum(values["purchases"] for values in points) == truth["purchases"]
    revenue = sum(Decimal(values["gross_revenue"]) for values in points)
    assert revenue == _money(truth, body["currency"], "gross")


def test_each_branch(tenant: Tenant) -> None:
    start, end = tenant.first_day, tenant.last_day
    branches = tenant.truth(start, end)["branches"]
    answer = tenant.get("analytics", "/api/v1/stats/locations", start_date=start, end_date=end)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    found = {row["location_id"]: row for row in body["data"]}
    assert set(branches) <= set(found)
    for name, truth in branches.items():
        metrics = found[name]["metrics"]
        assert metrics["sessions"]["value"] == truth["sessions"], name
        assert metrics["purchases"]["value"] == truth["purchases"], name
        revenue = Decimal(metrics["gross_revenue"]["value"])
        assert revenue == _money(truth, body["currency"], "gross"), name
    assert all(row["name"] for row in body["data"] if row["location_id"])


def test_a_token_is_good_for_all_three_ports_and_for_one_tenant_only(demo: Demo) -> None:
    first, second = demo.tenants
    for group, path in (
        ("auth", "/api/v1/validate"),
        ("data", "/api/v1/jobs"),
        ("analytics", "/api/v1/stats"),
    ):
        assert first.get(group, path).status_code == 200
    assert first.get("auth", "/api/v1/validate").json()["tenant_id"] == first.id
    job = second.get("data", "/api/v1/jobs").json()["data"][0]["id"]
    assert first.get("data", f"/api/v1/jobs/{job}").status_code == 404
    assert second.get("data", f"/api/v1/jobs/{job}").status_code == 200


def test_bad_input_is_one_clear_problem(demo: Demo) -> None:
    tenant = demo.tenants[0]
    day = date(2026, 3, 10)
    backwards = {"start_date": day.isoformat(), "end_date": (day - timedelta(days=1)).isoformat()}
    for answer in (
        tenant.get("analytics", "/api/v1/stats", **backwards),
        tenant.post("data", "/api/v1/ingestions", backwards),
    ):
        assert answer.status_code == 422
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert "end_date" in answer.json()["errors"][0]["pointer"]
    assert "Traceback" not in demo.process.text()
