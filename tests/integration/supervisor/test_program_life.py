"""`troupe up` as an operator sees it: start, stop, death, and what it says when it cannot start."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.processes import (
    command,
    postgres_processes,
    running,
    wait_until_gone,
)
from troupe.common.niceness import reserved

FREE_PORTS = {f"TROUPE_GROUPS__{name}__PORT": "0" for name in ("AUTH", "DATA", "ANALYTICS")}
READY = 60
ENDED = 45


def _up(state: Path) -> list[str]:
    return ["--state-dir", str(state), "up"]


def _get(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(answer.status)


def test_it_starts_answers_on_three_ports_and_stops_on_sigterm(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(_up(state), tmp_path / "log", extra=FREE_PORTS) as troupe:
        run_file = troupe.wait_for_file(state / "run.json", READY)
        assert set(run_file["urls"]) == {"auth", "data", "analytics"}
        for url in run_file["urls"].values():
            assert _get(f"{url}/health/ready") == 200
        status = command("--state-dir", str(state), "status", "--json")
        assert status.returncode == 0, status.stderr
        groups = json.loads(status.stdout)["groups"]
        assert all(tree["ready"] for tree in groups.values())
        assert postgres_processes(state)
        assert troupe.stop(deadline=ENDED) == 0
    assert not (state / "run.json").exists()
    assert not postgres_processes(state)
    assert "Traceback" not in troupe.text()


def test_what_the_server_does_by_itself_keeps_off_the_processors_of_those_who_answer(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    usable = os.sched_getaffinity(0)
    with running(_up(state), tmp_path / "log", extra=FREE_PORTS) as troupe:
        troupe.wait_for_file(state / "run.json", READY)
        runs: dict[str, list[set[int]]] = {}
        for pid in postgres_processes(state):
            title = Path(f"/proc/{pid}/cmdline").read_text().removeprefix("postgres: ")
            runs.setdefault(title.split(" ")[0], []).append(os.sched_getaffinity(pid))
        assert runs["checkpointer"] == runs["autovacuum"] == [usable - reserved(1)]
        # Those of auth and analytics, and those of data and of what nobody waits for.
        assert usable in runs["troupe_runtime"]
        assert usable - reserved(1) in runs["troupe_runtime"]
        assert troupe.stop(deadline=ENDED) == 0


def test_sigterm_while_starting_is_an_orderly_stop(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(_up(state), tmp_path / "log", extra=FREE_PORTS) as troupe:
        end = time.monotonic() + READY
        while "supervisor_starting" not in troupe.text():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert troupe.stop(deadline=ENDED) == 0
    assert not postgres_processes(state)
    assert "Traceback" not in troupe.text()


def test_kill_9_leaves_no_postgresql_and_the_next_start_recovers(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(_up(state), tmp_path / "log", extra=FREE_PORTS) as troupe:
        troupe.wait_for_file(state / "run.json", READY)
        made = command("--state-dir", str(state), "tenants", "create", "Survivor", "--json")
        assert made.returncode == 0, made.stderr
        troupe.stop(signal.SIGKILL)
    wait_until_gone(state, ENDED)
    (state / "run.json").unlink()
    with running(_up(state), tmp_path / "log2", extra=FREE_PORTS) as again:
        again.wait_for_file(state / "run.json", READY)
        listed = command("--state-dir", str(state), "tenants", "list", "--json")
        assert [tenant["name"] for tenant in json.loads(listed.stdout)] == ["Survivor"]
        assert again.stop(deadline=ENDED) == 0


def test_postgresql_that_dies_is_started_again_while_the_groups_live_on(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(_up(state), tmp_path / "log", extra=FREE_PORTS) as troupe:
        urls = troupe.wait_for_file(state / "run.json", READY)["urls"]
        pid_file = state / "postgres" / "data" / "postmaster.pid"
        before = int(pid_file.read_text().split()[0])
        subprocess.run(["kill", "-9", str(before)], check=True)
        end = time.monotonic() + READY
        while True:
            assert _get(f"{urls['analytics']}/health/live") == 200
            listed = command("--state-dir", str(state), "tenants", "list", "--json")
            if listed.returncode == 0 and int(pid_file.read_text().split()[0]) != before:
                break
            assert time.monotonic() < end, troupe.text()[-3000:]
        status = json.loads(command("--state-dir", str(state), "status", "--json").stdout)
        assert all(tree["restarts"] == 0 for tree in status["groups"].values())
        assert troupe.stop(deadline=ENDED) == 0


def _one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("troupe: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


def test_a_taken_port_is_one_line_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = command(
            *_up(tmp_path / "state"), extra=FREE_PORTS | {"TROUPE_GROUPS__DATA__PORT": str(port)}
        )
    assert result.returncode == 3
    assert str(port) in _one_line(result)
    assert not (tmp_path / "state" / "postgres").exists()


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"TROUPE_GROUPS__DATA__TASKS": "0"}, "groups.data.tasks"),
        ({"TROUPE_GROUPS__DATA__PLACEMENT": "elsewhere"}, "groups.data.placement: several hosts"),
        ({"TROUPE_DATABASE__URL": "postgresql://nobody@127.0.0.1/x"}, "database.runtime_url"),
        ({"TROUPE_NONSENSE": "1"}, "nonsense"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line(
    tmp_path: Path, extra: dict[str, str], says: str
) -> None:
    result = command(*_up(tmp_path / "state"), extra=FREE_PORTS | extra)
    assert result.returncode == 3
    assert says in _one_line(result)


def test_a_second_supervisor_on_the_same_state_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(_up(state), tmp_path / "log", extra=FREE_PORTS) as troupe:
        troupe.wait_for_file(state / "run.json", READY)
        result = command(*_up(state), extra=FREE_PORTS)
        assert result.returncode == 3
        assert str(state) in _one_line(result)
        status = command("--state-dir", str(state), "status", "--json")
        assert status.returncode == 0, status.stderr


def test_commands_say_that_nothing_runs(tmp_path: Path) -> None:
    for arguments in (["status"], ["tenants", "list"]):
        result = command("--state-dir", str(tmp_path / "state"), *arguments)
        assert result.returncode in {4, 6}
        assert "troupe up" in _one_line(result)
    assert not (tmp_path / "state").exists()


def test_an_unreachable_external_database_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"postgresql://{{}}:canary-password@127.0.0.1:{port}/troupe"
    result = command(
        *_up(tmp_path / "state"),
        extra=FREE_PORTS
        | {
            "TROUPE_DATABASE__URL": url.format("troupe_owner"),
            "TROUPE_DATABASE__RUNTIME_URL": url.format("troupe_runtime"),
        },
    )
    assert result.returncode == 6
    assert "canary-password" not in result.stderr
    _one_line(result)
