"""Lists of tasks: filtered, ordered and searched as by hand, page by page, for one tenant only."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from tests.integration.analytics.desk import ADA, NOW, Desk, make_desk
from tests.integration.data.loading import in_tenant, make_tenant
from tests.support.postgres import TestDatabase
from troupe.actors.analytics.tasks import TASKS, Sorting
from troupe.common.bridge import aio
from troupe.common.database import open_database
from troupe.common.ids import TenantId

Row = dict[str, Any]
COMPANIES: Final = ("", "Adler GmbH", "adler & Söhne", "50% Rabatt_AG", "Zürich Bau", "Ost\\West")
KIND: Final = "cart-abandonment"
INSERT: Final = (
    "INSERT INTO analytics.tasks (tenant_id, task_id, kind, subject, began_at, happened_at,"
    " raised_at, is_customer, person_id, location_id, company, phone, title, value, currency,"
    " facts, priority, reasons, status, assignee_id, snoozed_until) VALUES ($1, $2, $3, $4, $5, $5,"
    " $5, $6, $7, $8, $9, $10, $11, $12, 'EUR', $13::text::jsonb, $14, '[]', $15, $16, $17)"
)


def random_task(dice: random.Random) -> Row:
    """Few values, so that many tasks are equal in what lists are ordered by."""
    return {
        "id": UUID(int=dice.getrandbits(128), version=4),
        "kind": dice.choice((KIND, KIND, KIND, "purchases")),
        "happened_at": NOW - timedelta(hours=dice.randint(0, 24 * 40)),
        "is_customer": dice.random() < 0.5,
        "person_id": dice.choice(("C1", "C22", "v.7")),
        "location_id": dice.choice(("", "B1", "B2")),
        "company": dice.choice(COMPANIES),
        "phone": dice.choice(("", "+49 30 1234")),
        "title": dice.choice(("Drill, Saw", "Bohrer", "İstanbul")),
        "value": dice.choice((Decimal(0), Decimal("12.50"), Decimal(1000))),
        "priority": dice.randint(0, 5),
        "status": dice.choice(("open", "in_progress", "done", "dismissed")),
        "assignee_id": dice.choice((None, ADA, UUID(int=2))),
        "snoozed_until": dice.choice((None, NOW - timedelta(days=1), NOW + timedelta(days=1))),
    }


async def insert(connection: asyncpg.Connection, tenant: TenantId, rows: list[Row]) -> None:
    facts = json.dumps({"items_left": 1, "items": [], "first_purchase": False})
    await connection.executemany(
        INSERT,
        [
            (
                tenant, row["id"], row["kind"], row["id"].bytes, row["happened_at"],
                row["is_customer"], row["person_id"], row["location_id"], row["company"],
                row["phone"], row["title"], row["value"], facts, row["priority"], row["status"],
                row["assignee_id"], row["snoozed_until"],
            )
            for row in rows
        ],
    )  # fmt: skip


@dataclass
class Shop:
    tenant: TenantId
    rows: list[Row]


@pytest.fixture(scope="module")
def shops(module_database: TestDatabase) -> tuple[Shop, Shop]:
    dice = random.Random(20261028)

    async def build() -> tuple[Shop, Shop]:
        connection = await asyncpg.connect(module_database.runtime_url)
        try:
            found = []
            for _ in range(2):
                tenant = await make_tenant(connection, zone="Europe/Berlin")
                rows = [random_task(dice) for _ in range(150)]
                await in_tenant(
                    connection,
                    tenant,
                    lambda c, t=tenant, r=rows: insert(c, t, r),  # type: ignore[misc]
                )
                found.append(Shop(tenant, rows))
            return found[0], found[1]
        finally:
            await connection.close()

    return asyncio.run(build())


@pytest.fixture
async def desk(bridge: None, module_database: TestDatabase) -> Any:
    async with open_database(module_database.runtime_url, connections=3) as database:
        yield make_desk(database)


def text_of(row: Row) -> str:
    return "\n".join((row["company"], row["phone"], row["person_id"], row["title"])).lower()


def searched(words: str) -> Callable[[Row], bool]:
    return lambda row: all(word.lower() in text_of(row) for word in words.split())


FILTERS: Final[dict[str, tuple[dict[str, Any], Callable[[Row], bool]]]] = {
    "nothing": ({}, lambda _: True),
    "branches": ({"location": ["B1", ""]}, lambda row: row["location_id"] in {"B1", ""}),
    "status": ({"status": ["open", "done"]}, lambda row: row["status"] in {"open", "done"}),
    "mine": ({"assignee": "me"}, lambda row: row["assignee_id"] == ADA),
    "somebody's": (
        {"assignee": str(UUID(int=2))}, lambda row: row["assignee_id"] == UUID(int=2),
    ),
    "nobody's": ({"assignee": "nobody"}, lambda row: row["assignee_id"] is None),
    "resting": (
        {"snoozed": "true"}, lambda row: row["snoozed_until"] == NOW + timedelta(days=1),
    ),
    "awake": (
        {"snoozed": "false"}, lambda row: row["snoozed_until"] != NOW + timedelta(days=1),
    ),
    "customers": ({"customers": "true"}, lambda row: row["is_customer"]),
    "worth it": ({"min_value": "12.5"}, lambda row: row["value"] >= Decimal("12.5")),
    "a word": ({"q": "ADLER"}, searched("adler")),
    "two words": ({"q": "söhne drill"}, searched("söhne drill")),
    "one letter": ({"q": "z"}, searched("z")),
    "a percent sign": ({"q": "50% rabatt_"}, searched("50% rabatt_")),
    "a backslash": ({"q": "t\\w"}, searched("t\\w")),
    "a wildcard alone": ({"q": "_"}, searched("_")),
    "a number": ({"q": "30 1234 c22"}, searched("30 1234 c22")),
    "all together": (
        {"q": "a", "location": ["B1"], "status": ["open"], "customers": "true"},
        lambda row: searched("a")(row) and row["location_id"] == "B1"
        and row["status"] == "open" and row["is_customer"],
    ),
}  # fmt: skip
ORDERS: Final = ("happened_at", "raised_at", "priority", "value", "company")


@pytest.mark.parametrize("name", FILTERS)
async def test_filters_find_what_a_look_at_all_rows_finds(
    desk: Desk, shops: tuple[Shop, Shop], name: str
) -> None:
    query, holds = FILTERS[name]
    shop = shops[0]
    for path in (KIND, "purchases"):
        found = await desk.get(shop.tenant, f"/tasks/{path}", limit=1000, **query)
        since = datetime(2026, 9, 28, 22, tzinfo=UTC)  # midnight of the first of 30 days in Berlin
        wanted = {
            str(row["id"])
            for row in shop.rows
            if row["kind"] == path and row["happened_at"] >= since and holds(row)
        }
        assert {row["id"] for row in found["data"]} == wanted
        assert found["total"] == len(wanted)


@pytest.mark.parametrize("field", ORDERS)
@pytest.mark.parametrize("sign", ["", "-"])
async def test_pages_are_the_list_cut_into_pieces(
    desk: Desk, shops: tuple[Shop, Shop], field: str, sign: str
) -> None:
    shop = shops[0]
    query = {"sort": sign + field, "start_date": "2026-09-01", "end_date": "2026-10-28"}
    found = await desk.pages(shop.tenant, f"/tasks/{KIND}", limit=7, **query)
    column = "happened_at" if field == "raised_at" else field
    rows = [row for row in shop.rows if row["kind"] == KIND]
    assert {row["id"] for row in found} == {str(row["id"]) for row in rows}
    assert len(found) == len(rows)
    by_id = {str(row["id"]): row for row in rows}
    if field != "company":  # texts are in the database's order
        values = [by_id[row["id"]][column] for row in found]
        assert values == sorted(values, reverse=sign == "-")


async def test_what_is_raised_meanwhile_neither_repeats_nor_hides_others(
    desk: Desk, module_database: TestDatabase
) -> None:
    dice = random.Random(5)
    rows = [random_task(dice) | {"kind": KIND} for _ in range(60)]
    connection = await aio(asyncpg.connect(module_database.runtime_url))
    tenant = await aio(make_tenant(connection))
    await aio(in_tenant(connection, tenant, lambda c: insert(c, tenant, rows)))
    query = {"sort": "-priority", "limit": 9, "start_date": "2026-09-01", "end_date": "2026-10-28"}
    shown: list[str] = []
    while True:
        page = await desk.get(tenant, f"/tasks/{KIND}", **query)
        shown += [row["id"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
        more = [random_task(dice) | {"kind": KIND} for _ in range(3)]
        await aio(in_tenant(connection, tenant, lambda c, m=more: insert(c, tenant, m)))  # type: ignore[misc]
        if len(shown) > 400:
            break
    await aio(connection.close())
    assert len(shown) == len(set(shown))
    assert {str(row["id"]) for row in rows} <= set(shown)


async def test_nobody_sees_the_tasks_of_others(desk: Desk, shops: tuple[Shop, Shop]) -> None:
    here, there = shops
    for query in ({}, {"q": "adler"}, {"q": "a"}):
        found = await desk.pages(here.tenant, f"/tasks/{KIND}", limit=1000, **query)
        assert not {row["id"] for row in found} & {str(row["id"]) for row in there.rows}
        assert found
    for path in ("", "/history"):
        reply = await desk.ask(here.tenant, "GET", f"/tasks/{there.rows[0]['id']}{path}")
        assert reply.status == 404


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"sort": "note"}, "?sort"),
        ({"sort": "value,company"}, "?sort"),
        ({"status": "lost"}, "?status"),
        ({"assignee": "bob"}, "?assignee"),
        ({"min_value": "-1"}, "?min_value"),
        ({"q": "x" * 201}, "?q"),
        ({"cursor": "bm9uZQ"}, "?cursor"),
        ({"limit": 1001}, "?limit"),
        ({"whatever": 1}, "?whatever"),
    ],
)
async def test_bad_queries_are_told(
    desk: Desk, shops: tuple[Shop, Shop], query: dict[str, Any], pointer: str
) -> None:
    reply = await desk.ask(shops[0].tenant, "GET", f"/tasks/{KIND}", query_string=query)
    assert reply.status in {400, 422}
    assert reply.json["errors"][0]["pointer"] == pointer


# --- plans ---


async def test_lists_and_searches_read_by_index(
    bridge: None, module_database: TestDatabase
) -> None:
    """Of 60,000 tasks of three tenants the first page touches those of its days."""
    connection = await aio(asyncpg.connect(module_database.runtime_url))
    admin = await aio(asyncpg.connect(module_database.admin_url))
    try:
        tenants = [await aio(make_tenant(connection)) for _ in range(3)]
        for tenant in tenants:
            await aio(
                in_tenant(
                    connection,
                    tenant,
                    lambda c, t=tenant: c.execute(CROWD, t, NOW),  # type: ignore[misc]
                )
            )
        await aio(admin.execute("VACUUM ANALYZE analytics.tasks"))
        listed = await aio(explain(connection, tenants[1], Sorting().statement, None))
        assert "Seq Scan on tasks" not in listed
        assert "tasks_by_time" in listed
        before = await scans(connection, admin)
        for word in ("%company 1234%", "%company 777%"):
            assert await aio(in_tenant(connection, tenants[1], partial(search, word=word)))
        assert await scans(connection, admin) > before
    finally:
        await aio(connection.close())
        await aio(admin.close())


async def search(connection: asyncpg.Connection, word: str) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await connection.fetch(
        "SELECT analytics.search_tasks($1, $2, $3, $4, $5)",
        KIND,
        NOW - timedelta(days=3000),
        NOW,
        word,
        [word],
    )
    return found


async def scans(connection: asyncpg.Connection, admin: asyncpg.Connection) -> int:
    """How often the trigram index has been used."""
    await aio(connection.execute("SELECT pg_stat_force_next_flush()"))
    await aio(connection.execute("SELECT 1"))
    counted: int = await aio(
        admin.fetchval(
            "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'tasks_searched'"
        )
    )
    return counted


CROWD: Final = """
INSERT INTO analytics.tasks (
    tenant_id, kind, subject, began_at, happened_at, raised_at, is_customer, person_id, location_id,
    company, title, value, currency, facts, priority, reasons)
