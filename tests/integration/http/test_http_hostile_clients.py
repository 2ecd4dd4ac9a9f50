"""Crowds of slow and hostile clients: what they may take, and that good ones are served meanwhile.

No test measures speed: each proves a bound in number, memory or order. ``make bench-hostile``
measures what good clients notice.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import trio
import trio.testing

from tests.integration.http.wire import (
    LARGE_BYTES,
    WAIT,
    Reply,
    Running,
    Site,
    make_site,
    read_reply,
    read_to_end,
    request,
    until,
)
from troupe.common.units import KiB, MiB
from troupe.http import admission, server
from troupe.http.admission import Admission, Limits

PLACES = 40
BODY = 8 * KiB
pytestmark = pytest.mark.usefixtures("way")

QUICK = request("GET", "/quick")
BEGUN = QUICK[:20]
SLOW_BODY = request("POST", "/echo", "Content-Type: application/json", f"Content-Length: {BODY}")


@pytest.fixture
def admitted(monkeypatch: pytest.MonkeyPatch) -> list[Admission]:
    """The admissions of the servers that a test starts, to look into."""
    made: list[Admission] = []

    class Watched(Admission):
        def __init__(self, limits: Limits) -> None:
            super().__init__(limits)
            self.most_held = 0
            made.append(self)

        def hold(self, size: int, holder: Any) -> bool:
            fits = super().hold(size, holder)
            self.most_held = max(self.most_held, self.held)
            return fits

    monkeypatch.setattr(server, "Admission", Watched)
    return made


@asynccontextmanager
async def crowd(
    running: Running, count: int, sends: bytes = b""
) -> AsyncIterator[list[trio.SocketStream]]:
    """So many connections, in this order, each of which sends something and no more."""
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(count):
            stream = await stack.enter_async_context(await running.connect())
            await stream.send_all(sends)
            streams.append(stream)
        yield streams


async def is_closed(stream: trio.SocketStream, within: float = WAIT) -> bool:
    """Whether the server has closed it, or does so within a time; what it sent is thrown away."""
    with trio.move_on_after(within):
        try:
            while await stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass
        return True
    return False


async def uploaded(running: Running, text: str = "good") -> Reply:
    body = json.dumps({"text": text}).encode()
    headers = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    return await running.ask(request("POST", "/echo", *headers, body=body))


# ---- places


@pytest.mark.parametrize("sends", [b"", BEGUN, SLOW_BODY + b'{"text": "'])
async def test_newcomers_take_the_places_of_those_that_keep_us_waiting_longest(
    start: Any, site: Site, sends: bytes
) -> None:
    running: Running = await start(site.app, Limits(connections=PLACES, idle=60, moment=0.02))
    async with crowd(running, PLACES, sends) as slow:
        async with AsyncExitStack() as stack:
            for number in range(10):
                newcomer = await stack.enter_async_context(await running.connect())
                await newcomer.send_all(QUICK)
                assert (await read_reply(newcomer)).status == 200
                assert await is_closed(slow[number])
        for stream in slow[10:20]:
            assert not await is_closed(stream, 0.01)


async def test_a_byte_now_and_then_keeps_no_place(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(connections=3, idle=60, moment=0))
    async with crowd(running, 1, BEGUN) as (dripping,), crowd(running, 2, b"") as silent:
        await dripping.send_all(b"x")
        assert (await running.ask(QUICK)).status == 200
        assert await is_closed(dripping)
        assert not await is_closed(silent[0], 0.01)


async def test_nobody_makes_room_within_a_moment(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(connections=1, moment=60))
    async with crowd(running, 1) as (fresh,), await running.connect() as waiting:
        await waiting.send_all(QUICK)
        with trio.move_on_after(0.2) as scope:
            await read_reply(waiting)
        assert scope.cancelled_caught
        await fresh.send_all(QUICK)
        assert (await read_reply(fresh)).status == 200


async def test_who_is_being_answered_keeps_its_place_and_others_wait(
    start: Any, site: Site, admitted: list[Admission]
) -> None:
    running: Running = await start(site.app, Limits(connections=2))
    async with crowd(running, 2, request("GET", "/slow")) as served:
        await until(lambda: admitted[0].answering == 2)
        async with await running.connect() as waiting:
            await waiting.send_all(QUICK)
            with trio.move_on_after(0.3) as scope:
                await read_reply(waiting)
            assert scope.cancelled_caught
            site.release.set()
            for stream in served:
                assert json.loads((await read_reply(stream)).body) == {"text": "slow"}
            assert (await read_reply(waiting)).status == 200


async def test_an_open_event_stream_is_not_in_the_way_of_its_own_place(
    start: Any, site: Site
) -> None:
    """It is ours to speak on a stream, however long it is silent."""
    running: Running = await start(site.app, Limits(connections=2))
    async with crowd(running, 1, request("GET", "/events")) as (stream,):
        await until(site.started.is_set)
        for _ in range(5):
            async with await running.connect() as idle:
                await idle.send_all(QUICK)
                assert (await read_reply(idle)).status == 200
        site.release.set()
        data = b""
        with trio.fail_after(WAIT):
            while not data.endswith(b"0\r\n\r\n"):
                data += await stream.receive_some(65536)


async def test_without_making_room_the_crowd_would_shut_the_port(
    start: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the tests above: a server that only stops accepting is found out."""
    monkeypatch.setattr(Admission, "make_room", lambda _: False)
    running: Running = await start(site.app, Limits(connections=PLACES, idle=60, moment=0.02))
    async with crowd(running, PLACES), await running.connect() as good:
        await good.send_all(QUICK)
        with trio.move_on_after(0.3) as scope:
            await read_reply(good)
        assert scope.cancelled_caught


