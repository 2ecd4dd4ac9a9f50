"""The real supervisor, actors and mailboxes, made to play a script on a clock that never waits."""

import math
import re
from collections import defaultdict
from dataclasses import dataclass

import trio
import trio.testing

from tests.unit.platform.model.foretell import LONG, STOPPING, Trace
from tests.unit.platform.model.script import (
    LIMIT_OF_BACKOFF,
    RESET_AFTER,
    Branch,
    Child,
    Command,
    Player,
    Script,
    Task,
    walk,
)
from tests.unit.platform.model.world import SECOND
from troupe.common.errors import InvalidInput, TroupeError
from troupe.platform.actor import Actor, Behaviour, Request
from troupe.platform.dead_letters import DeadLetters
from troupe.platform.errors import SupervisionError, UnknownChild, summarise
from troupe.platform.mailbox import MailboxSettings, Overflow
from troupe.platform.supervision import (
    Backoff,
    ChildContext,
    ChildSpec,
    Intensity,
    Restart,
    Snapshot,
    Strategy,
    Supervisor,
)


class Fault(TroupeError):
    """What a script makes go wrong."""


class NeverEnds(AssertionError):
    """The root was asked to stop long ago, and goes on."""


@dataclass(frozen=True)
class Message(Request[str]):
    sender: str
    how: str
    ticks: int


def _seconds(ticks: int | None) -> float:
    return math.inf if ticks is None else ticks / SECOND


_WORDS = {
    "did not start": "start: ",
    "gave up after": "exhausted: ",
    "was not ready": "late",
    "ended before": "early",
    "it was stopped again": "stopped again",
}
_TELLING = re.compile("|".join([*_WORDS, r"fault [\w.]+", r"sour \w+", "ended$"]))


def _cause(text: str | None) -> str | None:
    """What an error comes down to, in the model's words."""
    if text is None:
        return None
    return "".join(_WORDS.get(found, found) for found in _TELLING.findall(text))


class _Life:
    """One incarnation of a task: does what its plan and the script's commands say."""

    def __init__(self, stage: "Stage", task: Task) -> None:
        self.stage = stage
        self.task = task
        self.order: Fault | None = None
        self.ordered = False
        self.stopping = False
        self.nudge = trio.Event()

    def obey(self, order: Fault | None) -> None:
        if not self.ordered:
            self.order, self.ordered = order, True
        self.nudge.set()

    def _asked(self, context: ChildContext) -> None:
        what = "stopping to restart" if context.restarting else "stopping"
        self.stage.emit(self.task.name, what)
        self.stopping = True
        self.nudge.set()

    async def run(self, context: ChildContext) -> None:
        task, stage = self.task, self.stage
        stage.emit(task.name, "starts")
        stage.lives[task.name] = self
        spoilt, fault = stage.spoilt.pop(task.name, ("", ""))
        context.when_stopping(lambda: self._asked(context))
        if context.stopping.is_set():
            self._asked(context)
        try:
            await self._live(context, spoilt, fault)
        except trio.Cancelled:
            stage.emit(task.name, "cancelled")
            self.ordered = False
            with trio.CancelScope(shield=True):
                await trio.sleep(_seconds(task.cleaning))
            if task.sour:
                stage.emit(task.name, f"ends: sour {task.name}")
                raise Fault(f"sour {task.name}") from None
            stage.emit(task.name, "ends")
            raise
        except Fault as error:
            stage.emit(task.name, f"ends: {error}")
            raise
        else:
            stage.emit(task.name, "ends")

    async def _live(self, context: ChildContext, spoilt: str, fault: str) -> None:
        task = self.task
        await self._wait(None if spoilt == "hang" else task.starting)
        if not self.ordered:
            if spoilt == "fail":
                raise Fault(fault)
            if spoilt == "quit":
                return
            context.started(f"{task.name}#{context.incarnation}")
            self.stage.emit(task.name, "ready")
            while not (self.stopping or self.ordered):
                self.nudge = trio.Event()
                await self.nudge.wait()
            if not self.ordered:
                await self._wait(task.draining)
        if self.order is not None:
            raise self.order

    async def _wait(self, ticks: int | None) -> None:
        """Wait for the ticks to pass or for an order."""
        with trio.move_on_after(_seconds(ticks)):
            while not self.ordered:
                self.nudge = trio.Event()
                await self.nudge.wait()


