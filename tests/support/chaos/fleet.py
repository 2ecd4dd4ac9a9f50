"""Worker processes: started, stopped, continued, killed."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.support.chaos.worker import Options, Report
from troupe.common.units import SECONDS

ROOT = Path(__file__).parents[3]
START_DEADLINE = 60 * SECONDS
END_DEADLINE = 40 * SECONDS
_LOG_TAIL = 4000  # characters


class Worker:
    """One process.

    Attributes:
        pid: Its process id.
        log: Where its standard error goes.
    """

    def __init__(self, process: trio.Process, log: Path) -> None:
        self.pid = process.pid
        self.log = log
        self._process = process
        self._unread = b""

    @property
    def alive(self) -> bool:
        """Whether it has not ended (a stopped one has not)."""
        return self._process.poll() is None

    def stop(self) -> None:
        """SIGSTOP: it sees no time."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, also for one that is stopped."""
        self._process.kill()

    async def wait(self) -> None:
        """Until it has ended."""
        await self._process.wait()

    async def ready(self) -> None:
        """Until it claims jobs."""
        with trio.fail_after(START_DEADLINE):
            line = await self._line()
        assert line == "ready", line

    async def finish(self) -> Report:
        """Ask it to end in order; how its life was."""
        self.resume()
        self._process.terminate()
        with trio.fail_after(END_DEADLINE):
            report = Report(**json.loads(await self._line()))
            assert await self._process.wait() == 0
        return report

    def told(self) -> str:
        """What it has logged, in short: each event and error, how often, and the last line."""
        lines = self.log.read_text(errors="replace").splitlines()
        # The last line of one that was killed may be cut off.
        events = [json.loads(line) for line in lines if line[:1] + line[-1:] == "{}"]
        counted = Counter((event["event"], str(event.get("error", ""))) for event in events)
        told = [f"  {count} × {event} {error}" for (event, error), count in counted.items()]
        return "\n".join([f"worker {self.pid}, {self.log}", *told, *lines[-1:]])

    async def _line(self) -> str:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            chunk = await self._process.stdout.receive_some(4096)
            assert chunk, f"the worker ended:\n{self.log.read_text()[-_LOG_TAIL:]}"
            self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()


class Fleet:
    """Starts workers; whatever is left at the end is killed.

    Args:
        logs: A directory for their standard error.
    """

    def __init__(self, logs: Path) -> None:
        self.workers: list[Worker] = []
        self._logs = logs

    async def launch(self, options: Options, prefix: Sequence[str] = ()) -> Worker:
        """Start a worker, behind a command that becomes it; it may not claim yet."""
        log = self._logs / f"worker-{len(self.workers)}.log"
        with log.open("wb") as stderr:
            process = await trio.lowlevel.open_process(
                [*prefix, sys.executable, "-m", "tests.support.chaos.worker", options.to_json()],
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    async def start(self, options: Options, prefix: Sequence[str] = ()) -> Worker:
        """Start a worker and wait until it claims jobs."""
        worker = await self.launch(options, prefix)
        await worker.ready()
        return worker


@asynccontextmanager
async def open_fleet(logs: Path) -> AsyncIterator[Fleet]:
    """A fleet that leaves no process behind."""
    fleet = Fleet(logs)
    try:
        yield fleet
    except BaseException:
        for worker in fleet.workers:  # pytest shows this with the failure
            sys.stdout.write(f"{worker.told()}\n")
        raise
    finally:
        with trio.CancelScope(shield=True):
            for worker in fleet.workers:
                worker.kill()
                await worker.wait()
