"""Server-sent events: an answer that lasts.

The source is an async generator; a task of its own reads it, so that the stream can speak while the
source is silent. A comment every 15 s keeps proxies from closing the connection and is how a client
that vanished is noticed, by the write that fails. The stream ends when the source does, when the
client leaves, when the server drains, and in any case after an hour; a browser then comes back by
itself with ``Last-Event-ID``, which `last_event_id` reads.

Bounds: one event is buffered, a source that is faster waits; a client that does not read meets the
server's stall deadline; streams per application are limited, and beyond that a request is refused
with 503. That limit is checked before the answer begins and counted when it does, so requests that
start in the same instant may exceed it by their number.

A nursery must not span a ``yield``, which is why the body is a class that Quart enters and leaves
and not an async generator.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self, cast

import trio
from quart import Response, current_app
from quart.wrappers.response import ResponseBody

from troupe.common.logs import get_logger
from troupe.common.units import HOURS, SECONDS
from troupe.http import exact_json
from troupe.http.declaration import Media
from troupe.http.problems import Unavailable
from troupe.http.request import current_request

EVENT_STREAM: Final = Media("text/event-stream", "Server-sent events")
"""For the `answers` of a route that streams."""

HEARTBEAT: Final = 15 * SECONDS
LONGEST: Final = 1 * HOURS
MAX_STREAMS: Final = 64
_OPENING: Final = b"retry: 3000\n\n"
_COMMENT: Final = b":\n\n"
_ONE_LINE: Final = re.compile(r"[^\r\n\0]{1,200}")

_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event.

    Attributes:
        data: Anything that `exact_json` writes.
        event: Its type, for ``addEventListener``; ``message`` when None.
        id: Where to continue after a lost connection.
    """

    data: object
    event: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        for text in (self.event, self.id):
            if text is not None and not _ONE_LINE.fullmatch(text):
                raise ValueError("an event's type and id are one short line")

    def encode(self) -> bytes:
        """The event's lines."""
        lines = [b"data: " + exact_json.dumps(self.data)]
        if self.event is not None:
            lines.insert(0, b"event: " + self.event.encode())
        if self.id is not None:
            lines.insert(0, b"id: " + self.id.encode())
        return b"\n".join(lines) + b"\n\n"


class StreamSlots:
    """How many streams an application has open."""

    def __init__(self, limit: int = MAX_STREAMS) -> None:
        self.limit = limit
        self.open = 0


class HasStreamSlots(Protocol):
    """What this module needs of an application."""

    stream_slots: StreamSlots


def last_event_id() -> str | None:
    """Where the current request's client wants to continue; for the handler, not the source."""
    given = current_request().headers.get("Last-Event-ID")
    return given if given is not None and _ONE_LINE.fullmatch(given) else None


def event_stream(
    source: AsyncGenerator[ServerEvent, None],
    *,
    heartbeat: float = HEARTBEAT,
    longest: float = LONGEST,
) -> Response:
    """Answer the current request with events.

    Args:
        source: Read until it ends; when it fails, the failure is logged and the stream ends.
        heartbeat: Seconds of silence after which a comment is sent.
        longest: Seconds after which the stream ends and the client comes back.

    Raises:
        Unavailable: Too many streams are open.
    """
    slots = cast("HasStreamSlots", current_app).stream_slots
    if slots.open >= slots.limit:
        raise Unavailable("Too many event streams are open; try again in a moment.")
    response = Response(
        _EventBody(source, slots, current_request().draining, heartbeat, longest),
        200,
        {"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        content_type=EVENT_STREAM.content_type,
    )
    response.timeout = None
    return response


class _EventBody(ResponseBody):
    def __init__(
        self,
        source: AsyncGenerator[ServerEvent, None],
        slots: StreamSlots,
        draining: trio.Event,
        heartbeat: float,
        longest: float,
    ) -> None:
        self._source = source
        self._slots = slots
        self._draining = draining
        self._heartbeat = heartbeat
        self._longest = longest
        self._opened = False
        self._stack = AsyncExitStack()
        self._send, self._receive = trio.open_memory_channel[ServerEvent](1)

    async def __aenter__(self) -> Self:
        self._slots.open += 1
        self._stack.callback(self._leave)
        nursery = await self._stack.enter_async_context(trio.open_nursery())
        self._stack.callback(nursery.cancel_scope.cancel)
        nursery.start_soon(self._pump)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(exc_type, exc_value, traceback)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._opened:
            self._opened = True
            return _OPENING
        try:
            with trio.move_on_after(self._heartbeat):
                return (await self._receive.receive()).encode()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        return _COMMENT

    def _leave(self) -> None:
        self._slots.open -= 1

    async def _pump(self) -> None:
        with self._send:
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = trio.current_time() + self._longest
                nursery.start_soon(self._cancel_when_draining, nursery.cancel_scope)
                try:
                    async with aclosing(self._source) as events:
                        async for event in events:
                            await self._send.send(event)
                except Exception:
                    _logger.exception("event_source_failed")
                nursery.cancel_scope.cancel()

    async def _cancel_when_draining(self, scope: trio.CancelScope) -> None:
        await self._draining.wait()
        scope.cancel()
