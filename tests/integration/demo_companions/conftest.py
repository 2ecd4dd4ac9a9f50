"""Companion processes, started as the demonstration starts them."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

READY_WITHIN = 30.0
END_WITHIN = 2.0


@dataclass
class Companion:
    process: subprocess.Popen[bytes]
    ready: dict[str, Any]

    def ended_after(self, *, by: Callable[["Companion"], None]) -> float:
        """Seconds until the process was gone after `by` told it to go."""
        begin = time.monotonic()
        by(self)
        self.process.wait(END_WITHIN + 5)
        return time.monotonic() - begin

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Companion]]:
    """Start ``python -m MODULE ARGUMENTS`` and wait for its one line."""
    started: list[subprocess.Popen[bytes]] = []

    def launch(module: str, *arguments: object) -> Companion:
        with (tmp_path / f"{module}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        started.append(process)
        assert process.stdout is not None
        deadline = time.monotonic() + READY_WITHIN
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select(
                [process.stdout], [], [], max(0.0, deadline - time.monotonic())
            )
            assert readable, f"{module} was not ready in time"
            chunk = os.read(process.stdout.fileno(), 4096)
            assert chunk, (tmp_path / f"{module}.log").read_text()
            line += chunk
        return Companion(process, json.loads(line))

    yield launch
    for process in started:
        process.kill()
        process.wait(10)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