async def test_places_come_back(start: Any, site: Site, admitted: list[Admission]) -> None:
    running: Running = await start(site.app, Limits(connections=PLACES))
    for _ in range(3):
        async with crowd(running, PLACES, SLOW_BODY), crowd(running, 5):
            await trio.testing.wait_all_tasks_blocked(0.01)
        async with crowd(running, 3, QUICK) as streams:
            for stream in streams:
                assert (await read_reply(stream)).status == 200
    (watched,) = admitted
    # The listener holds one while it waits.
    await until(lambda: watched._places.value == PLACES - 1)
    assert not watched._line
    assert (watched.held, watched.answering) == (0, 0)


async def test_too_few_descriptors_make_fewer_places(
    start: Any, site: Site, monkeypatch: pytest.MonkeyPatch, admitted: list[Admission]
) -> None:
    monkeypatch.setattr(admission.resource, "getrlimit", lambda _: (300, 300))
    monkeypatch.setattr(admission.resource, "setrlimit", lambda *_: pytest.fail("not allowed"))
    await start(site.app, Limits(connections=1000))
    assert admitted[0].limits.connections == 300 - admission.RESERVED_DESCRIPTORS


# ---- memory


async def test_bodies_that_do_not_end_share_a_bounded_memory(
    start: Any, site: Site, admitted: list[Admission]
) -> None:
    limits = Limits(held_bytes=10 * BODY, connections=100, moment=0)
    running: Running = await start(site.app, limits)
    async with crowd(running, PLACES, SLOW_BODY + b"x" * (BODY - 1)) as slow:
        (watched,) = admitted
        await until(lambda: watched.most_held > 9 * BODY)
        assert (await uploaded(running)).status == 200
        closed = [await is_closed(stream, 0.05) for stream in slow]
        assert closed.count(False) <= 10
        assert closed == sorted(closed, reverse=True), "the oldest go first"
        # One more body is counted before another makes room for it.
        assert watched.most_held <= limits.held_bytes + limits.head_bytes
    await until(lambda: watched.held == 0)


async def test_when_all_memory_is_ours_a_body_is_refused(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(held_bytes=100))
    refused = await uploaded(running, "x" * 200)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert json.loads(refused.body)["type"].endswith(":unavailable")
    assert (await uploaded(running)).status == 200


