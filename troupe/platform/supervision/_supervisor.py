"""A supervisor: keeps children running, in the manner of Erlang/OTP, on trio.

The problem. A trio nursery is the opposite of a supervisor: one exception cancels all siblings, and
nothing ever starts again. Yet outside a nursery a task cannot live, and a task cannot be abandoned.

The choice. All children share one nursery, but each runs inside a wrapper with a cancel scope of
its own that lets no exception out: it sends the exit to the supervisor over a bounded channel, and
the supervisor's task alone decides what follows (`_run.py`). Since that task never waits for any
one child, a stop request, a second crash or an operator may arrive in the middle of anything, and
under one_for_one a child that is slow to come back holds up nobody.

What is OTP's: the meaning of permanent, transient, temporary; of the three strategies; of intensity
and period; a failure in the first start fails the supervisor after stopping the others in reverse;
a supervisor that gives up stops its children first and then fails as a child of its own parent.
What differs, and why, is written down in docs/adr/0003-supervision-semantics.md.

The cost. Trio cannot kill a task that shields itself or never yields. Such a child is reported as
stuck after `KILL_GRACE`; the others go on and stop in order, but the supervisor cannot end before
it does. Only a process can be killed: use that backend for code one does not trust.

Rejected: a nursery per child under a system task (would outlive its supervisor); a supervisor that
blocks while a child starts, as OTP's does (a slow child would hold up its siblings' restarts and
the shutdown); an exception as the signal to the parent (which is what cancels siblings).
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import trio

from troupe.common.logs import get_logger
from troupe.common.units import SECONDS
from troupe.platform.errors import ChildFailedToStart, SupervisionError, UnknownChild, summarise
from troupe.platform.supervision._child import ChildContext
from troupe.platform.supervision._record import Record
from troupe.platform.supervision._run import KILL_GRACE, Run
from troupe.platform.supervision._snapshot import Detail, Observation, Snapshot, State
from troupe.platform.supervision._specification import (
    Backoff,
    ChildSpec,
    Intensity,
    Restart,
    Strategy,
)

log = get_logger(__name__)


class Supervisor:
    """Starts, watches, restarts and stops children.

    It is a child itself (`as_child`), or the root (`serve`). Each run starts from the children
    given here; those added later belong to that run.

    Args:
        name: Unique among its siblings.
        children: In start order; each may rely on those before it.
        strategy: Who is restarted when one fails.
        intensity: Restarts tolerated before it gives up; OTP's default is one within five seconds.
        kind: What status pages call it.
        chance: Source of random numbers between 0 and 1, for the jitter of backoff.
        details: Figures to show in snapshots; must be quick and must not fail.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity | None = None,
        kind: str = "supervisor",
        chance: Callable[[], float] = random.random,
        details: Callable[[], Mapping[str, Detail]] = dict,
    ) -> None:
        names = [child.name for child in children]
        if len(set(names)) != len(names):
            raise ValueError(f"{name}: two children share a name: {names}")
        self.name = name
        self.kind = kind
        self.strategy = strategy
        self.intensity = intensity or Intensity()
        self._declared = tuple(children)
        self._chance = chance
        self._details = details
        self._run = self._fresh_run()
        self._state = State.STOPPED
        self._since = datetime.now(UTC)

    def _fresh_run(self) -> Run:
        return Run(
            self.name,
            self._declared,
            strategy=self.strategy,
            intensity=self.intensity,
            chance=self._chance,
            on_closing=lambda: self._enter(State.STOPPING),
        )

    # ---- life

    async def run(self, context: ChildContext) -> None:
        """Supervise until `context.stopping` is set; the body of this supervisor as a child.

        Raises:
            ChildFailedToStart: A child failed in the first start.
            RestartsExhausted: Children failed more often than the intensity allows.
        """
        if self._run.alive:
            raise SupervisionError(f"{self.name} is running already")
        run = self._run = self._fresh_run()

        def on_ready() -> None:
            self._enter(State.RUNNING)
            log.info("supervisor_started", supervisor=self.name)
            context.started(self)

        context.observe(lambda: Observation(details=self._details(), children=self._children()))
        self._enter(State.STARTING)
        log.info("supervisor_starting", supervisor=self.name, children=len(run.records))
        try:
            await run.supervise(context.stopping, on_ready)
        finally:
            self._enter(State.FAILED if run.failure else State.STOPPED)
        if run.failure is not None:
            raise run.failure
        log.info("supervisor_stopped", supervisor=self.name)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run as the root of the tree, until `request_stop`; `nursery.start` returns when ready.

        Raises:
            ChildFailedToStart: As `run`.
            RestartsExhausted: As `run`.
        """
        await self.run(ChildContext(self.name, on_started=lambda _value: task_status.started()))

    def as_child(
        self,
        *,
        restart: Restart = Restart.PERMANENT,
        backoff: Backoff | None = None,
        start_deadline: float | None = None,
        shutdown: float | None = None,
        abreast: bool = False,
    ) -> ChildSpec:
        """This supervisor as a child of another.

        Both deadlines default to the sum of its children's, since those are spent one by one; of
        children that stand abreast only the longest counts.
        """
        rows = self._rows()
        starting = sum(max(child.start_deadline for child in row) for row in rows) + 1 * SECONDS
        stopping = sum(max(child.shutdown for child in row) for row in rows) + KILL_GRACE
        return ChildSpec(
            name=self.name,
            start=self.run,
            restart=restart,
            backoff=backoff or Backoff(),
            start_deadline=starting if start_deadline is None else start_deadline,
            shutdown=stopping if shutdown is None else shutdown,
            kind=self.kind,
            abreast=abreast,
        )

    def _rows(self) -> list[list[ChildSpec]]:
        rows: list[list[ChildSpec]] = []
        for child in self._declared:
            if child.abreast and rows:
                rows[-1].append(child)
            else:
                rows.append([child])
        return rows

    def request_stop(self) -> None:
        """Stop all children in reverse order, then end. Returns at once; harmless when repeated."""
        if self._run.alive:
            self._run.request_stop()

    def _enter(self, state: State) -> None:
        if state is not self._state:
            self._state = state
            self._since = datetime.now(UTC)

    # ---- what it looks like

    def snapshot(self) -> Snapshot:
        """The tree from here down, as it is now."""
        failure = self._run.failure
        return Snapshot(
            name=self.name,
            kind=self.kind,
            state=self._state,
            last_error=summarise(failure) if failure else None,
            since=self._since,
            details=self._details(),
            children=self._children(),
        )

    def _children(self) -> tuple[Snapshot, ...]:
        return tuple(record.snapshot() for record in self._run.records.values())

    async def wait_ready(self, *, deadline: float = 60 * SECONDS) -> None:
        """Wait until every child that shall be up is ready.

        Raises:
            SupervisionError: It ended, or the deadline (seconds) passed.
        """
        run = self._run

        def ready() -> bool:
            return not run.opening and all(
                record.state is State.RUNNING
                for record in run.records.values()
                if (record.wanted or record.alive) and not record.generation
            )

        with trio.move_on_after(deadline):
            await run.until(ready)
            return
        raise SupervisionError(f"{self.name} was not ready within {deadline:g} s")

    # ---- operations by name

    async def add_child(self, specification: ChildSpec, *, for_good: bool = False) -> object:
        """Add a child after all others, start it, and wait until it is ready.

        Args:
            specification: What to start.
            for_good: Whether later runs have it, too.

        Returns:
            What it passed to `ChildContext.started`.

        Raises:
            ChildFailedToStart: It is not kept.
            SupervisionError: The name is taken, or the supervisor is not running.
        """
        run = self._running()
        if specification.name in run.records:
            raise SupervisionError(f"{self.name} has a child {specification.name} already")
        record = Record(specification, declared=False)
        run.records[specification.name] = record
        value = await self._start(run, record)
        if for_good:
            record.declared = True
            self._declared = (*self._declared, specification)
        return value

    async def succeed(self, specification: ChildSpec) -> "Succession":
        """Start a successor beside the child of its name, and wait until it is ready.

        Until the succession is completed the child goes on as it was; both live then.

        Raises:
            ChildFailedToStart: The successor is not kept.
            UnknownChild: There is nobody to succeed.
            SupervisionError: The supervisor does not run, or not one_for_one, or its first start is
                not over, or another successor stands by already.
        """
        run = self._running()
        self._find(run, specification.name)
        if self.strategy is not Strategy.ONE_FOR_ONE or run.opening:
            raise SupervisionError(f"{self.name} takes no successors now")
        record = Record(specification, declared=False)
        if f"{record.name}/next" in run.records:
            raise SupervisionError(f"{record.name} has a successor already")
        run.stand_by(record)
        try:
            await self._start(run, record)
        except BaseException:
            run.dismiss(record)
            raise
        return Succession(self, run, record)

    def take_over(self, run: Run, record: Record) -> Record | None:
        """Let a successor take its place, in later runs as well; for `Succession`."""
        self._declared = tuple(
            record.specification if child.name == record.name else child for child in self._declared
        )
        return run.succeed(record)

    def tolerate(self, intensity: Intensity) -> None:
        """Judge restarts by another intensity from now on."""
        self.intensity = intensity
        self._run.tolerate(intensity)

    async def start_child(self, name: str) -> object:
        """Start a child that is down, and wait until it is ready; no effect on one that is up.

        Returns:
            What it passed to `ChildContext.started`.

        Raises:
            ChildFailedToStart: It stays down.
            UnknownChild: No such child.
            SupervisionError: The supervisor is not running.
        """
        run = self._running()
        record = self._find(run, name)
        if record.state is State.RUNNING and not record.leaving:
            return record.value
        return await self._start(run, record)

    async def restart_child(self, name: str) -> object:
        """Stop a child if it is up, start it again, and wait until it is ready.

        Does not count towards the restart intensity. Returns and raises as `start_child`.
        """
        run = self._running()
        record = self._find(run, name)
        record.recycle = record.alive
        return await self._start(run, record)

    async def terminate_child(self, name: str) -> None:
        """Stop a child and keep it down until it is started by name; wait until it is gone.

        Returns also if somebody else has it started again by then.

        Raises:
            UnknownChild: No such child.
            SupervisionError: The supervisor is not running.
        """
        run = self._running()
        await self._terminate(run, self._find(run, name))

    async def remove_child(self, name: str, *, for_good: bool = False) -> None:
        """Stop a child and forget it.

        Args:
            name: Which one.
            for_good: Whether later runs do without it, too.

        Raises:
            UnknownChild: No such child.
            SupervisionError: The supervisor is not running, or somebody started the child again.
        """
        run = self._running()
        record = self._find(run, name)
        await self._terminate(run, record)
        if record.wanted or record.alive:
            raise SupervisionError(f"{name} was started again")
        run.forget(record)
        if for_good:
            self._declared = tuple(child for child in self._declared if child.name != name)

    def _running(self) -> Run:
        if not self._run.alive or self._run.closing:
            raise SupervisionError(f"{self.name} is not running")
        return self._run

    def _find(self, run: Run, name: str) -> Record:
        try:
            return run.records[name]
        except KeyError:
            raise UnknownChild(f"{self.name} has no child {name}") from None

    async def _terminate(self, run: Run, record: Record) -> None:
        incarnation = record.context
        record.wanted = False
        record.held = True
        run.poke()
        await run.until(lambda: incarnation is None or record.context is not incarnation)

    async def _start(self, run: Run, record: Record) -> object:
        record.recycle = record.leaving  # one that is on its way down goes down first
        record.wanted = record.requested = True
        record.held = False
        record.error = None
        record.not_before = -math.inf
        record.failures = 0
        run.poke()
        await run.until(
            lambda: (record.state is State.RUNNING and not record.recycle) or not record.wanted
        )
        stopped_again = run.closing or record.held
        return self._outcome_of_start(record, stopped_again=stopped_again)

    def _outcome_of_start(self, record: Record, *, stopped_again: bool) -> object:
        if record.error is not None:
            reason = summarise(record.error)
        elif stopped_again:
            reason = "it was stopped again"
        else:
            return record.value  # it runs, or had so little to do that it has finished
        raise ChildFailedToStart(f"{record.name} did not start: {reason}") from record.error


class Succession:
    """A successor that is ready and stands beside its predecessor; made by `Supervisor.succeed`."""

    def __init__(self, supervisor: Supervisor, run: Run, record: Record) -> None:
        self._supervisor = supervisor
        self._run = run
        self._record = record

    @property
    def ready(self) -> bool:
        """Whether the successor still runs."""
        return self._record.state is State.RUNNING

    async def complete(self) -> None:
        """Take the predecessor's place; wait until that has drained and is gone, or is stuck.

        Raises:
            SupervisionError: The supervisor ended meanwhile, and both with it.
        """
        run = self._run
        predecessor = self._supervisor.take_over(run, self._record)
        if predecessor is not None:
            await run.until(lambda: not predecessor.alive or predecessor.stuck)

    async def abandon(self) -> None:
        """Stop the successor again and forget it; the predecessor never knew."""
        record = self._record
        self._run.dismiss(record)
        if self._run.alive:
            await self._run.until(lambda: not record.alive or record.stuck)
