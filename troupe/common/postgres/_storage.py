"""Turning what the file system says into one sentence for the operator."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from troupe.common.errors import ConfigurationError, StorageFull, TroupeError
from troupe.common.units import MiB

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_WORDS: Final = ("No space left on device", "Disk quota exceeded", "File too large")


def storage_problem(path: Path, error: OSError) -> TroupeError:
    """The sentence for `error`, which happened while writing at or below `path`."""
    if error.errno in _FULL:
        return StorageFull(f"No space is left for the database under {path}: {error.strerror}.")
    return ConfigurationError(f"{error.filename or path} cannot be used: {error.strerror}.")


@contextmanager
def storage_problems(path: Path) -> Iterator[None]:
    """A context in which an `OSError` becomes `StorageFull` or `ConfigurationError`."""
    try:
        yield
    except OSError as error:
        raise storage_problem(path, error) from error


def says_full(text: str) -> bool:
    """Whether what a PostgreSQL program printed complains about a full disk."""
    return any(words in text for words in _FULL_WORDS)


def require_space(path: Path, needed: int) -> None:
    """Refuse early when fewer than `needed` bytes are free for unprivileged accounts at `path`.

    Raises:
        StorageFull: Says how much is free and how much is needed.
    """
    status = os.statvfs(path)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise StorageFull(
            f"Only {free // MiB} MiB are free under {path}; the embedded PostgreSQL needs"
            f" {needed // MiB} MiB to start."
        )