class _Playing(Behaviour[Message]):
    """One incarnation of an actor."""

    def __init__(self, stage: "Stage", player: Player) -> None:
        self.stage = stage
        self.player = player

    async def opened(self) -> None:
        self.stage.emit(self.player.name, "opens")
        spoilt, fault = self.stage.spoilt.pop(self.player.name, ("", ""))
        await trio.sleep(math.inf if spoilt == "hang" else _seconds(self.player.starting))
        if spoilt:
            raise Fault(fault)

    async def handle(self, message: Message) -> str:
        await trio.sleep(_seconds(message.ticks))
        match message.how:
            case "break":
                raise Fault(f"fault {message.sender}")
            case "refuse":
                raise InvalidInput("refused")
            case _:
                return message.sender

    async def closed(self) -> None:
        self.stage.emit(self.player.name, "closing")
        await trio.sleep(_seconds(self.player.cleaning))
        self.stage.emit(self.player.name, "closed")


class Stage:
    """The real tree of one script, and the record of what happened to it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.trace = Trace()
        self.lives: dict[str, _Life] = {}
        self.spoilt: dict[str, tuple[str, str]] = defaultdict(lambda: ("", ""))
        self.supervisors: dict[str, Supervisor] = {}
        self.dead_letters = DeadLetters()
        self.actors: dict[str, Actor[Message]] = {}
        for _, child in walk(script.root):
            if isinstance(child, Player):
                self.actors[child.name] = Actor(
                    child.name,
                    lambda child=child: _Playing(self, child),
                    mailbox=MailboxSettings(
                        capacity=child.capacity,
                        overflow=Overflow(child.overflow),
                        patience=_seconds(child.patience),
                    ),
                    dead_letters=self.dead_letters,
                )
        self.root = self._supervisor(script.root)
        self.serving = False

    @property
    def now(self) -> int:
        ticks = trio.current_time() * SECOND
        assert ticks == int(ticks), "a time that is no whole tick"
        return int(ticks)

    def emit(self, who: str, what: str) -> None:
        self.trace.events.append((self.now, who, what))

    def told(self, who: str, result: str) -> None:
        self.trace.outcomes.append((self.now, who, result))

    # ---- the tree

    def _supervisor(self, branch: Branch) -> Supervisor:
        supervisor = Supervisor(
            branch.name,
            [self._specification(child) for child in branch.children],
            strategy=Strategy(branch.strategy),
            intensity=Intensity(restarts=branch.restarts, period=_seconds(branch.period)),
        )
        self.supervisors[branch.name] = supervisor
        return supervisor

    def _specification(self, child: Child) -> ChildSpec:
        first = _seconds(child.backoff)
        backoff = Backoff(
            first=first,
            limit=LIMIT_OF_BACKOFF * first,
            jitter=0,
            reset_after=_seconds(RESET_AFTER),
        )
        restart = Restart(child.restart)
        if isinstance(child, Branch):
            return self._supervisor(child).as_child(restart=restart, backoff=backoff)
        start_deadline, shutdown = _seconds(child.start_deadline), _seconds(child.shutdown)
        if isinstance(child, Player):
            return self.actors[child.name].child_spec(
                restart=restart, start_deadline=start_deadline, shutdown=shutdown, backoff=backoff
            )

        async def start(context: ChildContext) -> None:
            await _Life(self, child).run(context)

        return ChildSpec(
            name=child.name,
            start=start,
            restart=restart,
            start_deadline=start_deadline,
            shutdown=shutdown,
            backoff=backoff,
        )

    # ---- the play

    async def play(self) -> Trace:
        async with trio.open_nursery() as nursery:
            await self._step(nursery, (Command("serve"),), 0)
            for number, step in enumerate(self.script.steps, start=1):
                await self._step(nursery, step, number)
            await trio.sleep(_seconds(LONG))
            await self._look()
            self.root.request_stop()
            for ticks in (STOPPING, LONG):
                await trio.sleep(_seconds(ticks))
                await self._look()
            never_ends = bool(self.serving)
            nursery.cancel_scope.cancel()
        if never_ends:
            raise NeverEnds
        return self.trace

    async def _step(self, nursery: trio.Nursery, step: tuple[Command, ...], number: int) -> None:
        for place, command in enumerate(step):
            who = f"{number}" if len(step) == 1 else f"{number}{'ab'[place]}"
            await self._give(nursery, command, who)
        await self._look()

    async def _give(self, nursery: trio.Nursery, command: Command, who: str) -> None:
        target = command.target
        match command.verb:
            case "wait":
                await trio.sleep(_seconds(command.ticks))
            case "crash" | "exit":
                life = self.lives.get(target)
                if life is not None:
                    life.obey(Fault(f"fault {who}") if command.verb == "crash" else None)
            case "spoil":
                self.spoilt[target] = (command.how, f"fault {who}")
            case "serve":
                if not self.serving:
                    self.serving = True
                    nursery.start_soon(self._serve)
            case "stop":
                nursery.start_soon(self._stop, self.supervisors[command.supervisor])
            case "tell" | "ask":
                for turn in range(command.count):
                    nursery.start_soon(self._send, command, f"{who}.{turn}")
                    await trio.testing.wait_all_tasks_blocked()
            case _:
                nursery.start_soon(self._operate, command, who)

    @staticmethod
    async def _stop(supervisor: Supervisor) -> None:
        # In a task, so that a crash given at the same moment is not a step behind.
        supervisor.request_stop()

    async def _serve(self) -> None:
        try:
            await self.root.serve()
        except SupervisionError as error:
            self.told("root", f"ended: {self._failure(error)}")
        else:
            self.told("root", "ended: None")
        finally:
            self.serving = False

    @staticmethod
    def _failure(error: SupervisionError) -> str | None:
        return _cause(summarise(error))

    async def _operate(self, command: Command, who: str) -> None:
        supervisor, name = self.supervisors[command.supervisor], command.target
        try:
            match command.verb:
                case "terminate":
                    await supervisor.terminate_child(name)
                    result = "down"
                case "remove":
                    await supervisor.remove_child(name)
                    result = "down"
                case "add":
                    (task,) = (task for task in self.script.extra if task.name == name)
                    result = self._value(await supervisor.add_child(self._specification(task)))
                case "start":
                    result = self._value(await supervisor.start_child(name))
                case _:
                    result = self._value(await supervisor.restart_child(name))
        except UnknownChild:
            result = "unknown"
        except SupervisionError as error:
            cause = _cause(str(error)) or ""
            result = f"failed: {cause.removeprefix('start: ')}" if cause else _plain(str(error))
        self.told(who, result)

    @staticmethod
    def _value(value: object) -> str:
        match value:
            case None:
                return "up: finished"
            case Actor():
                return f"up: actor {value.name}"
            case Supervisor():
                return f"up: {value.name}"
            case _:
                return f"up: {value}"

    async def _send(self, command: Command, sender: str) -> None:
        actor = self.actors[command.target]
        message = Message(sender, command.how, command.ticks)
        patience = None if command.patience is None else _seconds(command.patience)
        try:
            if command.verb == "ask":
                assert patience is not None
                result = f"answer {await actor.ask(message, deadline=patience)}"
            else:
                await actor.tell(message, deadline=patience)
                result = "taken"
        except TroupeError as error:
            result = type(error).__name__
        self.told(sender, result)

    # ---- what is compared

    async def _look(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        snapshot = self.root.snapshot()
        boxes = {name: self._books(actor) for name, actor in self.actors.items()}
        self.trace.steps.append((self.now, snapshot.state.value, _view(snapshot), boxes))

    def _books(self, actor: Actor[Message]) -> dict[str, object]:
        books = actor.statistics()
        box = books.mailbox
        reasons = self.dead_letters.counts(actor.name)
        return {
            **{name: getattr(box, name) for name in ("sent", "delivered", "dead")},
            **{name: getattr(books, name) for name in ("handled", "refused", "failed", "late")},
            "depth": box.depth,
            "waiting": box.waiting,
            "busy": books.busy,
            "reasons": {reason.value: count for reason, count in sorted(reasons.items())},
        }


def _plain(message: str) -> str:
    for words, result in (
        ("is not running", "not running"),
        ("already", "taken"),
        ("was started again", "started again"),
    ):
        if words in message:
            return result
    raise AssertionError(f"unforeseen: {message}")


def _view(snapshot: Snapshot) -> dict[str, object]:
    return {
        child.name: {
            "state": child.state.value,
            "restarts": child.restarts,
            "error": _cause(child.last_error),
            "stuck": bool(child.details.get("stuck", False)),
            "children": _view(child),
        }
        for child in snapshot.children
    }
