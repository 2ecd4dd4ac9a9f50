"""An export says what the screen says, cell by cell, in every format."""

import csv
import io
import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.analytics.office import EVENTS, Office, event
from tests.integration.data.loading import in_tenant, make_tenant
from troupe.common.bridge import aio
from troupe.http import exports
from troupe.http.export_formats import harmless

OCTOBER: Final = {"start_date": "2026-10-01", "end_date": "2026-10-28"}
LISTS: Final = [
    "tasks/purchases",
    "tasks/cart-abandonment",
    "tasks/search-analysis",
    "tasks/repeat-visits",
    "stats/locations",
    "channels",
    "devices",
    "countries",
    "top/products",
    "top/pages",
    "top/terms",
    "tasks/performance/pages",
    "tasks/performance/locations",
]
MANY: Final = [
    event(0.01 * number, "page_view", f"m{number}", 1, page_location="https://shop.example/sale",
          session_engaged=number % 3 == 0)
    for number in range(40)
]  # fmt: skip


def cells_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the screen, as columns."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        match name:
            case "metrics":
                for metric, answer in value.items():
                    found[metric] = answer["value"]
                    found[f"{metric}_previous"] = answer["previous"]
                    found[f"{metric}_change"] = answer["change"]
            case "reasons":
                found[name] = "; ".join(reason["text"] for reason in value)
            case "top_products":
                found[name] = "; ".join(one["label"] or one["name"] for one in value)
            case "other_currencies":
                found[name] = json.dumps(value, separators=(",", ":")) if value else ""
            case _:
                found[name] = value
    return found


async def export(office: Office, path: str, wanted: str, **query: Any) -> bytes:
    reply = await office.desk.ask(
        office.tenant, "GET", f"/exports/{path}",
        query_string={"format": wanted, **OCTOBER, **query},
    )  # fmt: skip
    assert reply.status == 200, reply.raw
    assert f'.{wanted}"' in reply.headers["Content-Disposition"]
    return reply.raw


def alike(shown: Any, exported: Any) -> bool:
    """Whether a cell says what the screen says; numbers by value, instants as instants."""
    if shown is None or exported is None or shown == "" or exported == "":
        return shown in {None, ""} and exported in {None, ""}
    if isinstance(shown, bool):
        return str(exported).lower() == str(shown).lower()
    if isinstance(exported, date) and not isinstance(exported, datetime):
        return exported.isoformat() == shown
    if isinstance(exported, datetime):
        moment = datetime.fromisoformat(shown)
        there = exported if exported.tzinfo else exported.replace(tzinfo=moment.tzinfo)
        return abs((there - moment).total_seconds()) < 0.01
    if isinstance(shown, int | float) or isinstance(exported, int | float | Decimal):
        return abs(Decimal(str(shown)) - Decimal(str(exported))) < Decimal("1e-9")
    return str(exported) in {shown, harmless(shown)}


@pytest.mark.parametrize("path", LISTS)
async def test_every_list_in_every_format(office: Office, path: str) -> None:
    await office.load([*EVENTS, *MANY])
    shown = [cells_of(row) for row in await office.desk.pages(office.tenant, f"/{path}", **OCTOBER)]
    assert shown or path == "countries"
    text = (await export(office, path, "csv")).decode()
    book = openpyxl.load_workbook(io.BytesIO(await export(office, path, "xlsx")))
    head, *lines = book.active.iter_rows(values_only=True)
    parquet = pq.read_table(pa.BufferReader(await export(office, path, "parquet")))
    tables: dict[str, list[dict[str, Any]]] = {
        "csv": list(csv.DictReader(io.StringIO(text, newline=""))),
        "xlsx": [dict(zip(head, line, strict=True)) for line in lines],
        "parquet": parquet.to_pylist(),
    }
    for name, table in tables.items():
        assert len(table) == len(shown), name
        for cells, row in zip(table, shown, strict=True):
            wrong = {
                column: (row[column], cell)
                for column, cell in cells.items()
                if not alike(row[column], cell)
            }
            assert not wrong, name
    left_out = set(shown[0]) - set(parquet.column_names) if shown else set()
    assert left_out <= {"kind", "facts", "etag", "version"}


@pytest.mark.parametrize("granularity", ["hour", "day", "week"])
async def test_a_chart_and_the_branches(office: Office, granularity: str) -> None:
    query = {**OCTOBER, "granularity": granularity, "metric": ["sessions", "gross_revenue"]}
    chart = await office.desk.get(office.tenant, "/stats/chart", **query)
    shown = [{"start": p["start"], "end": p["end"], **p["values"]} for p in chart["points"]]
    assert shown
    for wanted in ("csv", "parquet"):
        raw = await export(office, "stats/chart", wanted, **query)
        table = (
            list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
            if wanted == "csv"
            else pq.read_table(pa.BufferReader(raw)).to_pylist()
        )
        assert len(table) == len(shown)
        for cells, row in zip(table, shown, strict=True):
            assert all(alike(row[column], cell) for column, cell in cells.items())
    reply = await office.desk.ask(office.tenant, "GET", "/exports/locations")
    [branch] = csv.DictReader(io.StringIO(reply.raw.decode(), newline=""))
    assert (branch["location_id"], branch["name"]) == ("B1", "Kiel")


