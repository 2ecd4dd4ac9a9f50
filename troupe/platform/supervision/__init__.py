"""Supervision: child specifications, the supervisor, and the tree it can show."""

from troupe.platform.supervision._child import ChildContext
from troupe.platform.supervision._run import KILL_GRACE
from troupe.platform.supervision._snapshot import Detail, Observation, Snapshot, State
from troupe.platform.supervision._specification import (
    Backend,
    Backoff,
    ChildSpec,
    Intensity,
    Readiness,
    Restart,
    Start,
    Strategy,
    TaskBackend,
)
from troupe.platform.supervision._supervisor import Succession, Supervisor

__all__ = [
    "KILL_GRACE",
    "Backend",
    "Backoff",
    "ChildContext",
    "ChildSpec",
    "Detail",
    "Intensity",
    "Observation",
    "Readiness",
    "Restart",
    "Snapshot",
    "Start",
    "State",
    "Strategy",
    "Succession",
    "Supervisor",
    "TaskBackend",
]
