"""The stand-in ends although somebody is still asking."""

import threading
from pathlib import Path

import duckdb
import pytest

from troupe_demo.bigquery.engine import Engine


def test_an_engine_ends_only_when_nobody_is_being_given_a_cursor(tmp_path: Path) -> None:
    """DuckDB refuses to close a connection while another thread makes a cursor of it."""
    engine = Engine(tmp_path)
    closing = threading.Thread(target=engine.close)
    with engine._lock:
        closing.start()
        closing.join(0.3)
        assert closing.is_alive()
    closing.join(10)
    assert not closing.is_alive()


def test_an_engine_that_is_in_use_is_left_to_whoever_uses_it(tmp_path: Path) -> None:
    """DuckDB refuses that too, and a dry run of a request that came last is nobody's job."""
    engine = Engine(tmp_path)
    with engine.cursor() as cursor:
        engine.close()
        assert cursor.execute("SELECT 17").fetchall() == [(17,)]
    engine.close()
    with pytest.raises(duckdb.ConnectionException):
        engine.evaluate("SELECT 17")
