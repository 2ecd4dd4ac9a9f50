"""The peers' virtual environment: made on first use, kept until ``peers.txt`` changes."""

import asyncio
import hashlib
import shutil
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
PLACE: Final = ROOT / ".bench" / "peers"
PINS: Final = Path(__file__).with_name("peers.txt")
INSTALL_DEADLINE: Final = 600.0
"""Seconds."""


def pinned(package: str, pins: Path = PINS) -> str:
    """The version of a peer."""
    found = dict(
        line.split("==") for line in pins.read_text().splitlines() if not line.startswith("#")
    )
    return found[package]


async def install_peers(place: Path = PLACE, pins: Path = PINS) -> Path:
    """Install what is missing; the interpreter that has it."""
    python = place / "bin" / "python"
    stamp = place / "stamp"
    read = pins.read_bytes()  # noqa: ASYNC240 - nothing else runs yet
    want = hashlib.sha256(read + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == want:
        return python
    print(f"installing the peers into {place.relative_to(ROOT)} ...", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    await _run(sys.executable, "-m", "venv", str(place))
    await _run(str(python), *pip, "install", "--no-deps", "--only-binary", ":all:", "-r", str(pins))
    await _run(str(python), *pip, "check")
    stamp.write_text(want)
    return python


async def _run(*command: str) -> None:
    async with asyncio.timeout(INSTALL_DEADLINE):
        process = await asyncio.create_subprocess_exec(*command)
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
    if code != 0:
        raise SystemExit(f"{' '.join(command)} failed ({code})")
