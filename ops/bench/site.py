"""An installation to measure: ``troupe up`` as an operator runs it, with one tenant."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TROUPE = Path(sys.executable).with_name("troupe")
READY = 120.0
PORTS = {f"TROUPE_GROUPS__{name}__PORT": "0" for name in ("AUTH", "DATA", "ANALYTICS")}


@dataclass(frozen=True)
class Site:
    """A running installation.

    Attributes:
        state: Its state directory.
        pid: Of its supervisor.
        urls: Group to the URL of its port.
    """

    state: Path
    pid: int
    urls: Mapping[str, str]

    def command(self, *arguments: str) -> str:
        """What ``troupe ARGUMENTS`` prints."""
        return subprocess.run(  # noqa: S603 - our own program
            [TROUPE, "--state-dir", str(self.state), *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=READY,
        ).stdout

    def tenant(self, name: str) -> str:
        """Make a tenant; returns a token of its owner."""
        self.command("tenants", "create", name)
        made = self.command("tenants", "token", name, "--name", "bench", "--role", "owner")
        return made.split()[-1]


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use; 0 if it is gone (Linux)."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running_site(directory: Path, *, module: str = "", **options: str) -> Iterator[Site]:
    """Run ``troupe up`` while the context is open.

    Args:
        directory: For its state and its log; made if need be.
        module: What to run instead of ``troupe``.
        **options: Environment variables.
    """
    state = directory / "state"
    directory.mkdir(exist_ok=True)
    program = [sys.executable, "-m", module] if module else [str(TROUPE)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*program, "--state-dir", str(state), "up"],
            stdout=log,
            stderr=log,
            env={**os.environ, **PORTS, **options},
        )
    try:
        end = time.monotonic() + READY
        while not (state / "run.json").exists():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((directory / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)
        urls = json.loads((state / "run.json").read_text(encoding="utf-8"))["urls"]
        yield Site(state, process.pid, urls)
    finally:
        process.terminate()
        process.wait(60)
