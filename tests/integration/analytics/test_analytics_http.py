"""The routes answer what a reading of all rows says, in exact JSON, and nothing stale."""

import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.integration.analytics.conftest import Town
from tests.integration.analytics.site import Site, make_site
from tests.integration.analytics.warehouse import Row, Warehouse
from tests.support.postgres import TestDatabase
from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.metrics import METRICS
from troupe.common.bridge import aio
from troupe.common.database import Database
from troupe.common.dates import DateRange

# Written from METRICS.md, not from the registry.
COUNTS: Final = (
    "purchases", "sessions", "engaged_sessions", "total_users", "active_users", "new_users",
    "returning_users", "page_views", "searches", "events", "events_without_consent",
)  # fmt: skip
SHARES: Final = {
    "session_conversion_rate": ("sessions_with_purchase", "sessions"),
    "purchaser_conversion_rate": ("purchasers", "active_users"),
    "cart_abandonment_rate": ("sessions_with_cart_without_purchase", "sessions_with_cart"),
    "failed_search_rate": ("failed_searches", "searches"),
}
MONEY: Final[dict[str, Callable[[Row], Decimal | None]]] = {
    "gross_revenue": lambda row: row["gross_revenue"],
    "refund_value": lambda row: row["refund_value"],
    "net_revenue": lambda row: row["gross_revenue"] - row["refund_value"],
    "average_order_value": lambda row: (
        round(row["gross_revenue"] / row["purchases_in_currency"], 2)
        if row["purchases_in_currency"]
        else None
    ),
}


def figures(row: Row) -> dict[str, Any]:
    """Every figure of one reading, as JSON has it."""
    found: dict[str, Any] = {name: row[name] for name in COUNTS}
    for name, compute in MONEY.items():
        amount = compute(row)
        found[name] = None if amount is None else format(amount, "f")
    for name, (part, whole) in SHARES.items():
        found[name] = share(row[part], row[whole])
    engaged = share(row["engaged_sessions"], row["sessions"])
    found["bounce_rate"] = None if engaged is None else float(1 - Decimal(str(engaged)))
    return found


def share(part: int, whole: int) -> float | None:
    return float(round(Decimal(part) / Decimal(whole), 6)) if whole else None


def change(now: Any, before: Any) -> float | None:
    if now is None or before is None or not Decimal(str(before)):
        return None
    now, before = Decimal(str(now)), Decimal(str(before))
    return float(round((now - before) / abs(before), 6))


def metrics(shop: Warehouse, now: Row, before: Row | None) -> dict[str, Any]:
    """The member `metrics` of an answer."""
    values = figures(now)
    previous = figures(before) if before is not None else {}
    return {
        name: {
            "value": value,
            "currency": shop.currency if name in MONEY else None,
            "previous": previous.get(name),
            "change": change(value, previous.get(name)),
        }
        for name, value in values.items()
    }


def others(row: Row) -> list[dict[str, Any]]:
    return [
        {
            "currency": currency,
            "purchases": purchases,
            "gross_revenue": format(gross, "f"),
            "refund_value": format(refunds, "f"),
        }
        for currency, purchases, gross, refunds in row["other"]
    ]


def span(days: DateRange | None) -> dict[str, str] | None:
    if days is None:
        return None
    return {"start_date": days.start.isoformat(), "end_date": days.end.isoformat()}


def about(shop: Warehouse, days: DateRange, comparison: DateRange | None) -> dict[str, Any]:
    return {
        "range": span(days),
        "comparison": span(comparison),
        "comparison_until": None,
        "time_zone": shop.zone,
        "currency": shop.currency,
        "data_version": shop.version,
        "data_until": shop.data_until.isoformat() if shop.data_until else None,
    }


def days(start: str, end: str) -> DateRange:
    return DateRange(date.fromisoformat(start), date.fromisoformat(end))


@pytest.fixture
def site(answers: Answers, town: Town) -> Site:
    return make_site(answers, [town.shop, town.rival, town.nobody])


def test_the_reading_knows_every_metric(town: Town) -> None:
    assert figures(town.shop.over(days("2026-03-01", "2026-03-02"))).keys() == METRICS.keys()


