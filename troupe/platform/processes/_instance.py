"""The child's end: who am I, what shall I run, and when shall I stop.

::

    async with open_instance(descriptor) as instance:
        ...                               # build from instance.assignment
        instance.report_from(tree.snapshot)
        await instance.ready()
        await instance.stopping.wait()

Pings are answered by a task of the same loop that serves, since that loop is what they ask about. A
supervisor that is gone, or that says what cannot be understood, ends the child: nobody is left
whom it could serve for.
"""

import itertools
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import trio

from troupe.common.errors import ConfigurationError, DatabaseError, PeerError
from troupe.common.logs import get_logger
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.errors import ProcessEnded, ProtocolBroken, leaves, summarise
from troupe.platform.processes._channel import Channel
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
    SaidToChild,
    Scrape,
    Stop,
    Survey,
    to_child,
)
from troupe.platform.supervision import Snapshot, State

BEGIN_DEADLINE: Final = 30 * SECONDS
PATIENCE: Final = 60 * SECONDS
"""For the supervisor to take a message: groups in its own process may hold its loop for a while."""
SCRAPE_DEADLINE: Final = 2 * SECONDS
"""For the supervisor to hear the others; it gives up on them earlier."""
TICK: Final = 100 * MILLISECONDS
"""How often the loop's lateness is measured."""

_log = get_logger(__name__)

OthersFigures = Mapping[str, Sequence[Any] | None]
"""Name of an instance to its figures; None: it did not answer."""


class _Scrape:
    """One question for the figures of the others, and what has come in answer."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.found: dict[str, Sequence[Any] | None] = {}
        self.complete = trio.Event()


class Instance:
    """One instance of a group, in the process that runs it.

    Attributes:
        name: Such as ``data-1``.
        assignment: What to run.
        descriptors: What was inherited, by name.
        memory_limit: MiB; 0: none.
        stopping: Set when it shall drain and end.
        grace: Seconds for that; meaningful once `stopping` is set.
        database_url: Where PostgreSQL moved to; None as long as the assignment is right.
        group: How the whole group looks from outside; None before the first survey.
    """

    def __init__(self, begin: Begin, channel: Channel[SaidToChild]) -> None:
        self.name = begin.instance
        self.assignment: Mapping[str, Any] = begin.assignment
        self.descriptors: Mapping[str, int] = begin.descriptors
        self.memory_limit = begin.memory_limit
        self.stopping = trio.Event()
        self.grace = 0.0
        self.database_url: str | None = None
        self.group: Mapping[str, Any] | None = None
        self._channel = channel
        self._lag = 0.0
        self._settings: Mapping[str, Any] | None = None
        self._adapt: Callable[[Mapping[str, Any]], None] | None = None
        self._measure_figures: Callable[[], list[Any]] = list
        self._numbers = itertools.count(1)
        self._scrape: _Scrape | None = None
        self._snapshot: Callable[[], Snapshot] = lambda: Snapshot(
            name=begin.instance, kind="group", state=State.STARTING, since=datetime.now(UTC)
        )

    def report_from(self, snapshot: Callable[[], Snapshot]) -> None:
        """Answer surveys with this tree from now on."""
        self._snapshot = snapshot

    async def ready(self) -> None:
        """Say that everything runs."""
        await self._channel.send(Ready())

    def adapt_with(self, adapt: Callable[[Mapping[str, Any]], None]) -> None:
        """Have `adapt` called with other bounds, also with those that were told already.

        It must be quick; what it raises ends the process.
        """
        self._adapt = adapt
        if self._settings is not None:
            adapt(self._settings)

    def measure_from(self, measure: Callable[[], list[Any]]) -> None:
        """Answer whoever asks for figures with these from now on."""
        self._measure_figures = measure

    async def others(self) -> OthersFigures:
        """The figures of the other instances of the group, as far as they are had in time.

        Those who ask at the same time get the same answer.
        """
        scrape = self._scrape
        if scrape is None:
            scrape = self._scrape = _Scrape(next(self._numbers))
            # A client that goes away must not leave half a question on the channel.
            with trio.CancelScope(shield=True):
                await self._channel.send(Scrape(number=scrape.number))
        with trio.move_on_after(SCRAPE_DEADLINE):
            await scrape.complete.wait()
        return dict(scrape.found)

    def stop(self, grace: float) -> None:
        """Drain within `grace` seconds and end; the first one to say so counts."""
        if not self.stopping.is_set():
            self.grace = grace
            self.stopping.set()

    async def fail(self, error: BaseException) -> None:
        """Tell the supervisor why this process is about to end."""
        await self._channel.send(Failed(fault=_fault(error), reason=summarise(error)))

    async def _listen(self) -> None:
        while (message := await self._channel.receive()) is not None:
            await self._obey(message)
        raise ProcessEnded("the supervisor is gone")

    async def _obey(self, message: SaidToChild) -> None:
        match message:
            case Ping():
                lag, self._lag = self._lag, 0.0
                await self._channel.send(Pong(sequence=message.sequence, lag=lag))
            case Survey():
                self.group = message.group
                await self._channel.send(Report(tree=self._snapshot().as_dict()))
            case DatabaseMoved():
                self.database_url = message.url
                _log.info("database_moved")
            case Adapt():
                self._settings = message.settings
                if self._adapt is not None:
                    self._adapt(message.settings)
                await self._channel.send(Adapted(number=message.number))
            case Measure():
                figures = self._measure_figures()
                await self._channel.send(Measured(number=message.number, figures=figures))
            case Figures():
                self._found(message)
            case Stop():
                self.stop(message.grace)
            case Begin():
                raise ProtocolBroken("the supervisor began twice")

    def _found(self, message: Figures) -> None:
        scrape = self._scrape
        if scrape is None or scrape.number != message.number:
            raise ProtocolBroken("the supervisor answered a scrape that nobody asked for")
        if message.instance:
            scrape.found[message.instance] = message.figures
        else:
            self._scrape = None
            scrape.complete.set()

    async def _measure(self) -> None:
        due = trio.current_time() + TICK
        while True:
            await trio.sleep_until(due)
            now = trio.current_time()
            self._lag = max(self._lag, now - due)
            due = now + TICK


def _fault(error: BaseException) -> Any:
    first = next(leaves(error))
    if isinstance(first, ConfigurationError):
        return "configuration"
    if isinstance(first, DatabaseError):
        return "database"
    return "peer" if isinstance(first, PeerError) else "ours"


@asynccontextmanager
async def open_instance(descriptor: int) -> AsyncIterator[Instance]:
    """Hear who one is, and keep up the conversation while the context is open.

    Args:
        descriptor: Of the control stream, inherited.

    Raises:
        ProcessEnded: The supervisor is gone.
        ProtocolBroken: It cannot be understood, or said nothing.
    """
    ours = trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))
    async with trio.SocketStream(ours) as stream, converse(stream) as instance:
        yield instance


@asynccontextmanager
async def converse(stream: trio.abc.Stream) -> AsyncIterator[Instance]:
    """`open_instance` over any stream."""
    channel: Channel[SaidToChild] = Channel(stream, to_child, patience=PATIENCE)
    begin: SaidToChild | None = None
    with trio.move_on_after(BEGIN_DEADLINE):
        begin = await channel.receive()
    if not isinstance(begin, Begin):
        raise ProtocolBroken("the supervisor did not say what to run")
    instance = Instance(begin, channel)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(instance._listen)  # noqa: SLF001 - the same module
        nursery.start_soon(instance._measure)  # noqa: SLF001
        yield instance
        nursery.cancel_scope.cancel()
