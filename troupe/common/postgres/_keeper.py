"""The keeper: the process between a supervisor and its PostgreSQL.

Problem. PostgreSQL must not outlive the supervisor that started it, also when that one is ended by
SIGKILL and cannot say goodbye. And it must survive what is not meant for it: ^C in the terminal
reaches every process of the foreground group, and a postmaster takes SIGINT as an order to stop.

Choice. The supervisor starts this program in a session of its own and keeps the write end of the
pipe that is our standard input. The kernel closes that end when the supervisor is gone, however it
went: end of file is the one and only order to stop (SIGTERM means the same, for a person at a
shell). We start the postmaster, copy what it logs into files of bounded size, report "started",
"ready" and "exited" as JSON lines on standard output, and stop it in three steps: fast (SIGINT:
sessions are ended, a checkpoint is written), after a deadline immediate (SIGQUIT: the next start
replays the log; the postmaster itself ends stuck backends after 5 s), last SIGKILL.

Should the keeper itself be killed, Linux sends the postmaster SIGQUIT (PR_SET_PDEATHSIG):
immediate, because nobody is left to escalate. Elsewhere the next start finds the cluster's lock
still held and says so. On Linux the keeper is also the reaper of orphans, so that backends which
outlive a killed postmaster in a long computation are found and ended: each backend is the leader of
its own process group, so no group kill would reach them.

Run as root, it drops to the account before it starts anything. Hence: standard library only, all
imports on top (the interpreter's files may be out of the account's reach afterwards), one thread.

Cost: one interpreter of about 10 MB; and whoever forks the supervisor without exec inherits the
pipe's other end and keeps PostgreSQL alive (`subprocess` does not). Rejected: `pg_ctl` (the server
then belongs to nobody), a thread in the supervisor (dies with it), the wheel's own `get_server()`
(leaves the server running).

Usage: ``python -I -S _keeper.py '{"postgres": …}'`` with the fields of `Orders`.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple, NoReturn

READY_LINE = b"database system is ready to accept connections"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IMMEDIATE_DEADLINE = 8.0  # seconds; above the 5 s after which a postmaster kills its backends
_KILL_DEADLINE = 5.0  # seconds until a killed process must be gone
_LONGEST_LINE = 64 * 1024  # bytes; longer log lines are cut into pieces
_CHUNK = 64 * 1024  # bytes read at once
_TAIL_LINES = 20
_TAIL_LINE_LENGTH = 400  # characters kept of a line that is reported


class Orders(NamedTuple):
    """What the supervisor asks for; JSON on the command line, nothing secret in it.

    Attributes:
        postgres: Path of the ``postgres`` program.
        data: What to give as ``-D``.
        uid: Account to drop to; None stays.
        gid: Its group.
        log_directory: Inherited descriptor of the directory that gets ``postgres.log``.
        inherited: Descriptors which the postmaster and its children keep open.
        fast_deadline: Seconds for a fast shutdown before it becomes an immediate one.
        log_bytes: Size at which a log file is rotated.
        log_files: How many rotated files stay beside the current one.
    """

    postgres: str
    data: str
    uid: int | None
    gid: int | None
    log_directory: int
    inherited: list[int]
    fast_deadline: float
    log_bytes: int
    log_files: int


class BoundedLog:
    """``postgres.log`` and its predecessors ``postgres.log.1``, …; at most ``keep + 1`` files.

    A log that cannot be written (the disk is full) loses lines; it never stops PostgreSQL.
    """

    name = "postgres.log"

    def __init__(self, directory: int, limit: int, keep: int) -> None:
        self._directory = directory
        self._limit = limit
        self._keep = keep
        self._file = -1
        self._size = 0

    def write(self, line: bytes) -> None:
        """Append a line (with its newline), rotating first when the file is full."""
        with contextlib.suppress(OSError):
            if self._file < 0:
                self._open()
            if self._size and self._size + len(line) > self._limit:
                self._rotate()
            self._size += os.write(self._file, line)

    def close(self) -> None:
        """Close the current file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self.name, flags, 0o600, dir_fd=self._directory)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        self.close()
        names = [self.name, *(f"{self.name}.{number}" for number in range(1, self._keep + 1))]
        for older, newer in zip(reversed(names), list(reversed(names))[1:], strict=False):
            with contextlib.suppress(FileNotFoundError):
                os.rename(newer, older, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._open()


class Keeper:
    """Runs one postmaster until it ends or is ended."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._log = BoundedLog(orders.log_directory, orders.log_bytes, orders.log_files)
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._line = b""
        self._postmaster = 0
        self._status: int | None = None
        self._children_left = True
        self._ready = False
        self._asked = False
        self._steps = [
            (signal.SIGINT, orders.fast_deadline),
            (signal.SIGQUIT, _IMMEDIATE_DEADLINE),
            (signal.SIGKILL, _KILL_DEADLINE),
        ]
        self._next_step: float | None = None
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Start the postmaster and return when it and all its children are gone."""
        self._watch_signals()
        output = self._start()
        self._selector.register(0, selectors.EVENT_READ, self._control)
        self._selector.register(output, selectors.EVENT_READ, self._output)
        _report(event="started", pid=self._postmaster)
        while self._children_left:
            timeout = None
            if self._next_step is not None:
                timeout = max(0.0, self._next_step - time.monotonic())
            for key, _ in self._selector.select(timeout):
                key.data(key.fd)
            if self._next_step is not None and time.monotonic() >= self._next_step:
                self._escalate()
        self._output(output)
        self._note(self._line)
        _report(
            event="exited",
            returncode=os.waitstatus_to_exitcode(self._status or 0),
            asked=self._asked,
            tail=list(self._tail),
        )

    def stop(self) -> None:
        """Begin the shutdown; a second call changes nothing."""
        if not self._asked:
            self._asked = True
            self._escalate()

    def _watch_signals(self) -> None:
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        # Handlers, not SIG_IGN: an ignored signal would stay ignored in the postmaster.
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, lambda _number, _frame: self.stop())
        self._selector.register(read, selectors.EVENT_READ, self._signalled)

    def _start(self) -> int:
        """Fork the postmaster; returns our end of its standard error, non-blocking."""
        read, write = os.pipe()
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_postmaster(write, keeper)
        os.close(write)
        os.set_blocking(read, False)
        self._postmaster = pid
        return read

    def _become_postmaster(self, errors: int, keeper: int) -> NoReturn:
        try:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
            if os.getppid() != keeper:  # it died before the line above could take effect
                os._exit(1)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(errors, 1)
            os.dup2(errors, 2)
            for descriptor in self._orders.inherited:
                os.set_inheritable(descriptor, True)
            environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
            os.execve(  # noqa: S606 - no shell is wanted
                self._orders.postgres,
                # The full path: from it the server finds its own files.
                [self._orders.postgres, "-D", self._orders.data],
                environment,
            )
        except OSError as problem:
            os.write(errors, f"cannot start {self._orders.postgres}: {problem}\n".encode())
        finally:
            os._exit(127)

    def _control(self, descriptor: int) -> None:
        """The supervisor's pipe: whatever arrives is ignored, its end is the order to stop."""
        if not os.read(descriptor, _CHUNK):
            self._selector.unregister(descriptor)
            self.stop()

    def _output(self, descriptor: int) -> None:
        """Copy what the postmaster and its children have logged so far."""
        while True:
            try:
                chunk = os.read(descriptor, _CHUNK)
            except BlockingIOError:
                return
            if not chunk:
                if descriptor in self._selector.get_map():
                    self._selector.unregister(descriptor)
                return
            *lines, self._line = (self._line + chunk).split(b"\n")
            for line in lines:
                self._note(line)
            if len(self._line) > _LONGEST_LINE:
                self._note(self._line)
                self._line = b""

    def _note(self, line: bytes) -> None:
        if not line:
            return
        self._log.write(line + b"\n")
        self._tail.append(line.decode(errors="replace")[:_TAIL_LINE_LENGTH])
        if READY_LINE in line and not self._ready:
            self._ready = True
            _report(event="ready")

    def _signalled(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(descriptor, _CHUNK)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._children_left = False
                return
            if pid == 0:
                break
            if pid == self._postmaster:
                self._status = status
        if self._status is not None and self._next_step is None:
            # It died unasked; orphans notice within moments, or are computing and must be ended.
            self._next_step = time.monotonic() + _KILL_DEADLINE

    def _escalate(self) -> None:
        if self._status is not None:
            for orphan in _children():
                _signal(orphan, signal.SIGKILL)
            self._next_step = time.monotonic() + _KILL_DEADLINE
            return
        number, deadline = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        self._next_step = time.monotonic() + deadline
        _signal(self._postmaster, number)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _children() -> list[int]:
    """Process ids of our children, read from /proc; empty where there is none."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    # pid (name) state ppid …; the name may hold spaces and parentheses.
                    fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                    if int(fields[1]) == os.getpid():
                        found.append(int(entry.name))
    return found


def _prctl(option: int, value: int) -> None:
    """Linux's prctl(2); elsewhere there is no such thing and the next start copes without."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _report(**fields: object) -> None:
    """One JSON line to the supervisor, if it is still there."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(fields).encode() + b"\n")


def _drop_privileges(uid: int, gid: int) -> None:
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)


def main() -> None:
    """Entry point: orders on the command line."""
    orders = Orders(**json.loads(sys.argv[1]))
    os.chdir("/")
    os.umask(0o077)
    try:
        if orders.uid is not None and orders.gid is not None:
            _drop_privileges(orders.uid, orders.gid)
    except OSError as problem:
        message = f"cannot become account {orders.uid}: {problem.strerror}"
        _report(event="exited", returncode=1, asked=False, tail=[message])
        return
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    Keeper(orders).run()


if __name__ == "__main__":
    main()
