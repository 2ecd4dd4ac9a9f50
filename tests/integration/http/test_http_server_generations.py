"""Draining, ending by force, and one generation after another on the same socket."""

import json
import socket
from typing import Any

import pytest
import trio

from tests.integration.http.wire import (
    WAIT,
    Running,
    Site,
    make_site,
    read_reply,
    read_to_end,
    request,
)
from troupe.common.errors import ConfigurationError
from troupe.http.admission import Limits
from troupe.http.application import create_app
from troupe.http.server import bind, serve, url_of

pytestmark = pytest.mark.usefixtures("way")


async def test_a_running_request_is_answered_and_told_to_leave(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/slow"))
        with trio.fail_after(WAIT):
            await site.started.wait()
        server.shutdown.set()
        await trio.testing.wait_all_tasks_blocked()
        assert not server.ended.is_set()
        site.release.set()
        reply = await read_reply(stream)
        assert (reply.status, json.loads(reply.body)) == (200, {"text": "slow"})
        assert reply.headers["connection"] == "close"
        assert await read_to_end(stream) == b""
    await server.stop()


async def test_idle_connections_close_at_once(start: Any, site: Site) -> None:
    server: Running = await start(site.app, Limits(idle=60, revisit=0.1))
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/quick"))
        await read_reply(stream)
        await trio.sleep(0.2)
        server.shutdown.set()
        assert await read_to_end(stream, 0.8) == b""
    assert await server.stop() < 2


async def test_a_connection_that_was_used_a_moment_ago_hears_it_with_its_next_answer(
    start: Any, site: Site
) -> None:
    server: Running = await start(site.app, Limits(first_request=5, revisit=60))
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/quick"))
        assert (await read_reply(stream)).headers.get("connection") != "close"
        server.shutdown.set()
        await trio.sleep(0.3)
        await stream.send_all(request("GET", "/quick"))
        reply = await read_reply(stream)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await read_to_end(stream, 2) == b""
    assert await server.stop() < 4


async def test_a_connection_without_its_first_request_gets_a_moment(start: Any, site: Site) -> None:
    server: Running = await start(site.app, Limits(first_request=5))
    async with await server.connect() as silent, await server.connect() as stream:
        await server.ask(request("GET", "/quick"))  # both are accepted by now
        await stream.send_all(request("GET", "/quick")[:20])
        server.shutdown.set()
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(request("GET", "/quick")[20:])
        assert (await read_reply(stream)).status == 200
        await silent.aclose()
        assert await server.stop() < 4


async def test_without_that_moment_it_would_be_lost(start: Any, site: Site) -> None:
    """The twin of the test above: it notices a server that closes too early."""
    server: Running = await start(site.app, Limits(first_request=0))
    async with await server.connect() as stream:
        await server.ask(request("GET", "/quick"))
        await stream.send_all(request("GET", "/quick")[:20])
        server.shutdown.set()
        assert await read_to_end(stream) == b""


async def test_a_request_that_outlives_the_drain_is_cancelled(start: Any, site: Site) -> None:
    server: Running = await start(site.app, Limits(drain=0.3))
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/slow"))
        with trio.fail_after(WAIT):
            await site.started.wait()
        assert 0.2 < await server.stop() < 2
        assert site.cancelled.is_set()


@pytest.mark.parametrize("by", ["shutdown", "cancellation"])
async def test_a_client_that_stopped_reading_does_not_hold_the_end(
    start: Any, site: Site, by: str
) -> None:
    server: Running = await start(site.app, Limits(drain=0.3, stall=60))
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/large"))
        with trio.fail_after(WAIT):
            await site.started.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        if by == "shutdown":
            assert await server.stop() < 2
        else:
            server.scope.cancel()
            with trio.fail_after(2):
                await server.ended.wait()


async def test_a_cancellation_while_an_answer_ends_is_not_held_up(start: Any, site: Site) -> None:
    """Hypercorn's idle task begins then, closes, and would wait for who waits for it to begin."""
    for _ in range(20):
        server: Running = await start(site.app, Limits(stall=60))
        async with await server.connect() as stream:
            await stream.send_all(request("GET", "/quick"))
            await read_reply(stream)
        server.scope.cancel()
        with trio.fail_after(2):
            await server.ended.wait()


async def test_a_restart_loses_no_connection(start: Any, site: Site) -> None:
    """Clients keep asking, each on a fresh connection, while generations come and go."""
    answered = 0
    stop = False
    server: Running = await start(site.app)

    async def client() -> None:
        nonlocal answered
        while not stop:
            reply = await server.ask(request("GET", "/quick"))
            assert reply.status == 200
            answered += 1

    async with trio.open_nursery() as clients:
        for _ in range(8):
            clients.start_soon(client)
        for generation in range(10):
            goal = answered + 20
            with trio.fail_after(WAIT):
                while answered < goal:
                    await trio.lowlevel.checkpoint()
            old, fresh = server, make_site()
            if generation % 2:  # the next one overlaps the old one
                server = await start(fresh.app)
                await old.stop()
            else:  # or there is nobody for a while, and connections queue
                await old.stop()
                server = await start(fresh.app)
        stop = True
    assert answered > 200


async def test_connections_queue_while_nobody_serves(start: Any, site: Site) -> None:
    server: Running = await start(site.app)
    await server.stop()
    async with await server.connect() as stream:
        await stream.send_all(request("GET", "/quick"))
        again: Running = await start(site.app)
        assert (await read_reply(stream)).status == 200
    await again.stop()


async def test_a_failing_start_says_why_and_takes_no_connection(listener: socket.socket) -> None:
    app = create_app("analytics", resolver=None)

    @app.before_serving
    async def fail() -> None:
        raise RuntimeError("the reason")

    with pytest.raises(Exception, match="the reason") as caught:
        await serve(app, [listener], shutdown=trio.Event())
    assert not isinstance(caught.value, BaseExceptionGroup)


async def test_after_serving_runs(start: Any, site: Site) -> None:
    ended = trio.Event()
    site.app.after_serving(_setter(ended))
    server: Running = await start(site.app)
    await server.stop()
    assert ended.is_set()


def _setter(event: trio.Event) -> Any:
    async def set_it() -> None:
        event.set()

    return set_it


async def test_an_application_that_breaks_answers_500_and_serves_on(start: Any) -> None:
    async def broken(scope: Any, _receive: Any, _send: Any) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan here")
        raise ExceptionGroup("several", [ValueError("secret detail")])

    server: Running = await start(broken)
    for _ in range(2):
        reply = await server.ask(request("GET", "/"))
        assert reply.status == 500
        assert b"secret" not in reply.body


def test_bind_says_what_is_wrong(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}: .*in use"):
        bind("127.0.0.1", port)
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:0"):
        bind("192.0.2.1", 0)


def test_bind_knows_ipv6() -> None:
    listener = bind("::1", 0)
    try:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"
    finally:
        listener.close()
