"""An executable model of an actor: its address with the mailbox, and one incarnation of it.

The rules are those of ADR 3, "Mailboxes over a restart", and of the three overflow policies.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.unit.platform.model.lives import Keeper
from tests.unit.platform.model.script import Player
from tests.unit.platform.model.world import SECOND, World

CLOSE_DEADLINE = 5 * SECOND


@dataclass(eq=False)
class Letter:
    """A message and whoever sent it.

    Attributes:
        sender: Told once what becomes of it.
        how: What happens in the handler: work, refuse, break.
        ticks: What the handler takes.
        asked: Whether the sender waits for an answer.
    """

    sender: str
    how: str
    ticks: int
    asked: bool
    told: bool = False


@dataclass
class Address:
    """What outlives every incarnation: the mailbox and the books."""

    world: World
    player: Player
    queue: list[Letter] = field(default_factory=list)
    line: list[Letter] = field(default_factory=list)  # senders that wait for a place
    in_hand: Letter | None = None
    open: bool = True
    condition: str = "new"
    wake: Callable[[], None] = lambda: None
    books: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)

    # ---- senders

    def tell(self, letter: Letter, patience: int | None) -> None:
        self.books["sent"] += 1
        self._put(letter, self.player.patience if patience is None else patience, "expired")

    def ask(self, letter: Letter, deadline: int) -> None:
        self.books["sent"] += 1
        if self.condition != "running":
            self._bury(letter, "restarting" if self.condition == "restarting" else "stopped")
            return
        self._put(letter, deadline, "abandoned")
        if not letter.told:
            self.world.after(deadline, self, lambda: self._give_up(letter, "abandoned"))

    def _put(self, letter: Letter, patience: int, lost: str) -> None:
        if not self.open:
            self._bury(letter, "stopped")
        elif len(self.queue) < self.player.capacity and not self.line:
            self._take_in(letter)
        elif self.player.overflow == "reject":
            self._bury(letter, "rejected")
        elif self.player.overflow == "drop_oldest":
            self._bury(self.queue.pop(0), "dropped")
            self._take_in(letter)
        else:
            self.line.append(letter)
            if not letter.asked:
                self.world.after(patience, self, lambda: self._leave_line(letter, lost))

    def _take_in(self, letter: Letter) -> None:
        self.queue.append(letter)
        if not letter.asked:
            self._answer(letter, "taken")
        self.world.soon(self.wake)

    def _leave_line(self, letter: Letter, reason: str) -> None:
        if letter in self.line:
            self.line.remove(letter)
            self._bury(letter, reason)

    def _give_up(self, letter: Letter, reason: str) -> None:
        """The asker's deadline: what is not in hand yet is not carried out."""
        if letter.told:
            return
        self._answer(letter, "AskDeadlineExceeded")
        if letter in self.line:
            self.line.remove(letter)
            self._count_dead(reason)
        elif letter in self.queue:
            self.queue.remove(letter)
            self._count_dead(reason)
            self.fill()

    def fill(self) -> None:
        """A free place goes to who stands first in line."""
        while self.line and len(self.queue) < self.player.capacity:
            self._take_in(self.line.pop(0))

    # ---- what becomes of a message

    def _answer(self, letter: Letter, result: str) -> None:
        if not letter.told:
            letter.told = True
            self.world.told(letter.sender, result)

    def _count_dead(self, reason: str) -> None:
        self.books["dead"] += 1
        self.dead[reason] += 1

    def _bury(self, letter: Letter, reason: str) -> None:
        self._count_dead(reason)
        full = reason in {"rejected", "dropped", "expired"}
        if letter.asked or reason != "dropped":
            self._answer(letter, "MailboxFull" if full else "ActorUnavailable")

    def take(self) -> Letter:
        letter = self.in_hand = self.queue.pop(0)
        self.books["delivered"] += 1
        self.fill()
        return letter

    def handled(self, result: str) -> None:
        """The message in hand is done with; `result` answers it."""
        letter, self.in_hand = self.in_hand, None
        assert letter is not None
        self.books["handled"] += 1
        self.books["refused"] += result == "InvalidInput"
        self.books["failed"] += result == "ActorCrashed"
        if letter.asked:
            self.books["late"] += letter.told and result.startswith("answer")
            self._answer(letter, result)

    def close(self) -> None:
        """Take no more; those who stand in line are told."""
        self.open = False
        while self.line:
            self._bury(self.line.pop(0), "stopped")

    def drop_questions(self, reason: str) -> None:
        """Questions do not wait for the next incarnation, wherever they stand."""
        for letter in [letter for letter in self.line if letter.asked]:
            self.line.remove(letter)
            self._bury(letter, reason)
        for letter in [letter for letter in self.queue if letter.asked]:
            self.queue.remove(letter)
            self._bury(letter, reason)
        self.fill()

    def retire(self) -> None:
        """It will not come back by itself."""
        self.condition = "stopped"
        self.close()
        while self.queue:
            self._bury(self.queue.pop(0), "stopped")

    def view(self) -> dict[str, object]:
        counts = {name: self.books[name] for name in _BOOKS}
        return {
            **counts,
            "depth": len(self.queue),
            "waiting": len(self.line),
            "busy": self.in_hand is not None,
            "reasons": {reason: count for reason, count in sorted(self.dead.items()) if count},
        }


