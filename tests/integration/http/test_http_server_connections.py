"""What one connection may do to a server, and what it gets."""

import json
from contextlib import suppress
from typing import Any

import h2.connection
import h2.events
import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from quart_trio import QuartTrio

from tests.integration.http.wire import (
    LARGE_BYTES,
    WAIT,
    Running,
    Site,
    make_site,
    read_reply,
    read_to_end,
    request,
)
from troupe.http.admission import Limits

pytestmark = pytest.mark.usefixtures("way")

SMUGGLED = b"GET /quick HTTP/1.1\r\nHost: inner\r\n\r\n"
CHUNKED = b"0\r\n\r\n"


async def test_a_request_is_answered(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    reply = await server.ask(request("GET", "/quick"))
    assert (reply.status, json.loads(reply.body)) == (200, {"text": "quick"})
    assert "server" not in reply.headers
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")


async def test_an_idle_connection_is_closed(start: Any, site: Site) -> None:
    server: Running = await start(site.app, Limits(idle=0.2, head=0.2))
    async with await server.connect() as kept_alive, await server.connect() as fresh:
        await kept_alive.send_all(request("GET", "/quick"))
        assert (await read_reply(kept_alive)).status == 200
        assert await read_to_end(kept_alive, 3) == b""
        assert await read_to_end(fresh, 3) == b""


async def test_connection_close_closes(start: Any, site: Site) -> None:
    server: Running = await start(site.app, Limits(idle=60))
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/quick", "Connection: close"))
        assert (await read_to_end(stream, 3)).startswith(b"HTTP/1.1 200")


async def test_stock_quart_trio_leaks_the_connection(nursery: trio.Nursery) -> None:
    """The reason for our connection class. When this fails, quart-trio was repaired."""
    app = QuartTrio(__name__)

    @app.get("/")
    async def root() -> str:
        return "ok"

    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    stop = trio.Event()

    async def task(task_status: trio.TaskStatus[list[str]]) -> None:
        await hypercorn_serve(app, config, shutdown_trigger=stop.wait, task_status=task_status)

    (url,) = await nursery.start(task)
    port = int(url.rsplit(":", 1)[1])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request("GET", "/", "Connection: close"))
        with trio.move_on_after(1.5) as scope:
            await read_to_end(stream)
        assert scope.cancelled_caught, "closed: the shield in troupe.http.application can go"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
    ],
)
@pytest.mark.parametrize("asked_before", [0, 1])
async def test_both_framing_headers_are_refused(
    start: Any, site: Site, headers: Any, asked_before: int
) -> None:
    """At once, or by the protocol when it has begun."""
    server: Running = await start(site.app)
    async with await server.connect() as stream:
        for _ in range(asked_before):
            await stream.send_all(request("GET", "/quick"))
            assert (await read_reply(stream)).status == 200
        await stream.send_all(request("POST", "/echo", *headers, body=CHUNKED + SMUGGLED))
        answers = await read_to_end(stream, 5)
    assert answers.startswith(b"HTTP/1.1 400")
    assert answers.count(b"HTTP/1.1") == 1, "the smuggled request was answered"
    assert b"urn:troupe:problem:malformed-request" in answers


