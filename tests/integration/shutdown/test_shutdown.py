"""`troupe up` ends within its grace and a second, PostgreSQL included, whatever holds it up."""

import json
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.processes import TROUPE, Running, command, running, wait_until_gone
from troupe_demo.bigquery import create_service_account

GRACE = 2
AT_MOST = GRACE + 1
READY = 90
PLACEMENTS = ("inline", "process")
GROUPS = ("AUTH", "DATA", "ANALYTICS")


def options(placement: str) -> dict[str, str]:
    return {
        **{f"TROUPE_GROUPS__{group}__PORT": "0" for group in GROUPS},
        **{f"TROUPE_GROUPS__{group}__PLACEMENT": placement for group in GROUPS},
        "TROUPE_SHUTDOWN__GRACE": str(GRACE),
        "TROUPE_AUTH__ALLOW_PRIVATE_PEERS": "127.0.0.0/8",
        "TROUPE_LOG__STYLE": "json",
    }


SOUND = (TROUPE,)
STUBBORN = (sys.executable, "-m", "tests.support.stubborn")
"""Its threads cannot be left, only ended with their process."""


@contextmanager
def program(
    directory: Path, placement: str, program: Sequence[str | Path] = SOUND
) -> Iterator[tuple[Running, dict[str, str]]]:
    state = directory / "state"
    with running(
        ["--state-dir", str(state), "up"],
        directory / "log",
        extra=options(placement) | {"PYTHONPATH": str(Path(__file__).parents[3])},
        program=program,
    ) as troupe:
        yield troupe, troupe.wait_for_file(state / "run.json", READY)["urls"]


def ends_in_time(troupe: Running, directory: Path, urls: dict[str, str]) -> int:
    """Ask it to stop, and see that all of it is gone soon enough; the exit code."""
    children = _children(troupe.process.pid)
    began = time.monotonic()
    code = troupe.stop(signal.SIGTERM, 60)
    took = time.monotonic() - began
    assert took <= AT_MOST + _postgresql_took(troupe), f"{took:.2f} s\n{troupe.text()[-3000:]}"
    sys.stdout.write(f"ended after {took:.2f} s\n")
    for url in urls.values():
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), 5)
    # After an end by force, PostgreSQL and who keeps it end by themselves.
    wait_until_gone(directory / "state", 20)
    end = time.monotonic() + 20
    while [pid for pid in children if _runs(pid)]:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert "Traceback" not in troupe.text()
    return code


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*/children")
        for child in task.read_text().split()
    ]


def _runs(pid: int) -> bool:
    """Whether it is there and not merely unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1][1] != "Z"
    except OSError:
        return False


def _postgresql_took(troupe: Running) -> float:
    """Seconds for its own orderly end, after the last group is gone; it writes to the disk."""
    told = [json.loads(line) for line in troupe.text().splitlines() if line.startswith("{")]
    gone = {
        event["supervisor"]: datetime.fromisoformat(event["timestamp"])
        for event in told
        if event["event"] == "supervisor_stopped" and "process" not in event
    }
    if "troupe" not in gone:
        return 0.0
    groups = [when for name, when in gone.items() if name in {"auth", "data", "analytics"}]
    return (gone["troupe"] - max(groups)).total_seconds()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_clients_that_read_nothing(tmp_path: Path, placement: str) -> None:
    with program(tmp_path, placement) as (troupe, urls), socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", urlsplit(urls["analytics"]).port))
        deaf.settimeout(1)
        with pytest.raises(TimeoutError):  # it takes no more, since we take nothing
            deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000_000)
        assert ends_in_time(troupe, tmp_path, urls) == 0


@contextmanager
def silence() -> Iterator[tuple[str, threading.Event]]:
    """A server that takes every connection and says nothing; and whether one came."""
    came = threading.Event()
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    kept.append(listener.accept()[0])
                except OSError:
                    return
                came.set()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", came
        listener.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


def ask(method: str, url: str, token: str, body: Any) -> Any:
    asked = urllib.request.Request(
        url,
        method=method,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return json.loads(answer.read() or b"null")


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("what", [SOUND, STUBBORN], ids=["left", "waited-for"])
def test_a_thread_that_hangs_in_bigquery(
    tmp_path: Path, placement: str, what: Sequence[str | Path]
) -> None:
    with program(tmp_path, placement, what) as (troupe, urls), silence() as (bigquery, came):
        where = ("--state-dir", str(tmp_path / "state"))
        made = command(*where, "tenants", "create", "Nord", "--json")
        tenant = json.loads(made.stdout)["id"]
        told = command(*where, "tenants", "token", "Nord", "--name", "t", "--role", "owner")
        token = told.stdout.split()[-1]
        account = create_service_account(tmp_path / "exports", "nord", f"{bigquery}/token")
        config = {"project": "nord", "dataset": "analytics_1", "api_endpoint": bigquery}
        ask(
            "PUT",
            f"{urls['auth']}/api/v1/tenants/{tenant}/connections/bigquery",
            token,
            {"config": config, "secret": json.dumps(account)},
        )
        days = {"start_date": "2026-06-01", "end_date": "2026-06-02"}
        ask("POST", f"{urls['data']}/api/v1/ingestions", token, days)
        assert came.wait(30), "nobody asked BigQuery"
        code = ends_in_time(troupe, tmp_path, urls)
        held_up = placement == "inline" and what is STUBBORN
        assert code == held_up
        assert ("ended_by_force" in troupe.text()) is held_up
