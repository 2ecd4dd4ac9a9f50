"""The stand-in as a companion process: how it begins, how it ends, what it costs."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from google.cloud import bigquery

from tests.integration.bigquery_standin.clients import (
    DATASET,
    PROJECT,
    bigquery_client,
    storage_client,
)
from tests.integration.bigquery_standin.shop import day_rows, write_table
from troupe_demo.bigquery import create_service_account
from troupe_demo.ga4.schema import DAILY_SCHEMA

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
START = 60.0
END = 2.0  # seconds from being told to being gone


@dataclass
class Companion:
    """What the clients need to know, and the process."""

    process: subprocess.Popen[bytes]
    url: str
    grpc: str
    root: Path


@contextmanager
def _companion(root: Path, *arguments: str) -> Iterator[Companion]:
    process = subprocess.Popen(
        [sys.executable, "-m", "troupe_demo.bigquery", str(root), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        ready = json.loads(line)
        yield Companion(process, ready["url"], ready["grpc"], root)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def _temporary(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.name.startswith(".") and path.is_dir()]


def _ends_in_time(process: subprocess.Popen[bytes]) -> int:
    start = time.monotonic()
    code = process.wait(timeout=END + 5)
    assert time.monotonic() - start < END
    return code


def test_it_says_one_line_and_serves(tmp_path: Path):
    write_table(tmp_path, PROJECT, DATASET, "t", day_rows("20260101", 5), DAILY_SCHEMA)
    with _companion(tmp_path) as companion:
        account = create_service_account(tmp_path, PROJECT, f"{companion.url}/token")
        with bigquery_client(companion, account) as client, storage_client(companion) as storage:
            rows = client.query(f"SELECT event_name FROM `{DATASET}.t`").result()
            batches = list(rows.to_arrow_iterable(bqstorage_client=storage))
            assert sum(batch.num_rows for batch in batches) == 5
        companion.process.send_signal(signal.SIGTERM)
        assert _ends_in_time(companion.process) == 0
        assert companion.process.stdout.read() == b""
        logged = companion.process.stderr.read().decode()
        assert "PRIVATE KEY" not in logged
        assert "ya29." not in logged


def test_it_ends_when_its_parent_is_gone(tmp_path: Path):
    with _companion(tmp_path) as companion:
        assert len(_temporary(tmp_path)) == 1
        companion.process.stdin.close()
        assert _ends_in_time(companion.process) == 0
        assert _temporary(tmp_path) == []


def test_it_ends_in_time_amid_work_and_leaves_nothing(tmp_path: Path):
    write_table(tmp_path, PROJECT, DATASET, "t", day_rows("20260101", 5), DAILY_SCHEMA)
    with _companion(tmp_path) as companion:
        account = create_service_account(tmp_path, PROJECT, f"{companion.url}/token")
        with bigquery_client(companion, account) as client:
            endless = """SELECT COUNT(*) FROM UNNEST(GENERATE_ARRAY(1, 1000000)) a,
                         UNNEST(GENERATE_ARRAY(1, 1000000)) b WHERE a * b = 7"""
            for _ in range(4):
                client.query(endless)
            companion.process.send_signal(signal.SIGTERM)
            assert _ends_in_time(companion.process) == 0
        assert _temporary(tmp_path) == []


def test_what_a_killed_one_left_is_removed_by_the_next(tmp_path: Path):
    with _companion(tmp_path) as killed:
        killed.process.kill()
        killed.process.wait()
    assert len(_temporary(tmp_path)) == 1
    with _companion(tmp_path) as companion:
        assert len(_temporary(tmp_path)) == 1
        companion.process.stdin.close()
        _ends_in_time(companion.process)
    assert _temporary(tmp_path) == []


def test_two_share_a_directory_without_disturbing_each_other(tmp_path: Path):
    with _companion(tmp_path) as first, _companion(tmp_path) as second:
        assert len(_temporary(tmp_path)) == 2
        second.process.stdin.close()
        _ends_in_time(second.process)
        assert len(_temporary(tmp_path)) == 1
        assert first.process.poll() is None


def test_a_port_that_is_taken_is_one_clear_error(tmp_path: Path):
    with _companion(tmp_path / "a") as companion:
        port = companion.url.rpartition(":")[2]
        second = subprocess.run(
            [sys.executable, "-m", "troupe_demo.bigquery", str(tmp_path / "b"), "--port", port],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START,
            check=False,
        )
    assert second.returncode == 1
    assert second.stdout == b""
    assert second.stderr.decode().strip().splitlines()[-1].startswith("Error: ")
    assert b"Traceback" not in second.stderr
    assert _temporary(tmp_path / "b") == []


def _peak(process: subprocess.Popen[bytes]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    line = next(text for text in status.splitlines() if text.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_result(tmp_path: Path):
    """Half a gigabyte of result must not be held in memory, on either way to the client."""
    schema = pa.schema([("n", pa.int64()), ("t", pa.string())])
    rows = [{"n": n, "t": f"{n} " * 200} for n in range(50_000)]
    write_table(tmp_path, PROJECT, DATASET, "t", rows, schema)
    with _companion(tmp_path) as companion:
        account = create_service_account(tmp_path, PROJECT, f"{companion.url}/token")
        with bigquery_client(companion, account) as client, storage_client(companion) as storage:
            config = bigquery.QueryJobConfig(default_dataset=f"{PROJECT}.{DATASET}")

            def read(limit: int) -> int:
                sql = f"SELECT n, t FROM t, UNNEST(GENERATE_ARRAY(1, 8)) AS x WHERE n < {limit}"
                result = client.query(sql, job_config=config).result()
                batches = result.to_arrow_iterable(bqstorage_client=storage)
                return sum(batch.nbytes for batch in batches)

            assert read(2_000) > 10 * 1024 * 1024
            before = _peak(companion.process)
            assert read(50_000) > 350 * 1024 * 1024
            assert _peak(companion.process) - before < 200
