"""What is played: a tree of children, how each of them behaves, and what happens to them when.

A script is data that neither the model nor the supervisor knows how to interpret by itself;
`foretell` and `perform` do that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from hypothesis import strategies as st

from tests.unit.platform.model.world import SECOND

RESTARTS = ("permanent", "transient", "temporary")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
OVERFLOWS = ("wait", "reject", "drop_oldest")


@dataclass(frozen=True)
class Task:
    """A child that is a task. Times in ticks.

    Attributes:
        starting: From its start until it is ready.
        draining: From the request to stop until it returns.
        cleaning: What it takes for its clean-up once it was cancelled.
        sour: Whether that clean-up ends in an error.
        start_deadline: When the supervisor loses patience with its start.
        shutdown: The same with its stop; None: never.
        backoff: Wait after the first of several failures in a row; it doubles.
    """

    name: str
    restart: str
    starting: int = 0
    draining: int = 0
    cleaning: int = 0
    sour: bool = False
    start_deadline: int = 8 * SECOND
    shutdown: int | None = 4 * SECOND
    backoff: int = 0


@dataclass(frozen=True)
class Player:
    """A child that is an actor; `cleaning` is what its `closed` takes."""

    name: str
    restart: str
    starting: int = 0
    cleaning: int = 0
    start_deadline: int = 8 * SECOND
    shutdown: int | None = 4 * SECOND
    backoff: int = 0
    capacity: int = 1
    overflow: str = "wait"
    patience: int = SECOND


@dataclass(frozen=True)
class Branch:
    """A child that is a supervisor, or the root."""

    name: str
    children: "tuple[Child, ...]"
    strategy: str = "one_for_one"
    restarts: int = 1
    period: int = 5 * SECOND
    restart: str = "permanent"
    backoff: int = 0

    @property
    def start_deadline(self) -> int:
        """As long as its children may take, one by one, and a second."""
        return sum(child.start_deadline for child in self.children) + SECOND

    @property
    def shutdown(self) -> int | None:
        """As long as its children may take, one by one, and five seconds for the forced."""
        total = 5 * SECOND
        for child in self.children:
            if child.shutdown is None:
                return None
            total += child.shutdown
        return total


Child = Task | Player | Branch
LIMIT_OF_BACKOFF = 4
"""Times the first wait that no wait exceeds."""
RESET_AFTER = 30 * SECOND
"""Ticks of running after which the failures before are forgotten."""


def walk(branch: Branch) -> Iterator[tuple[str, Child]]:
    """Every child with its supervisor's name, parents first."""
    for child in branch.children:
        yield branch.name, child
        if isinstance(child, Branch):
            yield from walk(child)


Verb = Literal[
    "crash", "exit",  # a task ends by itself
    "spoil",  # the next start of a child fails (how: fail, quit, hang)
    "terminate", "start", "restart", "remove", "add",  # an operator, to a child of `supervisor`
    "stop", "serve",  # `supervisor` is asked to stop; the root is started when it is down
    "tell", "ask",  # a message to an actor (how: work, refuse, break)
    "wait",
]  # fmt: skip


@dataclass(frozen=True)
class Command:
    verb: Verb
    target: str = ""
    supervisor: str = ""
    how: str = ""
    ticks: int = 0
    patience: int | None = None
    count: int = 1


Step = tuple[Command, ...]
"""Commands given at the same moment; nearly always one."""


@dataclass(frozen=True)
class Script:
    root: Branch
    extra: tuple[Task, ...]
    steps: tuple[Step, ...]


# ---- generation. Every child draws one number and reads its properties off the digits, so that a
# script costs few draws; and all durations of one script have different remainders, so that few of
# its events coincide.

# Primes, so that sums of a few of them seldom meet.
_ODD = [n for n in range(3, 300) if all(n % m for m in range(2, n))]


class _Digits:
    def __init__(self, number: int) -> None:
        self._number = number

    def pick(self, *choices):
        self._number, digit = divmod(self._number, len(choices))
        return choices[digit]


