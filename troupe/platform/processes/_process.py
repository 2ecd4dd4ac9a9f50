"""One process: made with nothing but what it is given, waited for, killed with all that it made."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from troupe.common.units import MILLISECONDS

_NOT_INHERITED: Final = ("TROUPE_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
"""The configuration arrives over the control stream; systemd's words are for the supervisor."""
_LOOK: Final = 50 * MILLISECONDS
"""Between two looks where the system cannot tell that a process has ended."""


class Process:
    """A running process, leader of a session of its own.

    It must be made by the thread that runs the loop (see `_confinement`). That blocks the loop for
    as long as starting a program takes, a few milliseconds.

    Args:
        command: The program and its arguments; followed by the control descriptor and `name`.
        name: Shown in the list of processes.
        sockets: What it inherits; under the same descriptor numbers.

    Attributes:
        pid: Its id.
        control: Our end of the control stream.
        stdout: What it writes.
        stderr: What it writes.
        started: Seconds, of the monotonic clock.
    """

    def __init__(
        self, command: Sequence[str], name: str, sockets: Mapping[str, socket.socket]
    ) -> None:
        ours, theirs = socket.socketpair()
        out, their_out = os.pipe()
        err, their_err = os.pipe()
        self._code: int | None = None
        self.started = time.monotonic()
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - our own program
                [*command, str(theirs.fileno()), name],
                stdin=subprocess.DEVNULL,
                stdout=their_out,
                stderr=their_err,
                pass_fds=(theirs.fileno(), *(given.fileno() for given in sockets.values())),
                start_new_session=True,
                env=_environment(),
            )
        except BaseException:
            ours.close()
            os.close(out)
            os.close(err)
            raise
        finally:
            theirs.close()
            os.close(their_out)
            os.close(their_err)
        self.pid = self._popen.pid
        self.control = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.stdout = trio.lowlevel.FdStream(out)
        self.stderr = trio.lowlevel.FdStream(err)

    @property
    def code(self) -> int | None:
        """How it ended, as `subprocess` has it; None while it runs."""
        return self._code

    async def wait(self) -> int:
        """Wait for its end, kill whatever it left behind in its group, and reap it."""
        if self._code is None:
            if sys.platform == "linux":
                await self._wait_for_end()
                self.kill()  # not yet reaped, so that its number is still its own
                self._code = self._popen.wait()
            else:
                while self._popen.poll() is None:  # noqa: ASYNC110 - nobody tells us
                    await trio.sleep(_LOOK)
                self._code = self._popen.returncode
        return self._code

    async def _wait_for_end(self) -> None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:  # some sandboxes have none
            while not self._has_ended():  # noqa: ASYNC110 - nobody tells us
                await trio.sleep(_LOOK)
            return
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)

    def _has_ended(self) -> bool:
        """Whether it can be reaped; looks only."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def kill(self) -> None:
        """End it and its descendants at once."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def abort(self) -> None:
        """End it in a way that lets it write down where it is (`faulthandler`)."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGABRT)


def _environment() -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)
    }
    # Its last words must not lie in a buffer when it is killed.
    return inherited | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
