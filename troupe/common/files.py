"""Small files that must be whole and private: written beside, synced, renamed."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_private(path: Path, text: str, *, own: Callable[[int], None] | None = None) -> None:
    """Replace a small file (0600) atomically and durably.

    Nothing that already stands at `path` is opened or followed, so the directory may belong to
    another account: a new file is made under a random name and renamed.

    Args:
        path: File to replace; its directory exists.
        text: Its content.
        own: Called with the new file's descriptor before it gets its name, to give it away.

    Raises:
        OSError: Nothing was changed.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if own is not None:
                own(descriptor)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(name).rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
