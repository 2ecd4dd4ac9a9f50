"""Raw bytes over real sockets: a site to serve, a server to run, answers to read."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import trio
from quart import Response

from troupe.http.application import Application, HttpSettings, create_app
from troupe.http.conventions import AnswerModel, BodyModel
from troupe.http.declaration import Answer, Media
from troupe.http.event_stream import EVENT_STREAM, ServerEvent, event_stream
from troupe.http.principal import Access

WAIT = 10.0
"""Seconds after which a test that waits has failed."""

LARGE_BYTES = 64 * 1024 * 1024
"""More than any pair of socket buffers takes."""


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    with trio.fail_after(WAIT):
        while not holds():
            await trio.sleep(0.005)


class Echo(AnswerModel):
    text: str


class EchoBody(BodyModel):
    text: str


@dataclass
class Site:
    """An application with the routes that the tests need, and what happened in them."""

    app: Application
    started: trio.Event = field(default_factory=trio.Event)
    release: trio.Event = field(default_factory=trio.Event)
    cancelled: trio.Event = field(default_factory=trio.Event)


def make_site(**settings: Any) -> Site:
    app = create_app("analytics", resolver=None, settings=HttpSettings(**settings))
    site = Site(app)

    @app.api.get("/quick", requires=Access.PUBLIC, answers={200: Echo}, summary="At once")
    async def quick() -> Echo:
        return Echo(text="quick")

    @app.api.get("/slow", requires=Access.PUBLIC, answers={200: Echo}, summary="When released")
    async def slow() -> Echo:
        site.started.set()
        try:
            await site.release.wait()
        except trio.Cancelled:
            site.cancelled.set()
            raise
        return Echo(text="slow")

    @app.api.get(
        "/large",
        requires=Access.PUBLIC,
        answers={200: Media("application/octet-stream")},
        summary="More than any socket buffers",
    )
    async def large() -> Answer:
        site.started.set()
        return Answer(b"x" * LARGE_BYTES)

    shared_document = b"x" * LARGE_BYTES

    @app.api.get(
        "/shared",
        requires=Access.PUBLIC,
        answers={200: Media("application/octet-stream")},
        summary="The same for everybody",
    )
    async def shared() -> Answer:
        return Answer(shared_document)

    @app.api.post(
        "/echo", requires=Access.PUBLIC, body=EchoBody, answers={200: Echo}, summary="Back again"
    )
    async def echo(*, body: EchoBody) -> Echo:
        return Echo(text=body.text)

    @app.api.get("/events", requires=Access.PUBLIC, answers={200: EVENT_STREAM}, summary="Events")
    async def events() -> Response:
        async def source() -> AsyncGenerator[ServerEvent, None]:
            yield ServerEvent("first")
            site.started.set()
            await site.release.wait()

        return event_stream(source(), heartbeat=0.05)

    return site


@dataclass
class Running:
    """A server that runs, and how to end it."""

    port: int
    shutdown: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def stop(self) -> float:
        """Drain it; seconds that it took."""
        began = trio.current_time()
        self.shutdown.set()
        with trio.fail_after(WAIT):
            await self.ended.wait()
        return trio.current_time() - began

    async def connect(self) -> trio.SocketStream:
        with trio.fail_after(WAIT):
            return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, request: bytes) -> "Reply":
        async with await self.connect() as stream:
            await stream.send_all(request)
            return await read_reply(stream)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


async def read_reply(stream: trio.SocketStream, seconds: float = WAIT) -> Reply:
    """One answer that has a Content-Length."""
    data = b""
    with trio.fail_after(seconds):
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some(65536)
            assert more, f"closed after {data!r}"
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            more = await stream.receive_some(65536)
            assert more, "closed in the middle of a body"
            body += more
    return Reply(int(first.split()[1]), headers, body)


async def read_to_end(stream: trio.SocketStream, seconds: float = WAIT) -> bytes:
    """Everything until the server closes."""
    data = b""
    with trio.fail_after(seconds):
        async for more in stream:
            data += more
    return data


def request(
    method: str, path: str, *headers: str, body: bytes = b"", version: str = "1.1"
) -> bytes:
    """The bytes of a request; `body` is sent as it is, with no header of its own."""
    lines = [f"{method} {path} HTTP/{version}", "Host: test", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