async def test_transfer_encoding_from_http_1_0_is_refused(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    async with await server.connect() as stream:
        await stream.send_all(
            request("POST", "/echo", "Transfer-Encoding: chunked", body=CHUNKED, version="1.0")
        )
        assert (await read_to_end(stream, 5)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("raw", "status", "kind"),
    [
        (b"nonsense\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (request("GET", "?x"), 400, "malformed-request"),
        (request("OPTIONS", "*"), 400, "malformed-request"),
        (
            b"GET /quick HTTP/1.1\r\nHost: a..b\r\nConnection: close\r\n\r\n",
            400,
            "malformed-request",
        ),
        (request("GET", "/", "X: " + "y" * 40_000), 431, "header-fields-too-large"),
        (request("POST", "/", "Transfer-Encoding: gzip"), 501, "not-implemented"),
        (request("POST", "/", "Content-Length: 1", "Content-Length: 2"), 400, "malformed-request"),
    ],
)
async def test_bad_http_gets_a_problem(
    start: Any, site: Site, raw: bytes, status: int, kind: str
) -> None:
    server: Running = await start(site.app)
    async with await server.connect() as stream:
        await stream.send_all(raw)
        reply = await read_reply(stream)
        assert await read_to_end(stream, 5) == b""
    document = json.loads(reply.body)
    assert reply.status == document["status"] == status
    assert document["type"] == f"urn:troupe:problem:{kind}"
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-request-id"] == document["request_id"]


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
async def test_an_oversized_body_is_refused_and_the_answer_arrives(
    start: Any, framing: str
) -> None:
    site = make_site(body_limit=1000)
    server: Running = await start(site.app)
    payload = b"x" * 3_000_000
    if framing == "chunked":
        payload = b"%x\r\n" % len(payload) + payload + b"\r\n0\r\n\r\n"
        header = "Transfer-Encoding: chunked"
    else:
        header = f"Content-Length: {len(payload)}"

    async def send() -> None:
        with suppress(trio.BrokenResourceError):  # the server need not take it all
            await stream.send_all(
                request("POST", "/echo", "Content-Type: application/json", header, body=payload)
            )

    async with await server.connect() as stream, trio.open_nursery() as sending:
        sending.start_soon(send)
        reply = await read_reply(stream)
        assert reply.status == 413
        assert json.loads(reply.body)["type"].endswith(":content-too-large")
        await read_to_end(stream, 5)
        sending.cancel_scope.cancel()


async def test_a_body_that_does_not_come_times_out(start: Any) -> None:
    """At the beginning of a connection, where no protocol waits for it, and later."""
    site = make_site(body_deadline=0.2)
    server: Running = await start(site.app, Limits(body=0.2))
    for requests_before in (0, 1):
        async with await server.connect() as stream:
            for _ in range(requests_before):
                await stream.send_all(request("GET", "/quick"))
                assert (await read_reply(stream)).status == 200
            await stream.send_all(
                request("POST", "/echo", "Content-Type: application/json", "Content-Length: 100")
            )
            reply = await read_reply(stream)
            assert reply.status == 408
            assert json.loads(reply.body)["type"].endswith(":request-timeout")
            assert await read_to_end(stream, 5) == b""


async def test_a_client_that_leaves_cancels_its_request(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    stream = await server.connect()
    await stream.send_all(request("GET", "/slow"))
    with trio.fail_after(WAIT):
        await site.started.wait()
        await stream.aclose()
        await site.cancelled.wait()
    assert (await server.ask(request("GET", "/quick"))).status == 200


async def test_a_client_that_stops_reading_is_closed(start: Any, site: Site) -> None:
    server: Running = await start(site.app, Limits(stall=0.3))
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/large"))
        with trio.fail_after(WAIT):
            await site.started.wait()
        received = 0
        await trio.testing.wait_all_tasks_blocked(1)  # longer than the server's patience
        with trio.fail_after(WAIT), suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(1 << 20):
                received += len(data)
    assert 0 < received < LARGE_BYTES


async def test_there_are_no_websockets(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    reply = await server.ask(
        request(
            "GET",
            "/quick",
            "Upgrade: websocket",
            "Connection: upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )
    )
    assert reply.status == 400
    assert b"no websockets" in reply.body


async def test_an_upgrade_to_http2_is_ignored(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    async with await server.connect() as stream:
        headers = (
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABk",
            "Connection: Upgrade, HTTP2-Settings",
        )
        await stream.send_all(request("GET", "/quick", *headers))
        assert (await read_reply(stream)).status == 200
        await stream.send_all(request("GET", "/quick"))
        assert (await read_reply(stream)).status == 200


async def test_http2_with_prior_knowledge(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    client = h2.connection.H2Connection()
    client.initiate_connection()
    for stream_id, path in ((1, "/quick"), (3, "/nowhere")):
        fields = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "x")]
        client.send_headers(stream_id, fields, end_stream=True)
    statuses: dict[int, bytes] = {}
    async with await server.connect() as stream:
        with trio.fail_after(WAIT):
            while len(statuses) < 2:
                await stream.send_all(client.data_to_send())
                for event in client.receive_data(await stream.receive_some(65536)):
                    if isinstance(event, h2.events.ResponseReceived):
                        answered = dict(event.headers or ())
                        statuses[event.stream_id] = answered[b":status"]
                        assert answered[b"x-content-type-options"] == b"nosniff"
        assert statuses == {1: b"200", 3: b"404"}
        server.shutdown.set()
        await read_to_end(stream, 5)
    assert await server.stop() < 2


async def test_a_whole_url_as_target(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    for target, status in (("http://other/quick", 200), ("HTTP://[/quick", 200), ("http://x", 404)):
        assert (await server.ask(request("GET", target))).status == status


async def test_dripped_headers_do_not_hold_a_connection(start: Any, site: Site) -> None:
    server: Running = await start(site.app, Limits(head=0.5))
    async with await server.connect() as stream:
        began = trio.current_time()
        with trio.fail_after(WAIT), suppress(trio.BrokenResourceError):
            for byte in request("GET", "/quick", "X: " + "y" * 1000):
                await stream.send_all(bytes([byte]))
                with trio.move_on_after(0.02):
                    if not await stream.receive_some(100):
                        break
        assert trio.current_time() - began < 3


async def test_a_connection_may_lie_idle_for_longer_than_a_head_may_take(
    start: Any, site: Site
) -> None:
    server: Running = await start(site.app, Limits(head=0.3, idle=60))
    async with await server.connect() as stream:
        for _ in range(3):
            await stream.send_all(request("GET", "/quick"))
            assert (await read_reply(stream)).status == 200
            await trio.sleep(0.7)
        await stream.send_all(request("GET", "/quick")[:20])
        assert await read_to_end(stream, 3) == b""


async def read_until(stream: trio.SocketStream, wanted: bytes) -> bytes:
    data = b""
    with trio.fail_after(WAIT):
        while wanted not in data:
            more = await stream.receive_some(65536)
            assert more, f"closed after {data!r}"
            data += more
    return data


async def test_a_client_that_leaves_a_stream_is_noticed(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/events"))
        head = await read_until(stream, b"retry: 3000")
        assert b"content-type: text/event-stream" in head.lower()
        await read_until(stream, b":\n\n")
        assert site.app.stream_slots.open == 1
    with trio.fail_after(WAIT):
        while site.app.stream_slots.open:
            await trio.testing.wait_all_tasks_blocked()


async def test_a_stream_ends_when_the_server_drains(start: Any, site: Site) -> None:
    server: Running = await start(site.app, Limits(drain=5))
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/events"))
        await read_until(stream, b'data: "first"')
        server.shutdown.set()
        rest = await read_to_end(stream, 3)
    assert rest.endswith(b"0\r\n\r\n"), "the answer was cut off instead of ended"
    assert await server.stop() < 3
