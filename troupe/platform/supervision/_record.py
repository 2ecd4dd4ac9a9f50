"""The supervisor's record of one child, over all of its incarnations."""

import math
from datetime import UTC, datetime

import trio

from troupe.platform.supervision._child import ChildContext
from troupe.platform.supervision._snapshot import Observation, Snapshot, State
from troupe.platform.supervision._specification import ChildSpec


class Record:
    """What the supervisor knows and wants of one child.

    Attributes:
        specification: What was asked for.
        declared: Whether it stands in the supervisor's own list, so that it outlives its end.
        key: What the run finds it by: its name, unless it is one of two generations.
        generation: Empty; ``next`` for a successor that has not taken its place yet; ``last`` for a
            predecessor that leaves.
        state: Where it is; changed by `enter` only.
        wanted: Whether it shall be up.
        held: Whether an operator keeps it down, which a sibling's failure does not change.
        recycle: Whether it is up, but must go down before it comes up again.
        requested: Whether an operator waits for the start under way, who then gets its error.
        not_before: Earliest time of the next start (trio clock).
        due: When something happens by itself: its start or shutdown deadline (trio clock).
        leave_by: When its time for stopping is over, once it was asked (trio clock).
        killed: Whether its scope was cancelled.
        stuck: Whether it went on regardless for longer than it may.
        verdict: Why the supervisor itself ended it, if that is a failure.
        retired: Whether its specification was told that it is down for good.
        failures: Failures in a row.
        restarts: Restarts after failures, its own and its siblings'.
    """

    def __init__(self, specification: ChildSpec, *, declared: bool) -> None:
        self.specification = specification
        self.declared = declared
        self.key = specification.name
        self.generation = ""
        self.state = State.STOPPED
        self.since = datetime.now(UTC)
        self.wanted = True
        self.held = False
        self.recycle = False
        self.requested = False
        self.incarnation = 0
        self.context: ChildContext | None = None
        self.scope: trio.CancelScope | None = None
        self.value: object = None
        self.not_before = -math.inf
        self.due = math.inf
        self.leave_by = math.inf
        self.running_since = math.inf
        self.killed = False
        self.stuck = False
        self.retired = False
        self.verdict: Exception | None = None
        self.error: Exception | None = None
        self.last_error: str | None = None
        self.failures = 0
        self.restarts = 0

    @property
    def name(self) -> str:
        """The child's name."""
        return self.specification.name

    @property
    def abreast(self) -> bool:
        """Whether it goes up and down together with the one before it."""
        return self.specification.abreast or bool(self.generation)

    @property
    def alive(self) -> bool:
        """Whether an incarnation exists, in whatever state."""
        return self.context is not None

    @property
    def leaving(self) -> bool:
        """Whether an incarnation exists that must go down."""
        return self.alive and (self.recycle or not self.wanted)

    @property
    def next_event(self) -> float:
        """When the supervisor must look again if nothing happens before (trio clock)."""
        if self.alive:
            return self.due
        return self.not_before if self.wanted else math.inf

    def enter(self, state: State) -> None:
        """Change the state and remember when."""
        if state is not self.state:
            self.state = state
            self.since = datetime.now(UTC)

    def begin(self, context: ChildContext, scope: trio.CancelScope) -> None:
        """Start counting a new incarnation."""
        self.context = context
        self.scope = scope
        self.value = None
        self.killed = self.stuck = self.retired = self.recycle = False
        self.verdict = self.error = None
        self.running_since = math.inf

    def ended(self) -> None:
        """Forget the incarnation that is gone."""
        self.context = None
        self.scope = None
        self.due = math.inf
        self.recycle = False

    def retire(self) -> None:
        """Tell the specification, once, that no further incarnation follows by itself."""
        if not self.retired:
            self.retired = True
            if self.specification.retired is not None:
                self.specification.retired()

    def snapshot(self) -> Snapshot:
        """The node of this child, with what it tells about itself."""
        observed = self.context.observation() if self.context else Observation()
        stuck = {"stuck": True} if self.stuck and self.alive else {}
        passing = {"generation": self.generation} if self.generation else {}
        return Snapshot(
            name=self.name,
            kind=self.specification.kind,
            state=self.state,
            restarts=self.restarts,
            last_error=self.last_error,
            since=self.since,
            details={**observed.details, **stuck, **passing},
            children=observed.children,
        )
