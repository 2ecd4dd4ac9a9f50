"""Who may stay: the bounds that all connections of one port share.

Problem. A connection costs memory, and a client decides how long it lasts: by saying nothing, by
sending a head or a body a byte at a time, by not taking its answer. Each is cut off at a deadline
of its own (`troupe.http.connection`), but until then thousands of them may be there at once. A port
that merely stops accepting when it is full has then been closed by its worst clients.

Choice. One question decides everything: **whose turn is it?** A connection on which we compute an
answer is ours, and is left alone. On every other we wait for the client: idle, in the middle of a
head or body, or with an answer that is not taken. These stand in a line, by the moment from which
we have been waiting without interruption; a byte now and then changes nothing about it. When there
is no place for a newcomer, or no memory for what is held, the first of the line is closed. Clients
that speak and listen are out of that line in milliseconds, and nobody is closed within a moment: a
client that was just accepted can say what it wants, one that was just answered can go on.

Three bounds:

* Connections. A newcomer takes the place of the first in the line. When none is waiting for its
  client, nothing is accepted, and the kernel queues (`troupe.http.server.BACKLOG`).
* Bytes held for clients: bodies that have not arrived completely, and answers not yet taken. One
  document for which many wait is there once, and counted once. Beyond the bound the first in the
  line that holds any is closed; if there is none, the body is refused.
* Requests being answered. Beyond it they are refused with 503 and ``Retry-After``, before any
  application. A request counts from when its body is there, and not while its client takes what is
  ready, so that slow bodies and slow readers take up no place.

Who is refused before all of a body was read hears why only if the rest is read as well. That is
done at a rate that all connections share; beyond it they are reset instead.

Cost: two operations on a dictionary per request. Rejected: a limit per address (behind a proxy all
are one); closing at random (hits good ones in proportion); shorter deadlines when it gets crowded
(a good client on a bad line is hit first).
"""

import fcntl
import os
import resource
from collections import Counter, OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from troupe.common.logs import get_logger
from troupe.common.units import MILLISECONDS, SECONDS, KiB, MiB

_logger = get_logger(__name__)

