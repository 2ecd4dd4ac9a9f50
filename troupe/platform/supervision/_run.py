"""One run of a supervisor: what is wanted of each child, what is, and the steps between the two.

The supervisor's task never waits for any one child. After every event (an exit, readiness, a
deadline, an operator's word) it takes all steps that bring what is nearer to what is wanted:
`_bring_down` walks the children backwards, `_bring_up` forwards. Strategies, ordered start, reverse
shutdown, backoff and operations by name are the same two walks with different wishes.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from troupe.common.logs import get_logger
from troupe.common.units import SECONDS
from troupe.platform.errors import (
    ChildFailedToStart,
    RestartsExhausted,
    SupervisionError,
    summarise,
    unexpected,
)
from troupe.platform.supervision._child import ChildContext
from troupe.platform.supervision._record import Record
from troupe.platform.supervision._snapshot import State
from troupe.platform.supervision._specification import (
    ChildSpec,
    Intensity,
    Readiness,
    Restart,
    Strategy,
)

KILL_GRACE: Final = 5 * SECONDS
"""How long a cancelled child may take for its clean-up before it is called stuck."""
EXITS_WAITING: Final = 64
"""Bound of the channel of exits; an ended child waits in it, so the bound loses nothing."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Exit:
    record: Record
    error: Exception | None


