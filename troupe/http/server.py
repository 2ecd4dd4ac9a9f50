"""Serves one application on sockets that somebody else bound.

The supervisor binds and listens, once, and keeps the sockets. Each generation of a group serves on
duplicates of their descriptors: when it ends, crashes or is replaced, the listening socket lives on
and new connections wait in the kernel's backlog until the next generation accepts them. Nobody is
refused, two generations may overlap, and a group needs no privilege for its port.

Hypercorn supplies the protocol (h11, h2, the ASGI side), `troupe.http.connection` what it lacks per
connection, and this module what its `worker_serve` lacks as a whole:

* Bounds on connections, on requests and on what is held for slow clients; `troupe.http.admission`
  says who makes room for whom.
* Failures stay inside their connection. In `worker_serve` an unforeseen exception in one connection
  cancels all others.
* An end that is certain. `shutdown` stops accepting and drains: idle connections close, running
  requests are answered, streams are told through the scope. After `drain` seconds the sockets are
  closed by force, which no shielded write withstands, and the requests are cancelled. What is left
  is what handlers themselves shield, and those bound it.

Shutting down by cancelling `serve` skips the drain but is just as certain.

Rejected: Hypercorn's own `serve` (its sockets must be exactly ``socket.socket``, its connections
cannot be reached from outside, its graceful timeout does not end a blocked write), and a socket per
generation with ``SO_REUSEPORT`` (connections queued at the old socket die with it).
"""

import errno
import logging
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final, Protocol

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.typing import ASGIFramework, ConnectionState, LifespanState

from troupe.common.errors import ConfigurationError
from troupe.common.logs import get_logger
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.http.admission import Admission, Limits, raise_descriptor_limit
from troupe.http.connection import Connection, Front, as_stream
from troupe.http.direct import Departures
from troupe.http.http1 import Http1Server

_logger = get_logger(__name__)

BACKLOG: Final = 1024
_LIFESPAN_DEADLINE: Final = 10 * SECONDS
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_NO_ROOM_PAUSE: Final = 100 * MILLISECONDS


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Args:
        host: An address or a name; the first address it resolves to is used.
        port: 0 takes any free one.

    Raises:
        ConfigurationError: The address does not exist here or is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as undo:
            listener = undo.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            undo.pop_all()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(f"cannot listen on {host}:{port}: {reason}") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket, with the port it really has."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Ready(Protocol):
    """Whoever waits for the server to accept connections."""

    def started(self, value: list[str], /) -> None:
        """It does, at these URLs."""
        ...


async def serve(
    app: ASGIFramework,
    sockets: Sequence[socket.socket],
    *,
    shutdown: trio.Event,
    limits: Limits | None = None,
    front: Front | None = None,
    task_status: Ready = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `shutdown` is set and everything has ended.

    Args:
        app: An ASGI application; its lifespan runs around the serving.
        sockets: From `bind`. They are duplicated; the caller keeps and closes its own.
        shutdown: Set it to drain and return.
        limits: Bounds of this server.
        front: Answers some requests by itself.
        task_status: Hears the URLs once connections are accepted: from ``nursery.start``, or a
            supervised child's context.
    """
    limits = limits or Limits()
    connections = raise_descriptor_limit(limits.connections)
    if connections < limits.connections:
        _logger.warning("too_few_descriptors", wanted=limits.connections, connections=connections)
        limits = replace(limits, connections=connections)
    config = _config(limits)
    state: LifespanState = {}
    lifespan = Lifespan(ASGIWrapper(app), config, state)
    server = _Server(app, config, state, limits, front)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            await server.run(sockets, shutdown, task_status)
            await lifespan.wait_for_shutdown()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _only(group) from None


def _config(limits: Limits) -> Config:
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.head_bytes
    config.h2_max_header_list_size = limits.head_bytes
    config.h2_max_concurrent_streams = limits.streams
    config.keep_alive_timeout = limits.idle
    config.startup_timeout = _LIFESPAN_DEADLINE
    config.shutdown_timeout = _LIFESPAN_DEADLINE
    return config


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in nested groups of one; start-up failures arrive three groups deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class _Server:
    def __init__(
        self,
        app: ASGIFramework,
        config: Config,
        state: LifespanState,
        limits: Limits,
        front: Front | None,
    ) -> None:
        self._app = app
        self._front = front
        self._config = config
        self._state = state
        self._limits = limits
        self._admission = Admission(limits)
        self._departures = Departures()
        self._connections: set[Connection] = set()
        self._draining = trio.Event()
        self._all_closed = trio.Event()

    async def run(
        self,
        sockets: Sequence[socket.socket],
        shutdown: trio.Event,
        task_status: Ready,
    ) -> None:
        async with trio.open_nursery() as connections:
            connections.start_soon(self._departures.watch)
            try:
                await self._accept_until(shutdown, sockets, connections, task_status)
                await self._drain()
            finally:
                # Before the cancellation, whoever caused it: it does not reach a blocked write.
                for connection in tuple(self._connections):
                    connection.close_now()
            connections.cancel_scope.cancel()

    async def _accept_until(
        self,
        shutdown: trio.Event,
        sockets: Sequence[socket.socket],
        connections: trio.Nursery,
        task_status: Ready,
    ) -> None:
        with ExitStack() as closing:
            listeners = []
            for bound in sockets:
                ours = trio.socket.from_stdlib_socket(bound.dup())
                closing.callback(ours.close)
                listeners.append(trio.SocketListener(ours))
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(self._accept, listener, connections)
                task_status.started([url_of(bound) for bound in sockets])
                await shutdown.wait()
                accepting.cancel_scope.cancel()

    async def _accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        while True:
            await self._admission.place(listener.socket)
            try:
                stream = await listener.accept()
            except OSError as error:
                self._admission.give_back()
                if error.errno not in _NO_ROOM:
                    raise
                self._admission.make_room()
                _logger.warning("connection_not_accepted", reason=error.strerror)
                await trio.sleep(_NO_ROOM_PAUSE)
            except BaseException:
                self._admission.give_back()
                raise
            else:
                connection = Connection(
                    self._app,
                    stream,
                    self._admission,
                    self._departures,
                    self._draining,
                    self._front,
                )
                self._connections.add(connection)
                connections.start_soon(self._converse, connection)

    async def _converse(self, connection: Connection) -> None:
        try:
            if await connection.asks():
                await self._speak(connection)
        except* Exception:
            _logger.exception("connection_failed")
        finally:
            connection.close_now()
            self._connections.discard(connection)
            self._admission.left(connection)
            if self._draining.is_set() and not self._connections:
                self._all_closed.set()

    async def _speak(self, connection: Connection) -> None:
        server = Http1Server(
            connection,
            self._config,
            connection.context,
            ConnectionState(self._state.copy()),
            as_stream(connection),
            limits=self._limits,
        )
        connection.is_idle = server.is_idle
        await server.run()

    async def _drain(self) -> None:
        self._draining.set()
        if not self._connections:
            return
        with trio.move_on_after(self._limits.drain):
            async with trio.open_nursery() as nursery:
                for connection in tuple(self._connections):
                    nursery.start_soon(connection.drain)
                await self._all_closed.wait()
                nursery.cancel_scope.cancel()
        if self._connections:
            _logger.warning("connections_closed_by_force", count=len(self._connections))
