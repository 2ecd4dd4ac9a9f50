"""Following a job in the terminal: a bar for a person, plain lines for everything else.

The bar goes to standard error, so that standard output holds the result alone. Where standard error
is no terminal (a log, a pipe, cron) a line is printed when something has changed, every ten seconds
at most, and always the last one.

**^C.** A job belongs to the installation and not to the terminal that waits for it. The first ^C
asks whether to leave it running; "no" cancels it and waits for its end, which is told as any other.
A second ^C, or one where nobody can be asked (no terminal, ``--json``), leaves it running. Leaving
ends with exit code 130.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from troupe.cli.boundary import LeftRunning
from troupe.common.errors import Conflict
from troupe.common.ids import TenantId
from troupe.common.units import MINUTES, SECONDS, KiB, MiB
from troupe.platform.jobs import Job, JobStore

POLL: Final = 0.5 * SECONDS
LINE_PAUSE: Final = 10 * SECONDS
ANSWER_DEADLINE: Final = 10 * MINUTES


def describe(job: Job) -> str:
    """How far a job is, in one line, without the number of steps.

    Phase, rows, bytes, rate, time left: whatever the job tells.
    """
    progress = job.progress
    detail = progress.detail
    parts = []
    if rows := detail.get("rows"):
        parts.append(f"{rows:,} rows")
    if size := detail.get("bytes"):
        parts.append(_size(size))
    if not job.state.finished:
        if rate := detail.get("rate"):
            parts.append(f"{rate:,} rows/s")
        if left := detail.get("seconds_left"):
            parts.append(f"{_length(left)} left")
    said = progress.message or progress.phase
    return ", ".join([*parts, said or job.state.value])


def line_of(job: Job) -> str:
    """A job as a plain line."""
    progress = job.progress
    steps = "" if progress.total is None else f" {progress.done or 0}/{progress.total}"
    return f"{job.kind} {job.state.value}{steps}: {describe(job)}"


async def follow(store: JobStore, tenant: TenantId, name: str, job: Job, *, quiet: bool) -> Job:
    """Show a job until it has finished.

    Args:
        store: Where to look.
        tenant: Whose job it is.
        name: What the tenant is called.
        job: As it is now.
        quiet: Show nothing and ask nothing.

    Raises:
        LeftRunning: ^C, and the job goes on.
    """
    terminal = sys.stderr.isatty() and not quiet
    asks = terminal and sys.stdin.isatty()
    view: _Bar | _Lines = _Bar(f"{job.kind} {name}") if terminal else _Lines(quiet=quiet)
    with trio.open_signal_receiver(signal.SIGINT) as interrupts, view:
        while True:
            view.show(job)
            if job.state.finished:
                return job
            if not await _interrupted(interrupts):
                job = await store.get(tenant, job.id)
                continue
            view.pause()
            if not asks or await _leaves(interrupts):
                raise LeftRunning(
                    f"The job goes on; 'troupe jobs watch {tenant} {job.id}' follows it.", job
                )
            asks = False
            job = await _cancelled(store, tenant, job)
            view.resume()


async def _interrupted(interrupts: AsyncIterator[int]) -> bool:
    """Wait for the next look at the job; whether ^C came first."""
    with trio.move_on_after(POLL):
        await anext(interrupts)
        return True
    return False


async def _leaves(interrupts: AsyncIterator[int]) -> bool:
    """Ask whether to leave the job running; another ^C, or no answer, means yes."""
    leaves = True
    with trio.move_on_after(ANSWER_DEADLINE):
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                nonlocal leaves
                leaves = await _ask()
                nursery.cancel_scope.cancel()

            nursery.start_soon(ask)
            await anext(interrupts)
            nursery.cancel_scope.cancel()
    return leaves


async def _ask() -> bool:
    # No thread: one that is left waiting for standard input would hold up the end of the program.
    while True:
        click.echo("\nLeave the job running? [Y/n] ", err=True, nl=False)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        typed = os.read(sys.stdin.fileno(), 1024)
        answer = typed.decode(errors="replace").strip().casefold()
        if not typed or answer in {"", "y", "yes"}:
            return True
        if answer in {"n", "no"}:
            return False


async def _cancelled(store: JobStore, tenant: TenantId, job: Job) -> Job:
    try:
        return await store.request_cancel(tenant, job.id)
    except Conflict:
        return await store.get(tenant, job.id)  # it finished while the question was open


class _Bar:
    """A bar on standard error."""

    def __init__(self, title: str) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._bar = self._bars.add_task(title, total=None, note="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def show(self, job: Job) -> None:
        progress = job.progress
        self._bars.update(
            self._bar, completed=progress.done or 0, total=progress.total, note=describe(job)
        )

    def pause(self) -> None:
        self._bars.stop()

    def resume(self) -> None:
        self._bars.start()


class _Lines:
    """Plain lines on standard error."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._said = ""
        self._again = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def show(self, job: Job) -> None:
        line, now = line_of(job), trio.current_time()
        due = now >= self._again or job.state.finished
        if self._quiet or line == self._said or not due:
            return
        click.echo(line, err=True)
        self._said, self._again = line, now + LINE_PAUSE

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


def _size(count: int) -> str:
    if count < MiB:
        return f"{count / KiB:.0f} KiB"
    return f"{count / MiB:,.1f} MiB"


def _length(seconds: int) -> str:
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
