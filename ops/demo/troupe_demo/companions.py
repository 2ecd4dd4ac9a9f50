"""Stand-ins as processes of their own: started, awaited, ended with us.

Each prints one line of JSON on standard output once it serves, and ends when its standard input
does. So even a demonstration that is killed leaves none of them behind, and what they cost in time
and memory is not counted against Troupe.
"""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from troupe.common.errors import PeerUnavailable
from troupe.common.units import SECONDS, KiB

START_DEADLINE: Final = 60 * SECONDS
STOP_DEADLINE: Final = 3 * SECONDS
MAX_LINE: Final = 64 * KiB


async def _ready_line(process: trio.Process, module: str) -> dict[str, Any]:
    assert process.stdout is not None  # noqa: S101  # it was asked for as a pipe
    line = b""
    with trio.move_on_after(START_DEADLINE):
        while b"\n" not in line and len(line) < MAX_LINE:
            chunk = await process.stdout.receive_some(MAX_LINE)
            if not chunk:
                break
            line += chunk
    if b"\n" not in line:
        raise PeerUnavailable(f"{module} did not start; its log says why")
    ready: dict[str, Any] = json.loads(line.split(b"\n", 1)[0])
    return ready


@asynccontextmanager
async def companion(
    module: str, arguments: Sequence[str], *, log: Path
) -> AsyncIterator[Mapping[str, Any]]:
    """Run ``python -m module arguments`` while the context is open.

    Args:
        module: ``troupe_demo.bigquery`` and its like.
        arguments: Of its command line.
        log: Where its standard error is written; replaced.

    Yields:
        What it said when it was ready.

    Raises:
        PeerUnavailable: It ended, or was silent for too long.
    """
    with log.open("wb") as errors:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Its own session: ^C in the terminal reaches us, and we end it in our order.
            start_new_session=True,
        )
    try:
        yield await _ready_line(process, module)
    finally:
        with trio.CancelScope(shield=True):
            if process.stdin is not None:
                await process.stdin.aclose()
            with trio.move_on_after(STOP_DEADLINE):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()
