"""One client connection: what stands between Hypercorn and the socket, and between it and the app.

Hypercorn's TCP server is used as it is; `Connection` is both the stream that it reads and writes
and the application that it calls, and corrects from these two sides what was measured to be wrong
or missing (TRAPS, "Hypercorn on trio"):

* A client that stops reading. Hypercorn writes under a shield, so no cancellation reaches it. Here
  every 64 KiB must leave within the stall deadline, and the whole at a least rate, else the socket
  is closed; and `close_now`, which needs no cooperation, ends the write from outside. The window of
  an HTTP/2 stream, which Hypercorn waits for without any deadline, is held to the same.
* Many slow clients at once. The connection says whose turn it is, what is held for it, and when a
  request is complete, and `troupe.http.admission` decides who may stay.
* Requests that two readers could understand differently, such as ``Content-Length`` beside
  ``Transfer-Encoding``, are refused before the application, see `troupe.http.refusals`.
* Closing with unread input resets the connection, and the client loses the answer that says why
  (413). After the last byte the writing side is shut down and input is discarded for a moment.
* A client that does not ask. Hypercorn, h11 and three tasks cost a connection 2 ms, at its
  beginning and its end. Here nothing of that exists before a whole head has come, and the small
  document or form that it announces; who announces too much is refused without it (`asks`).
* A client that drips. Each piece costs 150 µs on its way through three layers, be it one byte. Who
  sends tiny ones in a row is read from less and less often, and the kernel gathers them.
* A client that leaves. Hypercorn holds its socket until the idle time is over; here the end of the
  input ends the idle time.
* An answer that comes before its request's body has, such as 401. Hypercorn closes then, unless
  the body is there when the answer ends, and does not say so: the next request is lost on a closed
  connection. Here a small body that is right behind its head is waited for, and else the answer
  says ``Connection: close``.
* Pipelined bytes after a ``Connection: close``. h11 calls them an error and Hypercorn closes at
  once, in the middle of the answer that it is writing in another task. Closing waits for it here.
* Draining. Hypercorn closes what is idle when it is told to stop, including a connection whose
  first request is still on its way. Here a connection that has been heard from, or never used, or
  was used a moment ago, gets a moment to be answered; every answer from then on says ``Connection:
  close``. So a client that asks again and again is told where it can hear it, instead of writing
  into a closed connection. This is why each connection has a `WorkerContext` of its own.
* Plain requests. One that arrives whole while nothing is under way is answered by the task that
  has read it, from what `troupe.http.front` keeps or by the application (`troupe.http.direct`);
  Hypercorn then never hears of it.

The cost: one more call per read, write and request, about 2 µs together. Rejected: patching
Hypercorn's classes at run time, which breaks silently with the next release.
"""

import math
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol, cast

import trio
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    HTTPScope,
    Scope,
    WebsocketScope,
)
from hypercorn.utils import parse_socket_addr

from troupe.common.logs import get_logger
from troupe.common.units import MILLISECONDS, SECONDS, KiB, MiB
from troupe.http.admission import Admission
from troupe.http.direct import CLOSE, Departures, DirectAnswer, NoBody
from troupe.http.heads import announced_body, has_ended, is_for_the_protocol
from troupe.http.plain import PlainRequest, read_plain, scope_of
from troupe.http.problems import Problem
from troupe.http.refusals import (
    announced_bytes,
    answer_to,
    crowded,
    path_of,
    refusal,
    refusal_of,
    two_framings,
    written_answer,
)
from troupe.http.request import ATTENDED_EXTENSION, DRAINING_EXTENSION, TAKEN_EXTENSION

_Head = HTTPScope | WebsocketScope
_Address = tuple[str, int] | None

_logger = get_logger(__name__)

_WRITE_BYTES: Final = 64 * KiB
_LINGER: Final = 1 * SECONDS
_LINGER_BYTES: Final = 4 * MiB
_TINY: Final = 64
"""Bytes. No line is so slow that its packets carry so few."""
_HTTP2: Final = b"PRI "
_TINY_IN_A_ROW: Final = 2
_GATHER_FIRST: Final = 20 * MILLISECONDS
_GATHER_FACTOR: Final = 16
_GATHER_LONGEST: Final = 20 * SECONDS
_BODY_BEHIND: Final = 100 * MILLISECONDS
_SMALL_BODY: Final = 64 * KiB
_TURNS: Final = 12
"""Of the scheduler; an answer's end takes about five."""


