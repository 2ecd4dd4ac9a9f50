"""`troupe up` with a group in processes, as an operator and the system see it."""

import json
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.embedded import value
from tests.support.processes import Running, command, running
from troupe.common.postgres import running_server

OPTIONS = {f"TROUPE_GROUPS__{name}__PORT": "0" for name in ("AUTH", "DATA", "ANALYTICS")} | {
    "TROUPE_GROUPS__DATA__PLACEMENT": "process",
    "TROUPE_GROUPS__DATA__PROCESSES": "2",
    "TROUPE_LOG__STYLE": "json",
}
READY = 90
GONE = 5


def _up(state: Path) -> list[str]:
    return ["--state-dir", str(state), "up"]


def _until(condition: Callable[[], Any], deadline: float = 30) -> Any:
    end = time.monotonic() + deadline
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def _events(troupe: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in troupe.text().splitlines() if line.startswith("{")]


def _pids(troupe: Running) -> list[int]:
    return [event["process"] for event in _events(troupe) if event["event"] == "process_started"]


def _runs(pid: int) -> bool:
    """Whether it is there and not merely unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1][1] != "Z"
    except OSError:
        return False


def _refuses(url: str) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def _inode(url: str) -> str:
    """The listening socket of a URL, as `/proc` writes it."""
    port = f":{urlsplit(url).port:04X}"
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(port) and fields[3] == "0A":
            return f"socket:[{fields[9]}]"
    raise AssertionError(url)


def _open_files(pid: int) -> list[str]:
    return [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]


def test_a_process_has_what_it_needs_and_dies_with_a_supervisor_that_is_killed(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with running(_up(state), tmp_path / "log", extra=OPTIONS) as troupe:
        urls = troupe.wait_for_file(state / "run.json", READY)["urls"]
        pids = _pids(troupe)
        assert len(pids) == 2

        def shown() -> Any:
            status = command("--state-dir", str(state), "status", "--json")
            assert status.returncode == 0, status.stderr
            shown = json.loads(status.stdout)["groups"]["data"]["children"]
            return shown if all("pid" in child["details"] for child in shown) else None

        children = _until(shown)
        assert sorted(child["details"]["pid"] for child in children) == sorted(pids)

        ours = os.getpriority(os.PRIO_PROCESS, 0)
        for pid in pids:
            assert os.getpriority(os.PRIO_PROCESS, pid) == min(ours + 10, 19)
            said = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
            surroundings = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8")
            assert "postgresql:" not in said + surroundings
            assert "TROUPE_" not in surroundings
            files = _open_files(pid)
            assert _inode(urls["data"]) in files
            assert _inode(urls["auth"]) not in files
            assert _inode(urls["analytics"]) not in files

        told = [event for event in _events(troupe) if event.get("instance") == "data-2"]
        ready = next(event for event in told if event["event"] == "job_runner_started")
        assert ready["process"] in pids
        assert (ready["group"], ready["level"]) == ("data", "info")
        assert ready["logger"].startswith("troupe.platform.jobs")
        assert "Traceback" not in troupe.text()

        troupe.stop(signal.SIGKILL)
        _until(lambda: not any(_runs(pid) for pid in pids), GONE)
        # A process is unburied as soon as its first thread is gone; the last one closes its files.
        _until(lambda: _refuses(urls["data"]), GONE)


def test_it_stops_in_time_although_a_client_does_not_read(tmp_path: Path) -> None:
    state, grace = tmp_path / "state", 2
    options = OPTIONS | {"TROUPE_SHUTDOWN__GRACE": str(grace)}
    with running(_up(state), tmp_path / "log", extra=options) as troupe:
        urls = troupe.wait_for_file(state / "run.json", READY)["urls"]
        pids = _pids(troupe)
        address = ("127.0.0.1", urlsplit(urls["data"]).port or 0)
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(address)
            deaf.settimeout(1)
            request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
            with pytest.raises(TimeoutError):  # it takes no more, since we take nothing
                deaf.sendall(request * 1_000_000)
            begun = time.monotonic()
            troupe.process.send_signal(signal.SIGTERM)
            _until(lambda: not any(_runs(pid) for pid in pids), grace + 5)
            took = time.monotonic() - begun
            assert troupe.stop() == 0
        assert took <= grace + 1
        reasons = {e["reason"] for e in _events(troupe) if e["event"] == "process_ended"}
        assert reasons == {"ended in order"}


def test_processes_find_a_postgresql_that_was_started_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^troupe data-[12]$'"
    with running(_up(state), tmp_path / "log", extra=OPTIONS) as troupe:
        urls = troupe.wait_for_file(state / "run.json", READY)["urls"]
        _until(lambda: value(running_server(state).owner, sessions))
        pid_file = state / "postgres" / "data" / "postmaster.pid"
        before = int(pid_file.read_text(encoding="utf-8").split()[0])
        os.kill(before, signal.SIGKILL)

        def back() -> Any:
            listed = command("--state-dir", str(state), "tenants", "list", "--json")
            again = pid_file.exists() and pid_file.read_text(encoding="utf-8").split()[:1]
            return listed.returncode == 0 and again and int(again[0]) != before

        _until(back, READY)
        _until(lambda: value(running_server(state).owner, sessions))
        with urllib.request.urlopen(f"{urls['data']}/health/ready", timeout=10) as answer:
            assert answer.status == 200
        assert len(_pids(troupe)) == 2
        assert troupe.stop() == 0


@pytest.mark.parametrize("frozen", [False, True], ids=["they go on", "they stand still"])
def test_sigterm_while_processes_start_is_an_orderly_stop(tmp_path: Path, *, frozen: bool) -> None:
    state, grace = tmp_path / "state", 10 if frozen else 3
    options = OPTIONS | {"TROUPE_SHUTDOWN__GRACE": str(grace)}
    with running(_up(state), tmp_path / "log", extra=options) as troupe:
        _until(lambda: len(_pids(troupe)) == 2, READY)
        for pid in _pids(troupe) if frozen else []:
            os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        assert troupe.stop(deadline=30) == 0
        # PostgreSQL included; what stands still is not waited for until the grace is over.
        assert time.monotonic() - begun <= (grace if frozen else grace + 5)
        assert not any(_runs(pid) for pid in _pids(troupe))
    assert "Traceback" not in troupe.text()


def test_systemd_hears_how_the_supervisor_is_and_nothing_from_its_processes(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(READY)
        systemd = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        with running(_up(state), tmp_path / "log", extra=OPTIONS | systemd) as troupe:
            heard = [manager.recv(100).decode()]
            while heard[-1] != "READY=1":
                heard.append(manager.recv(100).decode())
            assert (state / "run.json").exists()
            assert set(heard[:-1]) == {"WATCHDOG=1"}
            for pid in _pids(troupe):
                surroundings = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8")
                assert "NOTIFY_SOCKET" not in surroundings
                assert "WATCHDOG" not in surroundings
            assert manager.recv(100) == b"WATCHDOG=1"
            troupe.process.send_signal(signal.SIGTERM)
            while manager.recv(100) != b"STOPPING=1":
                pass
            assert troupe.stop() == 0


def test_every_group_may_run_in_processes(tmp_path: Path) -> None:
    state = tmp_path / "state"
    everywhere = OPTIONS | {
        f"TROUPE_GROUPS__{name}__PLACEMENT": "process" for name in ("AUTH", "DATA", "ANALYTICS")
    }
    with running(_up(state), tmp_path / "log", extra=everywhere) as troupe:
        urls = troupe.wait_for_file(state / "run.json", READY)["urls"]
        made = command("--state-dir", str(state), "tenants", "create", "Nord", "--json")
        assert made.returncode == 0, made.stderr
        token = command(
            "--state-dir", str(state), "tenants", "token", "Nord", "--name", "t", "--role", "owner"
        )
        key = re.findall(r"\S+", token.stdout)[-1]
        for url, path in (
            (urls["auth"], "/api/v1/me"),
            (urls["data"], "/api/v1/jobs"),
        ):
            request = urllib.request.Request(
                f"{url}{path}", headers={"Authorization": f"Bearer {key}"}
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == 200
        assert len(_pids(troupe)) == 4
        assert troupe.stop() == 0
    assert "Traceback" not in troupe.text()
