"""A few deterministic GA4 rows, and how a table is written or rewritten."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BRANCHES = ("Graz", "Linz", None)
EVENTS = ("page_view", "view_item", "add_to_cart", "purchase", "session_start")


def parameter(key: str, value: str | float) -> dict[str, Any]:
    names = {str: "string_value", int: "int_value", float: "double_value"}
    return {"key": key, "value": {names[type(value)]: value}}


def item(number: int) -> dict[str, Any]:
    return {
        "item_id": f"SKU{number}",
        "item_name": f"Bohrer ø{number} mm",
        "price": number * 1.1,
        "quantity": number % 3 + 1,
        "item_params": [parameter("colour", "rot")] if number % 2 else [],
    }


def day_rows(day: str, count: int) -> list[dict[str, Any]]:
    """Rows of one day: engaged both as text and as number, a visitor without consent, purchases."""
    start = 1_767_225_600_000_000 + (int(day[-2:]) - 1) * 86_400_000_000
    rows = []
    for n in range(count):
        name = EVENTS[n % len(EVENTS)]
        consent = n % 7 != 0
        parameters = [parameter("ga_session_id", 1_767_000_000 + n // 5)] if consent else []
        parameters.append(
            parameter("page_location", f"https://shop.example/p/{n}?utm_source=mail&n={n}")
        )
        engaged: str | int = "1" if n % 2 else 1
        parameters.append(parameter("session_engaged", engaged))
        if BRANCHES[n % 3]:
            parameters.append(parameter("branch", str(BRANCHES[n % 3])))
        purchase = name == "purchase"
        rows.append(
            {
                "event_date": day,
                "event_timestamp": start + n * 977_777_777,
                "event_name": name,
                "event_params": parameters,
                "user_pseudo_id": f"visitor.{n // 5}" if consent else None,
                "device": {"category": "mobile" if n % 3 else "desktop", "language": "de-at"},
                "geo": {"country": "Austria", "city": "Graz" if n % 2 else "Linz"},
                "stream_id": "4711",
                "is_active_user": n % 4 == 0,
                "ecommerce": {
                    "transaction_id": f"T{n // 10}" if purchase else None,
                    "purchase_revenue": n * 10.25 if purchase else None,
                },
                "items": [item(k) for k in range(n % 4)],
            }
        )
    return rows


def write_table(
    root: Path,
    project: str,
    dataset: str,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    schema: pa.Schema,
) -> None:
    """Write a table, or rewrite it: the file appears by rename, as the stand-in asks for."""
    directory = root / project / dataset
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = directory / f".{name}.new"
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), unfinished)
    unfinished.rename(directory / f"{name}.parquet")