class Front(Protocol):
    """Answers some requests by itself."""

    def answer(self, request: PlainRequest, peer: str) -> bytes | None:
        """The whole answer, or None: the request is the application's.

        Args:
            request: All that was received on an idle connection.
            peer: Address at the other end.
        """
        ...


class Connection:
    """See the module's text. Made, used and thrown away by `troupe.http.server`.

    Attributes:
        answered_at: When the last answer ended, on trio's clock.
        is_idle: Whether the protocol waits for the first byte of a request.
    """

    def __init__(
        self,
        app: ASGIFramework,
        stream: trio.SocketStream,
        admission: Admission,
        departures: Departures,
        draining: trio.Event,
        front: Front | None = None,
    ) -> None:
        self.context = WorkerContext(max_requests=None)
        self.held = 0
        self.answered_at = -math.inf
        self.is_idle: Callable[[], bool] = lambda: True
        self._front = front
        self._ends: tuple[_Address, _Address] | None = None
        self._departures = departures
        self._leaving: trio.CancelScope | None = None  # of a request that is answered directly
        self._app = app
        self._stream = stream
        self._admission = admission
        self._limits = admission.limits
        self._draining = draining
        self._answers: set[_AnswerWriter | _Writing] = set()
        self._unanswered_input = True
        self._heard_at = trio.current_time()
        self._ahead = b""
        self._hearing = trio.CancelScope()
        self._gathering = trio.CancelScope()
        self._tiny_in_a_row = 0
        self._frames = False
        self._request_began = trio.Event()
        self._reading = False
        self._read_ended = trio.Event()
        self._closing = False
        self._closed = trio.Event()
        self._in_hand = 0
        self._counted = 0
        self._writing = 0
        self._untaken: list[bytes] = []  # answers that the client takes piece by piece
        self._futile: set[trio.CancelScope] = set()
        admission.waits(self)

    # --- before there is a protocol ---

    async def asks(self) -> bool:
        """Whether the client asks for something that the protocol has to answer, and reads next.

        Otherwise it has left, has not asked in time, or we are closing. What the front answers is
        answered here, and so is who announces a body that no route takes or does not send it.
        """
        with self._hearing, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            heard = await self._head()
            self._hearing.deadline = math.inf
            self._ahead = await self._with_its_body(heard)
        return self._ahead != b""

    async def _head(self) -> bytes:
        """What the protocol is to read first; empty when the client has left."""
        heard = b""
        while not is_for_the_protocol(heard, self._limits.head_bytes):
            self._hearing.deadline = self.closes_at()
            await self._let_gather()
            data = await self._received(self._limits.head_bytes - len(heard))
            if not data:
                break
            heard += await self._accepted(data)
            if has_ended(heard) and await self._answered_here(heard):
                heard = b""
        return heard

    async def _with_its_body(self, heard: bytes) -> bytes:
        """A head, and a small document or form behind it; empty when there is nothing to answer."""
        body = announced_body(heard)
        if body is None:
            return heard
        if body.is_framed_twice:
            return await self._refuse_at_once(two_framings())
        if body.size > self._limits.body_bytes:
            return await self._refuse_at_once(refusal(413))
        missing = body.begins + body.size - len(heard)
        if not body.is_read_whole or body.size > _SMALL_BODY or missing <= 0:
            return heard
        return await self._gathered(heard, missing)

    async def _gathered(self, heard: bytes, missing: int) -> bytes:
        """With what is missing; empty when it does not come.

        As soon as we drain it is the protocol's as it is, which looks after it from then on.
        """
        gathered = bytearray(heard)
        fits = self.hold(len(heard))
        self._gathering.deadline = trio.current_time() + self._limits.body
        with self._gathering:
            while fits and missing > 0:
                await self._let_gather()
                data = await self._received(missing)
                if not data or not await self._accepted(data):
                    return b""
                gathered += data
                missing -= len(data)
                fits = self.hold(len(data))
        if not fits:
            return await self._refuse_at_once(crowded())
        self.let_go(len(gathered))
        if self._gathering.cancelled_caught and not self._draining.is_set():
            return await self._refuse_at_once(refusal(408))
        return bytes(gathered)

    async def _refuse_at_once(self, problem: Problem) -> bytes:
        _logger.info("request_refused_unread", status=problem.status, reason=problem.detail)
        await self.send_all(written_answer(problem))
        await self.aclose()
        return b""

    # --- as Hypercorn's stream ---

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket, for its addresses."""
        return self._stream.socket

    async def receive_some(self, max_bytes: int) -> bytes:
        """The next bytes; empty at the end, and once we are closing."""
        if self._closing:
            await self._closed.wait()
            return b""
        if self._ahead:
            await trio.lowlevel.checkpoint()
            data, self._ahead = self._ahead[:max_bytes], self._ahead[max_bytes:]
            return data
        self._reading = True
        data = b""
        try:
            # No more than a head may have: what is longer is refused before it is parsed.
            size = min(max_bytes, self._limits.head_bytes)
            await self._let_gather()
            data = await self._received(size)
            while data and await self._answered_here(data):
                data = await self._received(size)
            return await self._accepted(data)
        finally:
            self._reading = False
            self._read_ended.set()
            if not data:
                await self.context.terminated.set()
                for scope in tuple(self._futile):
                    scope.cancel()

    async def _received(self, size: int) -> bytes:
        """What has come; empty at the end.

        Trio's own stream tries before it waits, which finds nothing where a client asks only when
        it has its answer: a fifth of what reading costs.

        Raises:
            trio.BrokenResourceError: The client is gone.
            trio.ClosedResourceError: We have closed.
        """
        while self.socket.fileno() >= 0:
            await trio.lowlevel.wait_readable(self.socket)
            try:
                return os.read(self.socket.fileno(), size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError("the client is gone") from error
        raise trio.ClosedResourceError("the connection is closed")

    async def _let_gather(self) -> None:
        """Leave tiny pieces to the kernel for a while, the longer the more there were in a row.

        Not those of HTTP/2, whose frames are tiny by nature.
        """
        more = self._tiny_in_a_row - _TINY_IN_A_ROW
        if more >= 0:
            with trio.move_on_after(min(_GATHER_FIRST * _GATHER_FACTOR**more, _GATHER_LONGEST)):
                await self._closed.wait()

    async def _answered_here(self, data: bytes) -> bool:
        """Whether what was received was a plain request that has been answered.

        Nothing but this task writes here: no answer is under way, and the protocol waits for the
        first byte of a request.
        """
        if self._closing or self._draining.is_set():
            return False
        request = read_plain(data)
        if request is None or not await self._is_quiet() or self._closing:
            return False
        client, server = self._both_ends()
        answer = None
        if self._front is not None and client is not None and self._admission.may_begin():
            answer = self._front.answer(request, client[0])
        if answer is None:
            await self._answer_directly(scope_of(request, client, server))
        else:
            await self._write_at_once(answer)
            self._unanswered_input = False
        self.answered_at = trio.current_time()
        return True

    async def _answer_directly(self, scope: HTTPScope) -> None:
        self._hearing.deadline = math.inf  # an answer has deadlines of its own
        try:
            with self._departures.attending(self.socket.fileno()) as self._leaving:
                answer = DirectAnswer(self._write_or_leave, self._take_or_leave)
                extensions = cast("dict[str, object]", scope["extensions"])
                extensions[ATTENDED_EXTENSION] = True
                await self(scope, NoBody(), answer, _nobody, _nobody)
        finally:
            self._leaving = None
        if answer.rest is not None:
            await self._write_rest(*answer.rest)
        if answer.is_last:
            self._reading = False  # nobody does, so that closing may
            await self.aclose()

    async def _write_or_leave(self, data: bytes) -> None:
        try:
            await self.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._stop_answering()

    def _take_or_leave(self, data: bytes) -> int:
        try:
            return self._taken_at_once(data)
        except trio.BrokenResourceError:
            self._stop_answering()
            return len(data)

    def _stop_answering(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()

    def closes_at(self) -> float:
        """When it is over if nothing more comes, on trio's clock; no answer of the protocol's runs.

        Frames of HTTP/2 are no beginning of a head.
        """
        if self._leaving is not None or self._writing:
            return math.inf
        if self._unanswered_input and not self._frames:
            return self._heard_at + self._limits.head
        return self.answered_at + self._limits.idle

    def _both_ends(self) -> tuple[_Address, _Address]:
        if self._ends is None:
            family = self.socket.family
            try:
                peer, here = self.socket.getpeername(), self.socket.getsockname()
            except OSError as error:
                raise trio.BrokenResourceError("the client is gone") from error
            self._ends = parse_socket_addr(family, peer), parse_socket_addr(family, here)
        return self._ends

    async def _is_quiet(self) -> bool:
        """Whether no answer is under way; one whose last bytes have just left gets turns to end."""
        for _ in range(_TURNS):
            if all(answer.complete for answer in self._answers) and self.is_idle():
                return True
            if not self._answers or not all(answer.ending for answer in self._answers):
                return False
            await trio.lowlevel.checkpoint()
        return False

    async def _write_at_once(self, answer: bytes) -> None:
        """Write in one step where the system takes it, so that nothing can come between."""
        taken = self._taken_at_once(answer)
        self._admission.serves(self)
        self._admission.waits(self)
        if taken == len(answer):
            return
        await self._write_rest(taken, answer)

    async def _write_rest(self, taken: int, answer: bytes) -> None:
        writing = _Writing()
        self._answers.add(writing)
        self._hearing.deadline = math.inf  # an answer has deadlines of its own
        try:
            await self._send_from(taken, answer)
        finally:
            writing.ended.set()
            self._answers.discard(writing)

    def _taken_at_once(self, data: bytes) -> int:
        """How many of these bytes the system takes without waiting for the client.

        Raises:
            trio.BrokenResourceError: The client is gone.
        """
        try:
            return os.write(self.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError("the client is gone") from error

    async def _accepted(self, data: bytes) -> bytes:
        if self._closing:  # `aclose` was called while we were reading; it waits for us
            if data:
                await self._discard()
            return b""
        if not self._unanswered_input:
            self._heard_at = trio.current_time()
        self._unanswered_input = True
        self._frames = self._frames or data.startswith(_HTTP2)
        tiny = len(data) < _TINY and not self._frames
        self._tiny_in_a_row = self._tiny_in_a_row + 1 if tiny else 0
        return data

    async def send_all(self, data: bytes) -> None:
        """Write everything, or close the socket on a client that does not take it.

        Raises:
            trio.BrokenResourceError: The client is gone or stalled.
        """
        taken = self._taken_at_once(data)
        if taken == len(data):
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._send_from(taken, data)

    async def _send_from(self, taken: int, data: bytes) -> None:
        self._writing += 1
        self._note_turn()
        self._hold_document(data)
        end = trio.current_time() + self._limits.patience(len(data))
        try:
            for start in range(taken, len(data), _WRITE_BYTES):
                with trio.move_on_after(self._limits.stall) as scope:
                    scope.deadline = min(scope.deadline, end)
                    await self._stream.send_all(memoryview(data)[start : start + _WRITE_BYTES])
                if scope.cancelled_caught:
                    raise self.stopped_reading(len(data) - start)
        finally:
            self._let_document_go(data)
            self._writing -= 1
            self._note_turn()

    def stopped_reading(self, unsent: int) -> Exception:
        """Close on a client that does not take its answer; the exception says so."""
        _logger.info("client_stopped_reading", unsent_bytes=unsent)
        self.close_now()
        return trio.BrokenResourceError("the client stopped reading")

    async def send_eof(self) -> None:
        """Shut down the writing side, after the answers that other tasks have begun to write."""
        us = trio.lowlevel.current_task()
        with trio.move_on_after(self._limits.stall):
            for answer in tuple(self._answers):
                if answer.began and answer.task is not us:
                    await answer.ended.wait()
        with suppress(OSError):  # already gone
            self.socket.shutdown(socket.SHUT_WR)
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close after the client had a moment to read what was sent last."""
        if self._closing:
            return
        self._closing = True
        await self.send_eof()
        with trio.move_on_after(_LINGER, shield=True):
            if self._reading:
                await self._read_ended.wait()
            else:
                await self._discard()
        self.close_now()

    def close_now(self) -> None:
        """Close the socket without waiting; whoever reads or writes fails at once."""
        self._closing = True
        self.socket.close()
        self._closed.set()
        for answer in self._answers:  # whoever waits for one would wait for nothing
            answer.ended.set()
        self._stop_answering()
        for document in tuple(self._untaken):
            self._let_document_go(document)
        self.let_go(self.held)

    # --- as a guest of the server ---

    def hold(self, size: int) -> bool:
        """Count bytes that are held for the client; False if there is no room for them."""
        if self._closed.is_set():
            return False
        self.held += size
        return self._admission.hold(size, self)

    def let_go(self, size: int) -> None:
        """They are gone; all are, once the socket is closed."""
        size = min(size, self.held)
        self.held -= size
        self._admission.let_go(size)

    def _hold_document(self, document: bytes) -> None:
        if not self._closed.is_set():
            self._untaken.append(document)
            self.held += len(document)
            self._admission.hold_document(document, self)

    def _let_document_go(self, document: bytes) -> None:
        for index, other in enumerate(self._untaken):
            if other is document:
                del self._untaken[index]
                self.held -= len(document)
                self._admission.let_document_go(document)
                return

    @contextmanager
    def patiently(self, size: int) -> Iterator[None]:
        """Wait for the client to take so many bytes, as long as it is there.

        Raises:
            trio.BrokenResourceError: It is gone, or takes too long.
        """
        with trio.move_on_after(self._limits.patience(size)) as scope:
            self._futile.add(scope)
            try:
                yield
            finally:
                self._futile.discard(scope)
        if scope.cancelled_caught:
            raise self.stopped_reading(size)

    def begin(self) -> bool:
        """A request is complete and ours to answer; False if there are too many."""
        if not self._admission.begin():
            return False
        self._in_hand += 1
        self._counted += 1
        self._note_turn()
        return True

    def end(self) -> None:
        """It is answered."""
        self._in_hand -= 1
        self._note_turn()

    def _note_turn(self) -> None:
        ours = 0 if self._writing else self._in_hand
        self._admission.recount(ours - self._counted)
        self._counted = ours
        if self._closed.is_set():
            return
        if ours:
            self._admission.serves(self)
        else:
            self._admission.waits(self)

    async def _discard(self) -> None:
        left = _LINGER_BYTES
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while left > 0:
                data = await self._received(_WRITE_BYTES)
                if not data or not self._admission.may_discard(len(data)):
                    return
                left -= len(data)

    # --- draining ---

    async def drain(self) -> None:
        """Close when idle; answer first when a request runs or may be on its way."""
        self._gathering.cancel()
        for answer in tuple(self._answers):
            if answer.promised_more or self._leaving is not None:
                await answer.ended.wait()
        expected = trio.current_time() - self.answered_at < self._limits.revisit
        if not self._answers and (expected or self._unanswered_input or self._is_readable()):
            with trio.move_on_after(self._limits.first_request):
                await self._request_began.wait()
        await self.context.terminated.set()
        self._hearing.cancel()

    def _is_readable(self) -> bool:
        if self.socket.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self.socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    # --- as Hypercorn's application ---

    async def __call__(
        self,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        sync_spawn: Callable[..., Any],  # noqa: ARG002  # the signature is Hypercorn's
        call_soon: Callable[..., Any],  # noqa: ARG002  # as above
    ) -> None:
        """Answer one request: refuse what is not sound, hand on the rest."""
        head = cast("_Head", scope)  # nothing else comes over a connection
        arrival = _Arrival(self, head, receive)
        answer = _AnswerWriter(self, send, head, arrival, self._draining)
        self._answers.add(answer)
        self._request_began.set()
        try:
            if self._draining.is_set():
                await self.context.terminated.set()
            if scope["type"] == "http":
                scope["path"] = path_of(scope["path"])
            problem = refusal_of(scope, self._limits)
            if problem is not None:
                _logger.info("request_refused_unread", status=problem.status, reason=problem.detail)
                await _refuse(problem, scope, receive, answer)
                return
            extensions = cast("dict[str, object]", scope.get("extensions"))
            extensions[DRAINING_EXTENSION] = self._draining
            extensions[TAKEN_EXTENSION] = arrival.taken
            if arrival.may_begin():
                await self._app(scope, arrival, answer)
            if arrival.refused and not answer.began:
                await _refuse(crowded(), scope, receive, answer)
        except Exception:
            _logger.exception("request_failed_outside_the_application")
            if not answer.began:
                await _refuse(refusal(500), scope, receive, answer)
        finally:
            arrival.end()
            answer.ended.set()
            self._answers.discard(answer)
            self._unanswered_input = False
            self._tiny_in_a_row = 0
            self.answered_at = trio.current_time()
            self._request_began = trio.Event()


