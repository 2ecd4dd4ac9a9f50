"""Plain requests without Hypercorn: what its layers do for them, done once.

Problem. On its way through Hypercorn, h11 and quart-trio a request costs 1.2 ms before anybody has
thought about it, three quarters of what a health check costs: a task for the application and two in
it, two channels, a lock and a shielded scope per write, an idle task that ends and begins again.
A dashboard asks a dozen things at once, and two hundred clients that ask one thing each every
second kept a quarter of a processor busy with nothing but that.

Choice. A request that `troupe.http.plain` reads, on a connection where nothing else is under way,
is answered by the task that has read it. The application is the same ASGI application, told the
same; what it does not need are three tasks to find out that there is no body. What is left of a
protocol is here: an answer's head and its framing (`DirectAnswer`), and who notices that a client
has left while nobody reads (`Departures`). Everything else about a connection, its deadlines, its
place in the line, what is refused and how it drains, is `troupe.http.connection`'s as before.

Answers are compared with those of the usual way by a test, header by header.

Rejected: a task per request that waits for the client to leave (a third of what was saved);
another server (none that runs on trio is faster, and the connections' rules would be lost).
"""

import select
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

import trio
from hypercorn.typing import ASGIReceiveEvent

from troupe.common.units import MILLISECONDS, KiB
from troupe.http.refusals import announced_bytes

LOOKED_AFTER: Final = 100 * MILLISECONDS
"""Until it is noticed that a client has left."""
_GONE: Final = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
CLOSE: Final = (b"connection", b"close")
_JOINED: Final = 16 * KiB
"""Bytes of a body; to copy more costs more than a write."""


class NoBody:
    """The ASGI `receive` of a request that has none; it never says that the client has left."""

    def __init__(self) -> None:
        self._told = False

    async def __call__(self) -> ASGIReceiveEvent:
        """The empty body, once."""
        if self._told:
            await trio.sleep_forever()
        self._told = True
        return {"type": "http.request", "body": b"", "more_body": False}


class DirectAnswer:
    """The ASGI `send` of one answer in HTTP/1.1.

    A head that announces a short body goes out together with it. A body whose length nobody knows
    goes in chunks (RFC 9112, section 7.1), and its head at once: it may begin with a pause.

    The application is through when the system has its last piece, or we have: who takes their time
    over the rest keeps none of it.

    Args:
        write: Sends bytes to the client.
        take: How many of these bytes the system takes without waiting for the client.

    Attributes:
        is_last: Whether the connection ends with this answer, because that was said or because it
            is not whole.
        rest: The last piece, and how much of it the system has, when that is not all.
    """

    def __init__(
        self, write: Callable[[bytes], Awaitable[None]], take: Callable[[bytes], int]
    ) -> None:
        self.is_last = True
        self.rest: tuple[int, bytes] | None = None
        self._write = write
        self._take = take
        self._closes = False
        self._unsent = b""
        self._missing: int | None = 0

    async def __call__(self, message: Mapping[str, Any]) -> None:
        """Take a part of the answer.

        Raises:
            ValueError: It is no answer in HTTP: a header with a line break, or more or less of a
                body than was announced.
        """
        if message["type"] == "http.response.start":
            await self._begin(message["status"], message["headers"])
        elif message["type"] == "http.response.body":
            await self._go_on(message["body"], more=message.get("more_body", False))

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._closes = CLOSE in headers
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
            raise ValueError("a header has a line break")
        announced = b"content-length" in {name.lower() for name, _ in headers}
        self._missing = announced_bytes(headers) if announced else None
        if status in _WITHOUT_BODY:
            self._missing = 0
        chunked = b"transfer-encoding: chunked\r\n" if self._missing is None else b""
        head = b"HTTP/1.1 %d \r\n%bdate: %b\r\n%b\r\n" % (status, lines, date_now(), chunked)
        if self._missing:
            self._unsent = head
        else:
            await self._write(head)

    async def _go_on(self, body: bytes, *, more: bool) -> None:
        if self._missing is None:
            body = _chunk(body, last=not more)
        elif len(body) > self._missing or (not more and len(body) < self._missing):
            raise ValueError("a body is not as long as its head says")
        else:
            self._missing -= len(body)
            head, self._unsent = self._unsent, b""
            if len(body) <= _JOINED:
                body = head + body
            elif head:
                await self._write(head)
        if more and body:
            await self._write(body)
        elif not more:
            taken = self._take(body) if body else 0
            if taken < len(body):
                self.rest = taken, body
            self.is_last = self._closes


def _chunk(body: bytes, *, last: bool) -> bytes:
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return chunk + b"0\r\n\r\n" if last else chunk


_written: tuple[int, bytes] = (0, b"")


def date_now() -> bytes:
    """The ``Date`` of this second (RFC 9110, section 5.6.7)."""
    global _written  # noqa: PLW0603 - one value per second, whoever asks
    second = int(time.time())
    if second != _written[0]:
        _written = second, formatdate(second, usegmt=True).encode()
    return _written[1]


class Departures:
    """Notices clients that leave while they are answered, for all connections of one port.

    Nobody reads from a connection meanwhile. So the system is asked every `LOOKED_AFTER` seconds
    who has left. Whoever is answered sooner costs two operations on a dictionary; only those that
    last are made known to the system, which then tells of those that left, however many wait.
    """

    def __init__(self) -> None:
        self._system = select.epoll()
        self._scopes: dict[int, trio.CancelScope] = {}
        self._unknown: set[int] = set()
        self._some = trio.Event()

    @contextmanager
    def attending(self, descriptor: int) -> Iterator[trio.CancelScope]:
        """Cancel the context when the client leaves; whoever notices first may do so too.

        Args:
            descriptor: Of the connection's socket. Should that be closed meanwhile, it may come to
                be another's.
        """
        with trio.CancelScope() as scope:
            self._scopes[descriptor] = scope
            self._unknown.add(descriptor)
            self._some.set()
            try:
                yield scope
            finally:
                if self._scopes.get(descriptor) is scope:
                    del self._scopes[descriptor]
                    if descriptor in self._unknown:
                        self._unknown.discard(descriptor)
                    else:
                        with suppress(OSError, ValueError):  # it is closed, or the watch is over
                            self._system.unregister(descriptor)

    async def watch(self) -> None:
        """Look after them until cancelled."""
        with self._system:
            while True:
                await self._some.wait()
                await trio.sleep(LOOKED_AFTER)
                for descriptor in self._unknown:
                    with suppress(OSError):  # closed; who closes it ends the answer as well
                        self._system.register(descriptor, _GONE)
                self._unknown.clear()
                for descriptor, _ in self._system.poll(0):
                    if descriptor in self._scopes:
                        self._scopes[descriptor].cancel()
                if not self._scopes:
                    self._some = trio.Event()
