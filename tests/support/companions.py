"""Companion processes of the demonstration, for tests that need one for a while."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def companion(module: str, arguments: list[str], log: Path) -> Iterator[dict[str, Any]]:
    """``python -m MODULE``, until the context ends; what it announces."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text(encoding="utf-8")
            yield json.loads(line)
        finally:
            process.kill()