BETWEEN_COMPLAINTS: Final = 10 * SECONDS
RESERVED_DESCRIPTORS: Final = 256
"""Of the process, for everything but connections of clients."""
ENOUGH_DESCRIPTORS: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one server. Times in seconds.

    Attributes:
        connections: Open at a time; a further one takes the place of the one that has kept us
            waiting longest, or waits in the kernel.
        requests: Being answered at a time; further ones are refused.
        held_bytes: Incomplete bodies and answers not yet taken, of all connections together.
        head_bytes: Request line and headers.
        headers: Number of headers.
        body_bytes: Announced; no route takes more. Smaller bounds are the application's.
        body: A small body must have come within this time; larger ones are the application's.
        pipelined: Requests in a row that a client may send before it has the previous answer; the
            connection is closed then.
        discarded: Bytes per second of refused input that are read and thrown away, of all
            connections together, so that their clients hear why.
        streams: Requests at a time on one connection (HTTP/2).
        head: A request's head must have come within this time: since its first byte, or since a
            connection was accepted. Deadlines tidy up; it is who makes room that protects.
        idle: A connection on which nothing more is asked is closed then. Longer than the minute for
            which the usual proxies keep theirs, or now and then one would ask on a closed one.
        stall: A client must take 64 KiB within this time. Long enough for a train in a tunnel; who
            holds memory that others need is closed much sooner.
        slowest: Bytes per second at which a client must take an answer, beyond `stall` seconds.
        moment: Nobody has to make room who has kept us waiting for less.
        first_request: While draining, what a connection gets whose request is on its way.
        revisit: One that was answered within this time most likely has another on its way.
        drain: Running requests have this long to end after `shutdown`; then their connections are
            closed and they are cancelled.
    """

    connections: int = 4000
    requests: int = 256
    held_bytes: int = 64 * MiB
    head_bytes: int = 16 * KiB
    headers: int = 100
    body_bytes: int = 1024 * MiB
    body: float = 60 * SECONDS
    pipelined: int = 2
    discarded: float = 32 * MiB
    streams: int = 32
    head: float = 60 * SECONDS
    idle: float = 75 * SECONDS
    stall: float = 60 * SECONDS
    slowest: float = 16 * KiB
    moment: float = 250 * MILLISECONDS
    first_request: float = 1 * SECONDS
    revisit: float = 2 * SECONDS
    drain: float = 10 * SECONDS

    def patience(self, size: int) -> float:
        """Seconds that a client has to take so many bytes."""
        return self.stall + size / self.slowest


class Guest(Protocol):
    """A connection, as far as this module is concerned."""

    @property
    def held(self) -> int:
        """Bytes held for it."""
        ...

    def close_now(self) -> None:
        """Close it without waiting."""
        ...


class Admission:
    """The places, the memory and the requests of one port.

    Args:
        limits: How many of each.

    Attributes:
        limits: As given.
        held: Bytes held for all connections.
        answering: Requests being answered.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0
        self.answering = 0
        self._discarded = 0.0
        self._discarded_at = trio.current_time()
        self._places = trio.Semaphore(limits.connections)
        self._line: OrderedDict[Guest, float] = OrderedDict()
        self._documents: Counter[int] = Counter()  # by identity: how many wait for each
        self._changed = trio.Event()
        self._closed = 0
        self._complained = -BETWEEN_COMPLAINTS

    # --- places ---

    async def place(self, knocking: "trio.socket.SocketType") -> None:
        """Take a place for a connection; while there is none, only somebody who knocks makes one.

        Args:
            knocking: The listening socket; readable when a connection is there to be accepted.
        """
        if self._places.value == 0:
            await trio.lowlevel.wait_readable(knocking)
        while self._places.value == 0 and not self.make_room():
            with trio.move_on_after(self.limits.moment):
                await self._changed.wait()
        await self._places.acquire()

    def give_back(self) -> None:
        """Give a place back that no connection came to have."""
        self._places.release()

    def make_room(self) -> bool:
        """Close the connection that has kept us waiting longest; False if none has for a moment."""
        return self._close_first_of(self._line, "connections")

    # --- whose turn it is ---

    def waits(self, guest: Guest) -> None:
        """We wait for this client, from now on unless we did already."""
        self._line.setdefault(guest, trio.current_time())

    def serves(self, guest: Guest) -> None:
        """It is our turn."""
        self._line.pop(guest, None)

    def left(self, guest: Guest) -> None:
        """It is gone; its place is free."""
        self._line.pop(guest, None)
        self._places.release()
        self._changed.set()
        self._changed = trio.Event()

    # --- requests and memory ---

    def begin(self) -> bool:
        """Count a request that is complete; False if there are too many."""
        if not self.may_begin():
            return False
        self.answering += 1
        return True

    def may_begin(self) -> bool:
        """Whether a request more can be answered."""
        if self.answering < self.limits.requests:
            return True
        self._complain("requests")
        return False

    def recount(self, change: int) -> None:
        """So many requests more, or fewer, are being answered; none is refused half-way."""
        self.answering += change

    def may_discard(self, size: int) -> bool:
        """Count refused input that was read only to be thrown away; False if there is too much."""
        now = trio.current_time()
        gone = (now - self._discarded_at) * self.limits.discarded
        self._discarded = max(0.0, self._discarded - gone) + size
        self._discarded_at = now
        return self._discarded <= self.limits.discarded

    def hold(self, size: int, holder: Guest) -> bool:
        """Count bytes held for a client, which must be let go of later in any case.

        Returns:
            False if there is no room for them, although all slower clients were closed.
        """
        self.held += size
        while self.held > self.limits.held_bytes:
            others = (guest for guest in self._line if guest.held and guest is not holder)
            if not self._close_first_of(others, "memory"):
                return False
        return True

    def let_go(self, size: int) -> None:
        """The bytes are gone."""
        self.held -= size

    def hold_document(self, document: bytes, holder: Guest) -> None:
        """Count an answer that a client takes its time for, which must be let go of later."""
        self._documents[id(document)] += 1
        if self._documents[id(document)] == 1:
            self.hold(len(document), holder)

    def let_document_go(self, document: bytes) -> None:
        """A client waits for it no longer."""
        self._documents[id(document)] -= 1
        if self._documents[id(document)] == 0:
            del self._documents[id(document)]
            self.let_go(len(document))

    # --- what becomes of the slowest ---

    def _close_first_of(self, guests: Iterable[Guest], bound: str) -> bool:
        slowest = next(iter(guests), None)
        if slowest is None or trio.current_time() - self._line[slowest] < self.limits.moment:
            self._complain(bound)
            return False
        self._line.pop(slowest, None)
        slowest.close_now()
        self._closed += 1
        self._complain(bound)
        return True

    def _complain(self, bound: str) -> None:
        """One line now and then: a flood must not become one of the log."""
        now = trio.current_time()
        if now - self._complained < BETWEEN_COMPLAINTS:
            return
        self._complained = now
        closed, self._closed = self._closed, 0
        _logger.warning("server_crowded", bound=bound, closed=closed)


def raise_descriptor_limit(connections: int) -> int:
    """Allow this process as many open files as connections need, as far as the system does.

    The kernel's table of them is made as large at once. Each time it doubles later, a process with
    threads waits for all processors to take notice: 8 to 18 ms in the middle of an `accept`.

    Returns:
        For how many connections it suffices.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, ENOUGH_DESCRIPTORS)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft not in (resource.RLIM_INFINITY, wanted):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    possible = max(1, min(connections, wanted - RESERVED_DESCRIPTORS))
    with suppress(OSError), Path(os.devnull).open() as known:  # else it grows as it has to
        os.close(fcntl.fcntl(known, fcntl.F_DUPFD_CLOEXEC, possible))
    return possible
