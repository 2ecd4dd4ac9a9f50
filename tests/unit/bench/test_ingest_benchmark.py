"""What the benchmark of loading computes from what it measures."""

import json
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from ops.bench.ingest.__main__ import Loads, _load_targets
from ops.bench.ingest.corpus import Corpus
from ops.bench.ingest.playback import Playback
from troupe.actors.data.flattening import Family, FlattenQuery
from troupe.common.units import MiB


def loads(rows: int, seconds: float, peak: int) -> Loads:
    return Loads(rows, seconds=[seconds], rows_seconds=[seconds / 2], peak_bytes=[peak * MiB])


def test_rates_are_compared_and_not_seconds() -> None:
    found = {
        "troupe": loads(1000, 1.0, 100),
        # A tenth of the rows in as much time.
        "dlt rows": loads(100, 1.0, 100),
        "dlt arrow": loads(500, 1.0, 100),
        "dlt adbc": loads(1000, 2.0, 200),
        "dlt adbc files": loads(1000, 1.25, 1000),
    }
    targets = {target.what: target for target in _load_targets(found)}
    assert targets["rate, of dlt's default"].measured == pytest.approx(10.0)
    assert targets["rate, of dlt's default with Arrow"].measured == pytest.approx(2.0)
    # The fastest of both ways counts, for memory too.
    assert targets["rate, of dlt's fastest"].measured == pytest.approx(1.25)
    assert not targets["rate, of dlt's fastest"].met
    assert targets["memory, of dlt's fastest"].measured == pytest.approx(0.1)
    assert targets["peak memory"].met
    assert found["dlt adbc"].rows_rate == pytest.approx(1000)


def test_without_ours_there_is_nothing_to_promise() -> None:
    assert _load_targets({"dlt arrow": loads(1, 1.0, 1)}) == []


def test_a_recording_is_played_back_as_it_came(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.answers.mkdir()
    table = {
        "day": "2026-09-30",
        "family": "fresh",
        "name": "events_fresh_20260930",
        "modified": "2026-10-01T03:00:00+00:00",
        "rows": 3,
        "schema": [{"name": "event_name", "type": "STRING"}],
        "scanned_bytes": 77,
    }
    (tmp_path / "tables.json").write_text(json.dumps([table]))
    batches = [pa.RecordBatch.from_pydict({"n": numbers}) for numbers in ([1, 2], [3])]
    with pa.ipc.new_file(corpus.answers / "2026-09-30.arrow", batches[0].schema) as file:
        for batch in batches:
            file.write_batch(batch)
    day = date(2026, 9, 30)
    source = Playback(corpus)
    assert source.days(day, day) == {day: Family.FRESH}
    query = FlattenQuery("SELECT 1 FROM `events_fresh_20260930`", {}, "x")
    assert source.estimate(query) == 77
    started = source.start(query)
    source.wait(started)
    assert [batch.to_pydict() for batch in source.batches(started)] == [
        {"n": [1, 2]},
        {"n": [3]},
    ]
    assert corpus.rows == 3
    # A table that was written again differs in nothing but the time.
    touched = Playback(corpus, frozenset({day})).table(day, Family.FRESH)
    assert touched.modified > source.table(day, Family.FRESH).modified
    assert touched.rows == source.table(day, Family.FRESH).rows
