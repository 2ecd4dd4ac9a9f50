"""The whole program as a process that is killed and started again, on ports that stay."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from tests.support.chaos.effectful import MODULE
from tests.support.processes import command, environment
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.supervisor import NotRunning, read_run_file

ROOT = Path(__file__).parents[3]
READY = 90 * SECONDS
GROUPS = ("auth", "data", "analytics")
PLACED = {
    "TROUPE_GROUPS__DATA__PLACEMENT": "process",
    "TROUPE_GROUPS__DATA__PROCESSES": "2",
    "TROUPE_GROUPS__ANALYTICS__PLACEMENT": "process",
    # Whatever there is: what is audited is what was done, and the more of it the better.
    "TROUPE_PROCESSORS__RESERVED": "0",
    "TROUPE_AUTH__ALLOW_PRIVATE_PEERS": "127.0.0.0/8",
    "TROUPE_JOBS__LEASE": "2",
    "TROUPE_JOBS__POLL": "0.2",
    "TROUPE_SHUTDOWN__GRACE": "3",
    "TROUPE_LOG__STYLE": "json",
}


class Program:
    """One installation: a supervisor and its processes.

    Args:
        directory: For its state and its log.
        options: Environment variables.

    Attributes:
        urls: Group to the URL of its port.
        starts: How often it was started.
    """

    def __init__(self, directory: Path, options: Mapping[str, str]) -> None:
        self.state = directory / "state"
        self.log = directory / "log"
        self.starts = 0
        ports = {group: _free_port() for group in GROUPS}
        self.urls = {group: f"http://127.0.0.1:{port}" for group, port in ports.items()}
        told = {f"TROUPE_GROUPS__{group.upper()}__PORT": str(ports[group]) for group in GROUPS}
        self._environment = environment({**PLACED, **told, **options}) | {"PYTHONPATH": str(ROOT)}
        self._process: trio.Process | None = None

    async def start(self) -> None:
        """Start it; returns at once."""
        (self.state / "run.json").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-m", MODULE, "--state-dir", str(self.state), "up"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self._environment,
                start_new_session=True,
            )
        self.starts += 1

    async def ready(self) -> None:
        """Wait until everything runs."""
        with trio.fail_after(READY):
            while not self.is_ready:
                assert self.supervisor, f"it ended early:\n{self.log.read_text()[-4000:]}"
                await trio.sleep(50 * MILLISECONDS)

    async def keep(self) -> None:
        """Start it again whenever it has ended, as a service manager does; until cancelled.

        A process that is killed while the whole program starts for the first time ends the start.
        """
        while True:
            if self._process is not None:
                await self._process.wait()
                await self.start()

    @property
    def supervisor(self) -> int | None:
        """Its process id, while it runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether the one that runs now has said so."""
        with suppress(NotRunning):
            return read_run_file(self.state).pid == self.supervisor
        return False

    @property
    def children(self) -> list[int]:
        """Process ids of the instances of groups."""
        if self.supervisor is None:
            return []
        return [pid for pid in _children(self.supervisor) if MODULE in _said(pid)]

    def kill_child(self, chance: random.Random) -> bool:
        """SIGKILL for one of them; False if there is none."""
        if not (children := self.children):
            return False
        with suppress(ProcessLookupError):
            os.kill(chance.choice(children), signal.SIGKILL)
            return True
        return False

    def kill_supervisor(self) -> bool:
        """SIGKILL for the supervisor; False if it is not there."""
        if self._process is None or self.supervisor is None:
            return False
        self._process.kill()
        return True

    async def stop(self) -> int:
        """Stop it in order; the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        with trio.move_on_after(READY):
            return await self._process.wait()
        self._process.kill()
        return await self._process.wait()

    def tenant(self, name: str) -> tuple[str, str]:
        """Make a tenant; its id, and a token of its owner."""
        where = ("--state-dir", str(self.state))
        made = command(*where, "tenants", "create", name, extra=self._environment)
        assert made.returncode == 0, made.stderr
        token = command(
            *(*where, "tenants", "token", name, "--name", "chaos", "--role", "owner"),
            extra=self._environment,
        )
        assert token.returncode == 0, token.stderr
        (identifier,) = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", made.stdout)
        return identifier, token.stdout.split()[-1]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, task.read_text(encoding="ascii").split())
    return found


def _said(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    return ""


@asynccontextmanager
async def open_program(directory: Path, options: Mapping[str, str]) -> AsyncIterator[Program]:
    """The program, ready; nothing of it is left in the end."""
    program = Program(directory, options)
    try:
        await program.start()
        await program.ready()
        yield program
    finally:
        with trio.CancelScope(shield=True):
            await program.stop()