# The shop's yesterday is 30 March, the rival's 31 March.
RANGES = [
    ("Shop", "", days("2026-03-03", "2026-03-30"), None),
    ("Shop", "preset=yesterday", days("2026-03-30", "2026-03-30"), None),
    ("Rival", "preset=yesterday", days("2026-03-31", "2026-03-31"), None),
    ("Shop", "preset=7d&compare=previous", days("2026-03-24", "2026-03-30"),
     days("2026-03-17", "2026-03-23")),
    ("Rival", "preset=28d&compare=weekday", days("2026-03-04", "2026-03-31"),
     days("2026-02-04", "2026-03-03")),
    ("Shop", "preset=30d&compare=weekday", days("2026-03-01", "2026-03-30"),
     days("2026-01-25", "2026-02-23")),
    ("Shop", "preset=90d&compare=year", days("2025-12-31", "2026-03-30"),
     days("2024-12-31", "2025-03-30")),
    ("Shop", "preset=mtd&compare=none", days("2026-03-01", "2026-03-30"), None),
    ("Rival", "preset=ytd&compare=previous", days("2026-01-01", "2026-03-31"),
     days("2025-10-03", "2025-12-31")),
    ("Shop", "start_date=2025-10-20&end_date=2025-11-05&compare=previous",
     days("2025-10-20", "2025-11-05"), days("2025-10-03", "2025-10-19")),
    ("Shop", "start_date=2024-01-01&end_date=2024-01-31", days("2024-01-01", "2024-01-31"), None),
    ("Shop", "start_date=2026-03-29", days("2026-03-29", "2026-03-30"), None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "query", "meant", "compared"), RANGES)
async def test_stats_are_exact(
    site: Site, town: Town, name: str, query: str, meant: DateRange, compared: DateRange | None
) -> None:
    shop = town.shop if name == "Shop" else town.rival
    for filtered, branches in (("", None), ("&location=b1&location=", ["b1", ""])):
        reply = await site.get(f"/api/v1/stats?{query}{filtered}", name)
        now = shop.over(meant, branches)
        before = shop.over(compared, branches) if compared else None
        assert reply.status == 200
        assert reply.json == {
            **about(shop, meant, compared),
            "metrics": metrics(shop, now, before),
            "other_currencies": others(now),
        }


async def test_all_begins_with_the_data(site: Site, town: Town) -> None:
    reply = await site.get("/api/v1/stats?preset=all", "Shop")
    assert town.shop.first_day is not None
    assert reply.json["range"]["start_date"] == town.shop.first_day.isoformat()
    assert reply.json["range"]["end_date"] == "2026-03-30"
    reply = await site.get("/api/v1/stats?preset=all", "Nobody")
    assert reply.json["range"] == {"start_date": "2026-03-30", "end_date": "2026-03-30"}
    assert reply.json["data_version"] == 0
    assert reply.json["data_until"] is None
    assert reply.json["metrics"]["bounce_rate"]["value"] is None


@pytest.mark.parametrize("granularity", ["day", "week", "month"])
async def test_charts_are_exact(site: Site, town: Town, granularity: str) -> None:
    names = ["gross_revenue", "total_users", "bounce_rate", "average_order_value"]
    query = "&".join(f"metric={name}" for name in names)
    path = f"/api/v1/stats/chart?preset=30d&compare=year&granularity={granularity}&{query}"
    reply = await site.get(path, "Rival")
    meant, compared = days("2026-03-02", "2026-03-31"), days("2025-03-02", "2025-03-31")
    answer = reply.json
    assert {key: answer[key] for key in about(town.rival, meant, compared)} == (
        about(town.rival, meant, compared)
    )
    assert answer["granularity"] == granularity
    for whole, points in ((meant, answer["points"]), (compared, answer["comparison_points"])):
        steps = [days(point["start"], point["end"]) for point in points]
        assert (steps[0].start, steps[-1].end) == (whole.start, whole.end)
        assert all(b.start == a.end + timedelta(days=1) for a, b in pairwise(steps))
        for step, point in zip(steps, points, strict=True):
            expected = figures(town.rival.over(step))
            assert point["values"] == {name: expected[name] for name in names}
    if granularity == "week":  # the rival's weeks begin on Sunday
        assert {date.fromisoformat(p["start"]).isoweekday() for p in answer["points"][1:]} == {7}
        assert len(answer["comparison_points"]) == len(answer["points"])


async def test_charts_by_hour_go_through_clock_changes(site: Site, town: Town) -> None:
    path = "/api/v1/stats/chart?granularity=hour&metric=sessions&metric=net_revenue"
    reply = await site.get(f"{path}&start_date=2026-03-28&end_date=2026-03-29", "Shop")
    points = reply.json["points"]
    assert len(points) == 24 + 23
    assert points[0]["start"] == "2026-03-27T23:00:00Z"
    assert points[-1]["end"] == "2026-03-29T22:00:00Z"
    for point in points:
        expected = figures(town.shop.at(datetime.fromisoformat(point["start"])))
        assert point["values"] == {name: expected[name] for name in ("sessions", "net_revenue")}
    reply = await site.get(f"{path}&start_date=2025-10-05&end_date=2025-10-05", "Rival")
    starts = [datetime.fromisoformat(point["start"]) for point in reply.json["points"]]
    assert len(starts) == 24
    assert timedelta(minutes=30) in {b - a for a, b in pairwise(starts)}
    total = sum(point["values"]["sessions"] for point in reply.json["points"])
    assert total == town.rival.over(days("2025-10-05", "2025-10-05"))["sessions"]