async def test_answers_that_nobody_takes_share_it_too(
    start: Any, site: Site, admitted: list[Admission]
) -> None:
    """Each large answer is more than all may hold together: only the last one stays."""
    running: Running = await start(site.app, Limits(held_bytes=LARGE_BYTES // 2, moment=0))
    async with crowd(running, 4, request("GET", "/large")) as slow:
        assert (await uploaded(running)).status == 200
        assert [await is_closed(stream, 0.2) for stream in slow[:3]] == [True] * 3
        assert admitted[0].held <= LARGE_BYTES + 1 * MiB


@pytest.mark.parametrize("way", ["direct"], indirect=True)
async def test_a_document_for_which_many_wait_is_counted_once(
    start: Any, site: Site, admitted: list[Admission]
) -> None:
    """Nobody is closed for it, and it is gone with the last. Hypercorn copies it for each."""
    running: Running = await start(site.app, Limits(held_bytes=LARGE_BYTES * 3 // 2, moment=0))
    async with crowd(running, 4, request("GET", "/shared")) as slow:
        (watched,) = admitted
        await until(lambda: sum(watched._documents.values()) == len(slow))
        assert watched.held == LARGE_BYTES
        await slow.pop().aclose()
        await until(lambda: sum(watched._documents.values()) == len(slow))
        assert watched.held == LARGE_BYTES
        assert not any([await is_closed(stream, 0.1) for stream in slow])
    await until(lambda: watched.held == 0)
    assert not watched._documents


async def test_a_large_answer_that_is_taken_is_not_disturbed(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(held_bytes=1 * MiB))
    async with await running.connect() as stream:
        await stream.send_all(request("GET", "/large", "Connection: close"))
        received = 0
        with trio.fail_after(WAIT):
            async for data in stream:
                received += len(data)
    assert received > LARGE_BYTES


async def test_a_client_that_takes_too_little_is_closed(start: Any, site: Site) -> None:
    """It never stalls, but would need minutes."""
    limits = Limits(stall=0.5, slowest=LARGE_BYTES)
    running: Running = await start(site.app, limits)
    async with await running.connect() as stream:
        await stream.send_all(request("GET", "/large"))
        received = 0
        with trio.fail_after(WAIT), suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(256 * KiB):
                received += len(data)
                await trio.sleep(0.05)
        assert 0 < received < LARGE_BYTES


# ---- requests


async def test_requests_beyond_the_bound_are_refused_at_once(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(requests=2))
    async with crowd(running, 2, request("GET", "/slow")) as served:
        await until(site.started.is_set)
        for reply in (await running.ask(QUICK), await uploaded(running)):
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            document = json.loads(reply.body)
            assert document["type"] == "urn:troupe:problem:unavailable"
            assert reply.headers["x-request-id"] == document["request_id"]
        site.release.set()
        for stream in served:
            assert (await read_reply(stream)).status == 200
    assert (await running.ask(QUICK)).status == 200


async def test_slow_bodies_take_up_no_request(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(requests=1))
    async with crowd(running, PLACES, SLOW_BODY):
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await uploaded(running)).status == 200
        assert (await running.ask(QUICK)).status == 200


async def test_slow_readers_take_up_no_request(
    start: Any, site: Site, admitted: list[Admission]
) -> None:
    running: Running = await start(site.app, Limits(requests=2, held_bytes=8 * LARGE_BYTES))
    async with crowd(running, 2, request("GET", "/large")):
        await until(lambda: admitted[0].held > LARGE_BYTES)
        assert (await running.ask(QUICK)).status == 200
        assert (await uploaded(running)).status == 200
    await until(lambda: admitted[0].answering == 0)


async def test_counted_while_they_are_slow_readers_would_shut_the_port(
    start: Any, site: Site, admitted: list[Admission], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the test above."""
    monkeypatch.setattr(Admission, "recount", lambda *_: None)
    running: Running = await start(site.app, Limits(requests=2, held_bytes=8 * LARGE_BYTES))
    async with crowd(running, 2, request("GET", "/large")):
        await until(lambda: admitted[0].held > LARGE_BYTES)
        assert (await running.ask(QUICK)).status == 503


@pytest.mark.parametrize("asked_before", [0, 1])
async def test_a_body_that_no_route_takes_is_refused_before_it_is_sent(
    start: Any, site: Site, asked_before: int
) -> None:
    running: Running = await start(site.app, Limits(body_bytes=1000))
    head = request("POST", "/echo", "Content-Type: application/json", "Content-Length: 1001")
    async with await running.connect() as stream:
        for _ in range(asked_before):
            await stream.send_all(QUICK)
            assert (await read_reply(stream)).status == 200
        await stream.send_all(head)
        reply = await read_reply(stream)
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert json.loads(reply.body)["type"] == "urn:troupe:problem:content-too-large"
    assert reply.headers["date"].endswith(" GMT")
    assert (await uploaded(running)).status == 200


async def test_who_is_refused_hears_why(start: Any, site: Site) -> None:
    """Closing on unread input resets the connection, and what was said is lost with it."""
    size = 3 * MiB
    running: Running = await start(site.app, Limits(body_bytes=1))
    head = request("POST", "/echo", "Content-Type: application/json", f"Content-Length: {size}")
    async with await running.connect() as stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(head)
            await stream.send_all(b"x" * size)
            await trio.sleep(0.1)
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 413")


async def test_a_body_right_behind_an_early_answer_does_not_cost_the_connection(
    start: Any, site: Site
) -> None:
    """As from a client that sends head and body in two writes, and is refused after the first."""
    running: Running = await start(site.app)
    async with await running.connect() as stream:
        for _ in range(3):
            await stream.send_all(request("POST", "/nowhere", "Content-Length: 4"))
            await trio.sleep(0.02)
            await stream.send_all(b"late")
            reply = await read_reply(stream)
            assert (reply.status, "connection" in reply.headers) == (404, False)
        await stream.send_all(QUICK)
        assert (await read_reply(stream)).status == 200


async def test_an_early_answer_says_that_it_is_the_last_where_the_body_does_not_come(
    start: Any, site: Site
) -> None:
    running: Running = await start(site.app)
    async with await running.connect() as stream:
        await stream.send_all(QUICK)
        assert (await read_reply(stream)).status == 200
        await stream.send_all(request("POST", "/nowhere", "Content-Length: 4"))
        reply = await read_reply(stream)
        assert (reply.status, reply.headers.get("connection")) == (404, "close")
        assert await is_closed(stream)


async def test_a_first_body_is_waited_for_without_a_protocol(
    start: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken: list[object] = []
    speak = server._Server._speak

    async def note(self: Any, connection: Any) -> None:
        spoken.append(connection)
        await speak(self, connection)

    monkeypatch.setattr(server._Server, "_speak", note)
    running: Running = await start(site.app, Limits(body=1))
    body = json.dumps({"text": "good"}).encode()
    headers = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    async with await running.connect() as good, await running.connect() as bad:
        for stream in (good, bad):
            await stream.send_all(request("POST", "/echo", *headers))
            for byte in body[:-1]:
                await stream.send_all(bytes([byte]))
        await trio.sleep(0.1)
        assert not spoken
        await good.send_all(body[-1:] + QUICK)
        assert json.loads((await read_reply(good)).body) == {"text": "good"}
        assert (await read_reply(good)).status == 200
        late = await read_reply(bad)
        assert (late.status, late.headers["connection"]) == (408, "close")
        assert json.loads(late.body)["request_id"] == late.headers["x-request-id"]
        assert await is_closed(bad)
    assert len(spoken) == 1


async def test_a_first_body_for_which_there_is_no_room_is_refused(
    start: Any, site: Site, admitted: list[Admission]
) -> None:
    running: Running = await start(site.app, Limits(held_bytes=500))
    async with await running.connect() as stream:
        await stream.send_all(SLOW_BODY)
        await until(lambda: admitted[0].held > 0)
        await stream.send_all(b"x" * 1000)
        reply = await read_reply(stream)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert await is_closed(stream)
    await until(lambda: admitted[0].held == 0)


async def test_who_leaves_in_the_middle_of_a_first_body_is_forgotten(
    start: Any, site: Site, admitted: list[Admission]
) -> None:
    running: Running = await start(site.app)
    async with await running.connect() as stream:
        await stream.send_all(SLOW_BODY + b"x" * 100)
        await stream.send_all(b"x" * 1000)
        await until(lambda: admitted[0].held > 0)
        await stream.send_eof()
        assert await read_to_end(stream) == b""
    await until(lambda: admitted[0].held == 0)


async def test_a_first_body_may_still_come_while_the_server_drains(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(drain=WAIT))
    body = b'{"text": "good"}'
    headers = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    async with await running.connect() as stream:
        await stream.send_all(request("POST", "/echo", *headers))
        await stream.send_all(body[:3])
        await trio.sleep(0.1)
        running.shutdown.set()
        await trio.sleep(1.5)  # longer than one gets that has not asked
        await stream.send_all(body[3:])
        reply = await read_reply(stream)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
    with trio.fail_after(WAIT):
        await running.ended.wait()


async def test_refused_input_is_read_at_a_bounded_rate(
    autojump_clock: trio.testing.MockClock,
) -> None:
    watched = Admission(Limits(discarded=1 * MiB))
    assert [watched.may_discard(256 * KiB) for _ in range(5)] == [True] * 4 + [False]
    await trio.sleep(0.5)
    assert [watched.may_discard(100 * KiB) for _ in range(4)] == [True] * 2 + [False] * 2


async def test_tiny_pieces_are_gathered_and_answered(start: Any, site: Site) -> None:
    running: Running = await start(site.app)
    async with await running.connect() as stream:
        for _ in range(2):  # the second request begins anew
            for byte in QUICK:
                await stream.send_all(bytes([byte]))
                await trio.sleep(0.002)
            assert (await read_reply(stream)).status == 200


@pytest.mark.parametrize("count", [101, 3000])
async def test_too_many_headers_are_refused(start: Any, site: Site, count: int) -> None:
    running: Running = await start(site.app)
    async with await running.connect() as stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(request("GET", "/quick", *["a: b"] * count))
        assert (await read_reply(stream)).status == 431
        assert await is_closed(stream)


async def test_a_head_that_does_not_end_is_not_read_to_its_end(start: Any, site: Site) -> None:
    running: Running = await start(site.app)
    async with await running.connect() as stream:
        sent = len(BEGUN)
        with suppress(trio.BrokenResourceError), trio.fail_after(WAIT):
            await stream.send_all(BEGUN)
            while sent < 256 * MiB:
                await stream.send_all(b"x" * (64 * KiB))
                sent += 64 * KiB
        assert sent < 256 * MiB


async def test_a_flood_of_pipelined_requests_gets_some_answers(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(pipelined=5))
    async with await running.connect() as stream:
        await stream.send_all(QUICK * 100)
        answers = await read_to_end(stream)
    assert answers.count(b"HTTP/1.1 200") == 6
    *_, last = answers.split(b"HTTP/1.1 200")
    assert b"connection: close" in last.lower()
    assert answers.lower().count(b"connection: close") == 1


async def test_a_few_pipelined_requests_are_answered(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(pipelined=5))
    async with await running.connect() as stream:
        for _ in range(4):
            await stream.send_all(QUICK * 5)
            data = b""
            with trio.fail_after(WAIT):
                while data.count(b"quick") < 5:
                    data += await stream.receive_some(65536)
            assert b"connection: close" not in data.lower()


async def test_a_half_closed_connection_ends(
    start: Any, site: Site, admitted: list[Admission]
) -> None:
    """A client that has said its last word has left: nobody else is told apart from it."""
    running: Running = await start(site.app, Limits(idle=60))
    async with crowd(running, 5, request("GET", "/slow")) as streams:
        await until(site.started.is_set)
        for stream in streams:
            await stream.send_eof()
        for stream in streams:
            assert await is_closed(stream)
        assert site.cancelled.is_set()
    async with crowd(running, 5, BEGUN) as streams:
        for stream in streams:
            await stream.send_eof()
            assert await is_closed(stream)
    await until(lambda: admitted[0].answering == 0)


# ---- HTTP/2


async def test_a_closed_window_does_not_hold_an_http2_answer(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(stall=0.3))
    client = h2.connection.H2Connection()
    client.local_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = 0
    client.initiate_connection()
    fields = [(":method", "GET"), (":path", "/large"), (":scheme", "http"), (":authority", "x")]
    client.send_headers(1, fields, end_stream=True)
    async with await running.connect() as stream:
        await stream.send_all(client.data_to_send())
        assert await is_closed(stream)


async def test_http2_streams_are_bounded(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(streams=3))
    client = h2.connection.H2Connection()
    client.initiate_connection()
    async with await running.connect() as stream:
        await stream.send_all(client.data_to_send())
        with trio.fail_after(WAIT):
            while client.remote_settings.max_concurrent_streams != 3:
                client.receive_data(await stream.receive_some(65536))


async def test_http2_bodies_share_the_memory(start: Any, site: Site) -> None:
    running: Running = await start(site.app, Limits(held_bytes=100))
    client = h2.connection.H2Connection()
    client.initiate_connection()
    fields = [
        (":method", "POST"),
        (":path", "/echo"),
        (":scheme", "http"),
        (":authority", "x"),
        ("content-type", "application/json"),
    ]
    client.send_headers(1, fields)
    client.send_data(1, json.dumps({"text": "x" * 200}).encode(), end_stream=True)
    async with await running.connect() as stream:
        await stream.send_all(client.data_to_send())
        with trio.fail_after(WAIT):
            while True:
                events = client.receive_data(await stream.receive_some(65536))
                answers = [e for e in events if isinstance(e, h2.events.ResponseReceived)]
                if answers:
                    break
        assert dict(answers[0].headers or ())[b":status"] == b"503"


# ---- the end


async def test_a_crowd_of_every_kind_does_not_hold_the_end(start: Any) -> None:
    site = make_site()
    running: Running = await start(site.app, Limits(drain=0.5, idle=60, stall=60))
    async with (
        crowd(running, 10),
        crowd(running, 10, BEGUN),
        crowd(running, 10, SLOW_BODY),
        crowd(running, 3, request("GET", "/large")),
        crowd(running, 10, QUICK * 50),
    ):
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await running.stop() < 2.5
