"""The supervision tree at one moment, for `troupe status` and `/health/ready`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

Detail = int | float | str | bool | None
"""One figure about a node, such as a mailbox's depth."""


class State(StrEnum):
    """Where a child is in its life."""

    STARTING = "starting"
    """Started, not yet ready."""
    RUNNING = "running"
    """Ready."""
    BACKING_OFF = "backing_off"
    """Failed; waiting to be started again."""
    STOPPING = "stopping"
    """Asked to end, not yet gone."""
    STOPPED = "stopped"
    """Down without a failure: not yet started, finished, or stopped by an operator."""
    FAILED = "failed"
    """Down after a failure, and not coming back by itself."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a running child tells about itself: figures, and children of its own."""

    details: Mapping[str, Detail] = field(default_factory=dict)
    children: tuple["Snapshot", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One node of the tree.

    Attributes:
        name: As specified.
        kind: As specified: supervisor, group, actor, …
        state: Where it is in its life.
        restarts: How often it was started again after a failure, its own or a sibling's.
        last_error: One line without secrets; kept after recovery. None: never failed.
        since: Instant (UTC) at which it entered `state`.
        details: Figures of its kind (mailbox depth, tasks running, …).
        children: In start order.
    """

    name: str
    kind: str
    state: State
    restarts: int = 0
    last_error: str | None = None
    since: datetime
    details: Mapping[str, Detail] = field(default_factory=dict)
    children: tuple["Snapshot", ...] = ()

    @property
    def ready(self) -> bool:
        """Whether this node and all below it run.

        No obstacle are a stopped child, and one of another generation than the present.
        """
        return self.state is State.RUNNING and all(
            child.ready or child.state is State.STOPPED or "generation" in child.details
            for child in self.children
        )

    def walk(self, path: str = "") -> Iterator[tuple[str, "Snapshot"]]:
        """Every node with its path (``troupe/data/actors/runner``), parents first."""
        here = f"{path}/{self.name}" if path else self.name
        yield here, self
        for child in self.children:
            yield from child.walk(here)

    def find(self, *names: str) -> "Snapshot":
        """The node below this one along `names`.

        Raises:
            KeyError: There is none.
        """
        node = self
        for name in names:
            for child in node.children:
                if child.name == name:
                    node = child
                    break
            else:
                raise KeyError("/".join(names))
        return node

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "state": self.state.value,
            "ready": self.ready,
            "restarts": self.restarts,
            "last_error": self.last_error,
            "since": self.since.isoformat(),
            "details": dict(self.details),
            "children": [child.as_dict() for child in self.children],
        }
