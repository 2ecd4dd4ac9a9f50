"""What is encoded is what PostgreSQL reads back, to the last digit and character."""

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.data.loading import in_tenant, make_tenant
from tests.support.postgres import TestDatabase
from troupe.actors.data.encoding import COPY_COLUMNS, EVENT_COLUMNS, Kind, encode
from troupe.actors.data.numeric import shortest_decimal
from troupe.actors.data.publication import copy_batch, seal, stage
from troupe.common.ids import new_id

DAY = date(2026, 9, 1)
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)

amounts = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.decimals(min_value=-(10**9), max_value=10**9, places=2).map(float),
    st.sampled_from([0.1, -0.0, 49.9, 1e-7, 5e-324, 1.7976931348623157e308, 10000.0, 0.00010001]),
)
texts = st.none() | st.text(max_size=20)


def batch(columns: dict[str, list[Any]]) -> pa.RecordBatch:
    rows = len(next(iter(columns.values())))
    types = {
        Kind.BIGINT: pa.int64(),
        Kind.BOOLEAN: pa.bool_(),
        Kind.INSTANT: pa.timestamp("us", tz="UTC"),
        Kind.NUMERIC: pa.float64(),
    }
    filled = {"event_at": [NOON] * rows, "event_name": ["x"] * rows} | columns
    return pa.RecordBatch.from_pydict(
        {
            name: pa.array(filled.get(name, [None] * rows), types.get(kind, pa.string()))
            for name, kind in EVENT_COLUMNS.items()
        }
    )


async def copied(url: str, given_rows: pa.RecordBatch) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(url)
    try:
        tenant = await make_tenant(connection)
        table = await in_tenant(
            connection, tenant, lambda inside: stage(inside, tenant, DAY, new_id())
        )
        encoded = encode(given_rows, tenant, DAY)
        await in_tenant(connection, tenant, lambda inside: copy_batch(inside, table, encoded))
        await in_tenant(connection, tenant, lambda inside: seal(inside, tenant, table))
        rows = await in_tenant(
            connection,
            tenant,
            lambda inside: inside.fetch(f"SELECT * FROM staging.{table} ORDER BY ctid"),
        )
        return [dict(row) for row in rows]
    finally:
        await connection.close()


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rows=st.lists(
        st.tuples(amounts, texts, texts, st.none() | st.integers(-(2**63), 2**63 - 1)), min_size=1
    )
)
def test_values_survive(
    module_database: TestDatabase, rows: list[tuple[float | None, str | None, str | None, int]]
) -> None:
    money, pages, visitors, sessions = (list(column) for column in zip(*rows, strict=True))
    found = asyncio.run(
        copied(
            module_database.runtime_url,
            batch(
                {
                    "purchase_revenue": money,
                    "page_title": pages,
                    "user_pseudo_id": visitors,
                    "ga_session_id": sessions,
                }
            ),
        )
    )
    assert len(found) == len(rows)
    for row, (amount, page, visitor, session) in zip(found, rows, strict=True):
        assert row["purchase_revenue"] == (None if amount is None else shortest_decimal(amount))
        assert row["page_title"] == (None if page is None else page.replace("\0", ""))
        assert row["user_pseudo_id"] == (None if visitor is None else visitor.replace("\0", ""))
        assert row["ga_session_id"] == session


def test_money_keeps_the_digits_that_the_export_shows(module_database: TestDatabase) -> None:
    shown = ["0.1", "49.9", "19.99", "1234567.89", "1E-7", "-3.5", "0.0"]
    rows = asyncio.run(
        copied(
            module_database.runtime_url,
            batch({"purchase_revenue": [float(text) for text in shown]}),
        )
    )
    assert [row["purchase_revenue"] for row in rows] == [Decimal(text) for text in shown]
    assert [str(row["purchase_revenue"]) for row in rows[:4]] == shown[:4]


def test_what_postgresql_would_refuse_is_mended(module_database: TestDatabase) -> None:
    (row,) = asyncio.run(
        copied(
            module_database.runtime_url,
            batch(
                {
                    "page_location": ["/a\0b"],
                    "user_pseudo_id": ["ü" * 5000],
                    "transaction_id": ["\0\0T\0"],
                    "page_title": ["é" * 5000],
                    "parameters": [
                        r'{"a":"x\u0000\u0000\u0000y","b":"kept \\u0000","c":"\\\u0000"}'
                    ],
                }
            ),
        )
    )
    assert row["page_location"] == "/ab"
    assert row["user_pseudo_id"] == "ü" * 256
    assert row["transaction_id"] == "T"
    assert row["page_title"] == "é" * 5000
    assert row["parameters"] == r'{"a": "xy", "b": "kept \\u0000", "c": "\\"}'


def test_a_batch_larger_than_a_slice(module_database: TestDatabase) -> None:
    rows = 2500
    found = asyncio.run(
        copied(module_database.runtime_url, batch({"ga_session_id": list(range(rows))}))
    )
    assert [row["ga_session_id"] for row in found] == list(range(rows))


def test_the_columns_are_the_tables(module_database: TestDatabase) -> None:
    async def columns() -> list[str]:
        connection = await asyncpg.connect(module_database.admin_url)
        try:
            rows = await connection.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'data.events'::regclass"
                " AND attnum > 0 AND NOT attisdropped"
            )
            return [row["attname"] for row in rows]
        finally:
            await connection.close()

    assert set(asyncio.run(columns())) == set(COPY_COLUMNS)
