"""What must happen when a script is played, by the model."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import product

from tests.unit.platform.model.lives import Keeper, Life, TaskLife
from tests.unit.platform.model.mailbox import Address, Letter, PlayerLife
from tests.unit.platform.model.script import Branch, Child, Command, Player, Script, walk
from tests.unit.platform.model.supervision import Supervisor
from tests.unit.platform.model.world import SECOND, World

LONG = 600 * SECOND
"""Ticks after which everything that a script set off has come to rest."""
STOPPING = 10 * SECOND
"""Ticks after which a stopping tree is looked at; some children may be stuck by then."""


@dataclass
class Trace:
    """What happened, from outside: the same for the model and the real thing.

    Attributes:
        steps: After every step of the script, what a status page shows and the mailboxes' books.
        events: (tick, child, what) in order.
        outcomes: (tick, who asked, result), sorted.
    """

    steps: list[object] = field(default_factory=list)
    events: list[tuple[int, str, str]] = field(default_factory=list)
    outcomes: list[tuple[int, str, str]] = field(default_factory=list)

    def settle_order(self, unordered: set[int]) -> "Trace":
        """Sort by child what happened in ticks where the order of children means nothing."""
        events = sorted(
            enumerate(self.events),
            key=lambda at: (at[1][0], at[1][1] if at[1][0] in unordered else "", at[0]),
        )
        return Trace(self.steps, [event for _, event in events], sorted(self.outcomes))


class _Play:
    """One run of the model through a script."""

    def __init__(self, script: Script, orders: tuple[tuple[bool, bool], ...]) -> None:
        self.script = script
        self.world = World()
        self.orders = iter(orders)
        self.root: Supervisor | None = None
        self.root_failure: str | None = None
        self.supervisors: dict[str, Supervisor] = {}
        self.lives: dict[str, Life] = {}
        self.spoilt: dict[str, tuple[str, str]] = defaultdict(lambda: ("", ""))
        self.addresses = {
            child.name: Address(self.world, child)
            for _, child in walk(script.root)
            if isinstance(child, Player)
        }
        self.trace = Trace()

    def play(self) -> Trace:
        self._serve()
        self._look()
        for number, step in enumerate(self.script.steps, start=1):
            if len(step) == 1:
                self._give(step[0], f"{number}")
            else:
                self._give_together(step, number)
            self._look()
        self.world.pass_time(LONG)
        self._look()
        if self.root is not None and self.root.alive:
            self.root.close()
        for ticks in (STOPPING, LONG):
            self.world.pass_time(ticks)
            self._look()
        self.trace.events = self.world.events
        self.trace.outcomes = self.world.outcomes
        return self.trace

    # ---- what the supervisors' model needs

    def life(self, child: Child, keeper: Keeper, incarnation: int) -> Life:
        life: Life
        if isinstance(child, Branch):
            life = self.supervisors[child.name] = Supervisor(self.world, child, self, keeper)
            return life
        spoilt = self.spoilt.pop(child.name, ("", ""))
        if isinstance(child, Player):
            life = PlayerLife(self.world, self.addresses[child.name], keeper, spoilt)
        else:
            life = TaskLife(self.world, child, keeper, incarnation, spoilt)
        self.lives[child.name] = life
        return life

    def retire(self, player: Player) -> None:
        self.addresses[player.name].retire()

    # ---- the root's keeper

    def ready(self, life: Life, value: str) -> None:
        """Nobody waits for the root; its state tells."""

    def ended(self, life: Life, error: str | None) -> None:
        del life
        self.root_failure = error
        self.world.told("root", f"ended: {error}")

    def _serve(self) -> None:
        if self.root is not None and self.root.alive:
            return
        self.root_failure = None
        self.root = Supervisor(self.world, self.script.root, self, self)
        self.supervisors[self.script.root.name] = self.root
        self.root.begin()

    # ---- commands

    def _give_together(self, step: tuple[Command, ...], number: int) -> None:
        swapped, apart = next(self.orders)
        self.world.unordered.add(self.world.now)
        numbered = list(enumerate(step))
        for place, command in reversed(numbered) if swapped else numbered:
            self._give(command, f"{number}{'ab'[place]}")
            if apart:
                self.world.settle()

    def _give(self, command: Command, who: str) -> None:
        target = command.target
        match command.verb:
            case "wait":
                self.world.pass_time(command.ticks)
            case "crash" | "exit":
                life = self.lives.get(target)
                if isinstance(life, TaskLife):
                    life.obey(f"fault {who}" if command.verb == "crash" else None)
            case "spoil":
                self.spoilt[target] = (command.how, f"fault {who}")
            case "serve":
                self._serve()
            case "stop":
                supervisor = self.supervisors.get(command.supervisor)
                if supervisor is not None and supervisor.alive:
                    supervisor.close()
            case "tell" | "ask":
                self._send(command, who)
            case verb:
                supervisor = self.supervisors.get(command.supervisor)
                plan = next((task for task in self.script.extra if task.name == target), None)
                if supervisor is None:
                    self.world.told(who, "not running")
                else:
                    supervisor.operate(who, verb, target, plan)

    def _send(self, command: Command, who: str) -> None:
        address = self.addresses[command.target]
        for turn in range(command.count):
            asked = command.verb == "ask"
            letter = Letter(f"{who}.{turn}", command.how, command.ticks, asked)
            if asked:
                address.ask(letter, command.patience or 0)
            else:
                address.tell(letter, command.patience)
            self.world.settle()

    # ---- what is compared

    def _look(self) -> None:
        self.world.settle()
        root = self.root
        assert root is not None
        if not root.alive:
            state = "failed" if self.root_failure else "stopped"
        elif root.closing:
            state = "stopping"
        else:
            state = "starting" if root.opening else "running"
        boxes = {name: address.view() for name, address in self.addresses.items()}
        self.trace.steps.append((self.world.now, state, root.view(), boxes))


def foretell(script: Script) -> tuple[list[Trace], set[int]]:
    """What may happen: one trace, or a few where commands were given at the same moment.

    Raises:
        Coincidence: Something else falls into one tick by chance; nothing can be foretold.
    """
    together = sum(len(step) > 1 for step in script.steps)
    choices = product(product((False, True), repeat=2), repeat=together)
    plays = [_Play(script, choice) for choice in choices]
    traces = [play.play() for play in plays]
    unordered = set().union(*(play.world.unordered for play in plays))
    return [trace.settle_order(unordered) for trace in traces], unordered
