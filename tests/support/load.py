"""Clients that never try again: whatever goes wrong with a request is counted.

They speak HTTP/1.1 over plain sockets, because every library repeats or hides something: a *loyal*
client keeps its connection until it is told to close, a *fickle* one makes a new connection for
every request.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import trio

ANSWER_DEADLINE = 30
_HEAD_BYTES = 64 * 1024


class NoAnswer(Exception):
    """A request was not answered."""


@dataclass
class Books:
    """What came of all requests.

    Attributes:
        answers: Status code to how often.
        failures: What went wrong, how often.
        slowest: Seconds.
    """

    answers: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    def assert_spotless(self, *, at_least: int) -> None:
        """Every request was answered, and with success."""
        assert not self.failures, f"{self.failures} beside {self.answers}"
        assert set(self.answers) == {200}, self.answers
        assert self.answers.total() >= at_least, self.answers


class _Connection:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._unread = b""

    async def request(self, head: bytes) -> tuple[int, bool]:
        """Ask; the status, and whether the connection stays open."""
        await self._stream.send_all(head)
        while b"\r\n\r\n" not in self._unread:
            await self._more("before an answer" if not self._unread else "within the head")
            if len(self._unread) > _HEAD_BYTES:
                raise NoAnswer("endless head")
        raw, self._unread = self._unread.split(b"\r\n\r\n", 1)
        first, *lines = raw.split(b"\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines)
        }
        await self._body(headers)
        return int(first.split()[1]), headers.get(b"connection", b"").lower() != b"close"

    async def _body(self, headers: Mapping[bytes, bytes]) -> None:
        if headers.get(b"transfer-encoding") == b"chunked":
            while not self._unread.endswith(b"0\r\n\r\n"):
                await self._more("within a chunk")
            self._unread = b""
            return
        length = int(headers[b"content-length"])
        while len(self._unread) < length:
            await self._more("within the body")
        self._unread = self._unread[length:]

    async def _more(self, where: str) -> None:
        data = await self._stream.receive_some(65536)
        if not data:
            raise NoAnswer(f"closed {where}")
        self._unread += data

    async def aclose(self) -> None:
        await self._stream.aclose()


class Load:
    """Clients of one URL.

    Args:
        url: What they ask for.
        loyal: Clients that keep their connection.
        fickle: Clients that do not.
        pause: Seconds between an answer and the next request.
        headers: Sent along.
    """

    def __init__(
        self,
        url: str,
        *,
        loyal: int = 0,
        fickle: int = 0,
        pause: float = 0.01,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.books = Books()
        self._address = (parts.hostname or "", parts.port or 80)
        lines = [f"GET {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._lines = lines
        self._loyal = loyal
        self._fickle = fickle
        self._pause = pause
        self._finished = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Books]:
        """Ask all the time while the context is open; what is under way is answered then."""
        async with trio.open_nursery() as nursery:
            for number in range(self._loyal + self._fickle):
                nursery.start_soon(self._work, number < self._loyal)
            try:
                yield self.books
            finally:
                self._finished = True

    async def more(self, count: int) -> None:
        """Wait until so many more requests were answered."""
        goal = self.books.answers.total() + count
        while self.books.answers.total() < goal:
            await trio.sleep(0.01)

    async def _work(self, loyal: bool) -> None:
        close = [] if loyal else ["Connection: close"]
        head = "\r\n".join([*self._lines, *close, "", ""]).encode()
        connection: _Connection | None = None
        while not self._finished:
            begun = trio.current_time()
            try:
                with trio.fail_after(ANSWER_DEADLINE):
                    if connection is None:
                        connection = _Connection(await trio.open_tcp_stream(*self._address))
                    status, stays = await connection.request(head)
            except (NoAnswer, OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                who = "loyal" if loyal else "fickle"
                what = f"{who}: {type(error).__name__}: {error.__cause__ or error}"
                self.books.failures[what] += 1
                stays = False
            else:
                self.books.answers[status] += 1
                self.books.slowest = max(self.books.slowest, trio.current_time() - begun)
            if not (loyal and stays) and connection is not None:
                await connection.aclose()
                connection = None
            await trio.sleep(self._pause)
        if connection is not None:
            await connection.aclose()
