"""LISTEN that survives: notifications into a trio channel, on a connection of its own.

Problem. A notification is a hint that is easily lost: the connection breaks, or dies without a word
(a firewall forgot it), or the reader is slower than the writers. Whoever waits for hints alone then
waits for ever. And a connection that listens cannot be shared or pooled.

Choice. One asyncio task keeps a connection listening: it asks it at an interval whether it is alive
(`SELECT 1`: the server answers on the connection that would carry the notifications) and connects
anew, with backoff, when it is not. Whenever something may have been missed, the reader gets
`MISSED` and polls once. So notifications only have to be fast, and polling only has to be right.

Between the callback and the reader lies a bounded, ordered set: equal payloads that wait are one,
and when it is full all of it is replaced by a single `MISSED`. No writer is ever held back, no
memory grows.

Cost: one connection per listener. Rejected: listening on a pooled connection (resetting it ends
the listening; a pooler loses it), a probe by NOTIFY (takes a database-wide lock at every commit).
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import trio

from troupe.common.bridge import ToTrio, aio
from troupe.common.database._failures import connecting_failed, described
from troupe.common.database._settings import PoolSettings
from troupe.common.errors import DatabaseError, DeadlineExceeded
from troupe.common.logs import get_logger
from troupe.common.sql import load
from troupe.common.units import MILLISECONDS, SECONDS

MISSED: Final = "\0missed"
"""Delivered in place of a payload: notifications may have been lost, poll once. No payload of
PostgreSQL can hold its first character."""

LONGEST_QUEUE: Final = 1024
_FIRST_BACKOFF: Final = 100 * MILLISECONDS
_LONGEST_BACKOFF: Final = 10 * SECONDS
_STOP_DEADLINE: Final = 2 * SECONDS

_PROBE: Final = load(__package__, "session.sql")["probe"]
_log = get_logger(__name__)

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class _Waiting:
    """Payloads that wait to be read: ordered, without duplicates, bounded."""

    def __init__(self) -> None:
        self._payloads: dict[str, None] = {}
        self._filled = asyncio.Event()

    def add(self, payload: str) -> None:
        if len(self._payloads) == LONGEST_QUEUE and payload not in self._payloads:
            self._payloads.clear()
            payload = MISSED
        self._payloads[payload] = None
        self._filled.set()

    async def next(self) -> str:
        while not self._payloads:
            self._filled.clear()
            await self._filled.wait()
        payload = next(iter(self._payloads))
        del self._payloads[payload]
        return payload


class Listener:
    """The asyncio side: one task that keeps a connection listening, one that delivers.

    Attributes:
        failure: Why the last attempt to listen failed, if one did.
    """

    def __init__(
        self, channel: str, connect: Connect, outlet: ToTrio[str], settings: PoolSettings
    ) -> None:
        self.failure: DatabaseError | None = None
        self._channel = channel
        self._connect = connect
        self._outlet = outlet
        self._settings = settings
        self._waiting = _Waiting()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Return as soon as the server has us listening; keeps trying until cancelled.

        Raises:
            DatabaseError: The server refuses us, and would again.
        """
        connection = await self._listen(stubborn=False)
        for coroutine in (self._keep(connection), self._deliver()):
            task = asyncio.create_task(coroutine)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    async def stop(self) -> None:
        """End both tasks and the connection."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_DEADLINE)

    async def _listen(self, *, stubborn: bool) -> "_Ear":
        """A connection that listens; tries again and again, also when refused if ``stubborn``."""
        longest = _FIRST_BACKOFF
        while True:
            connection: asyncpg.Connection | None = None
            try:
                async with asyncio.timeout(self._settings.connect_deadline):
                    connection = await self._connect()
                    ear = _Ear(connection)
                    await connection.add_listener(self._channel, self._heard)
                    return ear
            except Exception as error:
                if connection is not None:
                    connection.terminate()
                self.failure, worth_retrying = connecting_failed(error)
                self.failure.__cause__ = error
                if not worth_retrying and not stubborn:
                    raise self.failure from error
                _log.warning(
                    "database_listen_failed",
                    channel=self._channel,
                    reason=str(self.failure),
                    error=described(error),
                )
            except asyncio.CancelledError:
                if connection is not None:
                    connection.terminate()
                raise
            await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - no secret
            longest = min(2 * longest, _LONGEST_BACKOFF)

    async def _keep(self, ear: "_Ear") -> None:
        while True:
            reason = await ear.watch(self._settings)
            _log.warning("database_listener_lost", channel=self._channel, reason=reason)
            ear = await self._listen(stubborn=True)
            _log.info("database_listener_back", channel=self._channel)
            self._waiting.add(MISSED)

    async def _deliver(self) -> None:
        try:
            while True:
                await self._outlet.send(await self._waiting.next())
        except trio.BrokenResourceError:
            return  # nobody reads any more

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._waiting.add(str(payload))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._outlet.close()  # if a task failed, the reader must not wait for ever
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("database_listener_failed", channel=self._channel, exc_info=error)


class _Ear:
    """A connection that listens, and what tells whether it still does."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._lost = asyncio.Event()
        connection.add_termination_listener(lambda _: self._lost.set())

    async def watch(self, settings: PoolSettings) -> str:
        """Return, with the reason, once the connection is of no more use; it is closed then."""
        try:
            while True:
                try:
                    async with asyncio.timeout(settings.probe_interval):
                        await self._lost.wait()
                except TimeoutError:
                    await self._connection.execute(_PROBE, timeout=settings.begin_deadline)
                else:
                    return "closed"
        except TimeoutError:
            return "silent"
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return described(error)
        finally:
            self._connection.terminate()


@asynccontextmanager
async def listen_to(
    channel: str, connect: Connect, settings: PoolSettings, *, deadline: float
) -> AsyncGenerator[trio.MemoryReceiveChannel[str]]:
    """What `Database.listen` does."""
    send, receive = trio.open_memory_channel[str](1)
    listener = Listener(channel, connect, ToTrio(send), settings)
    with send, receive:
        with trio.move_on_after(deadline) as scope:
            await aio(listener.start())
        if scope.cancelled_caught:
            late = DeadlineExceeded(f"Listening did not begin within {deadline:g} seconds.")
            raise listener.failure or late
        try:
            yield receive
        finally:
            with trio.CancelScope(shield=True):
                await aio(listener.stop())
