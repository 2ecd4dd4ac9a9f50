"""An executable model of a supervisor: OTP's rules, and the differences that ADR 3 lists.

It is a list of rules and nothing else: no concurrency, no clock but the world's, no line shared
with `troupe.platform.supervision`, whose names of states, kinds and strategies it writes out.

What goes on is always one of three things. Something is *reported* (`ended`, `ready`, a deadline,
an operator's word), which changes what is wanted. Then *steps* are taken until no rule allows one
more (`_may_ask`, `_may_start`). Then those who wait for something are told.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tests.unit.platform.model.lives import Keeper, Life
from tests.unit.platform.model.script import (
    LIMIT_OF_BACKOFF,
    RESET_AFTER,
    Branch,
    Child,
    Player,
)
from tests.unit.platform.model.world import SECOND, Timer, World

KILL_GRACE = 5 * SECOND


class Cast(Protocol):
    """Gives every incarnation its life."""

    def life(self, child: Child, keeper: Keeper, incarnation: int) -> Life: ...
    def retire(self, player: Player) -> None: ...


@dataclass(eq=False)
class Seat:
    """A child as its supervisor sees it, over all incarnations."""

    plan: Child
    declared: bool
    state: str = "stopped"
    wanted: bool = True
    again: bool = False  # it is up and must go down before it comes up again
    held: bool = False  # only an operator's word brings it back
    requested: bool = False  # an operator waits for its start
    life: Life | None = None
    incarnation: int = 0
    value: str = "finished"
    ready_at: int | None = None
    deadline: Timer | None = None  # the end of the supervisor's patience
    start_by: int = 0
    leave_by: int | None = None
    killed: bool = False
    stuck: bool = False
    late: bool = False
    due: int = 0  # no start before
    failures: int = 0
    restarts: int = 0
    error: str | None = None
    last_error: str | None = None
    retired: bool = False

    @property
    def leaving(self) -> bool:
        return self.life is not None and (self.again or not self.wanted)

    @property
    def first_start(self) -> bool:
        return self.declared and self.incarnation == 1


@dataclass(eq=False)
class _Waiting:
    """An operator who waits for a child."""

    who: str
    seat: Seat
    met: Callable[[], str | None]  # what to tell him, once there is something


@dataclass
class Supervisor:
    """The model; as a child of another supervisor it is a `Life` itself.

    Attributes:
        branch: What was specified.
        seats: The children in start order.
    """

    world: World
    branch: Branch
    cast: Cast
    keeper: Keeper
    seats: dict[str, Seat] = field(default_factory=dict)
    alive: bool = False
    opening: bool = True
    closing: bool = False
    cancelled: bool = False
    failure: str | None = None
    restarted: list[int] = field(default_factory=list)
    waiting: list[_Waiting] = field(default_factory=list)
    settling: bool = False

    # ---- as a child

    def begin(self) -> None:
        self.seats = {child.name: Seat(child, declared=True) for child in self.branch.children}
        self.alive = True
        self.settle()

    def ask_to_stop(self, *, restarting: bool) -> None:
        del restarting
        self.close()

    def cancel(self) -> None:
        """All children are cancelled at once, and it notes nothing any more."""
        if self.cancelled:
            return
        self.cancelled = True
        self.world.unordered.add(self.world.now)
        for seat in self.seats.values():
            if seat.deadline:
                seat.deadline.cancelled = True
            if seat.life:
                seat.life.cancel()
        self.settle()

    def close(self) -> None:
        """All shall go down, for good."""
        if self.cancelled:
            return
        self.closing = True
        for seat in self.seats.values():
            seat.wanted = False
        self.settle()

    # ---- what children report

    def ready(self, life: Life, value: str) -> None:
        seat = self._seat_of(life)
        if self.cancelled or seat.killed:
            return
        if seat.state == "starting":
            seat.state = "running"
            seat.value = value
            seat.requested = False
            seat.ready_at = self.world.now
            self._be_patient(seat, None)
        elif seat.state == "stopping":
            # It was asked to stop while it started: from now on the time for stopping counts.
            left = None if seat.leave_by is None else seat.leave_by - self.world.now
            self._be_patient(seat, left)
        self.settle()

    def ended(self, life: Life, error: str | None) -> None:
        seat = self._seat_of(life)
        state, expected = seat.state, seat.leaving or seat.state == "stopping"
        self._be_patient(seat, None)
        seat.life, seat.again = None, False
        if not self.cancelled:
            self._decide(seat, state, expected, error)
        self.settle()

    def _decide(self, seat: Seat, state: str, expected: bool, error: str | None) -> None:
        starting = state == "starting" and not expected
        if error is None and seat.late:
            error = "late"
        if error is None and starting and seat.plan.restart == "permanent":
            error = "early"
        seat.state = "stopped"
        seat.error = error
        seat.last_error = error or seat.last_error
        if expected:
            if not seat.wanted:
                self._rest(seat)
        elif starting and error and self.opening and seat.first_start:
            seat.held = True
            self._stay_down(seat, "failed")
            self._fail(f"start: {error}")
        elif starting and error and seat.requested:
            seat.held = True
            self._stay_down(seat, "failed")
        elif seat.plan.restart == "permanent" or (error and seat.plan.restart == "transient"):
            self._restart(seat, error)
        else:
            self._stay_down(seat, "failed" if error else "stopped")

    def _stay_down(self, seat: Seat, state: str) -> None:
        seat.state = state
        seat.wanted = seat.requested = False
        self._rest(seat)

    def _rest(self, seat: Seat) -> None:
        """Down for good; forgotten if it was added at run time and is temporary or failed."""
        self._retire(seat)
        if not seat.declared and (seat.plan.restart == "temporary" or seat.state == "failed"):
            self._forget(seat)

    def _forget(self, seat: Seat) -> None:
        if self.seats.get(seat.plan.name) is seat:
            del self.seats[seat.plan.name]

    def _restart(self, seat: Seat, error: str | None) -> None:
        now = self.world.now
        recent = [at for at in self.restarted if at >= now - self.branch.period]
        if len(recent) >= self.branch.restarts:
            seat.state = "failed"
            self._fail(f"exhausted: {error or 'ended'}")
            return
        self.restarted = [*recent, now]
        ran = 0 if seat.ready_at is None else now - seat.ready_at
        forgiven = seat.ready_at is not None and ran >= RESET_AFTER
        seat.failures = 1 if forgiven else seat.failures + 1
        seat.requested = False
        limit = LIMIT_OF_BACKOFF * seat.plan.backoff
        due = now + min(seat.plan.backoff * 2 ** (seat.failures - 1), limit)
        for fellow in [seat, *self._fellows(seat)]:
            if fellow.held:
                continue
            if fellow is not seat and fellow.plan.restart == "temporary":
                fellow.wanted = False
                continue
            fellow.wanted = True
            fellow.again = fellow.life is not None
            fellow.due = due
            fellow.restarts += 1
        self._wake_at(due)

    def _fellows(self, failed: Seat) -> list[Seat]:
        seats = list(self.seats.values())
        match self.branch.strategy:
            case "one_for_all":
                return [seat for seat in seats if seat is not failed]
            case "rest_for_one":
                return seats[seats.index(failed) + 1 :]
            case _:
                return []

    def _fail(self, failure: str) -> None:
        self.failure = self.failure or failure
        self.closing = True
        for seat in self.seats.values():
            seat.wanted = False

    # ---- patience

    def _be_patient(self, seat: Seat, ticks: int | None) -> None:
        if seat.deadline:
            seat.deadline.cancelled = True
        seat.deadline = self.world.after(ticks, seat, lambda: self._too_late(seat))

    def _too_late(self, seat: Seat) -> None:
        if seat.killed:
            seat.stuck = True
        else:
            seat.late = seat.state == "starting"
            self._kill(seat)
        self.settle()

    def _kill(self, seat: Seat) -> None:
        seat.killed = True
        self._be_patient(seat, KILL_GRACE)
        if seat.life:
            seat.life.cancel()

    # ---- steps

    def settle(self) -> None:
        self.world.soon(self._settle)

    def _settle(self) -> None:
        """Take steps until no rule allows another; then tell those who wait."""
        if not self.alive:
            return
        if not self.cancelled:
            while self._step():
                pass
            if self.opening and not self.closing and self._all_up():
                self.opening = False
                if any(seat.leaving for seat in self.seats.values()):
                    self.world.unordered.add(self.world.now)  # one goes down while others go on
                self.keeper.ready(self, self.branch.name)
                self.settle()
        if (self.closing or self.cancelled) and not any(seat.life for seat in self.seats.values()):
            self._end()
        if not self.cancelled or not self.alive:
            self._tell()

    @property
    def _free(self) -> bool:
        """Whether each child goes up and down for itself."""
        return self.branch.strategy == "one_for_one" and not (self.opening or self.closing)

    def _all_up(self) -> bool:
        return all(seat.state == "running" for seat in self.seats.values() if seat.wanted)

    def _step(self) -> bool:
        for seat in reversed(self.seats.values()):
            if not seat.wanted and not seat.life:
                if seat.state == "backing_off":
                    seat.state = "stopped"
                self._retire(seat)
            if self._may_ask(seat):
                self._ask(seat)
                return True
        for seat in self.seats.values():
            if self._may_start(seat):
                if seat.due <= self.world.now:
                    self._start(seat)
                    return True
                seat.state = "backing_off"
        return False

    def _may_ask(self, seat: Seat) -> bool:
        """Down they go in reverse: none is asked while one after it is still leaving."""
        if not seat.leaving or seat.state == "stopping":
            return False
        later = list(self.seats.values())[list(self.seats.values()).index(seat) + 1 :]
        return self._free or not any(other.leaving and not other.stuck for other in later)

    def _may_start(self, seat: Seat) -> bool:
        """Up they go in order: none starts while one is leaving, or one before it is not ready."""
        if self.closing or not seat.wanted or seat.life:
            return False
        seats = list(self.seats.values())
        earlier = seats[: seats.index(seat)]
        return self._free or (
            not any(other.leaving for other in seats)
            and all(other.state == "running" for other in earlier if other.wanted)
        )

    def _ask(self, seat: Seat) -> None:
        starting = seat.state == "starting"
        seat.state = "stopping"
        life, plan = seat.life, seat.plan
        assert life is not None
        restarting = seat.wanted and not self.closing
        life.ask_to_stop(restarting=restarting)
        if seat.killed:
            return
        seat.leave_by = None if plan.shutdown is None else self.world.now + plan.shutdown
        if plan.shutdown == 0:
            self._kill(seat)
        elif not starting:
            self._be_patient(seat, plan.shutdown)
        elif plan.shutdown is not None:
            # Whichever comes first; it may still become ready and then has its time for stopping.
            assert seat.deadline is not None
            left = seat.start_by - self.world.now
            self._be_patient(seat, min(left, plan.shutdown))

    def _start(self, seat: Seat) -> None:
        seat.incarnation += 1
        seat.state = "starting"
        seat.value = "finished"
        seat.ready_at = seat.error = None
        seat.again = seat.killed = seat.stuck = seat.late = seat.retired = False
        seat.life = self.cast.life(seat.plan, self, seat.incarnation)
        seat.start_by = self.world.now + seat.plan.start_deadline
        self._be_patient(seat, seat.plan.start_deadline)
        self.world.soon(seat.life.begin)

    def _retire(self, seat: Seat) -> None:
        if not seat.retired:
            seat.retired = True
            if isinstance(seat.plan, Player):
                self.cast.retire(seat.plan)

    def _wake_at(self, tick: int) -> None:
        if tick > self.world.now:
            self.world.after(tick - self.world.now, self, self.settle)

    def _end(self) -> None:
        self.alive = False
        for seat in self.seats.values():
            if seat.state != "failed":
                seat.state = "stopped"
            self._retire(seat)
        self.keeper.ended(self, None if self.cancelled else self.failure)

    def _seat_of(self, life: Life) -> Seat:
        return next(seat for seat in self.seats.values() if seat.life is life)

    # ---- operators

    def operate(self, who: str, verb: str, name: str, plan: Child | None = None) -> None:
        """An operator's word; what becomes of it is told to `who`."""
        if not self.alive or self.closing:
            self.world.told(who, "not running")
        elif verb == "add":
            self._add(who, plan)
        elif name not in self.seats:
            self.world.told(who, "unknown")
        elif verb in {"terminate", "remove"}:
            self._terminate(who, self.seats[name], forget=verb == "remove")
        else:
            self._want(who, self.seats[name], anew=verb == "restart")

    def _add(self, who: str, plan: Child | None) -> None:
        assert plan is not None
        if plan.name in self.seats:
            self.world.told(who, "taken")
            return
        seat = self.seats[plan.name] = Seat(plan, declared=False)
        self._want(who, seat, anew=False)

    def _want(self, who: str, seat: Seat, *, anew: bool) -> None:
        if seat.state == "running" and not seat.leaving and not anew:
            self.world.told(who, f"up: {seat.value}")
            return
        seat.again = seat.life is not None and (anew or seat.leaving)
        seat.wanted = seat.requested = True
        seat.held = False
        seat.error = None
        seat.due = 0
        seat.failures = 0

        def met() -> str | None:
            if seat.wanted and not (seat.state == "running" and not seat.again):
                return None if self.alive else "not running"
            if seat.error:
                return f"failed: {seat.error}"
            if seat.held or self.closing:
                return "failed: stopped again"
            return f"up: {seat.value}"

        self.waiting.append(_Waiting(who, seat, met))
        self.settle()

    def _terminate(self, who: str, seat: Seat, *, forget: bool) -> None:
        seat.wanted = False
        seat.held = True
        life = seat.life

        def met() -> str | None:
            if seat.life is not None and seat.life is life:
                return None
            if forget and seat.wanted:
                return "started again"
            if forget:
                self._forget(seat)
            return "down"

        self.waiting.append(_Waiting(who, seat, met))
        self.settle()

    def _tell(self) -> None:
        for one in list(self.waiting):
            result = one.met()
            if result is not None:
                self.waiting.remove(one)
                self.world.told(one.who, result)

    # ---- what it looks like

    def view(self) -> Mapping[str, object]:
        """The children as a status page shows them."""
        return {
            name: {
                "state": seat.state,
                "restarts": seat.restarts,
                "error": seat.last_error,
                "stuck": seat.stuck and seat.life is not None,
                "children": seat.life.view() if isinstance(seat.life, Supervisor) else {},
            }
            for name, seat in self.seats.items()
        }