async def test_branches_are_exact(site: Site, town: Town) -> None:
    meant, compared = days("2026-03-03", "2026-03-30"), days("2026-02-03", "2026-03-02")
    reply = await site.get("/api/v1/stats/locations?compare=previous&sort=name", "Shop")
    names = {row["location_id"]: (row["name"], row["city"]) for row in town.shop.locations}
    expected = []
    ids = town.shop.branch_ids([meant, compared])
    for branch in sorted(ids, key=lambda one: (names.get(one, (one,))[0].casefold(), one)):
        now, before = town.shop.over(meant, [branch]), town.shop.over(compared, [branch])
        expected.append(
            {
                "location_id": branch,
                "name": names.get(branch, (None, None))[0],
                "city": names.get(branch, (None, None))[1],
                "metrics": metrics(town.shop, now, before),
                "other_currencies": others(now),
            }
        )
    assert reply.json == {
        **about(town.shop, meant, compared),
        "data": expected,
        "next_cursor": None,
        "total": len(expected),
    }
    assert "Elsewhere" not in reply.text  # the rival's name for b1
    reply = await site.get("/api/v1/stats/locations?location=b2&location=unheard", "Shop")
    assert [row["location_id"] for row in reply.json["data"]] == ["b2"]


@pytest.mark.parametrize("sort", ["-gross_revenue", "bounce_rate", "name", "-name", "purchases"])
@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_pages_of_branches_are_complete(site: Site, sort: str, limit: int) -> None:
    path = f"/api/v1/stats/locations?preset=7d&sort={sort}"
    whole = (await site.get(path, "Shop")).json["data"]
    seen, cursor = [], ""
    while True:
        answer = (await site.get(f"{path}&limit={limit}{cursor}", "Shop")).json
        assert len(answer["data"]) <= limit
        assert answer["total"] == len(whole)
        seen += answer["data"]
        assert len(seen) <= answer["total"]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert seen == whole
    if sort.removeprefix("-") != "name":
        field = sort.removeprefix("-")
        values = [row["metrics"][field]["value"] for row in whole]
        keys = [Decimal("-Infinity" if value is None else str(value)) for value in values]
        assert keys == sorted(keys, reverse=sort.startswith("-"))


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_pages_of_locations_are_complete(site: Site, town: Town, limit: int) -> None:
    seen, cursor = [], ""
    while True:
        answer = (await site.get(f"/api/v1/locations?limit={limit}{cursor}", "Shop")).json
        assert answer["total"] == len(town.shop.locations)
        seen += answer["data"]
        assert len(seen) <= answer["total"]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert seen == sorted(
        town.shop.locations, key=lambda row: (row["name"].lower(), row["location_id"])
    )
    assert (await site.get("/api/v1/locations", "Nobody")).json == {
        "data": [],
        "next_cursor": None,
        "total": 0,
    }


BAD = [
    ("stats", "start_date=2026-02-02&end_date=2026-02-01", ["?end_date"]),
    ("stats", "end_date=2026-02-01", ["?start_date"]),
    ("stats", "start_date=2026-02-01&preset=7d", ["?preset"]),
    ("stats", "start_date=1.2.2026", ["?start_date"]),
    ("stats", "start_date=2026-02-30", ["?start_date"]),
    ("stats", "start_date=2020-01-01&end_date=2026-02-01", ["?end_date"]),
    ("stats", "start_date=9999-12-31&end_date=9999-12-31", ["?end_date"]),
    ("stats", "preset=8d", ["?preset"]),
    ("stats", "compare=never", ["?compare"]),
    ("stats", "location=" + "x" * 257, ["?location"]),
    ("stats", "&".join(f"location={number}" for number in range(101)), ["?location"]),
    ("stats", "metric=sessions", ["?metric"]),
    ("stats/chart", "metric=magic", ["?metric"]),
    ("stats/chart", "granularity=minute", ["?granularity"]),
    ("stats/chart", "granularity=hour&preset=90d", ["?granularity"]),
    ("stats/chart", "granularity=hour&preset=7d&metric=total_users", ["?metric"]),
    ("stats/chart", "start_date=9999-12-01&end_date=9999-12-31&granularity=month", ["?end_date"]),
    ("stats/locations", "sort=magic", ["?sort"]),
    ("stats/locations", "sort=name,sessions", ["?sort"]),
    ("stats/locations", "limit=0", ["?limit"]),
    ("stats/locations", "limit=1001", ["?limit"]),
    ("stats/locations", "cursor=bm90aGluZw", ["?cursor"]),
    ("stats/complete", "granularity=hour&preset=7d&metric=new_users", ["?metric"]),
    ("stats/complete", "limit=101", ["?limit"]),
    ("funnel", "window_minutes=0", ["?window_minutes"]),
    ("funnel", "window_minutes=1441", ["?window_minutes"]),
    ("funnel", "metric=sessions", ["?metric"]),
    ("channels", "sort=magic", ["?sort"]),
    ("devices", "cursor=bm90aGluZw", ["?cursor"]),
    ("countries", "device=" + "x" * 257, ["?device"]),
    ("top/products", "sort=entrances", ["?sort"]),
    ("top/pages", "sort=bounce_rate", ["?sort"]),
    ("top/terms", "sort=-views", ["?sort"]),
    ("top/terms", "cursor=bm90aGluZw", ["?cursor"]),
    ("locations", "cursor=W10", ["?cursor"]),
    ("locations", "preset=7d", ["?preset"]),
]


