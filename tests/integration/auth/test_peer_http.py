"""The HTTP client for providers against peers that do not behave."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from tests.integration.auth.site import LOOPBACK
from troupe.actors.auth import peer_http
from troupe.actors.auth.errors import ProviderMisbehaved, ProviderUnavailable
from troupe.actors.auth.peer_http import MAX_ANSWER_BYTES, PeerHttp
from troupe.common.outbound import HostNotAllowed

Serve = Callable[[trio.SocketStream], Awaitable[None]]


def answering(answer: bytes) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(answer)

    return serve


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers))
    return head.encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def peer(serve: Serve) -> AsyncIterator[str]:
    async def quietly(stream: trio.SocketStream) -> None:
        try:
            await serve(stream)
        except trio.BrokenResourceError:
            return  # the client has had enough

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, quietly, 0)
        port = listeners[0].socket.getsockname()[1]
        yield f"http://127.0.0.1:{port}/"
        nursery.cancel_scope.cancel()


@pytest.fixture
async def client() -> AsyncIterator[PeerHttp]:
    async with PeerHttp(LOOPBACK) as one:
        yield one


async def test_a_good_answer(client: PeerHttp) -> None:
    async with peer(answering(http(b'{"a": 1}'))) as url:
        assert await client.get(url) == {"a": 1}
        assert await client.post_form(url, {"x": "y"}) == (200, {"a": 1})
    refused = http(b'{"error": "invalid_grant"}', status="400 Bad Request")
    async with peer(answering(refused)) as url:
        assert await client.post_form(url, {}) == (400, {"error": "invalid_grant"})


@pytest.mark.parametrize(
    "answer",
    [
        http(b"[]"),
        http(b"not json"),
        http(b"\xff"),
        http(b"[" * 5000),
        http(b"{}", "Location: http://127.0.0.1/", status="302 Found"),
        http(b"{}", status="404 Not Found"),
        http(b'{"a": "' + b"x" * MAX_ANSWER_BYTES + b'"}'),
        http(gzip.compress(b'{"a": 1}', mtime=0), "Content-Encoding: gzip"),
    ],
)
async def test_answers_that_cannot_be_used(client: PeerHttp, answer: bytes) -> None:
    async with peer(answering(answer)) as url:
        with pytest.raises(ProviderMisbehaved):
            await client.get(url)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        http(b"{}", status="503 Service Unavailable"),
        http(b"{}", status="429 Too Many Requests"),
    ],
)
async def test_answers_that_may_be_better_later(client: PeerHttp, answer: bytes) -> None:
    async with peer(answering(answer)) as url:
        with pytest.raises(ProviderUnavailable):
            await client.get(url)


async def test_an_endless_answer_is_cut_off(client: PeerHttp) -> None:
    async def endless(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    async with peer(endless) as url:
        with pytest.raises(ProviderMisbehaved, match="too large"):
            await client.get(url)


async def test_a_dripping_answer_is_cut_off(
    client: PeerHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_http, "DEADLINE", 0.3)

    async def dripping(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        while True:
            await stream.send_all(b" ")
            await trio.sleep(0.05)

    async with peer(dripping) as url:
        with pytest.raises(ProviderUnavailable, match="within"), trio.fail_after(5):
            await client.get(url)


async def test_nobody_there(client: PeerHttp) -> None:
    with pytest.raises(ProviderUnavailable):
        await client.get("http://127.0.0.1:9/")
    with pytest.raises(ProviderUnavailable, match="not known"):
        await client.get("http://nobody.invalid/")


async def test_where_it_may_not_go(client: PeerHttp) -> None:
    for url in ("http://10.0.0.1/", "https://169.254.169.254/latest", "http://[::1]/"):
        with pytest.raises(HostNotAllowed):
            await client.get(url)
    # A public address is fine, but not without TLS.
    with pytest.raises(HostNotAllowed, match="https"):
        await client.get("http://8.8.8.8/")


async def test_no_cookie_is_kept(client: PeerHttp) -> None:
    requests: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        requests.append(await stream.receive_some(65536))
        await stream.send_all(http(b"{}", "Set-Cookie: a=b; Path=/"))

    async with peer(serve) as url:
        await client.get(url)
        await client.get(url)
    assert len(requests) == 2
    assert b"ookie" not in requests[1]
