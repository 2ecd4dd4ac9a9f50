"""`troupe status` against the running program, also in a terminal, until ^C."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import TROUPE, Running, command, environment, running

FREE_PORTS = {f"TROUPE_GROUPS__{name}__PORT": "0" for name in ("AUTH", "DATA", "ANALYTICS")}
READY = 60
DEADLINE = 30
"""Seconds that any command here may take."""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of a running installation."""
    place = tmp_path_factory.mktemp("status")
    directory = place / "state"
    arguments = ["--state-dir", str(directory), "up"]
    with running(arguments, place / "log", extra=FREE_PORTS) as troupe:
        troupe.wait_for_file(directory / "run.json", READY)
        yield directory


def test_it_shows_what_every_port_tells_about_itself(state: Path) -> None:
    answer = command("--state-dir", str(state), "status", "--json")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    for name, url in found["urls"].items():
        with urllib.request.urlopen(f"{url}/health/ready", timeout=DEADLINE) as response:
            parts = json.load(response)["parts"]
        assert _shape(found["groups"][name]) == _shape(parts)
        assert {"tasks_running", "tasks_limit", "dead_letters"} <= parts["details"].keys()


def _shape(node: dict[str, Any]) -> tuple[Any, ...]:
    """What does not change from one moment to the next."""
    told = [node[key] for key in ("name", "kind", "state", "restarts", "last_error", "since")]
    return (*told, sorted(node["details"]), [_shape(child) for child in node["children"]])


def test_a_person_gets_one_line_for_every_part(state: Path) -> None:
    answer = command("--state-dir", str(state), "status")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    # One may be at work: it looks after something from time to time.
    assert sum(re.search(r"tasks \d+ of \d+", line) is not None for line in lines) == 3
    for part in ("auth group", "database resource", "jobs job_runner", "http service"):
        assert any(part in line and "running" in line for line in lines), answer.stdout


def test_in_a_terminal_it_is_refreshed_in_place_until_interrupted(state: Path) -> None:
    ours, theirs = pty.openpty()
    watch = ["--state-dir", str(state), "status", "--watch", "--interval", "0.5"]
    process = subprocess.Popen(
        [TROUPE, *watch], stdin=theirs, stdout=theirs, stderr=theirs, env=environment()
    )
    os.close(theirs)
    try:
        begun = time.monotonic()
        text = _read_until(ours, lambda seen: seen.count("analytics") >= 4)
        assert time.monotonic() - begun >= 3 * 0.5  # four pictures, and no more than two a second
        process.send_signal(signal.SIGINT)
        text += _read_until(ours, lambda _seen: process.poll() is not None)
        assert process.wait(DEADLINE) == 0
        assert "Traceback" not in text
        assert text.rstrip().endswith("\x1b[?25h")  # the cursor is back
    finally:
        process.kill()
        process.wait(DEADLINE)
        os.close(ours)


def _read_until(terminal: int, done: Any) -> str:
    """What the process writes until a condition on it holds."""
    seen = b""
    end = time.monotonic() + DEADLINE
    while not done(seen.decode(errors="replace")):
        assert time.monotonic() < end, seen.decode(errors="replace")
        readable, _, _ = select.select([terminal], [], [], 0.1)
        if readable:
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                break
    return seen.decode(errors="replace")


def test_a_program_gets_one_document_a_line_and_hears_of_the_end(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    up = ["--state-dir", str(directory), "up"]
    watch = ["--state-dir", str(directory), "status", "--watch", "--json", "--interval", "0.5"]
    with running(up, tmp_path / "log", extra=FREE_PORTS) as troupe:
        troupe.wait_for_file(directory / "run.json", READY)
        with running(watch, tmp_path / "watch") as watching:
            _wait_for(watching, lambda documents: len(documents) >= 2)
            assert all(document["groups"]["data"]["ready"] for document in _documents(watching))
            assert troupe.stop(deadline=DEADLINE) == 0
            _wait_for(watching, lambda documents: "error" in documents[-1])
            assert "No Troupe is running" in _documents(watching)[-1]["error"]
            assert watching.stop(signal.SIGINT, deadline=DEADLINE) == 0


def _documents(watching: Running) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in watching.text().splitlines(keepends=True) if line[-1] == "\n"
    ]


def _wait_for(watching: Running, condition: Any) -> None:
    end = time.monotonic() + DEADLINE
    while not (documents := _documents(watching)) or not condition(documents):
        assert time.monotonic() < end, watching.text()
        time.sleep(0.05)


def test_an_interval_below_the_bound_is_refused(state: Path) -> None:
    answer = command("--state-dir", str(state), "status", "--watch", "--interval", "0.01")
    assert answer.returncode == 2
    assert "0.5" in answer.stderr