async def test_an_export_has_all_pages_and_keeps_filter_and_order(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE", 2)
    sales = [
        event(number, "purchase", f"p{number}", 1, purchase_revenue=float(number), currency="EUR",
              transaction_id=f"N{number}")
        for number in range(1, 8)
    ]  # fmt: skip
    await office.load(sales)
    raw = await export(office, "tasks/purchases", "csv", sort="value", min_value="3")
    rows = list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
    assert [Decimal(row["value"]) for row in rows] == [3, 4, 5, 6, 7]


async def test_a_product_that_looks_like_a_formula_is_harmless(office: Office) -> None:
    evil = {"id": "X", "name": '=HYPERLINK("http://evil.example","Click")', "price": 5}
    await office.load([event(1, "add_to_cart", "e1", 1, items=[evil], currency="EUR")])
    raw = await export(office, "tasks/cart-abandonment", "csv")
    [row] = csv.DictReader(io.StringIO(raw.decode(), newline=""))
    assert row["title"] == "'" + evil["name"]
    book = openpyxl.load_workbook(
        io.BytesIO(await export(office, "tasks/cart-abandonment", "xlsx"))
    )
    title = [cell.value for cell in book.active[1]].index("title")
    cell = book.active[2][title]
    assert (cell.value, cell.data_type) == (evil["name"], "s")


@pytest.mark.parametrize(
    ("path", "query", "pointer"),
    [
        ("tasks/purchases", {"format": "pdf"}, "?format"),
        ("tasks/purchases", {"limit": 5}, "?limit"),
        ("channels", {"limit": 5}, "?limit"),
        ("channels", {"cursor": "x"}, "?cursor"),
        ("channels", {"sort": "nothing"}, "?sort"),
    ],
)
async def test_bad_exports_are_told(
    office: Office, path: str, query: dict[str, Any], pointer: str
) -> None:
    reply = await office.desk.ask(office.tenant, "GET", f"/exports/{path}", query_string=query)
    assert reply.status in {400, 422}
    assert reply.json["errors"][0]["pointer"] == pointer


async def test_too_much_is_refused_before_it_begins(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MAX_ROWS", 0)
    reply = await office.desk.ask(
        office.tenant, "GET", "/exports/tasks/purchases", query_string=OCTOBER
    )
    assert reply.status in {400, 422}


async def test_others_export_nothing_of_it(office: Office) -> None:
    stranger = await aio(make_tenant(office.connection))
    await aio(in_tenant(office.connection, stranger, lambda c: c.execute("SELECT 1")))
    for path in LISTS:
        reply = await office.desk.ask(
            stranger, "GET", f"/exports/{path}", query_string={"format": "csv", **OCTOBER}
        )
        assert reply.status == 200
        assert b"Drill" not in reply.raw
        assert b"Adler" not in reply.raw


# --- performance ---


async def test_an_entry_page_is_judged_against_the_site(office: Office) -> None:
    await office.load([*EVENTS, *MANY])
    found = await office.desk.get(office.tenant, "/tasks/performance/pages", **OCTOBER)
    [page] = found["data"]  # the others have fewer than thirty sessions
    assert page["page"] == "https://shop.example/sale"
    sessions = 40 + len({(one.user_pseudo_id, one.ga_session_id) for one in EVENTS})
    bounced = sum(not one.session_engaged for one in MANY)
    of_site = bounced + 1  # of the others only the buyer's session is not engaged
    assert page["sessions"] == 40
    assert page["bounce_rate"] == round(bounced / 40, 6)
    assert page["site_bounce_rate"] == round(of_site / sessions, 6)
    excess = Decimal(bounced) - Decimal(40) * of_site / sessions
    assert abs(Decimal(page["lost_sessions"]) - excess) < Decimal("0.000001")
    # From sessions, one by one, instead of from what is added up by day.
    every = {"location": ["", "B1"], **OCTOBER}
    again = await office.desk.get(office.tenant, "/tasks/performance/pages", **every)
    assert (again["data"], again["total"]) == (found["data"], found["total"])
    await office.load([*EVENTS, *MANY[:29]])
    found = await office.desk.get(office.tenant, "/tasks/performance/pages", **OCTOBER)
    assert found["data"] == []


async def test_a_branch_with_what_it_sells(office: Office) -> None:
    found = await office.desk.get(office.tenant, "/tasks/performance/locations", **OCTOBER)
    best = found["data"][0]
    assert best["location_id"] == ""
    assert best["metrics"]["gross_revenue"]["value"] == "9.99"
    [product] = best["top_products"]
    assert (product["name"], product["label"]) == ("S1", "Saw")
    assert found["comparison"] is not None