class _Arrival:
    """A request on its way in: what has come is counted, and when all has come, the request is.

    Attributes:
        refused: There was no room for it; the application is told that the client has left.
    """

    def __init__(self, connection: Connection, scope: _Head, receive: ASGIReceiveCallable) -> None:
        self.refused = False
        self._connection = connection
        self._receive = receive
        self._came = trio.Event()
        size = announced_bytes(scope["headers"])
        if size == 0 and scope["http_version"] in {"1.0", "1.1"}:  # HTTP/2 needs no header for one
            self._came.set()
        self._is_small = size is not None and 0 < size <= _SMALL_BODY
        self._begun = False
        self._held = 0

    def may_begin(self) -> bool:
        """Whether the application may see it: its body is still to come, or there is room."""
        return not self._came.is_set() or self._begin()

    async def has_come(self) -> bool:
        """Whether all of the body has, or does within a moment if it is small."""
        if self._is_small:
            with trio.move_on_after(_BODY_BEHIND):
                await self._came.wait()
        return self._came.is_set()

    def _begin(self) -> bool:
        self._begun = self._connection.begin()
        self.refused = not self._begun
        return self._begun

    async def __call__(self) -> ASGIReceiveEvent:
        message = await self._receive()
        if message["type"] != "http.request" or self._came.is_set():
            return message
        size = len(message["body"])
        self._held += size
        if not self._connection.hold(size):
            self.refused = True
        elif not message["more_body"]:
            self._came.set()
            self._begin()
        return {"type": "http.disconnect"} if self.refused else message

    def taken(self, size: int) -> None:
        """So many bytes of the body were passed on and are held no longer."""
        self._held -= size
        self._connection.let_go(size)

    def end(self) -> None:
        """The request is over."""
        self._connection.let_go(self._held)
        if self._begun:
            self._connection.end()


