"""What a purchase sold is read from its items, whatever somebody has put there."""

import json
from typing import Any

import pytest

from troupe.common.database import Database

DRILL = {"id": "P1", "name": "Drill", "price": 20, "quantity": 2, "revenue": 39.9}


def sold(
    product: str, label: str | None, quantity: float, revenue: float
) -> dict[str, str | float | None]:
    return {"product": product, "label": label, "quantity": quantity, "revenue": revenue}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (None, None),
        ([], None),
        ({"id": "P1"}, None),
        ("P1", None),
        ([{"name": "Drill"}, {"id": ""}, {"id": "(not set)"}, {"id": None}, 5, None], None),
        ([DRILL], [sold("P1", "Drill", 2, 39.9)]),
        ([{"id": "P1", "price": 20}], [sold("P1", None, 1, 20)]),
        ([{"id": "P1", "price": 20, "quantity": 3}], [sold("P1", None, 3, 60)]),
        ([{"id": "P1", "price": "20", "quantity": "3"}], [sold("P1", None, 1, 0)]),
        ([{"id": "P1", "price": 20, "revenue": 0}], [sold("P1", None, 1, 0)]),
        (
            [{"id": "P2", "price": 1}, DRILL, {"id": "P1", "name": "Hammer"}],
            [sold("P1", "Hammer", 3, 39.9), sold("P2", None, 1, 1)],
        ),
        ([{"id": "é" * 2000}], [sold("é" * 1024, None, 1, 0)]),
    ],
)
async def test_items_that_were_sold(
    database: Database, items: Any, expected: list[dict[str, Any]] | None
) -> None:
    told = await database.fetch_value(
        "SELECT to_jsonb(data.sold_items($1::text::jsonb))::text", json.dumps(items)
    )
    assert (None if told is None else json.loads(told)) == expected
