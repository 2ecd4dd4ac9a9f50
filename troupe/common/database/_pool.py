"""The pool: which trio task uses which session, and for how long it may wait.

Problem. asyncpg's own pool lives in asyncio: waiting for a connection, taking it, BEGIN, COMMIT and
giving it back would each be a crossing of the bridge, and its deadlines are not trio's.

Choice. Bookkeeping is trio's and plain: a `CapacityLimiter` is the bound and the queue (first come,
first served), a list of idle sessions the store (last in, first out: what is not needed gets old
and is closed). A unit of work is then one crossing, whatever it does inside. One deadline covers
all of it: the queue, connecting, the unit, the commit. It is an ordinary cancel scope, so callers'
own scopes work the same way, and the bridge makes both reach the server.

A unit is started at most once: only as long as nothing of it has run is another connection tried,
with backoff, as long as the deadline allows. What became of a unit whose connection broke is the
caller's question, because only the caller knows whether to repeat it.

Rejected: asyncpg's pool behind the bridge (five crossings per unit); a session per task
(unbounded); checking idle connections with a query of its own before use (BEGIN is that check, and
costs nothing extra).
"""

import asyncio
import math
import random
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import asyncpg
import trio

from troupe.common.bridge import BridgeMisuse, aio, aio_soon
from troupe.common.database._failures import (
    LOST,
    CommitUnknown,
    NotBegun,
    connecting_failed,
    described,
)
from troupe.common.database._listener import listen_to
from troupe.common.database._session import (
    LONGEST_LIMIT,
    Isolation,
    Order,
    Phase,
    Session,
    Unit,
    after_begin,
    connect,
)
from troupe.common.database._settings import PoolSettings
from troupe.common.errors import DatabaseError, DatabaseUnavailable, DeadlineExceeded
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.units import MILLISECONDS, SECONDS

__all__ = ["Database", "PoolStatistics", "Unit", "open_database"]

T = TypeVar("T")

CLOSE_DEADLINE: Final = 5 * SECONDS
_FAREWELL_DEADLINE: Final = 1 * SECONDS
_FIRST_BACKOFF: Final = 50 * MILLISECONDS
_LONGEST_BACKOFF: Final = 2 * SECONDS
_SERVER_MARGIN: Final = 1 * SECONDS  # by which the server's limit lies behind ours

