"""Hypercorn's HTTP/1.1 with two answers, one bound and one write less of our own.

* What h11 cannot read is answered with an empty body; here with the same problem document and
  headers as every other error.
* ``Upgrade: h2c`` is ignored, as RFC 9113 asks. Hypercorn obeys it, and a proxy that passes the
  header on would then see an opaque tunnel where it believes to see requests. HTTP/2 with prior
  knowledge, which no proxy passes on by accident, stays.
* The head of an answer whose length is known goes out together with what it announces.
* A client may send further requests before it has an answer, but only so many in a row; then the
  next answer is the last one (``Connection: close``), as RFC 9112, 9.3.2, lets a server do. No
  browser and no proxy in use pipelines; a flood of requests is cheap to send that way.

Hypercorn offers no place for another protocol class: its server makes a `ProtocolWrapper` and keeps
it in an attribute, so that is where ours is put.
"""

import math
from itertools import chain
from typing import Any, cast

import h11
import trio
from hypercorn.events import RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Event, Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import H11SendableEvent

from troupe.common.logs import get_logger
from troupe.http.admission import Limits
from troupe.http.connection import Connection
from troupe.http.refusals import announced_bytes, answer_to, refusal

_logger = get_logger(__name__)


class Http1(H11Protocol):
    """See the module's text."""

    pipelined = math.inf
    """Requests in a row that may be there before the previous one is answered."""
    _in_a_row = 0
    _unsent = b""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way and nothing of a next request has arrived."""
        connection = self.connection
        return (
            connection.their_state is h11.IDLE
            and connection.our_state is h11.IDLE
            and connection.trailing_data == (b"", False)
        )

    async def stream_send(self, event: Event) -> None:
        """Pass a part of an answer on."""
        if isinstance(event, Response) and event.status_code >= 200:
            # Afterwards, what is there may well be a quick client's reaction to this answer.
            already_there, _ = self.connection.trailing_data
            self._in_a_row = self._in_a_row + 1 if already_there else 0
            if self._in_a_row > self.pipelined:
                self.keep_alive_requests = self.config.keep_alive_max_requests
        await super().stream_send(event)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Send a part of an answer; a head that announces a body goes out with its first bytes.

        Each part would be a write of its own, the last one of nothing. A stream, whose length
        nobody knows, may begin with a pause: its head does not wait.
        """
        try:
            self._unsent += self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response) and announced_bytes(event.headers):
            return
        unsent, self._unsent = self._unsent, b""
        if unsent:
            await self.send(RawData(data=unsent))

    async def _check_protocol(self, event: h11.Request) -> None:
        asks_for_upgrade = any(name == b"upgrade" for name, _ in event.headers)
        if not asks_for_upgrade:
            await super()._check_protocol(event)

    async def _send_error_response(self, status_code: int) -> None:
        problem = refusal(status_code)
        _logger.info("request_refused_unread", status=status_code, reason=problem.detail)
        headers, body = answer_to(problem)
        headers = list(chain(headers, self.config.response_headers("h11")))
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class Http1Server(TCPServer):
    """Hypercorn's server of one connection, speaking `Http1`."""

    def __init__(self, *args: Any, limits: Limits) -> None:
        super().__init__(*args)
        self._pipelined = limits.pipelined
        self._step = min(limits.head, limits.idle)

    def is_idle(self) -> bool:
        """Whether the connection speaks `Http1` and waits for the first byte of a request."""
        protocol = self._protocol.protocol
        return isinstance(protocol, Http1) and protocol.is_idle

    async def _idle_timeout(self) -> None:
        """As Hypercorn's; but the connection says when, as not all is known here.

        By the first time that it is asked, the answer with whose last bytes this began has ended.
        """
        connection = cast("Connection", self.stream)
        closes_at = trio.current_time() + self._step
        while not self.context.terminated.is_set() and trio.current_time() < closes_at:
            with trio.move_on_at(min(closes_at, trio.current_time() + self._step)):
                await self.context.terminated.wait()
            closes_at = connection.closes_at()
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()

    @property
    def protocol(self) -> ProtocolWrapper:
        """What reads and writes HTTP on this connection."""
        return self._protocol

    @protocol.setter
    def protocol(self, wrapper: ProtocolWrapper) -> None:
        wrapper.protocol = Http1(
            wrapper.app,
            wrapper.config,
            wrapper.context,
            wrapper.task_group,
            wrapper.state,
            wrapper.ssl,
            wrapper.client,
            wrapper.server,
            wrapper.send,
        )
        wrapper.protocol.pipelined = self._pipelined
        self._protocol = wrapper
