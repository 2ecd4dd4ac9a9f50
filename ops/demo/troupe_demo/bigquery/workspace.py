"""The directory for what is temporary, and the clearing away of what a killed process left.

It lies beside the data, so that files can be linked into it and a full disk is the disk that the
operator watches. Whoever owns one holds a lock on a file next to it; a lock that nobody holds
belongs to a process that was killed, and its directory goes when the next one starts.
"""

import fcntl
import shutil
import uuid
from pathlib import Path
from typing import Final, TextIO

_PREFIX: Final = ".stand-in-"


class Workspace:
    """A temporary directory that does not outlive its process for long.

    Attributes:
        directory: Where temporary files go.
    """

    def __init__(self, root: Path) -> None:
        _sweep(root)
        self._lock_path, self._lock = _locked(root)
        self.directory = self._lock_path.with_suffix("")
        self.directory.mkdir()

    def fresh(self) -> Path:
        """A path in it that nothing has taken."""
        return self.directory / uuid.uuid4().hex

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()


def _locked(root: Path) -> tuple[Path, TextIO]:
    while True:
        path = root / f"{_PREFIX}{uuid.uuid4().hex}.lock"
        lock = path.open("w", encoding="ascii")
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A sweeper may have taken it, before it was locked, for one left behind.
        if path.exists():
            return path, lock
        lock.close()


def _sweep(root: Path) -> None:
    for path in root.glob(f"{_PREFIX}*.lock"):
        with path.open("a", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)