_BOOKS = ("sent", "delivered", "dead", "handled", "refused", "failed", "late")


class PlayerLife:
    """One incarnation of an actor."""

    def __init__(self, world: World, address: Address, keeper: Keeper, spoilt: tuple[str, str]):
        self.world = world
        self.address = address
        self.player = address.player
        self.keeper = keeper
        self.spoilt, self.fault = spoilt
        self.phase = "new"
        self.asked = self.restarting = False
        self.timer = world.after(None, self, self.begin)

    def begin(self) -> None:
        self.world.emit(self.player.name, "opens")
        self._enter("opening")
        if self.spoilt != "hang":
            self._go_on_in(self.player.starting, self._opened)

    def _opened(self) -> None:
        if self.spoilt in {"fail", "quit"}:
            self._leave(self.fault)
            return
        address = self.address
        if not self.asked or self.restarting:
            address.open = True
        address.condition = "running"
        address.wake = self._look
        self._enter("idle")
        self.keeper.ready(self, f"actor {self.player.name}")
        self.world.soon(self._look)

    def _look(self) -> None:
        if self.phase != "idle":
            return
        if self.asked and (self.restarting or not self.address.queue):
            self._leave(None)
        elif self.address.queue:
            letter = self.address.take()
            self._enter("busy")
            self._go_on_in(letter.ticks, lambda: self._handled(letter))

    def _handled(self, letter: Letter) -> None:
        match letter.how:
            case "break":
                self.address.handled("ActorCrashed")
                self._leave(f"fault {letter.sender}")
            case "refuse":
                self.address.handled("InvalidInput")
            case _:
                self.address.handled(f"answer {letter.sender}")
        if self.phase == "busy":
            self._enter("idle")
            self.world.soon(self._look)

    def ask_to_stop(self, *, restarting: bool) -> None:
        self.asked, self.restarting = True, restarting
        if not restarting:
            self.address.close()
        self.world.soon(self._look)

    def cancel(self) -> None:
        if self.phase in {"opening", "idle", "busy"}:
            if self.address.in_hand:
                self.address.handled("ActorUnavailable")
            self._leave(None)

    def _leave(self, error: str | None) -> None:
        address = self.address
        address.condition = "stopped" if self.asked and not self.restarting else "restarting"
        address.drop_questions(address.condition)
        self.world.emit(self.player.name, "closing")
        self._enter("closing")
        self._go_on_in(min(self.player.cleaning, CLOSE_DEADLINE), lambda: self._gone(error))

    def _gone(self, error: str | None) -> None:
        if self.player.cleaning < CLOSE_DEADLINE:
            self.world.emit(self.player.name, "closed")
        self._enter("gone")
        self.keeper.ended(self, error)

    def _enter(self, phase: str) -> None:
        self.timer.cancelled = True
        self.phase = phase

    def _go_on_in(self, ticks: int, action: Callable[[], None]) -> None:
        self.timer = self.world.after(ticks, self, action)
