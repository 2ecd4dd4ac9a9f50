"""The page says what the API says, to everybody who may read it, in any state of the data."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.analytics.conftest import Town
from tests.integration.analytics.page import Page
from tests.integration.analytics.site import Site, make_site
from tests.integration.analytics.warehouse import COUNTS, Warehouse
from tests.support.postgres import TestDatabase
from troupe.actors.analytics.answers import Answers
from troupe.common.bridge import aio
from troupe.common.database import Database
from troupe.http.dashboard.overview import BRANCH_COLUMNS
from troupe.http.dashboard.view import CARDS


def number(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def as_number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


@pytest.fixture
def site(answers: Answers, town: Town) -> Site:
    return make_site(answers, [town.shop, town.rival, town.nobody])


@pytest.mark.parametrize(
    "query",
    ["preset=28d&compare=previous", "preset=7d&compare=none", "preset=90d&compare=year",
     "start_date=2026-03-10&end_date=2026-03-20&compare=weekday", "preset=all&compare=none",
     "preset=7d&compare=previous&location=b1", "preset=28d&compare=none&location="],
)  # fmt: skip
async def test_the_page_and_the_api_say_the_same(site: Site, query: str) -> None:
    stats = (await site.get(f"/api/v1/stats?{query}", "Shop")).json
    branches = (await site.get(f"/api/v1/stats/locations?{query}", "Shop")).json["data"]
    page = Page((await site.visit(f"/?{query}", "Shop")).text)
    cards = page.cards()
    assert list(cards) == list(CARDS)
    for name, card in cards.items():
        figure = stats["metrics"][name]
        assert number(card.attributes["data-value"]) == as_number(figure["value"])
        if "data-previous" in card.attributes:
            assert number(card.attributes["data-previous"]) == as_number(figure["previous"])
            assert number(card.attributes["data-change"]) == as_number(figure["change"])
    assert {
        branch: {name: number(text) for name, text in row.items()}
        for branch, row in page.branches().items()
    } == {
        row["location_id"]: {
            name: as_number(row["metrics"][name]["value"]) for name in BRANCH_COLUMNS
        }
        for row in branches
    }
    assert f"data version {stats['data_version']}" in page.one("footer").text


@pytest.mark.parametrize("metric", CARDS)
@pytest.mark.parametrize("granularity", ["day", "week", "month"])
async def test_the_chart_and_the_api_say_the_same(
    site: Site, metric: str, granularity: str
) -> None:
    query = f"preset=90d&compare=none&metric={metric}&granularity={granularity}"
    points = (await site.get(f"/api/v1/stats/chart?{query}", "Shop")).json["points"]
    page = Page((await site.visit(f"/?{query}", "Shop")).text)
    table = page.html.partition('class="as-table"')[2].partition("</table>")[0]
    shown = [number(text) for text in re.findall(r'data-value="([^"]*)"', table)]
    assert len(shown) == len(points)
    for value, point in zip(shown, points, strict=True):
        assert value in {as_number(point["values"][metric]), None}
    assert sum(value is not None for value in shown) > 1


async def test_days_without_data_are_unknown_and_not_zero(site: Site, town: Town) -> None:
    assert town.shop.first_day == date(2025, 10, 1)
    page = Page(
        (
            await site.visit("/?start_date=2025-09-25&end_date=2025-10-02&compare=previous", "Shop")
        ).text
    )
    cells = page.all("td", data_metric="gross_revenue")
    assert [one.text for one in cells[:6]] == ["–"] * 6
    assert "data-previous" not in page.cards()["sessions"].attributes
    assert page.notices() == [
        "The data begins on 1 Oct 2025: there is nothing to compare with (17 Sep – 24 Sep 2025)."
    ]


async def test_a_stranger_is_led_to_the_login_and_back(site: Site) -> None:
    reply = await site.visit("/?preset=7d&location=b1", None)
    assert reply.status == 303
    assert reply.headers["Location"] == (
        "https://auth.example/api/v1/login"
        "?next=https%3A%2F%2Fboard.example%2F%3Fpreset%3D7d%26location%3Db1"
    )
    assert (await site.get("/", None, Accept="application/json")).status == 401


async def test_nothing_on_the_page_is_inline(site: Site) -> None:
    for path in ("/", "/?preset=yesterday", "/?preset=8d", "/nowhere"):
        reply = await site.visit(path, "Shop")
        policy = reply.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        for element in Page(reply.text).elements:
            assert element.tag != "style"
            assert element.tag != "script" or element.attributes["src"].startswith("/static/")
            assert not [name for name in element.attributes if name == "style" or name[:2] == "on"]


async def test_errors_are_pages_for_people(site: Site) -> None:
    reply = await site.visit("/?start_date=2026-02-02&end_date=2026-02-01", "Shop")
    page = Page(reply.text)
    assert reply.status == 422
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.one("li", class_="finding").text == "End date: must not be before start date"
    assert (await site.visit("/nowhere", "Shop")).status == 404
    program = await site.get("/?preset=8d", "Shop", Accept="application/json")
    assert program.headers["Content-Type"] == "application/problem+json"


async def test_an_error_on_the_way_to_another_page_is_a_page_too(site: Site) -> None:
    """htmx takes anything, and shows what it gets."""
    headers = {"Accept": "*/*", "HX-Request": "true"}
    reply = await site.get("/?preset=8d", "Shop", **headers)
    assert reply.status == 422
    assert Page(reply.text).all("h1")


async def test_custom_dates_stay_when_something_else_changes(site: Site) -> None:
    address = "/?start_date=2026-03-10&end_date=2026-03-20&metric=sessions&location=b1"
    page = Page((await site.visit(address, "Shop")).text)
    selected = [one.text for one in page.all("option") if "selected" in one.attributes]
    assert selected == ["Custom", "Period before"]
    carried = [("metric", "sessions"), ("location", "b1")]
    days = [("start_date", "2026-03-10"), ("end_date", "2026-03-20")]
    fields = [(one.attributes["name"], one.attributes["value"]) for one in page.all("input")]
    assert fields[0] == ("csrf_token", "a-csrf-token")
    # Beside the selects, hidden; then the dates to be edited, and what goes with them.
    assert fields[1:] == [*days, *carried, *days, *carried]
    links = [one.attributes["href"] for one in page.all("a", class_="card")]
    assert all("start_date=2026-03-10&end_date=2026-03-20" in link for link in links)
    assert all("location=b1" in link for link in links)
    chip = page.one("a", class_="chip")
    assert chip.text == "North, show all again"
    assert "location" not in chip.attributes["href"]


async def test_a_named_period_carries_no_dates(site: Site) -> None:
    page = Page((await site.visit("/?preset=7d", "Shop")).text)
    selected = [one.text for one in page.all("option") if "selected" in one.attributes]
    assert selected == ["Last 7 days", "Period before"]
    assert "Custom" not in [one.text for one in page.all("option")]
    dates = page.all("input", type_="date")
    assert [one.attributes["value"] for one in dates] == ["2026-03-24", "2026-03-30"]
    assert len([one for one in page.all("input") if "date" in one.attributes["name"]]) == 2


async def test_a_single_day_is_shown_by_the_hour(site: Site) -> None:
    page = Page((await site.visit("/?preset=yesterday", "Shop")).text)
    assert page.one("h2", id_="chart-title").text == "Revenue by hour"
    page = Page((await site.visit("/?preset=yesterday&metric=total_users", "Shop")).text)
    assert page.one("h2", id_="chart-title").text == "Visitors by day"
    assert page.all("p", class_="segments") == []


async def test_a_shop_without_data_is_told_so(site: Site) -> None:
    page = Page((await site.visit("/", "Nobody")).text)
    assert page.one("h2", id_="empty-title").text == "No data yet"
    assert page.cards() == {}
    assert page.all("select") == []
    assert "no complete day yet" in page.one("header").text


async def test_figures_that_are_not_what_they_seem_are_announced(site: Site) -> None:
    rival = Page((await site.visit("/?start_date=2026-04-10&end_date=2026-04-15", "Rival")).text)
    assert rival.notices() == ["Days after 14 Apr 2026 are missing or incomplete."]
    assert rival.all("span", class_="until stale")
    empty = Page((await site.visit("/?start_date=2020-01-01&end_date=2020-01-31", "Shop")).text)
    (notice,) = empty.notices()
    assert notice.startswith("Nothing was recorded in this period. The data begins on 1 Oct 2025")
    assert empty.one("a", href="/?preset=all").text == "Show all days"
    part = Page((await site.visit("/?start_date=2025-10-10&end_date=2025-10-20", "Shop")).text)
    assert part.notices() == [
        "The data begins on 1 Oct 2025: the comparison with 29 Sep – 9 Oct 2025 is incomplete."
    ]
    assert "data-previous" in part.cards()["sessions"].attributes


async def test_logging_out_takes_the_sessions_token(site: Site) -> None:
    page = Page((await site.visit("/", "Shop")).text)
    form = page.one("form", method="post")
    assert form.attributes["action"] == "https://auth.example/api/v1/logout"
    assert page.one("input", name="csrf_token").attributes["value"] == "a-csrf-token"
    with_token = Page((await site.get("/", "Shop", Accept="text/html")).text)
    assert with_token.all("form", method="post") == []


async def test_the_data_page_says_what_is_known(site: Site, pool: Database, town: Town) -> None:
    async def unit(connection: Any) -> None:
        for day, state, loaded in ((28, "loaded", 50), (29, "stale", 40), (30, "failed", None)):
            await connection.execute(
                "INSERT INTO data.source_days (tenant_id, source_day, state, source_rows,"
                " loaded_rows, problem) VALUES ($1, $2, $3, 60, $4, $5)",
                *(town.rival.tenant, date(2026, 3, day), state, loaded),
                "The table is <b>locked</b>." if state == "failed" else None,
            )

    await pool.run(unit, tenant=town.rival.tenant)
    page = Page((await site.visit("/data?day=2026-03-30", "Rival")).text)
    days = {
        one.attributes["data-row"]: one.attributes["aria-label"]
        for one in page.all("a")
        if one.attributes.get("class", "").startswith("day ")
    }
    assert days["2026-03-28"] == "Sat 28 Mar 2026: loaded, 50 rows"
    assert days["2026-03-29"] == "Sun 29 Mar 2026: outdated, 40 rows"
    assert days["2026-03-30"] == "Mon 30 Mar 2026: failed"
    counts = {one.attributes["data-days"]: one.text for one in page.all("span", class_="value")
              if "data-days" in one.attributes}  # fmt: skip
    assert counts == {"loaded": "1", "stale": "1", "gaps": "2"}  # the 31st was never looked at
    assert page.notices() == ["The table is <b>locked</b>."]
    assert page.all("b") == [one for one in page.all("b") if one.text == "Ada <Lovelace>"]
    assert page.all("button", data_api="POST data:/api/v1/ingestions") == []  # a viewer looks only
    months = Page((await site.visit("/data?until=2000-01-01", "Rival")).text).all("table")
    assert [one.text.split()[:2] for one in months[:1]] == [["Mar", "2026"]]


@pytest.mark.parametrize(
    "query", ["", "?day=2026-03-30", "?state=dead", "?until=2000-01-01", "?day=2199-12-31"]
)
async def test_the_data_page_of_a_shop_without_data(site: Site, query: str) -> None:
    reply = await site.visit(f"/data{query}", "Nobody")
    assert reply.status == 200
    assert "No day is known yet" in [one.text for one in Page(reply.text).all("h2")]


@pytest.mark.parametrize(
    ("query", "status"),
    [("?day=2026-02-30", 422), ("?day=9999-12-31", 422),
     ("?until=0001-01-01", 422), ("?state=lost", 422), ("?what=1", 422),
     ("?job=01a21a5f-7f64-7442-98f5-cde42105a98a", 404)],
)  # fmt: skip
async def test_what_the_data_page_cannot_show(site: Site, query: str, status: int) -> None:
    reply = await site.visit(f"/data{query}", "Shop")
    assert reply.status == status
    assert Page(reply.text).one("section", role="alert")


async def test_hostile_names_are_only_names(
    fresh_database: TestDatabase, database: Database
) -> None:
    nasty = "<script>alert('1')</script>\"&"
    day = date(2026, 3, 30)
    shop = Warehouse(nasty, data_until=day)
    shop.locations = [
        {"location_id": nasty, "name": nasty, "city": nasty, "email": None, "manager": None}
    ]
    hour = datetime.combine(day, datetime.min.time(), UTC)
    row = {"day": day, "hour_start": hour, "location_id": nasty}
    shop.hourly = [row | dict.fromkeys(COUNTS, 1)]
    await aio(shop.store(fresh_database.runtime_url))
    site = make_site(Answers(database), [shop])
    reply = await site.get("/?preset=7d", nasty)
    page = Page(reply.text)
    assert {one.attributes.get("src", "")[:8] for one in page.all("script")} == {"/static/"}
    assert list(page.branches()) == [nasty]
    link = next(one for one in page.all("a") if one.text == nasty)
    filtered = Page((await site.get(link.attributes["href"], nasty)).text)
    assert filtered.one("a", class_="chip").text.startswith(nasty)
    assert list(filtered.branches()) == [nasty]


async def test_static_files_are_kept_until_they_change(site: Site) -> None:
    page = Page((await site.visit("/", "Shop")).text)
    address = page.all("link", rel="stylesheet")[0].attributes["href"]
    reply = await site.visit(address, None)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "immutable" in reply.headers["Cache-Control"]
    assert len(reply.text) < 40_000
    again = await site.visit(address, None, If_None_Match=reply.headers["ETag"])
    assert (again.status, again.text) == (304, "")
    for other in (f"{address}0", address.partition("?")[0]):
        assert "immutable" not in (await site.visit(other, None)).headers["Cache-Control"]
    assert (await site.visit("/static/../pages.py", None)).status == 404
    assert (await site.visit("/static/base.html", None)).status == 404