_DEFAULTS: Final = PoolSettings()
_STALE: Final = (
    asyncpg.exceptions.InvalidCachedStatementError,
    asyncpg.exceptions.OutdatedSchemaCacheError,
)

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A pool at one moment.

    Attributes:
        size: Most connections that it may have.
        busy: Units of work that hold a connection, or are making one.
        idle: Connections open and unused.
        waiting: Units of work that wait for their turn.
    """

    size: int
    busy: int
    idle: int
    waiting: int


class Database:
    """Units of work on a bounded number of connections; made by `open_database`."""

    def __init__(
        self,
        url: str,
        *,
        connections: int,
        application_name: str,
        listen_url: str | None,
        settings: PoolSettings,
    ) -> None:
        self._url = url
        self._listen_url = listen_url or url
        self._application_name = application_name
        self._settings = settings
        self._limiter = trio.CapacityLimiter(connections)
        self._idle: list[Session] = []
        self._busy: set[Session] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        self._emptied = trio.Event()

    async def run(
        self,
        unit: Unit[T],
        *,
        tenant: TenantId | None = None,
        read_only: bool = False,
        isolation: Isolation = "read_committed",
        custom_plans: bool = False,
        durable: bool = True,
        deadline: float | None = None,
    ) -> T:
        """Run a unit of work: one transaction, committed if ``unit`` returns.

        ``unit`` is asyncio code and gets asyncpg's connection for as long as it runs; it must not
        keep it. Inside, ``connection.transaction()`` makes a savepoint. COPY, cursors and
        ``executemany`` work; LISTEN does not (see `listen`).

        Args:
            unit: ``async def unit(connection) -> T``.
            tenant: Whose rows are visible; None shows no tenant's.
            read_only: The transaction may not write. The result counts before its end, which is not
                waited for, unless it is serializable.
            isolation: Of the transaction.
            custom_plans: Plan each statement for its values: for those whose values decide what
                need not be looked at. It costs no round trip.
            durable: What it wrote is on disk before this returns. False: it will be soon after,
                and a crash of the server meanwhile loses all of it.
            deadline: Seconds for everything together; the pool's default if None. A statement
                under way is cancelled on the server. ``math.inf`` waits as long as it takes.

        Returns:
            What ``unit`` returns.

        Raises:
            DeadlineExceeded: It took longer than ``deadline``; nothing was committed.
            DatabaseUnavailable: No connection can be had, or it was lost; nothing was committed.
            CommitUnknown: The connection was lost while committing.
            StorageFull: PostgreSQL has no space left; nothing was committed.
            UnitBroken: The unit broke its transaction; nothing was committed.
            Exception: Whatever ``unit`` raises, constraint violations of asyncpg among it; nothing
                was committed.
        """
        if tenant is not None and not isinstance(tenant, uuid.UUID):
            raise TypeError(f"a tenant is a UUID, not {type(tenant).__name__}")
        seconds = self._settings.deadline if deadline is None else deadline
        backoff = _Backoff()
        session: Session | None = None
        with trio.move_on_after(seconds) as scope:
            await self._enter(scope)
            try:
                while True:
                    session = self._take_idle() or await self._connect(backoff)
                    limit = _limit(scope)
                    preamble = after_begin(
                        "" if tenant is None else str(tenant), limit, custom_plans=custom_plans
                    )
                    order = Order(unit, preamble, limit, isolation, read_only, durable)
                    try:
                        return await self._perform(order, session)
                    except NotBegun as lost:
                        await self._after_lost(session, lost, backoff)
            finally:
                if session is None or session.unended is None:
                    self._leave(scope)
                else:
                    self._leave_ending(session, scope)
        # Only a cancellation by our own scope leads here.
        if session is not None and session.phase is Phase.COMMIT and not read_only:
            raise CommitUnknown(f"The commit was not answered within {seconds:g} seconds.")
        if backoff.failure is not None:
            raise backoff.failure
        raise DeadlineExceeded(f"The database took longer than {seconds:g} seconds.")

    async def fetch(
        self,
        sql: str,
        *args: object,
        tenant: TenantId | None = None,
        read_only: bool = False,
        deadline: float | None = None,
    ) -> list[asyncpg.Record]:
        """All rows of one statement; otherwise as `run`."""
        return await self._single(
            lambda connection: connection.fetch(sql, *args),
            tenant,
            read_only=read_only,
            deadline=deadline,
        )

    async def fetch_row(
        self,
        sql: str,
        *args: object,
        tenant: TenantId | None = None,
        read_only: bool = False,
        durable: bool = True,
        deadline: float | None = None,
    ) -> asyncpg.Record | None:
        """The first row of one statement, or None; otherwise as `run`."""
        return await self._single(
            lambda connection: connection.fetchrow(sql, *args),
            tenant,
            read_only=read_only,
            durable=durable,
            deadline=deadline,
        )

    async def fetch_value(
        self,
        sql: str,
        *args: object,
        tenant: TenantId | None = None,
        read_only: bool = False,
        deadline: float | None = None,
    ) -> Any:
        """The first column of the first row, or None; otherwise as `run`."""
        return await self._single(
            lambda connection: connection.fetchval(sql, *args),
            tenant,
            read_only=read_only,
            deadline=deadline,
        )

    async def execute(
        self,
        sql: str,
        *args: object,
        tenant: TenantId | None = None,
        deadline: float | None = None,
    ) -> str:
        """Run one statement; returns its tag (``UPDATE 3``). Otherwise as `run`."""
        return await self._single(
            lambda connection: connection.execute(sql, *args), tenant, deadline=deadline
        )

    @asynccontextmanager
    async def listen(
        self, channel: str, *, deadline: float | None = None
    ) -> AsyncGenerator[trio.MemoryReceiveChannel[str]]:
        """Payloads of NOTIFY on ``channel``, over a connection of its own.

        Equal payloads that wait to be read are delivered once. `MISSED` is delivered when
        notifications may have been lost (the connection was replaced, or the reader was too slow):
        poll once then. Listening has begun when the context is entered.

        Args:
            channel: Its name, unquoted.
            deadline: Seconds until listening must have begun. Later losses are repaired, always.

        Raises:
            DatabaseError: It could not begin.
        """
        seconds = self._settings.deadline if deadline is None else deadline
        async with listen_to(
            channel,
            lambda: connect(self._listen_url, f"{self._application_name} listen", self._settings),
            self._settings,
            deadline=seconds,
        ) as payloads:
            yield payloads

    def statistics(self) -> PoolStatistics:
        """The pool at this moment."""
        limiter = self._limiter.statistics()
        return PoolStatistics(
            size=int(limiter.total_tokens),
            busy=limiter.borrowed_tokens,
            idle=len(self._idle),
            waiting=limiter.tasks_waiting,
        )

    def resize(self, connections: int) -> None:
        """Change the bound; connections above it are closed as they are given back.

        Args:
            connections: At least 1.
        """
        self._limiter.total_tokens = connections
        self._shed()

    async def _single(
        self,
        unit: Unit[T],
        tenant: TenantId | None,
        *,
        read_only: bool = False,
        durable: bool = True,
        deadline: float | None,
    ) -> T:
        seconds = self._settings.deadline if deadline is None else deadline
        started = trio.current_time()
        try:
            return await self.run(
                unit, tenant=tenant, read_only=read_only, durable=durable, deadline=seconds
            )
        except _STALE:
            # A migration changed what a prepared statement returns. asyncpg has forgotten it on the
            # connection that failed; the others have it still.
            while self._idle:
                self._idle.pop().terminate()
            left = seconds - (trio.current_time() - started)
            return await self.run(
                unit, tenant=tenant, read_only=read_only, durable=durable, deadline=left
            )

    async def _enter(self, borrower: object) -> None:
        try:
            self._limiter.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(borrower)
        if self._closed:
            self._leave(borrower)
            raise DatabaseUnavailable("The database pool is closed.")

    def _leave(self, borrower: object) -> None:
        self._limiter.release_on_behalf_of(borrower)
        if self._closed and not self._limiter.borrowed_tokens:
            self._emptied.set()

    def _leave_ending(self, session: Session, borrower: object) -> None:
        """Give a session back when its transaction has ended, for which nobody has to wait."""

        def ended(_: object = None) -> None:
            self._give_back(session)
            self._leave(borrower)

        try:
            ending = aio_soon(session.end_reading(self._settings.clean_up_deadline))
        except BridgeMisuse:  # it is closing: the transaction ends with its connection
            session.terminate()
            ended()
        else:
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            ending.add_done_callback(ended)

    async def _perform(self, order: Order[T], session: Session) -> T:
        self._busy.add(session)
        try:
            return await aio(
                session.perform(order, self._settings),
                clean_up=self._settings.clean_up_deadline,
                cancel=session.cancel,
            )
        finally:
            if session.unended is None:
                self._give_back(session)

    def _take_idle(self) -> Session | None:
        now = trio.current_time()
        while self._idle:
            session = self._idle.pop()
            if (
                session.reusable
                and now < session.retires
                and now - session.idle_since < self._settings.max_idle
            ):
                return session
            session.terminate()
        return None

    def _give_back(self, session: Session) -> None:
        self._busy.discard(session)
        now = trio.current_time()
        if session.reusable and now < session.retires and not self._closed:
            session.idle_since = now
            session.fresh = False
            self._idle.append(session)
            self._shed()
        else:
            session.terminate()

    def _shed(self) -> None:
        """Close the idle connections that are too many or too long idle."""
        oldest = trio.current_time() - self._settings.max_idle
        room = self._limiter.total_tokens - len(self._busy)
        while self._idle and (len(self._idle) > room or self._idle[0].idle_since < oldest):
            self._idle.pop(0).terminate()

    async def _connect(self, backoff: "_Backoff") -> Session:
        while True:
            try:
                session = await aio(
                    connect(self._url, self._application_name, self._settings),
                    clean_up=self._settings.clean_up_deadline,
                )
            except Exception as error:
                failure, worth_retrying = connecting_failed(error)
                failure.__cause__ = error
                _log.warning("database_connect_failed", reason=str(failure), error=described(error))
                if not worth_retrying or not await backoff.wait(failure):
                    raise failure from error
            else:
                backoff.failure = None
                shortening = random.uniform(0, self._settings.age_jitter)  # noqa: S311 - no secret
                session.retires = trio.current_time() + self._settings.max_age * (1 - shortening)
                return session

    async def _after_lost(self, session: Session, lost: NotBegun, backoff: "_Backoff") -> None:
        """Return if another connection is to be tried."""
        _log.warning(
            "database_connection_lost", silent=lost.silent, error=described(lost.__cause__)
        )
        if lost.silent:  # then so are its neighbours, most likely
            while self._idle:
                self._idle.pop().terminate()
        if session.fresh:
            failure = DatabaseUnavailable(LOST)
            failure.__cause__ = lost.__cause__
            if not await backoff.wait(failure):
                raise failure from lost.__cause__

    async def close(self) -> None:
        """Refuse new units, let those under way end, then close every connection; bounded."""
        self._closed = True
        if self._limiter.borrowed_tokens:
            with trio.move_on_after(CLOSE_DEADLINE):
                await self._emptied.wait()
        for session in self._busy:
            session.terminate()
        sessions, self._idle = self._idle, []
        await aio(_say_goodbye(sessions))


class _Backoff:
    """Growing, jittered pauses between attempts, as long as the caller's deadline allows.

    Attributes:
        failure: Why the last attempt failed, if one did.
    """

    def __init__(self) -> None:
        self.failure: DatabaseError | None = None
        self._longest = _FIRST_BACKOFF

    async def wait(self, failure: DatabaseError) -> bool:
        """Pause; False, at once, if the deadline would pass meanwhile."""
        self.failure = failure
        pause = random.uniform(self._longest / 2, self._longest)  # noqa: S311 - no secret
        self._longest = min(2 * self._longest, _LONGEST_BACKOFF)
        if trio.current_time() + pause >= trio.current_effective_deadline():
            return False
        await trio.sleep(pause)
        return True


@asynccontextmanager
async def open_database(
    url: str,
    *,
    connections: int,
    application_name: str = "troupe",
    listen_url: str | None = None,
    settings: PoolSettings = _DEFAULTS,
) -> AsyncGenerator[Database]:
    """A pool on the database at ``url``; it connects when first used.

    Needs an open bridge (`troupe.common.bridge.open_bridge`).

    Args:
        url: ``postgresql://…``.
        connections: Most connections at any time, those of `Database.listen` not counted.
        application_name: What ``pg_stat_activity`` shows.
        listen_url: Where to LISTEN if ``url`` leads to a pooler in transaction mode.
        settings: How it treats its connections.
    """
    await aio(asyncio.sleep(0))  # says at once if there is no bridge
    database = Database(
        url,
        connections=connections,
        application_name=application_name,
        listen_url=listen_url,
        settings=settings,
    )
    try:
        yield database
    finally:
        with trio.CancelScope(shield=True):
            await database.close()


def _limit(scope: trio.CancelScope) -> int:
    """Milliseconds that the server gives a statement; 0: as long as it takes."""
    left = scope.deadline - trio.current_time() + _SERVER_MARGIN
    return 0 if left == math.inf else min(int(left / MILLISECONDS), LONGEST_LIMIT)


async def _say_goodbye(sessions: Sequence[Session]) -> None:
    farewells = (session.close(timeout=_FAREWELL_DEADLINE) for session in sessions)
    await asyncio.gather(*farewells, return_exceptions=True)
