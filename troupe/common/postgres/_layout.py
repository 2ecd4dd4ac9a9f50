"""What lies under ``<state directory>/postgres`` and who may use it.

::

    postgres/            ours, 0700
      supervisor.lock    locked while a supervisor uses this directory; holds its process id
      cluster.lock       locked while any process of PostgreSQL lives
      passwords.json     0600
      port               kept so that the address survives restarts
      data/              the cluster; belongs to the account that PostgreSQL runs as
      data.new/          a cluster in the making; whatever is found here at start is rubbish
      log/               postgres.log, postgres.log.1, …; belongs to the account

Locks are flock(2) on open files, so the kernel releases them with their last holder, however that
ends. The descriptor of ``cluster.lock`` is inherited by the keeper, the postmaster and every
backend: whoever gets that lock knows that no process is left of a PostgreSQL that we started.
"""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

from troupe.common.errors import ConfigurationError, DatabaseUnavailable
from troupe.common.files import write_private
from troupe.common.postgres._account import Account
from troupe.common.postgres._processes import describe, processes_at
from troupe.common.units import SECONDS, KiB

_POLL: Final = 0.05 * SECONDS
_PASSWORD_BYTES: Final = 32
_SMALL_FILE: Final = 64 * KiB


@dataclass(frozen=True, slots=True, repr=False)
class Passwords:
    """Passwords of the roles that can log in; random, printable ASCII."""

    admin: str
    owner: str
    runtime: str

    @classmethod
    def random(cls) -> Self:
        """Fresh ones, 256 bits each."""
        return cls(*(secrets.token_urlsafe(_PASSWORD_BYTES) for _ in range(3)))


class Layout:
    """Paths and small files below one state directory.

    Args:
        state_directory: Absolute path; made (0700) when missing.
    """

    def __init__(self, state_directory: Path) -> None:
        self.state_directory = state_directory
        self.root = state_directory / "postgres"
        self.data = self.root / "data"
        self.building = self.root / "data.new"
        self.log = self.root / "log"
        self._passwords = self.root / "passwords.json"
        self._port = self.root / "port"

    def make(self) -> None:
        """Make the directories that are missing; touches no permission of one that exists."""
        self.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.mkdir(mode=0o700, exist_ok=True)

    def make_log(self, account: Account) -> None:
        """Make the log directory for `account` when it is missing."""
        with contextlib.suppress(FileExistsError):
            self.log.mkdir(mode=0o700)
            give(self.log, account)

    def passwords(self) -> Passwords:
        """The kept passwords; made when there is neither a file nor a cluster.

        Raises:
            ConfigurationError: A cluster exists but the file is missing or damaged.
        """
        try:
            return Passwords(**json.loads(self._passwords.read_text(encoding="utf-8")))
        except FileNotFoundError:
            if self.data.exists():
                raise ConfigurationError(
                    f"{self._passwords} is missing, and {self.data} cannot be used without it:"
                    " restore it from a backup."
                ) from None
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{self._passwords} is damaged.") from error
        made = Passwords.random()
        write_file(self._passwords, json.dumps(asdict(made)) + "\n")
        return made

    def port(self) -> int | None:
        """The port of the last start, if it is known."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            port = int(self._port.read_text(encoding="ascii"))
            return port if 0 < port < 65536 else None
        return None

    def keep_port(self, port: int) -> None:
        """Remember the port for the next start."""
        if self.port() != port:
            write_file(self._port, f"{port}\n")

    def lock_supervisor(self) -> "Lock":
        """Claim the directory for this process.

        Raises:
            ConfigurationError: Another process has it; the message names that process.
        """
        lock = Lock(self.root / "supervisor.lock")
        if not lock.take():
            holder = lock.holder()
            lock.close()
            raise ConfigurationError(
                f"Another Troupe{f' (process {holder})' if holder else ''} is using"
                f" {self.state_directory}: stop it or choose another state directory."
            )
        lock.sign()
        return lock

    def lock_cluster(self, deadline: float, checkpoint: Callable[[], None]) -> "Lock":
        """Wait until no process of an earlier PostgreSQL is left, and claim the cluster.

        Args:
            deadline: Seconds to wait; an earlier server may still be shutting down.
            checkpoint: Called while waiting; may raise to give up.

        Raises:
            DatabaseUnavailable: The deadline passed.
        """
        lock = Lock(self.root / "cluster.lock")
        try:
            end = time.monotonic() + deadline
            while not lock.take():
                checkpoint()
                if time.monotonic() > end:
                    self._give_up(deadline)
                time.sleep(_POLL)
        except BaseException:
            lock.close()
            raise
        return lock

    def _give_up(self, deadline: float) -> NoReturn:
        workers = processes_at(self.data) if self.data.exists() else None
        raise DatabaseUnavailable(
            f"The PostgreSQL of an earlier run still works on {self.data} after {deadline:.0f} s:"
            f" stop {describe(workers, self.data)}."
        )


class Lock:
    """An exclusive flock(2) on a file, held until it is closed by all who inherited it."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(path, flags, 0o600)

    def take(self) -> bool:
        """Try to lock; False when another holds it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def sign(self) -> None:
        """Write our process id into the file, for the message that another process shows."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def holder(self) -> str:
        """Process id that the holder wrote, or empty."""
        text = os.pread(self.descriptor, _SMALL_FILE, 0).decode(errors="replace").strip()
        return text if text.isdigit() else ""

    def close(self) -> None:
        """Release our share of the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()


def give(directory: Path, account: Account) -> None:
    """Give a directory that we have just made to `account`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        account.own(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, text: str, account: Account | None = None) -> None:
    """Replace a small file (0600) atomically and durably, see `write_private`.

    Args:
        path: File to replace.
        text: Its content.
        account: Who shall own it; by default whoever owns the directory.
    """

    def own(descriptor: int) -> None:
        if account is not None:
            account.own(descriptor)
        elif os.geteuid() == 0:
            directory = path.parent.stat()
            os.fchown(descriptor, directory.st_uid, directory.st_gid)

    write_private(path, text, own=own)