class Run:
    """One run, from the first start to the last exit.

    Attributes:
        records: The children in start order.
        alive: Whether the run is under way.
        opening: Whether not all children have been ready yet.
        closing: Whether all shall go down.
        failure: Why the supervisor gave up, if it did.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec],
        *,
        strategy: Strategy,
        intensity: Intensity,
        chance: Callable[[], float],
        on_closing: Callable[[], None],
    ) -> None:
        self.name = name
        self.records = {child.name: Record(child, declared=True) for child in children}
        self.alive = False
        self.opening = True
        self.closing = False
        self.failure: SupervisionError | None = None
        self._strategy = strategy
        self._intensity = intensity
        self._chance = chance
        self._on_closing = on_closing
        self._restarts: deque[float] = deque(maxlen=intensity.restarts + 1)
        self._leavers = 0
        self._changed = trio.Event()
        self._wake, self._events = trio.open_memory_channel[_Exit | None](EXITS_WAITING)

    async def supervise(self, stop_request: trio.Event, on_ready: Callable[[], None]) -> None:
        """Keep the children as wanted until all shall be down and are."""
        try:
            async with trio.open_nursery() as nursery:
                self.alive = True
                nursery.start_soon(self._watch, stop_request)
                while True:
                    now = trio.current_time()  # one for all steps: no deadline falls in between
                    self._act_on_deadlines(now)
                    self._bring_down()
                    if not self.closing:
                        self._bring_up(now, nursery)
                        if self.opening and self._all_up():
                            self.opening = False
                            on_ready()
                            self.poke()  # from now on some need not wait for each other
                    self._announce()
                    if self.closing and not any(record.alive for record in self.records.values()):
                        break
                    await self._next_event(now)
                nursery.cancel_scope.cancel()  # only the watcher is left
        finally:
            self.alive = False
            for record in self.records.values():
                record.ended()  # of those cancelled from outside nobody heard
                if record.state is not State.FAILED:
                    record.enter(State.STOPPED)
                record.retire()
            self._announce()

    def request_stop(self) -> None:
        """Want all children down, for good."""
        if not self.closing:
            self.closing = True
            log.info("supervisor_stopping", supervisor=self.name)
            self._on_closing()
        for record in self.records.values():
            record.wanted = False
        self.poke()

    def poke(self) -> None:
        """Make the supervisor look again. If the channel is full it is about to anyway."""
        try:
            self._wake.send_nowait(None)
        except trio.WouldBlock:
            return

    def tolerate(self, intensity: Intensity) -> None:
        """Judge by another intensity from now on; what has happened counts on."""
        self._intensity = intensity
        self._restarts = deque(self._restarts, maxlen=intensity.restarts + 1)

    def forget(self, record: Record) -> None:
        """Drop a child that is down; another of its name may have taken its place meanwhile."""
        if self.records.get(record.key) is record:
            del self.records[record.key]

    def stand_by(self, record: Record) -> None:
        """Let a successor stand beside the child of its name."""
        record.key, record.generation = f"{record.name}/next", "next"
        self._rearrange({record.name: [record]})

    def dismiss(self, record: Record) -> None:
        """Let a child leave and be forgotten."""
        record.wanted = record.requested = record.declared = False
        record.held, record.generation = True, "last"
        if not record.alive:
            self.forget(record)
            record.retire()
        self.poke()

    def succeed(self, record: Record) -> Record | None:
        """Let a successor take its place; who had it shall leave, and is returned."""
        predecessor = self.records.get(record.name)
        self.forget(record)
        record.key, record.generation, record.declared = record.name, "", True
        if predecessor is None:
            self.records[record.key] = record
            return None
        self._leavers += 1
        predecessor.key = f"{record.name}/last{self._leavers}"
        self._rearrange({record.name: [predecessor]}, instead={record.name: record})
        self.dismiss(predecessor)
        return predecessor

    def _rearrange(
        self, after: dict[str, list[Record]], instead: dict[str, Record] | None = None
    ) -> None:
        """The same records in a new order: the order in which they go up and down."""
        arranged: dict[str, Record] = {}
        for key, record in self.records.items():
            arranged[key] = (instead or {}).get(key, record)
            arranged.update({added.key: added for added in after.get(key, ())})
        self.records.clear()
        self.records.update(arranged)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition on the children; every change of any of them looks again.

        Raises:
            SupervisionError: The run ended before.
        """
        while not condition():
            if not self.alive:
                raise SupervisionError(f"{self.name} is not running")
            await self._changed.wait()
        await trio.lowlevel.checkpoint()

    # ---- events

    async def _watch(self, stop_request: trio.Event) -> None:
        await stop_request.wait()
        self.request_stop()

    def _announce(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def _next_event(self, now: float) -> None:
        """Wait for one event, or for the next deadline; take whatever else has come with it."""
        times = (record.next_event for record in self.records.values())
        soonest = min((time for time in times if time > now), default=math.inf)
        with trio.CancelScope(deadline=soonest):
            event = await self._events.receive()
            while True:
                if event is not None:
                    self._on_exit(event.record, event.error)
                try:
                    event = self._events.receive_nowait()
                except trio.WouldBlock:
                    return

    # ---- steps

    def _all_up(self) -> bool:
        return all(
            record.state is State.RUNNING for record in self.records.values() if record.wanted
        )

    @property
    def _ordered(self) -> bool:
        """Whether children go up and down one by one, rather than each for itself."""
        return self.opening or self.closing or self._strategy is not Strategy.ONE_FOR_ONE

    def _act_on_deadlines(self, now: float) -> None:
        for record in self.records.values():
            if not record.alive or record.due > now:
                continue
            if record.killed:
                record.stuck = True
                record.due = math.inf
                log.error("child_stuck", supervisor=self.name, child=record.name)
                continue
            if record.state is State.STARTING:
                seconds = record.specification.start_deadline
                record.verdict = ChildFailedToStart(
                    f"{record.name} was not ready within {seconds:g} s"
                )
            self._kill(record)

    def _bring_down(self) -> None:
        for record in self.records.values():
            if not record.alive and not record.wanted:
                if record.state is State.BACKING_OFF:
                    record.enter(State.STOPPED)
                record.retire()
        waits = False
        for record in reversed(self.records.values()):
            if record.leaving:
                if record.state is not State.STOPPING:
                    self._ask_to_stop(record)
                waits = waits or not record.stuck
            if self._ordered and waits and not record.abreast:
                return

    def _bring_up(self, now: float, nursery: trio.Nursery) -> None:
        ordered = self._ordered
        if ordered and any(record.leaving for record in self.records.values()):
            return
        waits = False
        for record in self.records.values():
            if ordered and waits and not record.abreast:
                return
            if not record.wanted:
                continue
            if not record.alive:
                if record.not_before <= now:
                    self._start(record, nursery)
                else:
                    record.enter(State.BACKING_OFF)
            waits = waits or record.state is not State.RUNNING

    def _start(self, record: Record, nursery: trio.Nursery) -> None:
        record.incarnation += 1

        def on_started(value: object) -> None:
            current = record.context is context and not record.killed
            if current and record.state is State.STARTING:
                record.value = value
                record.requested = False
                record.due = math.inf
                record.running_since = trio.current_time()
                record.enter(State.RUNNING)
                log.info("child_started", supervisor=self.name, child=record.name)
                self.poke()
            elif current and record.state is State.STOPPING:
                record.due = record.leave_by

        context = ChildContext(record.name, incarnation=record.incarnation, on_started=on_started)
        scope = trio.CancelScope()
        record.begin(context, scope)
        record.due = trio.current_time() + record.specification.start_deadline
        record.enter(State.STARTING)
        log.debug("child_starting", supervisor=self.name, child=record.name)
        task = f"{self.name}/{record.name}#{record.incarnation}"
        nursery.start_soon(self._live, record, context, scope, name=task)
        if record.specification.readiness is Readiness.IMMEDIATE:
            context.started()

    async def _live(self, record: Record, context: ChildContext, scope: trio.CancelScope) -> None:
        """One incarnation: contains whatever it raises, and reports its exit."""
        error: Exception | None = None
        with scope:
            try:
                await record.specification.backend.run(record.specification, context)
            except Exception as caught:  # noqa: BLE001 - containing any failure is its purpose
                error = caught
            except BaseExceptionGroup as group:
                # Errors beside a cancellation or an interrupt: keep the former, pass on the latter.
                error, others = group.split(Exception)
                if others is not None:
                    raise others from None
        await self._wake.send(_Exit(record, error))

    def _ask_to_stop(self, record: Record) -> None:
        if record.context is not None:
            record.context.request_stop(restarting=record.wanted and not self.closing)
        # One that hangs in its start is not waited for any longer because it shall stop.
        start_by = record.due if record.state is State.STARTING else math.inf
        record.enter(State.STOPPING)
        log.debug("child_stopping", supervisor=self.name, child=record.name)
        if record.killed:
            return
        record.leave_by = trio.current_time() + record.specification.shutdown
        record.due = min(start_by, record.leave_by)
        if record.specification.shutdown == 0:
            self._kill(record)

    def _kill(self, record: Record) -> None:
        if record.scope is not None:
            record.scope.cancel()
        record.killed = True
        record.due = trio.current_time() + KILL_GRACE
        if record.specification.shutdown > 0 or record.verdict:
            log.warning("child_killed", supervisor=self.name, child=record.name)

    # ---- decisions

    def _on_exit(self, record: Record, error: Exception | None) -> None:
        was = record.state
        expected = was is State.STOPPING or record.leaving
        ran = trio.current_time() - record.running_since
        error = error or record.verdict
        starting = was is State.STARTING and not expected
        if starting and error is None and record.specification.restart is Restart.PERMANENT:
            error = ChildFailedToStart(f"{record.name} ended before it was ready")
        record.ended()
        record.enter(State.STOPPED)
        self._note(record, error)
        if expected:
            if not record.wanted:
                self._rest(record)
        elif starting and error is not None and (self._is_first_start(record) or record.requested):
            self._fail_start(record, error)
        elif record.specification.restart is Restart.PERMANENT or (
            record.specification.restart is Restart.TRANSIENT and error is not None
        ):
            self._restart(record, ran)
        else:
            record.wanted = False
            if error is not None:
                record.enter(State.FAILED)
            self._rest(record)

    def _note(self, record: Record, error: Exception | None) -> None:
        record.error = error
        if error is None:
            log.debug("child_ended", supervisor=self.name, child=record.name)
            return
        record.last_error = summarise(error)
        log.error(
            "child_failed",
            supervisor=self.name,
            child=record.name,
            error=record.last_error,
            exc_info=unexpected(error),
        )

    def _is_first_start(self, record: Record) -> bool:
        """Whether the supervisor's own start depends on it; a restart meanwhile is a restart."""
        return self.opening and record.declared and record.incarnation == 1

    def _fail_start(self, record: Record, error: Exception) -> None:
        """A first start, or one that an operator asked for, failed: not tried again."""
        record.enter(State.FAILED)
        record.wanted = False
        record.held = True
        if self._is_first_start(record):
            message = f"{record.name} did not start: {record.last_error}"
            self._give_up(ChildFailedToStart(message), error)
        self._rest(record)

    def _rest(self, record: Record) -> None:
        """A child is down for good: tell it, and forget those that only this run knew of."""
        record.requested = False
        record.retire()
        gone = record.specification.restart is Restart.TEMPORARY or record.state is State.FAILED
        if not record.declared and (gone or record.generation == "last"):
            self.forget(record)

    def _restart(self, failed: Record, ran: float) -> None:
        now = trio.current_time()
        while self._restarts and self._restarts[0] < now - self._intensity.period:
            self._restarts.popleft()
        if len(self._restarts) >= self._intensity.restarts:
            failed.enter(State.FAILED)
            reason = summarise(failed.error) if failed.error else "ended"
            message = (
                f"{self.name} gave up after {self._intensity.restarts} restarts within"
                f" {self._intensity.period:g} s: {failed.name}: {reason}"
            )
            self._give_up(RestartsExhausted(message), failed.error)
            return
        self._restarts.append(now)
        backoff = failed.specification.backoff
        failed.failures = 1 if ran >= backoff.reset_after else failed.failures + 1
        failed.requested = False
        delay = backoff.delay(failed.failures, self._chance())
        failed.not_before = now + delay
        failed.restarts += 1
        log.warning(
            "child_restarting",
            supervisor=self.name,
            child=failed.name,
            delay=round(delay, 3),
            restarts=failed.restarts,
        )
        for record in self._fellows(failed):
            if record.held:
                continue
            if record.specification.restart is Restart.TEMPORARY:
                record.wanted = False
                continue
            record.wanted = True  # also one that had finished: its siblings start afresh
            record.recycle = record.alive
            record.not_before = now + delay
            record.restarts += 1

    def _fellows(self, failed: Record) -> Iterable[Record]:
        """The children that are restarted along with one that failed."""
        records = list(self.records.values())
        match self._strategy:
            case Strategy.ONE_FOR_ONE:
                return ()
            case Strategy.ONE_FOR_ALL:
                return [record for record in records if record is not failed]
            case Strategy.REST_FOR_ONE:
                return records[records.index(failed) + 1 :]

    def _give_up(self, failure: SupervisionError, cause: Exception | None) -> None:
        if self.failure is not None:
            return  # the first failure is the one to tell
        failure.__cause__ = cause
        self.failure = failure
        log.error("supervisor_failed", supervisor=self.name, error=str(failure))
        self.request_stop()
