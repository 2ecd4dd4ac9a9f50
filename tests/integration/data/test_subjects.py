"""What a session was interested in: short ways give what the long ways give."""

import asyncio
import json
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import pytest

from tests.integration.data.brute_force import Event
from tests.integration.data.loading import in_tenant, make_tenant, replace_day
from tests.support.postgres import TestDatabase
from troupe.actors.data.publication import Reporting

DAY = date(2026, 9, 1)
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)


def beginning(text: str) -> str:
    """A subject as it is kept, whatever its length."""
    long = len(text[:1024].encode()) > 2500
    return text[:600] if long else text[:1024]


@pytest.mark.parametrize("letter", ["a", "ä", "€", "𝄞"])
@pytest.mark.parametrize("size", [1, 255, 256, 341, 342, 512, 513, 600, 834, 1024, 1025, 3000])
def test_a_subject_is_its_beginning(module_database: TestDatabase, letter: str, size: int) -> None:
    async def scenario() -> None:
        connection = await asyncpg.connect(module_database.runtime_url)
        try:
            page = letter * size
            assert await connection.fetchval("SELECT data.subject_of($1)", page) == beginning(page)
            for ending in ("", "?", "#", "?a#b?c", "#b?c#", "?" + letter * 1030):
                found = await connection.fetchval("SELECT data.page_of($1)", page + ending)
                assert found == beginning(page)
            nothing = "SELECT data.subject_of(NULL), data.page_of(NULL), data.page_of('?a')"
            assert tuple(await connection.fetchrow(nothing)) == (None, None, "")
        finally:
            await connection.close()

    asyncio.run(scenario())


ITEMS: list[tuple[Any, dict[str, str | None]]] = [
    ([{"id": "A", "name": "a"}], {"A": "a"}),
    ([{"id": "A"}], {"A": None}),
    ([{"id": "A", "name": "a"}, {"id": "A", "name": "b"}], {"A": "b"}),
    ([{"id": "A", "name": "a"}, {"id": "B", "name": None}], {"A": "a", "B": None}),
    ([{"id": ""}], {}),
    ([{"id": "(not set)", "name": "a"}], {}),
    ([{"id": "(not set)"}, {"id": "A"}], {"A": None}),
    ([{"name": "a"}], {}),
    ([{"id": 7, "name": ["a"]}], {"7": '["a"]'}),
    ([["A"]], {}),
    (["A"], {}),
    ([None], {}),
    ([], {}),
    ({"id": "A"}, {}),
    ("A", {}),
    (None, {}),
]


def test_products_of_one_item_and_of_several(module_database: TestDatabase) -> None:
    async def scenario() -> None:
        connection = await asyncpg.connect(module_database.runtime_url)
        try:
            tenant = await make_tenant(connection)
            events = [
                Event(NOON, name, user_pseudo_id="v", ga_session_id=number, items=json.dumps(items))
                for number, (items, _) in enumerate(ITEMS)
                for name in ("view_item", "view_item", "add_to_cart")
                if name == "view_item" or isinstance(items, list)  # a cart is read as a list
            ]
            seen = Reporting(tenant, "UTC", "EUR", "UTC", "no_search_results")
            await replace_day(connection, seen, DAY, events)
            rows = await in_tenant(
                connection,
                tenant,
                lambda c: c.fetch("SELECT * FROM data.interests WHERE kind = 'product'"),
            )
            found: dict[int, dict[str, str | None]] = {n: {} for n in range(len(ITEMS))}
            for row in rows:
                assert (row["views"], row["cart_additions"], row["failures"]) == (2, 1, 0)
                found[row["ga_session_id"]][row["subject"]] = row["label"]
            assert list(found.values()) == [products for _, products in ITEMS]
        finally:
            await connection.close()

    asyncio.run(scenario())