def _task(name: str, number: int, position: int) -> Task:
    digits = _Digits(number)
    odd = iter(_ODD[9 * position :])
    return Task(
        name=name,
        restart=digits.pick(*RESTARTS),
        starting=digits.pick(0, 0, SECOND // 2 + next(odd), 3 * SECOND + next(odd)),
        draining=digits.pick(0, SECOND + next(odd), 3 * SECOND + next(odd)),
        shutdown=digits.pick(4 * SECOND + next(odd), 2 * SECOND + next(odd), 0, None),
        cleaning=digits.pick(0, SECOND // 4 + next(odd), 7 * SECOND + next(odd)),
        backoff=digits.pick(0, 0, SECOND // 2 + next(odd)),
        sour=digits.pick(False, False, True),
        start_deadline=4 * SECOND + 512 + position,
    )


def _player(name: str, number: int, position: int) -> Player:
    digits = _Digits(number)
    odd = iter(_ODD[9 * position :])
    return Player(
        name=name,
        restart=digits.pick(*RESTARTS),
        overflow=digits.pick(*OVERFLOWS),
        starting=digits.pick(0, SECOND + next(odd)),
        cleaning=digits.pick(0, SECOND // 2 + next(odd), 6 * SECOND + next(odd)),
        shutdown=digits.pick(4 * SECOND + next(odd), SECOND + next(odd), 0, None),
        backoff=digits.pick(0, SECOND // 2 + next(odd)),
        capacity=digits.pick(1, 2, 3),
        patience=digits.pick(SECOND + next(odd), 5 * SECOND + next(odd)),
        start_deadline=4 * SECOND + 512 + position,
    )


_TASK = st.integers(0, 3 * 4 * 3 * 4 * 3 * 3 * 3 - 1)
_PLAYER = st.integers(0, 3 * 3 * 2 * 3 * 4 * 2 * 3 * 2 - 1)
_BRANCH = st.integers(0, 3 * 3 * 3 * 3 * 2 - 1)


Shape = tuple[tuple[str, str, str], ...]
"""Of every child: its supervisor, its name, its class; all that commands depend on."""


def _shape(root: Branch, extra: tuple[Task, ...]) -> Shape:
    tree = [*walk(root), *((root.name, task) for task in extra)]
    return tuple((home, child.name, type(child).__name__) for home, child in tree)


@cache
def _sequences(shape: Shape) -> st.SearchStrategy[list[Command]]:
    return st.lists(st.sampled_from(_commands(shape)), min_size=3, max_size=20)


@cache
def _pairs(shape: Shape) -> st.SearchStrategy[Step]:
    """What may happen at the same moment: things of which one and the same supervisor hears."""
    found = []
    for supervisor in dict.fromkeys(home for home, _, _ in shape):
        commands = [Command("stop", supervisor="root")] if supervisor == "root" else []
        for home, name, kind in shape:
            if home == supervisor:
                commands += [Command(verb, name, home) for verb in _OPERATIONS]
                if kind == "Task":
                    commands += [Command("crash", name), Command("exit", name)]
        one = st.sampled_from(commands)
        found.append(st.tuples(one, one))
    return st.one_of(found)


def _commands(shape: Shape) -> list[Command]:
    """All that could happen in a tree, the frequent more often."""
    found = [Command("stop", supervisor="root"), Command("serve"), Command("serve")]
    for home, name, kind in shape:
        found += [Command(verb, name, home) for verb in _OPERATIONS]
        match kind:
            case "Task":
                found += 8 * [Command("crash", name)] + 3 * [Command("exit", name)]
                found += [Command("spoil", name, how=how) for how in ("fail", "quit", "hang")]
            case "Player":
                found += [Command("spoil", name, how=how) for how in ("fail", "hang")]
                found += _messages(name)
            case _:
                found.append(Command("stop", supervisor=name))
        if name == _EXTRA:
            found += [Command("add", name, home), Command("add", name, home)]
        if name in {_EXTRA, "a"}:
            found.append(Command("remove", name, home))
    waits = [Command("wait", ticks=ticks) for ticks in _WAITS]
    return found + waits * (1 + len(found) // 16)


def _messages(actor: str) -> list[Command]:
    found = []
    for ticks in (SECOND // 2 + 13, 2 * SECOND + 19):
        work = Command("tell", actor, how="work", ticks=ticks)
        found += [replace(work, count=count) for count in (1, 3, 6)]
        found += [
            replace(work, patience=SECOND // 2 + 29),
            replace(work, how="refuse"),
            replace(work, how="break"),
            replace(work, how="break"),
        ]
        for how in ("work", "work", "refuse", "break"):
            for patience in (SECOND + 31, 9 * SECOND + 37):
                found.append(Command("ask", actor, how=how, ticks=ticks, patience=patience))
    return found


_OPERATIONS: tuple[Verb, ...] = ("terminate", "start", "restart")
_EXTRA = "x"
"""The child that operators add at run time."""
_WAITS = (SECOND // 4, SECOND, 2 * SECOND, 5 * SECOND, 40 * SECOND)


@st.composite
def scripts(draw, strategy: str) -> Script:
    """A tree under a root of the given strategy, and some ten things that happen to it."""
    position = iter(range(7))
    digits = _Digits(draw(st.integers(0, 4 * 4 * 3 * 2 * 4 * 3 - 1)))

    def leaf(name: str) -> Child:
        if name in {"c", "f"}:
            return _player(name, draw(_PLAYER), next(position))
        return _task(name, draw(_TASK), next(position))

    children: list[Child] = [leaf(name) for name in "abc"[: digits.pick(2, 3, 1, 3)]]
    inner = digits.pick(0, 0, 1, 2)
    if inner:
        traits = _Digits(draw(_BRANCH))
        branch = Branch(
            name="s",
            children=tuple(leaf(name) for name in "ef"[:inner]),
            strategy=traits.pick(*STRATEGIES),
            restarts=traits.pick(1, 0, 2),
            restart=traits.pick(*RESTARTS),
            backoff=traits.pick(0, 0, SECOND + 41),
        )
        children.insert(traits.pick(0, 1), branch)
    root = Branch(
        name="root",
        children=tuple(children),
        strategy=strategy,
        restarts=digits.pick(3, 1, 0),
        period=5 * SECOND,
    )
    extra = (_task(_EXTRA, draw(_TASK), 5),) if digits.pick(False, True) else ()
    shape = _shape(root, extra)
    steps: list[Step] = [(command,) for command in draw(_sequences(shape))]
    if digits.pick(True, True, True, False):
        steps.insert(0, (Command("wait", ticks=20 * SECOND),))  # let all become ready first
    if digits.pick(False, False, True):
        steps.insert(draw(st.integers(0, len(steps))), draw(_pairs(shape)))
    return Script(root, extra, tuple(steps))
