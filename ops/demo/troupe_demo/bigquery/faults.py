"""Injected faults, and the log of what was asked: how tests see and bend the stand-in.

A fault names an operation and strikes from its n-th call on, a number of times. It can delay the
call, fail it with any HTTP status and reason, or both. Operations are the REST methods
(``jobs.insert``, ``tables.get`` …), ``token``, ``job.run`` (the job itself fails, not the request
for it), ``storage.createReadSession`` and ``storage.readRows``. The last is counted per message of
a stream, so that ``after`` breaks a stream in its middle.
"""

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from troupe_demo.bigquery.errors import HTTP_CODE, BigQueryError

_KEPT: Final = 10_000
_MAX_FAULTS: Final = 1_000


@dataclass(slots=True)
class Fault:
    """What goes wrong, where and how often.

    Attributes:
        operation: Which calls; ``*`` for all.
        after: Calls to let through first.
        times: How many calls it strikes; None for all from then on.
        reason: BigQuery's reason, or None for a delay alone.
        status: HTTP status; the reason's usual one by default.
        message: For the error.
        delay: Seconds to wait before going on.
        retry_after: Seconds for the ``Retry-After`` header.
    """

    operation: str
    after: int = 0
    times: int | None = 1
    reason: str | None = None
    status: int | None = None
    message: str | None = None
    delay: float = 0.0
    retry_after: float | None = None

    def error(self) -> BigQueryError | None:
        """The failure, or None for a delay alone."""
        if self.reason is None:
            return None
        status = self.status or HTTP_CODE.get(self.reason, 500)
        message = self.message or f"Injected fault: {self.reason}"
        return BigQueryError(status, self.reason, message, retry_after=self.retry_after)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as the log keeps it; the status is 0 while it is under way."""

    at: float
    operation: str
    project: str
    target: str
    status: int
    labels: dict[str, str] = field(default_factory=dict)


class Faults:
    """The faults in force, and the log."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._log: deque[Asked] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def replace(self, faults: list[Fault]) -> None:
        """Put these faults in force instead of those before."""
        if len(faults) > _MAX_FAULTS:
            raise BigQueryError.invalid(f"More than {_MAX_FAULTS} faults")
        with self._lock:
            self._faults = faults

    def add(self, fault: Fault) -> None:
        """Put one more fault in force."""
        self.replace([*self._faults, fault])

    def pending(self) -> list[dict[str, Any]]:
        """The faults in force."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def strike(self, operation: str) -> None:
        """Let whatever is due happen to a call of this operation.

        Raises:
            BigQueryError: The injected failure.
        """
        with self._lock:
            struck = next((f for f in self._faults if self._due(f, operation)), None)
            if struck is not None and struck.times is not None:
                struck.times -= 1
        if struck is None:
            return
        self._closing.wait(struck.delay)
        error = struck.error()
        if error is not None:
            raise error

    @staticmethod
    def _due(fault: Fault, operation: str) -> bool:
        if fault.operation not in (operation, "*") or fault.times == 0:
            return False
        if fault.after > 0:
            fault.after -= 1
            return False
        return True

    def record(
        self,
        operation: str,
        project: str,
        target: str,
        status: int,
        labels: dict[str, str] | None = None,
    ) -> None:
        """Note a request."""
        with self._lock:
            self._log.append(Asked(time.time(), operation, project, target, status, labels or {}))

    def log(self) -> list[Asked]:
        """The latest requests, oldest first."""
        with self._lock:
            return list(self._log)

    def forget(self) -> None:
        """Empty the log."""
        with self._lock:
            self._log.clear()

    def close(self) -> None:
        """Cut all delays short."""
        self._closing.set()
