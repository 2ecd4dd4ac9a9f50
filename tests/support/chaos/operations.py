"""Operation logs: what was acknowledged to somebody, so that it can be asked for afterwards.

Each process writes a file of its own, a line of JSON for each operation, as soon as it has the
acknowledgement in hand. A line is one write, so a process that is killed leaves whole lines. The
checks read all of them. What is not in a log may or may not have happened.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


class OperationLog:
    """Written by one process.

    Args:
        path: None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else path.open("ab", buffering=0)

    def effect(self, attempt: tuple[uuid.UUID, uuid.UUID, int], step: int) -> None:
        """An attempt's effect was committed."""
        _, job_id, token = attempt
        self._write(operation="effect", job=str(job_id), token=token, step=step)

    def enqueued(self, key: str, *, acknowledged: bool) -> None:
        """A job with this idempotency key was asked for; unacknowledged, it was made or not."""
        self._write(operation="enqueue", key=key, acknowledged=acknowledged)

    def _write(self, **operation: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps(operation).encode() + b"\n")


def read_operations(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The operations of all logs."""
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)