SELECT $1, 'cart-abandonment', sha256(n::text::bytea), w.at, w.at, w.at, true, 'C' || n,
       'B' || n % 9, 'Company ' || n, 'Drill', n % 500, 'EUR', '{}', n % 100, '[]'
FROM generate_series(1, 20000) AS n
CROSS JOIN LATERAL (SELECT $2::timestamptz - make_interval(mins => n * 50) AS at) AS w
"""


async def explain(
    connection: asyncpg.Connection, tenant: TenantId, statement: str, text: str | None
) -> str:
    arguments = [
        f"'{tenant}'", f"'{KIND}'", f"'{NOW - timedelta(days=30)}'", f"'{NOW}'", "NULL", "NULL",
        "NULL", "false", "NULL", f"'{NOW}'", "NULL", "NULL",
        "NULL" if text is None else f"'{text}'", "NULL", "NULL", "NULL", "51",
    ]  # fmt: skip

    async def look(inside: asyncpg.Connection) -> str:
        await inside.execute(f"PREPARE listing AS {statement}")
        rows = await inside.fetch(f"EXPLAIN EXECUTE listing ({', '.join(arguments)})")
        await inside.execute("DEALLOCATE listing")
        return "\n".join(row[0] for row in rows)

    return await in_tenant(connection, tenant, look)


def test_every_statement_of_a_list_is_of_the_allow_list() -> None:
    """Nothing that a caller sends becomes part of a statement."""
    for placeholder in ("{column}", "{direction}", "{beyond}", "{type}"):
        assert placeholder in TASKS["list_tasks"]
        assert placeholder not in Sorting().statement
    assert "{" not in Sorting().statement
