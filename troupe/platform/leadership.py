"""One instance at a time: terms of leadership, kept in PostgreSQL.

Problem. Some work is to be done by one instance of many (writing the slots of schedules): not for
correctness, which must not depend on anybody's belief that he is alone, but because doing it twice
is waste. The usual traps: an identity that repeats (host name and process id do, in containers), a
clock that is not everybody's, a leader that was stopped, slept through its successor's election and
goes on where it was.

Choice. A row per kind of work (`platform.leaders`) holds a *term*: a number that grows with every
change of leadership, its holder, and when it ends. Taking, extending and judging a term happens in
the database, by its clock. A holder is a random identifier, made anew with every `Leadership`.

What a leader writes, it writes in transactions that begin with `Term.hold`. That asserts that the
term is in force and keeps it so until the transaction ends: it locks the row FOR KEY SHARE, which
extending (an update of other columns) does not wait for, but which taking (FOR UPDATE) gives way
to. So terms are strictly one after the other, also in what they write: a leader that was stopped
past its lease, wakes and goes on finds its term over and writes nothing. If it is stopped *within*
a transaction, the server's own limit ends that transaction before long, and only then is the term
free to be taken.

The local clock is used in one direction only, as for the lease of jobs: a leader whose term has not
been extended for a whole lease stops by itself.

Cost: one small statement per instance and third of a lease; after a crash nobody leads for at most
one lease. After an orderly end the successor is notified and leads at once.

Rejected: advisory locks (they pin a session, break behind a pooler, and are silently lost with the
connection while the leader goes on); an election by the lowest process (who is alive is the same
question again).
"""

import os
import random
import socket
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import asyncpg
import trio

from troupe.common.database import Database
from troupe.common.errors import DatabaseError
from troupe.common.logs import get_logger
from troupe.common.sql import load
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.errors import PlatformError

_QUERIES: Final = load(__package__, "leadership.sql")

RELEASED: Final = "released"
"""Notified on `Leadership.channel` when a term was ended early."""
DEFAULT_LEASE: Final = 10 * SECONDS
RELEASE_DEADLINE: Final = 2 * SECONDS
_FIRST_PAUSE: Final = 100 * MILLISECONDS

_log = get_logger(__name__)


class TermOver(PlatformError):
    """The term is over: nothing may be written in its name any more."""


@dataclass(frozen=True, slots=True)
class Term:
    """A term of office.

    Attributes:
        name: Of the work.
        number: Larger than that of every term before it.
        holder: Who has it.
    """

    name: str
    number: int
    holder: uuid.UUID

    async def hold(self, connection: asyncpg.Connection) -> None:
        """Assert that the term is in force, and keep it so until the transaction ends.

        An asyncio coroutine, for the beginning of a unit of work. Keep the unit short: as long as
        it lasts nobody can take over, even if its process has been stopped.

        Raises:
            TermOver: It is not.
        """
        if not await connection.fetchval(_QUERIES["hold"], self.name, self.number, self.holder):
            raise TermOver(f"Term {self.number} of {self.name} is over.")


Work = Callable[[Term], Awaitable[None]]


