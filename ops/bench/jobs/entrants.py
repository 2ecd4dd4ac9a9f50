"""Who takes part: a contender's program with the settings it runs with."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

OURS: Final = "troupe"
PGQUEUER: Final = "pgqueuer"
PROCRASTINATE: Final = "procrastinate"


@dataclass(frozen=True)
class Entrant:
    """One contender with one set of settings.

    Attributes:
        queue: Which job queue.
        module: Its program.
        python: The interpreter that has its libraries.
        settings: For its program.
    """

    queue: str
    module: str
    python: Path
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and settings, for people."""
        settings = " ".join(f"{name}={value}" for name, value in self.settings.items() if value)
        return f"{self.queue} ({settings})" if settings else self.queue

    @property
    def template(self) -> str:
        """The prepared database that its rounds copy."""
        return f"bench_{self.queue}"


def ours(settings: Mapping[str, Any]) -> Entrant:
    """Troupe, in this interpreter."""
    return Entrant(OURS, "ops.bench.jobs.contenders.ours", Path(sys.executable), settings)


def pgqueuer(python: Path, batch: int, *, pool: bool) -> Entrant:
    """PgQueuer with one queue manager."""
    module = "ops.bench.jobs.contenders.pgqueuer"
    return Entrant(PGQUEUER, module, python, {"batch": batch, "pool": pool})


def procrastinate(python: Path, concurrency: int) -> Entrant:
    """Procrastinate with as many connections as jobs at a time."""
    module = "ops.bench.jobs.contenders.procrastinate"
    settings = {"concurrency": concurrency, "connections": concurrency}
    return Entrant(PROCRASTINATE, module, python, settings)
