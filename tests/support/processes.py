"""Running the program as its users do: as a process, by its command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from troupe.common.units import SECONDS

TROUPE = Path(sys.executable).with_name("troupe")
POLL = 0.05 * SECONDS


@dataclass
class Running:
    """A process of ours and where it writes."""

    process: subprocess.Popen[bytes]
    output: Path

    def text(self) -> str:
        """What it has written so far, both streams."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait_for_file(self, path: Path, deadline: float) -> Any:
        """The JSON in `path`, once it is there."""
        end = time.monotonic() + deadline
        while not path.exists():
            assert self.process.poll() is None, f"it ended early:\n{self.text()[-4000:]}"
            assert time.monotonic() < end, f"not ready in {deadline} s:\n{self.text()[-4000:]}"
            time.sleep(POLL)
        return json.loads(path.read_text(encoding="utf-8"))

    def stop(self, number: signal.Signals = signal.SIGTERM, deadline: float = 60) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(deadline)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without anything that configures Troupe, and with `extra`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TROUPE_")}
    return clean | dict(extra or {})


@contextmanager
def running(
    arguments: Sequence[str],
    output: Path,
    *,
    extra: Mapping[str, str] | None = None,
    program: Sequence[str | Path] = (TROUPE,),
) -> Iterator[Running]:
    """Run ``troupe ARGUMENTS`` while the context is open; ended by force at the latest then.

    Another `program` that takes the same arguments may be run instead.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*program, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(extra),
            start_new_session=True,
        )
    started = Running(process, output)
    try:
        yield started
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def command(
    *arguments: str, extra: Mapping[str, str] | None = None, deadline: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run ``troupe ARGUMENTS`` to its end."""
    return subprocess.run(
        [TROUPE, *arguments],
        capture_output=True,
        text=True,
        timeout=deadline,
        env=environment(extra),
        check=False,
    )


def postgres_processes(state: Path) -> list[int]:
    """Processes of PostgreSQL that work on a cluster below `state` (Linux)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            working_directory = (entry / "cwd").readlink()
        except OSError:
            continue
        if working_directory.is_relative_to(state):
            found.append(int(entry.name))
    return found


def wait_until_gone(state: Path, deadline: float) -> None:
    """Wait until no PostgreSQL works below `state`."""
    end = time.monotonic() + deadline
    while postgres_processes(state):
        assert time.monotonic() < end, f"PostgreSQL still runs on {state}"
        time.sleep(POLL)
