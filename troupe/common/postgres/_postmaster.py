"""Our end of a keeper and of the postmaster that it keeps (`_keeper` is the other end)."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import trio

from troupe.common.errors import DatabaseError, DatabaseUnavailable, StorageFull
from troupe.common.postgres import _keeper
from troupe.common.postgres._storage import says_full
from troupe.common.units import SECONDS, KiB

_CHUNK: Final = 64 * KiB
_REAP_DEADLINE: Final = 5 * SECONDS
_OF_A_SESSION: Final = re.compile(r"\[[0-9]+\] \S+@\S+/")  # see log_line_prefix
_PORT_TAKEN: Final = "could not bind IPv4 address"


class PostgresDied(DatabaseUnavailable):
    """The embedded PostgreSQL ended without being asked; its data is safe, start it again."""


class Postmaster:
    """A pipe that orders the end, a pipe that tells what happens.

    Attributes:
        pid: Process id of the postmaster, once it is started.
        ready: Whether PostgreSQL has accepted connections.
    """

    def __init__(self, orders: _keeper.Orders) -> None:
        ordering, self._control = os.pipe()
        self._status, reporting = os.pipe()
        os.set_blocking(self._status, False)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-I", "-S", _keeper.__file__, json.dumps(orders._asdict())],
                stdin=ordering,
                stdout=reporting,
                stderr=subprocess.DEVNULL,
                pass_fds=(orders.log_directory, *orders.inherited),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._control)
            os.close(self._status)
            raise
        finally:
            os.close(ordering)
            os.close(reporting)
        self.pid = 0
        self.ready = False
        self._last_report: dict[str, Any] | None = None
        self._unread = b""
        self._reading = trio.Lock()

    @property
    def ended(self) -> bool:
        """Whether the keeper has said its last word."""
        return self._last_report is not None

    @property
    def port_was_taken(self) -> bool:
        """Whether it ended because somebody else listens on its port."""
        return any(_PORT_TAKEN in line for line in (self._last_report or {}).get("tail", ()))

    async def wait_ready(self) -> None:
        """Return when it is ready or has ended."""
        async with self._reading:
            while not self.ready and not self.ended:
                await trio.lowlevel.wait_readable(self._status)
                self._read()

    async def wait_ended(self) -> None:
        """Return when it has ended."""
        async with self._reading:
            while not self.ended:
                await trio.lowlevel.wait_readable(self._status)
                self._read()

    async def end(self, deadline: float) -> None:
        """Stop it and forget it, within about `deadline` seconds even if it hangs."""
        with trio.CancelScope(shield=True):
            self._order_end()
            with trio.move_on_after(deadline):
                await self.wait_ended()
            trio.lowlevel.notify_closing(self._status)
            await trio.to_thread.run_sync(self._close)

    def end_sync(self, deadline: float) -> None:
        """`end` without trio."""
        self._order_end()
        end = time.monotonic() + deadline
        while not self.ended and self._readable_before(end):
            self._read()
        self._close()

    def wait_ready_sync(self, deadline: float) -> None:
        """`wait_ready` without trio; also returns after `deadline` seconds."""
        end = time.monotonic() + deadline
        while not self.ready and not self.ended and self._readable_before(end):
            self._read()

    def _readable_before(self, end: float) -> bool:
        return bool(select.select([self._status], [], [], max(0.0, end - time.monotonic()))[0])

    def _read(self) -> None:
        while not self.ended:
            try:
                chunk = os.read(self._status, _CHUNK)
            except BlockingIOError:
                return
            if not chunk:  # the keeper was killed; PostgreSQL gets its signal from the kernel
                self._last_report = {"tail": ()}
                return
            *lines, self._unread = (self._unread + chunk).split(b"\n")
            for line in lines:
                report = json.loads(line)
                if report["event"] == "started":
                    self.pid = report["pid"]
                elif report["event"] == "ready":
                    self.ready = True
                else:
                    self._last_report = report

    def death(self, data: Path) -> DatabaseError:
        """Why it ended, in one sentence; `data` is named when the disk is full."""
        report = self._last_report or {"tail": ()}
        fatal = [line for line in report["tail"] if "FATAL:" in line or "PANIC:" in line]
        if says_full("\n".join(fatal)):
            return StorageFull(f"PostgreSQL stopped: no space is left under {data}.")
        if "returncode" not in report:
            return PostgresDied("PostgreSQL stopped: the process that keeps it was killed.")
        if report["asked"]:
            return PostgresDied("PostgreSQL was stopped.")
        code = report["returncode"]
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        # A session's end is fatal for that session only.
        reasons = [line for line in fatal if not _OF_A_SESSION.search(line)]
        if not self.ready:
            reasons = reasons or report["tail"]
        return PostgresDied(f"PostgreSQL stopped: {how}{f' ({reasons[-1]})' if reasons else ''}.")

    def _order_end(self) -> None:
        if self._control >= 0:
            os.close(self._control)
            self._control = -1

    def _close(self) -> None:
        """Reap the keeper; one that has not ended by now is killed, and PostgreSQL with it."""
        if self.ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_REAP_DEADLINE)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._status)