@pytest.mark.parametrize(("route", "query", "pointers"), BAD)
async def test_bad_questions_are_pointed_at(
    site: Site, route: str, query: str, pointers: list[str]
) -> None:
    reply = await site.get(f"/api/v1/{route}?{query}", "Shop")
    assert reply.status == 422
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert [error["pointer"] for error in reply.json["errors"]] == pointers
    assert all(error["message"] for error in reply.json["errors"])


async def test_a_cursor_belongs_to_its_order(site: Site) -> None:
    path = "/api/v1/stats/locations?preset=7d&limit=1"
    cursor = (await site.get(path, "Shop")).json["next_cursor"]
    assert (await site.get(f"{path}&cursor={cursor}", "Shop")).status == 200
    for other in (
        f"{path}&sort=name&cursor={cursor}",
        f"{path}&sort=gross_revenue&cursor={cursor}",
        f"/api/v1/locations?cursor={cursor}",
    ):
        assert (await site.get(other, "Shop")).status == 422


ROUTES = [
    "stats", "stats/chart", "stats/locations", "stats/complete", "funnel", "channels", "devices",
    "countries", "top/products", "top/pages", "top/terms", "locations",
]  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
async def test_nobody_reads_without_credentials(site: Site, route: str) -> None:
    for token in (None, "unheard"):
        reply = await site.get(f"/api/v1/{route}", token)
        assert reply.status == 401
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("route", ROUTES[:-1])
async def test_an_answer_is_not_sent_twice(site: Site, route: str) -> None:
    path = f"/api/v1/{route}?preset=7d&compare=previous"
    first = await site.get(path, "Shop")
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    again = await site.get(path, "Shop", If_None_Match=tag)
    assert (again.status, again.text, again.headers["ETag"]) == (304, "", tag)
    # The same words mean something else to others, on another day, or with another word.
    assert (await site.get(path, "Rival", If_None_Match=tag)).status == 200
    assert (await site.get(f"{path}&location=b1", "Shop", If_None_Match=tag)).status == 200
    site.now += timedelta(days=1)
    assert (await site.get(path, "Shop", If_None_Match=tag)).status == 200


async def test_a_tag_ends_with_what_it_stood_for(
    fresh_database: TestDatabase, database: Database
) -> None:
    """A load, another currency, zone or start of the week: each makes another answer."""
    shop = Warehouse("Shop", "Europe/Berlin", data_until=date(2026, 3, 30))
    shop.add_random_days([date(2026, 3, 29), date(2026, 3, 30)], ["b1", "b2"], random.Random(1))
    await aio(shop.store(fresh_database.runtime_url))
    site = make_site(Answers(database), [shop])

    path = "/api/v1/stats/chart?preset=28d&granularity=week&metric=events"
    reply = await site.get(path, "Shop")
    tags = [reply.headers["ETag"]]
    for sql in (
        "UPDATE data.versions SET data_version = data_version + 1",
        "UPDATE data.versions SET data_until = '2026-03-31'",
        "UPDATE platform.tenants SET reporting_currency = 'USD'",
        "UPDATE platform.tenants SET week_start = 7",
        "UPDATE platform.tenants SET reporting_time_zone = 'America/New_York'",
    ):
        await database.execute(sql, tenant=shop.tenant)
        reply = await site.get(path, "Shop", If_None_Match=tags[-1])
        assert reply.status == 200, sql
        tags.append(reply.headers["ETag"])
        assert (await site.get(path, "Shop", If_None_Match=tags[-1])).status == 304
    assert len(set(tags)) == len(tags)
    assert reply.json["data_version"] == shop.version + 1