class _Writing:
    """The end of an answer that the client takes piece by piece; closing waits for it."""

    began = True
    ending = False
    complete = False
    promised_more = True

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.task = trio.lowlevel.current_task()


class _AnswerWriter:
    """Passes an answer on; tells the client not to come back while draining.

    Attributes:
        began: Whether its head is on its way.
        promised_more: Whether that let the client believe that the connection stays open.
        ended: Set when all of it was handed over.
        task: Who writes it.
    """

    def __init__(
        self,
        connection: Connection,
        send: ASGISendCallable,
        scope: _Head,
        arrival: _Arrival,
        draining: trio.Event,
    ) -> None:
        self.began = False
        self.ending = False
        self.complete = False
        self.promised_more = False
        self.ended = trio.Event()
        self.task = trio.lowlevel.current_task()
        self._connection = connection
        self._send = send
        self._http1 = scope["http_version"].startswith("1")
        self._arrival = arrival
        self._draining = draining

    async def __call__(self, message: Any) -> None:
        self.task = trio.lowlevel.current_task()
        if message["type"].endswith("http.response.start"):
            self.began = True
            headers = list(message["headers"])
            if self._http1 and CLOSE not in headers and await self._is_last():
                headers.append(CLOSE)
                message = {**message, "headers": headers}
            self.promised_more = self._http1 and CLOSE not in headers
        if self._http1:  # where `Connection.send_all` sees to it
            last = message["type"].endswith("body") and not message.get("more_body", False)
            self.ending = last
            await self._send(message)
            self.complete = last
            return
        size = len(message.get("body", b""))
        with self._connection.patiently(size):
            await self._send(message)

    async def _is_last(self) -> bool:
        """Whether the connection cannot be used again after this answer."""
        return self._draining.is_set() or not await self._arrival.has_come()


async def _refuse(
    problem: Problem, scope: Scope, receive: ASGIReceiveCallable, answer: _AnswerWriter
) -> None:
    """Answer and close. Input is consumed meanwhile, or Hypercorn would wait for somebody to."""
    headers, body = answer_to(problem)
    kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
    async with trio.open_nursery() as nursery:

        async def consume() -> None:
            while not (await receive())["type"].endswith(".disconnect"):
                pass

        nursery.start_soon(consume)
        with trio.CancelScope(shield=True):  # bounded by the stall deadline of `send_all`
            await answer({"type": f"{kind}.start", "status": problem.status, "headers": headers})
            await answer({"type": f"{kind}.body", "body": body, "more_body": False})
        nursery.cancel_scope.cancel()


def _nobody(*_: object) -> None:
    """Who is answered directly has no threads to be spawned from."""


def as_stream(connection: Connection) -> "trio.SSLStream[trio.SocketStream]":
    """The connection under the type that Hypercorn's server is annotated with."""
    return cast("trio.SSLStream[trio.SocketStream]", connection)
