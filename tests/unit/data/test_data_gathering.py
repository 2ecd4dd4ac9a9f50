"""Batches worth encoding, made of whatever arrives."""

from collections.abc import Iterator

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from troupe.actors.data.encoding import gathered
from troupe.common.units import MiB


@given(sizes=st.lists(st.integers(0, 50)), rows=st.integers(1, 40), size=st.integers(1, 500))
def test_no_row_is_lost_and_no_bound_broken(sizes: list[int], rows: int, size: int) -> None:
    def arriving() -> Iterator[pa.RecordBatch]:
        start = 0
        for count in sizes:
            numbers = pa.array(range(start, start + count), pa.int64())
            yield pa.RecordBatch.from_arrays([numbers], ["n"])
            start += count

    found = list(gathered(arriving(), rows=rows, size=size))
    assert [n for batch in found for n in batch.column("n").to_pylist()] == list(range(sum(sizes)))
    assert all(0 < batch.num_rows <= rows for batch in found)
    assert all(batch.nbytes <= size or batch.num_rows == 1 for batch in found)


def test_small_ones_are_put_together() -> None:
    small = [pa.RecordBatch.from_pydict({"n": [number]}) for number in range(100)]
    assert [batch.num_rows for batch in gathered(small, rows=64, size=1 * MiB)] == [64, 36]


def test_large_rows_come_in_small_batches() -> None:
    large = pa.RecordBatch.from_pydict({"text": ["x" * 100_000] * 64})
    found = list(gathered([large], rows=16_384, size=1 * MiB))
    assert sum(batch.num_rows for batch in found) == 64
    assert max(batch.nbytes for batch in found) <= 1 * MiB
    assert len(found) < 10
