"""Without Hypercorn or with it: an application is told the same, and so is its client."""

import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import pytest
import trio
import trio.testing

from tests.integration.http.wire import (
    LARGE_BYTES,
    WAIT,
    Running,
    Site,
    read_reply,
    read_to_end,
    request,
    until,
)
from troupe.common.units import KiB, MiB
from troupe.http import connection
from troupe.http import server as server_module
from troupe.http.admission import Limits
from troupe.http.plain import PlainRequest, read_plain
from troupe.http.request import ATTENDED_EXTENSION

BY_HYPERCORN: Final = "TE: trailers"
"""A header that says something about framing is nothing for us."""

TARGETS: Final = [
    "/", "/a?b", "/a?", "/?a?b", "/%20%e4%bd%a0?x=%00&y=+", "/a//b", "/%", "/%zz", "//host/path",
    "/a%2Fb;c", "/a'\"<>", "/a#b", "/*", "/a\\b", "/%C3%28",
]  # fmt: skip

Send = Callable[[Any], Awaitable[None]]


async def told(start: Any, scopes: list[dict[str, Any]]) -> Running:
    """A server whose application notes what it is told."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan here")
        message = await receive()
        scopes.append({**scope, "message": (message["body"], message["more_body"])})
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    running: Running = await start(app)
    return running


@pytest.mark.parametrize("target", TARGETS)
async def test_an_application_is_told_the_same(start: Any, target: str) -> None:
    scopes: list[dict[str, Any]] = []
    server = await told(start, scopes)
    headers = "Accept: */*", "X-Forwarded-For: 10.0.0.1", "cookie: a=b; c=d", "Origin: null"
    async with await server.connect() as stream:
        for each in (headers, (*headers, BY_HYPERCORN)):
            await stream.send_all(request("GET", target, *each))
            assert (await read_reply(stream)).status == 204
    ours, theirs = scopes
    assert ours["extensions"].pop(ATTENDED_EXTENSION)
    assert ours["extensions"].keys() == theirs["extensions"].keys()
    theirs["headers"].remove((b"te", b"trailers"))
    for scope in scopes:
        scope.pop("extensions")
        scope["client"], scope["server"] = tuple(scope["client"]), tuple(scope["server"])
    assert ours == theirs


SHAPES: Final[Mapping[str, tuple[int, list[tuple[bytes, bytes]], list[bytes]]]] = {
    "announced": (200, [(b"content-length", b"3")], [b"abc"]),
    "announced, in pieces": (200, [(b"content-length", b"3")], [b"a", b"", b"bc"]),
    "announced as none": (200, [(b"content-length", b"0")], [b""]),
    "not announced": (200, [(b"content-type", b"text/plain")], [b"a", b"b" * 20, b"", b"c"]),
    "not announced and none": (404, [(b"x-two", b"1"), (b"x-two", b"2")], [b""]),
    "no content": (204, [(b"etag", b'"x"')], [b""]),
    "not modified": (304, [(b"etag", b'"x"')], [b""]),
    "the last": (200, [(b"content-length", b"1"), (b"connection", b"close")], [b"a"]),
    "the last, not announced": (200, [(b"connection", b"close")], [b"a", b"b"]),
}
BROKEN: Final[Mapping[str, tuple[int, list[tuple[bytes, bytes]], list[bytes]]]] = {
    "more than announced": (200, [(b"content-length", b"1")], [b"a", b"b"]),
    "less than announced": (200, [(b"content-length", b"3")], [b"ab"]),
    "a line break": (200, [(b"content-length", b"0"), (b"a", b"b\r\nSet-Cookie: x=y")], [b""]),
    "half a line break": (200, [(b"content-length", b"0"), (b"a", b"b\nSet-Cookie: x=y")], [b""]),
}


async def shaped(start: Any) -> Running:
    """A server that answers each path with a shape of that number."""
    shapes = [*SHAPES.values(), *BROKEN.values()]

    async def app(scope: Any, _receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan here")
        status, headers, body = shapes[int(scope["path"][1:])]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for part in body[:-1]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": body[-1], "more_body": False})

    running: Running = await start(app, Limits(idle=0.2))
    return running


async def everything(server: Running, *requests: bytes) -> tuple[list[bytes], bytes]:
    """Sorted lines of the first head, and what else is said until the end."""
    async with await server.connect() as stream:
        for raw in requests:
            await stream.send_all(raw)
            await trio.sleep(0.05)
        head, _, rest = (await read_to_end(stream)).partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    return sorted(line for line in lines if not line.startswith(b"date: ")), rest


def without_chunks(lines: list[bytes], body: bytes) -> bytes:
    if b"transfer-encoding: chunked" not in lines:
        return body
    whole, left = b"", b"0"
    while body:
        left, _, body = body.partition(b"\r\n")
        size = int(left, 16)
        whole += body[:size]
        assert body[size : size + 2] == b"\r\n"
        body = body[size + 2 :]
    assert int(left, 16) == 0
    return whole


@pytest.mark.parametrize("what", SHAPES)
async def test_a_client_is_told_the_same(start: Any, what: str) -> None:
    server = await shaped(start)
    path = f"/{[*SHAPES].index(what)}"
    seen = []
    for headers in ((), (BY_HYPERCORN,)):
        # The idle time is over at once, so that the end is the answer's own.
        lines, body = await everything(server, request("GET", path, *headers))
        seen.append((lines, without_chunks(lines, body)))
    assert seen[0] == seen[1]
    assert seen[0][1] == b"".join(SHAPES[what][2])


@pytest.mark.parametrize("what", BROKEN)
async def test_what_is_no_answer_ends_the_connection_and_nothing_else(
    start: Any, what: str
) -> None:
    server = await shaped(start)
    path = f"/{len(SHAPES) + [*BROKEN].index(what)}"
    async with await server.connect() as stream:
        await stream.send_all(request("GET", path))
        said = await read_to_end(stream, 3)
    assert b"set-cookie" not in said.lower()
    assert not said.endswith(b"ab\r\n")
    assert (await server.ask(request("GET", "/0"))).body == b"abc"


async def test_hypercorn_never_hears_of_it(
    start: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "Http1Server", None)
    server: Running = await start(site.app)
    async with await server.connect() as stream:
        for path, status in (("/quick", 200), ("/nothing", 404), ("/quick?a=b", 422)):
            await stream.send_all(request("GET", path))
            assert (await read_reply(stream)).status == status


@pytest.mark.parametrize("before", [(), (BY_HYPERCORN,)], ids=["fresh", "with a protocol"])
async def test_idle_time_does_not_run_while_an_answer_is_made(
    start: Any, site: Site, before: tuple[str, ...]
) -> None:
    server: Running = await start(site.app, Limits(idle=0.2))
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/quick", *before))
        await read_reply(stream)
        await stream.send_all(request("GET", "/slow"))
        with trio.fail_after(WAIT):
            await site.started.wait()
        await trio.sleep(0.6)
        assert not site.cancelled.is_set()
        site.release.set()
        assert json.loads((await read_reply(stream)).body) == {"text": "slow"}
        assert await read_to_end(stream, 3) == b""


@pytest.mark.parametrize("before", [(), (BY_HYPERCORN,)], ids=["fresh", "with a protocol"])
async def test_the_rest_of_an_answer_waits_for_its_client_alone(
    start: Any, site: Site, before: tuple[str, ...]
) -> None:
    """The application is through meanwhile, and no idle time runs."""
    through = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await site.app(scope, receive, send)
        through.append(scope.get("path"))

    server: Running = await start(app, Limits(idle=0.2))
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/quick", *before))
        await read_reply(stream)
        await stream.send_all(request("GET", "/shared"))
        await until(lambda: "/shared" in through)
        await trio.sleep(0.6)
        with trio.fail_after(WAIT):
            _, _, body = (await stream.receive_some(64 * KiB)).partition(b"\r\n\r\n")
            missing = LARGE_BYTES - len(body)
            while missing:
                data = await stream.receive_some(min(missing, 1 * MiB))
                assert data
                missing -= len(data)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await stream.send_all(request("GET", "/quick"))
        assert json.loads((await read_reply(stream)).body) == {"text": "quick"}
        assert await read_to_end(stream, 3) == b""


async def test_a_client_that_resets_is_not_worth_a_line(
    start: Any, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server: Running = await start(site.app)
    stream = await server.connect()

    def read_and_reset(raw: bytes) -> PlainRequest | None:
        now = struct.pack("ii", 1, 0)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        stream.socket.close()
        return read_plain(raw)

    monkeypatch.setattr(connection, "read_plain", read_and_reset)
    await stream.send_all(request("GET", "/quick"))
    await trio.testing.wait_all_tasks_blocked(0.2)
    monkeypatch.undo()
    assert (await server.ask(request("GET", "/quick"))).status == 200
    assert "connection_failed" not in capsys.readouterr().out


async def test_what_comes_meanwhile_is_answered_in_turn(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/slow"))
        with trio.fail_after(WAIT):
            await site.started.wait()
        await stream.send_all(request("GET", "/quick") + request("GET", "/nothing")[:30])
        await trio.sleep(0.05)
        site.release.set()
        await stream.send_all(request("GET", "/nothing", "Connection: close")[30:])
        answers = await read_to_end(stream, 3)
    statuses = [part.split()[0] for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"404"]
