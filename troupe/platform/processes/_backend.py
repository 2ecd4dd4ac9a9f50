"""A child that is a process, for a supervisor that knows only children.

The problem. A task cannot be killed, shares its loop with all others, and takes them along when the
interpreter crashes or the kernel kills for memory. So a child may be a process; yet its supervisor
shall see the same thing: a start, readiness, a drain on request, an exit that is normal or not.

The choice. A process starts from `exec`, never from a fork of our memory, and inherits exactly the
listening sockets, one control stream and two pipes for its output. Over the control stream it gets
its assignment (`_messages`), says that it is ready, answers pings and surveys, and is told to stop.
Whatever goes wrong, from a malformed message over a stuck loop to too much memory, condemns that
child and nobody else: a verdict is written down, its process group is killed, and the exit is an
exception that says why. A cancelled child is killed.

The cost. A start takes as long as an interpreter and its imports, one to two seconds, and about
150 MiB. The supervisor writes its children's logs.

Rejected: `multiprocessing` (a fork of a program with threads, or a spawn that imports the main
module; pickles; and processes that survive their parent's SIGKILL); signals instead of a control
stream (they carry nothing and are not answered); the child's own systemd unit (a second supervisor
beside this one, with other semantics).
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from socket import socket
from typing import Any, Final

import trio
from pydantic import TypeAdapter, ValidationError

from troupe.common.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    PeerUnavailable,
    TroupeError,
)
from troupe.common.logs import get_logger
from troupe.common.niceness import keep_off
from troupe.common.units import MILLISECONDS, SECONDS, MiB
from troupe.platform.errors import (
    MemoryExceeded,
    ProcessEnded,
    ProcessError,
    ProcessStuck,
    ProtocolBroken,
    summarise,
)
from troupe.platform.processes._channel import Channel
from troupe.platform.processes._confinement import resident_memory
from troupe.platform.processes._exits import describe_exit
from troupe.platform.processes._messages import (
    Adapt,
    Adapted,
    Begin,
    DatabaseMoved,
    Failed,
    Figures,
    Measure,
    Measured,
    Ping,
    Pong,
    Ready,
    Report,
    SaidByChild,
    SaidToChild,
    Scrape,
    Stop,
    Survey,
    from_child,
)
from troupe.platform.processes._output import forward_output
from troupe.platform.processes._process import Process
from troupe.platform.processes._watchdog import PERIOD, Answered
from troupe.platform.supervision import (
    Backoff,
    ChildContext,
    ChildSpec,
    Detail,
    Observation,
    Snapshot,
)

REAP_DEADLINE: Final = 5 * SECONDS
LAST_WORDS: Final = 0.5 * SECONDS
"""For a process that is gone, until its output is read; for one that is stuck, to say where."""
BETWEEN_WEIGHINGS: Final = 500 * MILLISECONDS
KILLED_AFTER: Final = 0.5 * SECONDS
"""Beyond the grace: for a child that cuts its own drain off in time to clean up and exit."""
ADAPT_DEADLINE: Final = 5 * SECONDS
"""For a process to say that other bounds hold."""
MEASURE_DEADLINE: Final = 1 * SECONDS
"""For a process to tell its figures."""
_FAULTS: Final[dict[str, type[TroupeError]]] = {
    "configuration": ConfigurationError,
    "database": DatabaseUnavailable,
    "peer": PeerUnavailable,
    "ours": ProcessEnded,
}
_snapshots: Final = TypeAdapter(Snapshot)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """How the processes of one group are run.

    Attributes:
        group: Shown in their log lines.
        command: The program; the control descriptor and the instance's name are added.
        grace: Seconds that it has to drain.
        watchdog: Seconds for which its loop may stand still; 0: for ever.
        start_deadline: Seconds until it must be ready.
        memory_limit: MiB of resident memory; 0: no limit.
        keep_off: Processors that it leaves to others, from when it is started.
    """

    group: str
    command: Sequence[str]
    grace: float
    watchdog: float = 5 * SECONDS
    start_deadline: float = 120 * SECONDS
    memory_limit: int = 0
    keep_off: frozenset[int] = frozenset()


class ProcessBackend:
    """Runs children as processes; any number of them at the same time.

    Args:
        settings: How.
        sockets: What each inherits, by name.
        assignment: What an instance of that name shall run; JSON values. Asked at every start.
        database_url: Where PostgreSQL is now; asked twice a second, changes are told.
        group: How the whole group looks now; told twice a second. Must be quick, must not fail.
        living: Of the generation before, whose processes count among the group as well.
    """

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        sockets: Mapping[str, socket],
        assignment: Callable[[str], dict[str, Any]],
        database_url: Callable[[], str],
        group: Callable[[], dict[str, Any]],
        living: "set[_Incarnation] | None" = None,
    ) -> None:
        self.settings = settings
        self.sockets = sockets
        self.assignment = assignment
        self.database_url = database_url
        self.group = group
        self.adaptation: tuple[int, dict[str, Any]] = (0, {})
        self.living = set() if living is None else living

    async def adapt(self, settings: dict[str, Any]) -> list[str]:
        """Have other bounds hold in all processes, also in those that are just starting.

        `assignment` must tell the same to those that start from now on.

        Args:
            settings: What the program understands; JSON values.

        Returns:
            Names of those that did not say in time that they hold.
        """
        self.adaptation = (self.adaptation[0] + 1, settings)
        late: list[str] = []

        async def tell(incarnation: "_Incarnation") -> None:
            if not await incarnation.adapt():
                late.append(incarnation.name)

        async with trio.open_nursery() as nursery:
            for incarnation in self.living:
                if incarnation.is_of(self) and not incarnation.leaving:
                    nursery.start_soon(tell, incarnation)
        return sorted(late)

    async def run(self, specification: ChildSpec, context: ChildContext) -> None:
        """Run one process until it ends.

        Raises:
            ProcessError: It failed, or had to be killed.
            TroupeError: What it said itself about why it failed.
        """
        await _Incarnation(self, specification.name, context).live()

    def child_spec(self, name: str, *, backoff: Backoff, abreast: bool) -> ChildSpec:
        """An instance as a child of a supervisor."""
        return ChildSpec(
            name=name,
            start=_never,
            start_deadline=self.settings.start_deadline,
            shutdown=self.settings.grace + KILLED_AFTER,
            backoff=backoff,
            kind="process",
            backend=self,
            abreast=abreast,
        )


async def _never(context: ChildContext) -> None:
    raise ProcessError(f"{context.name} runs in a process of its own, by its backend")


class _Incarnation:
    """One process from its start to its end."""

    def __init__(self, backend: ProcessBackend, name: str, context: ChildContext) -> None:
        self._backend = backend
        self._settings = backend.settings
        self.name = name
        self._context = context
        self._adaptation = backend.adaptation[0]
        self._adapted = trio.Event()
        self._numbers = itertools.count(1)
        self._measured: dict[int, trio.MemorySendChannel[list[Any]]] = {}
        self._scraping = False
        self._assignment = backend.assignment(name)
        self._database_url = backend.database_url()
        self._process = Process(self._settings.command, name, backend.sockets)
        keep_off(self._process.pid, self._settings.keep_off)
        self._channel = Channel(self._process.control, from_child)
        self._ready = trio.Event()
        self._gone = trio.Event()
        self._answered = Answered()
        self._sequence = 0
        self._asked_at = math.inf
        self._lag = 0.0
        self._memory = 0
        self._tree: Snapshot | None = None
        self._told: Failed | None = None
        self._verdict: ProcessError | None = None

    async def live(self) -> None:
        process = self._process
        log.info("process_started", **self._attribution)
        words = "killed by its supervisor"
        self._context.observe(self._observe)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for task in (self._converse, self._watch, self._weigh, self._pass_on_stop):
                    nursery.start_soon(task)
                async with trio.open_nursery() as output:
                    output.start_soon(self._forward, process.stdout, "stdout")
                    output.start_soon(self._forward, process.stderr, "stderr")
                    await process.wait()
                    self._gone.set()
                    # Somebody that it started may hold the pipes open.
                    output.cancel_scope.deadline = trio.current_time() + LAST_WORDS
                nursery.cancel_scope.cancel()
            error = self._reason_to_fail()
            words = summarise(error) if error else "ended in order"
        finally:
            self._backend.living.discard(self)
            await self._bury()
            seconds = round(time.monotonic() - process.started, 1)
            log.info("process_ended", **self._attribution, reason=words, seconds=seconds)
        if error is not None:
            raise error

    @property
    def _attribution(self) -> dict[str, Any]:
        return {
            "group": self._settings.group,
            "instance": self.name,
            "process": self._process.pid,
        }

    # ---- its end

    def _condemn(self, verdict: ProcessError) -> None:
        """Kill it; the first verdict is the one to tell."""
        if self._verdict is None and not self._gone.is_set():
            self._verdict = verdict
            self._process.kill()

    async def _bury(self) -> None:
        """Whatever happened, nothing of it is left."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REAP_DEADLINE):
            self._process.kill()
            await self._process.wait()
            for stream in (self._process.control, self._process.stdout, self._process.stderr):
                await stream.aclose()
        if self._process.code is None:
            log.error("process_not_reaped", **self._attribution)

    def _reason_to_fail(self) -> TroupeError | None:
        code = self._process.code
        if self._verdict is not None:
            return self._verdict
        if code == 0:
            return None
        if self._told is not None:
            return _FAULTS[self._told.fault](f"{self.name}: {self._told.reason}")
        words = describe_exit(code) if code is not None else "cannot be killed"
        return ProcessEnded(f"{self.name} (process {self._process.pid}) {words}")

    # ---- what is said

    async def _forward(self, source: trio.abc.ReceiveStream, stream: str) -> None:
        await forward_output(source, stream, self._attribution)

    async def _converse(self) -> None:
        begin = Begin(
            instance=self.name,
            descriptors={name: given.fileno() for name, given in self._backend.sockets.items()},
            memory_limit=self._settings.memory_limit,
            assignment=self._assignment,
        )
        try:
            await self._channel.send(begin)
            self._backend.living.add(self)
            if self._adaptation != self._backend.adaptation[0]:
                self._nursery.start_soon(self.adapt)
            while (message := await self._channel.receive()) is not None:
                self._hear(message)
        except ProtocolBroken as broken:
            self._condemn(broken)
        except trio.BrokenResourceError:
            pass  # it is about to be gone, or is caught below
        with trio.move_on_after(REAP_DEADLINE):
            await self._gone.wait()
        self._condemn(ProtocolBroken(f"{self.name} closed its control channel and went on"))

    def _hear(self, message: SaidByChild) -> None:
        match message:
            case Ready():
                self._ready.set()
                self._context.started(self._process.pid)
            case Pong():
                if message.sequence != self._sequence:
                    raise ProtocolBroken(f"{self.name} answered a ping that nobody sent")
                self._lag = message.lag
                self._answered.arrived()
            case Report():
                try:
                    self._tree = _snapshots.validate_python(message.tree)
                except ValidationError:
                    raise ProtocolBroken(f"{self.name} reported what is no tree") from None
            case Failed():
                self._told = message
            case _:
                self._hear_answer(message)

    def _hear_answer(self, message: Adapted | Measured | Scrape) -> None:
        match message:
            case Adapted():
                if message.number == self._adaptation:
                    self._adapted.set()
            case Measured():
                # One that comes too late is nobody's any more.
                if (asker := self._measured.pop(message.number, None)) is not None:
                    asker.send_nowait(message.figures)
            case Scrape():
                if self._scraping:
                    raise ProtocolBroken(f"{self.name} asked twice for the figures of the others")
                self._scraping = True
                self._nursery.start_soon(self._scrape, message.number)

    # ---- what is asked of it

    async def adapt(self) -> bool:
        """Tell it the bounds that hold now; whether it said in time that they do, or is gone."""
        number, settings = self._backend.adaptation
        self._adaptation, self._adapted = number, trio.Event()
        adapted = self._adapted
        await self._say(Adapt(number=number, settings=settings))
        with trio.move_on_after(ADAPT_DEADLINE):
            async with trio.open_nursery() as nursery:

                async def or_gone() -> None:
                    await self._gone.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(or_gone)
                await adapted.wait()
                nursery.cancel_scope.cancel()
        return adapted.is_set() or self._gone.is_set()

    async def measure(self) -> list[Any] | None:
        """Its figures; None: it does not tell them in time."""
        number = next(self._numbers)
        send, receive = trio.open_memory_channel[list[Any]](1)
        self._measured[number] = send
        await self._say(Measure(number=number))
        figures: list[Any] | None = None
        with receive, trio.move_on_after(MEASURE_DEADLINE):
            figures = await receive.receive()
        self._measured.pop(number, None)
        return figures

    async def _scrape(self, number: int) -> None:
        async def ask(other: "_Incarnation") -> None:
            figures = await other.measure()
            await self._say(Figures(number=number, instance=other.name, figures=figures))

        async with trio.open_nursery() as nursery:
            for other in self._backend.living:
                # Of two generations of one name the present one counts.
                if other.name != self.name and not other.leaving:
                    nursery.start_soon(ask, other)
        self._scraping = False
        await self._say(Figures(number=number, instance="", figures=None))

    def is_of(self, backend: ProcessBackend) -> bool:
        """Whether that backend runs it."""
        return self._backend is backend

    @property
    def leaving(self) -> bool:
        """Whether it was asked to stop."""
        return self._context.stopping.is_set()

    async def _say(self, message: SaidToChild) -> None:
        try:
            await self._channel.send(message)
        except ProtocolBroken as broken:
            self._condemn(broken)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # `_converse` sees it too

    async def _pass_on_stop(self) -> None:
        await self._context.stopping.wait()
        await self._say(Stop(grace=self._settings.grace))
        # One that is not ready has hardly anything to drain, and may still be importing. One that
        # gives way takes its time to die, too, on a busy machine: the grace must suffice for both.
        with trio.move_on_after(self._settings.grace / 2) as starting:
            await self._ready.wait()
        if starting.cancelled_caught:
            self._process.kill()

    # ---- whether it is well

    async def _watch(self) -> None:
        await self._ready.wait()
        while not self._context.stopping.is_set():
            self._sequence += 1
            self._answered.expect()
            self._asked_at = trio.current_time()
            await self._say(Ping(sequence=self._sequence))
            if not await self._answered.within(self._settings.watchdog or math.inf):
                await self._end_stuck()
                return
            self._asked_at = math.inf
            await self._say(Survey(group=self._backend.group()))
            if (url := self._backend.database_url()) != self._database_url:
                self._database_url = url
                await self._say(DatabaseMoved(url=url))
            await trio.sleep(PERIOD)

    async def _end_stuck(self) -> None:
        verdict = ProcessStuck(
            f"{self.name} (process {self._process.pid}): its loop did not turn for"
            f" {self._settings.watchdog:g} s"
        )
        log.error("process_stuck", **self._attribution, seconds=self._settings.watchdog)
        self._verdict = self._verdict or verdict
        self._process.abort()
        with trio.move_on_after(LAST_WORDS):
            await self._gone.wait()
        self._process.kill()

    async def _weigh(self) -> None:
        limit = self._settings.memory_limit
        while True:
            self._memory = resident_memory(self._process.pid)
            if limit and self._memory > limit * MiB:
                self._condemn(
                    MemoryExceeded(
                        f"{self.name} (process {self._process.pid}) used"
                        f" {self._memory // MiB} MiB of memory, more than its {limit} MiB"
                    )
                )
                return
            await trio.sleep(BETWEEN_WEIGHINGS)

    def _observe(self) -> Observation:
        lag = max(self._lag, trio.current_time() - self._asked_at)
        details: dict[str, Detail] = {
            "pid": self._process.pid,
            "lag_ms": round(lag / MILLISECONDS, 1),
            "memory_mib": self._memory // MiB,
        }
        if self._tree is None:
            return Observation(details=details)
        return Observation(details=details | dict(self._tree.details), children=self._tree.children)
