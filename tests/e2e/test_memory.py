"""The memory that ingestion takes is bounded by the batch, not by the number of days."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx2
import trio

from tests.support.processes import running
from troupe.common.bridge import open_bridge
from troupe.common.config import Configuration, load
from troupe.common.postgres import running_server
from troupe.common.units import MiB
from troupe_demo.ga4 import TOOL_SHOP, generate
from troupe_demo.tenants import DemoTenant, Surroundings, prepare_tenants

LAST_DAY = date(2026, 6, 30)
EVENTS_A_DAY = 6_000
FEW, MANY = 4, 24
TOLERATED = 32 * MiB
"""Growth that is not the days': allocators do not give everything back."""


@dataclass
class _RunningElsewhere:
    """What `prepare_tenants` needs to know of an installation in another process."""

    configuration: Configuration
    runtime_url: str


@contextmanager
def _bigquery(exports: Path, log: Path) -> Iterator[dict[str, Any]]:
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "troupe_demo.bigquery", str(exports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.terminate()


def _tenant(state: Path, exports: Path, bigquery: dict[str, Any]) -> DemoTenant:
    surroundings = Surroundings(
        exports=exports,
        bigquery_url=bigquery["url"],
        bigquery_grpc=bigquery["grpc"],
        sftp={
            "host": "127.0.0.1",
            "port": 22,
            "host_key": "",
        },
        sftp_users={TOOL_SHOP.project: {"password": "unused"}},
        issuer="http://127.0.0.1:1",
        client_id="troupe",
        client_secret="unused",
        subject="nobody",
        mail="127.0.0.1:1",
    )
    installation = _RunningElsewhere(
        load(environment={}, overrides={"state_directory": state}), running_server(state).runtime
    )

    async def work() -> DemoTenant:
        async with open_bridge():
            (tenant,) = await prepare_tenants([TOOL_SHOP], installation, surroundings)
            return tenant

    return trio.run(work)


def _peak(pid: int) -> int:
    """Largest resident size that the process ever had, bytes (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("VmHWM")


def _ingest(url: str, token: str, first: date, last: date) -> None:
    with httpx2.Client(
        base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60
    ) as client:
        body = {"start_date": first.isoformat(), "end_date": last.isoformat()}
        job = client.post("/api/v1/ingestions", json=body).json()
        end = time.monotonic() + 300
        while job["state"] in {"available", "running"}:
            assert time.monotonic() < end, job
            time.sleep(0.2)
            job = client.get(f"/api/v1/jobs/{job['id']}").json()
        assert job["state"] == "done", job["error"]


def test_peak_memory_does_not_grow_with_the_number_of_days(tmp_path: Path) -> None:
    exports, state = tmp_path / "exports", tmp_path / "state"
    days = FEW + MANY
    generate(exports, [TOOL_SHOP], days=days, events=days * EVENTS_A_DAY, seed=3, last_day=LAST_DAY)
    ports = {f"TROUPE_GROUPS__{name}__PORT": "0" for name in ("AUTH", "DATA", "ANALYTICS")}
    allowed = {"TROUPE_AUTH__ALLOW_PRIVATE_PEERS": "127.0.0.0/8"}
    first = LAST_DAY - timedelta(days=days - 1)
    with (
        _bigquery(exports, tmp_path / "bigquery.log") as bigquery,
        running(["--state-dir", str(state), "up"], tmp_path / "log", extra=ports | allowed) as up,
    ):
        url = up.wait_for_file(state / "run.json", 60)["urls"]["data"]
        tenant = _tenant(state, exports, bigquery)
        _ingest(url, tenant.token, first, first + timedelta(days=FEW - 1))
        few = _peak(up.process.pid)
        _ingest(url, tenant.token, first + timedelta(days=FEW), LAST_DAY)
        many = _peak(up.process.pid)
        text = f"peak after {FEW} days {few / MiB:.0f} MiB, after {MANY} more {many / MiB:.0f} MiB"
        assert many - few <= TOLERATED, text
        assert up.stop() == 0