class Leadership:
    """One instance's part in the leadership of one kind of work.

    Args:
        database: Where it is kept.
        name: Of the work; lower-case letters, digits and underscores.
        lease: Seconds that a term lasts without being extended. Too short: a busy event loop loses
            its term; too long: so long may nobody lead after a crash.
        chance: Source of random numbers between 0 and 1, for jitter.

    Attributes:
        term: The term that this instance has, as far as it knows.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        lease: float = DEFAULT_LEASE,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.term: Term | None = None
        self._database = database
        self._name = name
        self._lease = lease
        self._chance = chance
        self._holder = uuid.uuid4()
        self._confirmed = trio.current_time()  # before the last statement that gave us the term
        self._vacant_in = 0.0
        self._wake = trio.Event()

    @property
    def channel(self) -> str:
        """Where `RELEASED` is notified; the work may use it for its own purposes as well."""
        return f"troupe_{self._name}"

    # ---- the four steps

    async def acquire(self) -> Term | None:
        """Take the leadership if it is vacant.

        Raises:
            DatabaseError: Whether it was taken is unknown; asking again is harmless.
        """
        asked = trio.current_time()
        row = await self._database.fetch_row(
            _QUERIES["take"],
            self._name,
            self._holder,
            self._lease,
            socket.gethostname(),
            os.getpid(),
            deadline=self._lease,
        )
        number, left = (row["term"], row["seconds_left"]) if row is not None else (None, None)
        if number is None:
            self._vacant_in = self._lease / 10 if left is None else left
            return None
        self._confirmed = asked
        self.term = Term(self._name, number, self._holder)
        return self.term

    async def extend(self, term: Term) -> bool:
        """Let the term last a whole lease from now; False: it is over.

        Raises:
            DatabaseError: Whether it was extended is unknown.
        """
        asked = trio.current_time()
        extended: bool = await self._database.fetch_value(
            _QUERIES["extend"],
            self._name,
            term.number,
            self._holder,
            self._lease,
            deadline=self._lease / 3,
        )
        if extended:
            self._confirmed = asked
        return extended

    async def release(self, term: Term) -> None:
        """End the term, so that another instance can take over at once.

        Raises:
            DatabaseError: Whether it ended is unknown; left alone, it runs out.
        """
        await self._database.execute(
            _QUERIES["release"],
            self._name,
            term.number,
            self._holder,
            deadline=RELEASE_DEADLINE,
        )

    async def watch(self, term: Term, office: trio.CancelScope) -> None:
        """Extend the term again and again, and end what is done in its name when it is over.

        Args:
            term: Ours, just taken.
            office: Cancelled when the database says that the term is over. Its deadline is kept at
                the moment from which on nobody can be sure any more.
        """
        while True:
            office.deadline = self._confirmed + self._lease
            await trio.sleep(self._lease / 3)
            try:
                extended = await self.extend(term)
            except DatabaseError as error:
                _log.warning("leadership_not_extended", work=term.name, error=str(error))
            else:
                if not extended:
                    office.cancel()
                    return

    # ---- all of them together

    async def run(self, work: Work, stopping: trio.Event) -> None:
        """Compete for the leadership and do the work whenever it is ours.

        Args:
            work: Called with each term that we gain, cancelled when it is lost. It should return
                soon after `stopping` is set, and may raise `TermOver`.
            stopping: Ends all this; call `ring` after it was set.
        """
        pause = _FIRST_PAUSE
        while not stopping.is_set():
            try:
                term = await self.acquire()
            except DatabaseError as error:
                _log.warning("leadership_unknown", work=self._name, error=str(error))
                await self._sleep(pause)
                pause = min(2 * pause, self._lease)
                continue
            pause = _FIRST_PAUSE
            if term is None:
                # Those who wait for the same moment shall not all come at once.
                await self._sleep(self._vacant_in + self._lease / 20 * self._chance())
            else:
                await self._lead(term, work)

    def ring(self) -> None:
        """Look at once whether the leadership is vacant."""
        self._wake.set()

    async def _lead(self, term: Term, work: Work) -> None:
        _log.info("leadership_gained", work=term.name, term=term.number)
        lost = False
        try:
            with trio.CancelScope() as office:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.watch, term, office)
                    await work(term)
                    nursery.cancel_scope.cancel()
            lost = office.cancelled_caught
        except* TermOver:
            lost = True
        finally:
            self.term = None
            if lost:
                _log.warning("leadership_lost", work=term.name, term=term.number)
            else:
                await self._resign(term)

    async def _resign(self, term: Term) -> None:
        with trio.move_on_after(RELEASE_DEADLINE, shield=True):
            try:
                await self.release(term)
            except DatabaseError as error:
                _log.warning("leadership_not_released", work=term.name, error=str(error))
            else:
                _log.info("leadership_released", work=term.name, term=term.number)

    async def _sleep(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._wake.wait()
        self._wake = trio.Event()
