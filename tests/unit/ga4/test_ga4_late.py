"""A day that is written again."""

from datetime import date
from itertools import count

import pyarrow.parquet as pq
import pytest

from troupe_demo.ga4 import HARBOR_SHOP, Family, generate, late, table_path

LAST_DAY = date(2026, 7, 14)
DAY = date(2026, 7, 11)


@pytest.fixture
def root(tmp_path):
    generate(tmp_path, [HARBOR_SHOP], days=6, events=6_000, seed=5, last_day=LAST_DAY)
    return tmp_path


def test_adds_rows_of_the_same_day_and_keeps_the_others(root) -> None:
    path = table_path(root, HARBOR_SHOP, Family.DAILY, DAY)
    before = pq.read_table(path)
    assert late(root, HARBOR_SHOP, day=DAY, hits=25, seed=1) == before.num_rows + 25
    after = pq.read_table(path)
    assert after.schema.equals(before.schema)
    assert after.slice(0, before.num_rows).equals(before)
    added = after.slice(before.num_rows)
    assert set(added.column("event_date").to_pylist()) == {"20260711"}
    assert sorted(p.name for p in path.parent.iterdir() if p.suffix != ".parquet") == []


def test_brings_an_order_of_its_own(root) -> None:
    path = table_path(root, HARBOR_SHOP, Family.DAILY, DAY)
    days = (date(2026, 7, number) for number in count(10))
    # Small exports have days without an order.
    day = next(
        day
        for day in days
        if "purchase"
        in pq.read_table(table_path(root, HARBOR_SHOP, Family.DAILY, day))
        .column("event_name")
        .to_pylist()
    )
    path = table_path(root, HARBOR_SHOP, Family.DAILY, day)
    known = {
        record["transaction_id"]
        for record in pq.read_table(path).column("ecommerce").to_pylist()
        if record is not None
    }
    rows = late(root, HARBOR_SHOP, day=day, hits=3, seed=1)
    added = pq.read_table(path).slice(rows - 3)
    orders = [record for record in added.to_pylist() if record["event_name"] == "purchase"]
    assert len(orders) == 1
    assert orders[0]["ecommerce"]["transaction_id"] not in known
    assert orders[0]["event_original_occurrence_timestamp"] == orders[0]["event_timestamp"]


def test_is_repeatable(root) -> None:
    path = table_path(root, HARBOR_SHOP, Family.DAILY, DAY)
    original = path.read_bytes()
    late(root, HARBOR_SHOP, day=DAY, hits=9, seed=2)
    first = pq.read_table(path)
    path.write_bytes(original)
    late(root, HARBOR_SHOP, day=DAY, hits=9, seed=2)
    assert pq.read_table(path).equals(first)


def test_refuses_a_day_that_is_not_there_and_no_hits(root) -> None:
    with pytest.raises(FileNotFoundError):
        late(root, HARBOR_SHOP, day=LAST_DAY, hits=1, seed=1)
    with pytest.raises(ValueError, match="at least one"):
        late(root, HARBOR_SHOP, day=DAY, hits=0, seed=1)
