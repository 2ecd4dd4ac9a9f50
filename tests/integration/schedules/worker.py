"""Processes that run a scheduler, for tests that kill or stop them.

``python -m tests.integration.schedules.worker URL LEASE`` imports everything once and then forks on
request, so that two hundred processes cost two hundred forks and not two hundred starts of Python.
Requests come line by line, each is answered by one line:

=================  ==========================================================================
``start VARIANT``  the process identifier of a new worker
``kill PID``       ``ended``: it was killed, and it is gone
``stop PID``       ``stopped`` (SIGSTOP)
``continue PID``   ``continued`` (SIGCONT)
=================  ==========================================================================

At the end of its input it kills what it has started. All workers report the same host name.

A *sound* worker is what an instance runs. A *stubborn* one never doubts that it leads: it has no
clock and asks nobody, as if its event loop were never scheduled but for its work. A *lawless* one
is stubborn and writes without holding its term: the broken twin.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, NoReturn

import trio

from tests.integration.schedules.conftest import PATIENCE, read_beat
from troupe.common.bridge import open_bridge
from troupe.common.database import open_database
from troupe.platform.leadership import Leadership, Term
from troupe.platform.schedules import Scheduler, SchedulerSettings
from troupe.platform.supervision import Intensity, Supervisor

ROOT = Path(__file__).parents[3]
HOST = "twin"

Variant = Literal["sound", "stubborn", "lawless"]


class Workers:
    """The process that forks, as a test sees it."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._unread = b""

    async def start(self, variant: Variant = "sound") -> int:
        """Fork a worker; its process identifier."""
        return int(await self._ask(f"start {variant}"))

    async def kill(self, pid: int) -> None:
        await self._ask(f"kill {pid}")

    async def stop(self, pid: int) -> None:
        await self._ask(f"stop {pid}")

    async def resume(self, pid: int) -> None:
        await self._ask(f"continue {pid}")

    async def _ask(self, request: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with trio.fail_after(PATIENCE):
            await self._process.stdin.send_all(f"{request}\n".encode())
            while b"\n" not in self._unread:
                chunk = await self._process.stdout.receive_some(4096)
                assert chunk, f"it ended instead of doing this: {request}"
                self._unread += chunk
        answer, self._unread = self._unread.split(b"\n", 1)
        return answer.decode()


@asynccontextmanager
async def open_workers(
    url: str, lease: float, prefix: Sequence[str] = ()
) -> AsyncIterator[Workers]:
    """Ready to start workers, behind a command that becomes them; none is left afterwards."""
    process = await trio.lowlevel.open_process(
        [*prefix, sys.executable, "-m", "tests.integration.schedules.worker", url, str(lease)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield Workers(process)
    finally:
        with trio.CancelScope(shield=True):
            assert process.stdin is not None
            await process.stdin.aclose()
            with trio.move_on_after(PATIENCE):
                await process.wait()
            if process.returncode is None:
                process.kill()
            await process.wait()


# ---- within that process


def work(url: str, lease: float, variant: str) -> NoReturn:
    """Be a worker, in a process that was just forked."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

    async def never_over(_self: Leadership, _term: Term, _office: trio.CancelScope) -> None:
        await trio.sleep_forever()

    async def unasked(_self: Term, _connection: object) -> None:
        return

    if variant in {"stubborn", "lawless"}:
        Leadership.watch = never_over  # type: ignore[method-assign]
    if variant == "lawless":
        Term.hold = unasked  # type: ignore[assignment, method-assign]

    async def main() -> None:
        name = f"troupe worker {os.getpid()}"
        async with (
            open_bridge(),
            open_database(url, connections=2, application_name=name) as database,
        ):
            settings = SchedulerSettings(lease=lease, poll=0.5, listen=False)
            scheduler = Scheduler(database=lambda: database, settings=settings, read=read_beat)
            tolerance = Intensity(restarts=20, period=1)
            await Supervisor("worker", [scheduler.child_spec()], intensity=tolerance).serve()

    try:
        trio.run(main)
    finally:
        os._exit(1)


def serve(url: str, lease: float) -> None:
    """Fork, kill, stop and continue as told."""
    socket.gethostname = lambda: HOST
    alive: set[int] = set()
    try:
        for line in sys.stdin:
            request, argument = line.split()
            if request == "start":
                pid = os.fork()
                if pid == 0:
                    work(url, lease, argument)
                alive.add(pid)
                answer = str(pid)
            elif request == "kill":
                end(alive, int(argument))
                answer = "ended"
            else:
                number = {"stop": signal.SIGSTOP, "continue": signal.SIGCONT}[request]
                os.kill(int(argument), number)
                answer = f"{request}ped" if request == "stop" else "continued"
            sys.stdout.write(f"{answer}\n")
            sys.stdout.flush()
    finally:
        for pid in list(alive):
            end(alive, pid)


def end(alive: set[int], pid: int) -> None:
    """Kill one of ours; until it was waited for, nobody else can have its number."""
    if pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        alive.discard(pid)


if __name__ == "__main__":
    serve(sys.argv[1], float(sys.argv[2]))
