"""Streams speak, stay alive, end, and are counted."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.unit.http.sites import make_app
from troupe.http.application import Application
from troupe.http.event_stream import EVENT_STREAM, ServerEvent, event_stream, last_event_id
from troupe.http.principal import Access
from troupe.http.request import DRAINING_EXTENSION

Source = AsyncGenerator[ServerEvent, None]


def streaming_app(source: Any, **options: Any) -> Application:
    app = make_app()

    @app.api.get(
        "/events", requires=Access.PUBLIC, answers={200: EVENT_STREAM}, summary="", problems=[503]
    )
    async def events() -> Any:
        return event_stream(source(), **options)

    return app


async def read_all(app: Application, **options: Any) -> tuple[int, bytes]:
    response = await app.test_client().get("/events", **options)
    return response.status_code, bytes(await response.get_data(as_text=False))


def test_the_form_of_an_event() -> None:
    event = ServerEvent({"text": "a\nb"}, event="progress", id="7")
    assert event.encode() == b'id: 7\nevent: progress\ndata: {"text":"a\\nb"}\n\n'
    for text in ("a\nb", "", "a\rb", "x" * 300):
        with pytest.raises(ValueError, match="one short line"):
            ServerEvent(1, id=text)


async def test_events_then_the_end() -> None:
    async def source() -> Source:
        yield ServerEvent(1)
        await trio.lowlevel.checkpoint()
        yield ServerEvent(2, id="2")

    status, body = await read_all(streaming_app(source))
    assert status == 200
    assert body == b"retry: 3000\n\ndata: 1\n\nid: 2\ndata: 2\n\n"


async def test_silence_is_filled_and_ends(autojump_clock: MockClock) -> None:
    closed = False

    async def source() -> Source:
        nonlocal closed
        try:
            await trio.sleep(3600)
            yield ServerEvent(1)
        finally:
            closed = True

    began = autojump_clock.current_time()
    _, body = await read_all(streaming_app(source, heartbeat=10, longest=35))
    assert body == b"retry: 3000\n\n" + b":\n\n" * 3
    assert autojump_clock.current_time() - began == pytest.approx(35)
    assert closed


async def test_a_failing_source_ends_the_stream_and_is_logged() -> None:
    async def source() -> Source:
        yield ServerEvent(1)
        raise ValueError("broken")

    app = streaming_app(source)
    with capture_logs() as logs:
        _, body = await read_all(app)
    assert body.endswith(b"data: 1\n\n")
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "event_source_failed"
    ]
    assert app.stream_slots.open == 0


async def test_draining_ends_the_stream(autojump_clock: MockClock) -> None:
    draining = trio.Event()

    async def source() -> Source:
        yield ServerEvent(1)
        draining.set()
        await trio.sleep_forever()

    extensions = {"extensions": {DRAINING_EXTENSION: draining}}
    began = autojump_clock.current_time()
    _, body = await read_all(streaming_app(source), scope_base=extensions)
    assert body.endswith(b"data: 1\n\n")
    assert autojump_clock.current_time() == began


async def test_streams_are_limited() -> None:
    async def source() -> Source:
        yield ServerEvent(1)

    app = streaming_app(source)
    app.stream_slots.limit = 0
    status, body = await read_all(app)
    assert (status, b":unavailable" in body) == (503, True)
    app.stream_slots.limit = 1
    for _ in range(3):
        assert (await read_all(app))[0] == 200


async def test_where_to_continue() -> None:
    app = make_app()

    @app.api.get("/events", requires=Access.PUBLIC, answers={200: EVENT_STREAM}, summary="")
    async def events() -> Any:
        where = last_event_id()

        async def source() -> Source:
            yield ServerEvent(where)

        return event_stream(source())

    assert b'data: "41"' in (await read_all(app, headers={"Last-Event-ID": "41"}))[1]
    assert b"data: null" in (await read_all(app, headers={"Last-Event-ID": "x" * 300}))[1]
