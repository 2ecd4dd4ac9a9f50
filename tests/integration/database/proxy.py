"""A TCP proxy between the pool and the server that can misbehave on command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import trio

CHUNK = 64 * 1024


class Proxy:
    """Forwards until told otherwise.

    Attributes:
        url: Where to connect instead of the server.
        accepted: Connections so far.
        requests: Chunks that clients sent.
        cut_before: Close a connection when its client sends this, and do not pass it on.
        cut_after: Pass it on, then close the connection as soon as the server answers.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._parts = parts
        self._server = (parts.hostname, parts.port)
        self._open = trio.Event()
        self._open.set()
        self._relays: set[trio.CancelScope] = set()
        self.url = ""
        self.accepted = 0
        self.requests = 0
        self.cut_before: bytes | None = None
        self.cut_after: bytes | None = None

    def hold(self) -> None:
        """Forward nothing any more, without a word; new connections are accepted all the same."""
        self._open = trio.Event()

    def release(self) -> None:
        """Forward again, also what was held."""
        self._open.set()

    def cut(self) -> None:
        """Close every connection."""
        for relay in self._relays:
            relay.cancel()

    async def serve(
        self, port: int = 0, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept connections until cancelled."""
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(port, host="127.0.0.1")
            bound = listener.socket.getsockname()[1]
            netloc = self._parts.netloc.rsplit("@", 1)[0] + f"@127.0.0.1:{bound}"
            self.url = self._parts._replace(netloc=netloc).geturl()
            nursery.start_soon(trio.serve_listeners, self._relay, [listener])
            task_status.started()

    async def _relay(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        with trio.CancelScope() as relay:
            self._relays.add(relay)
            async with await trio.open_tcp_stream(*self._server) as server:
                answered = trio.Event()
                async with client, trio.open_nursery() as nursery:
                    nursery.start_soon(self._to_server, client, server, relay, answered)
                    nursery.start_soon(self._to_client, server, client, relay, answered)
        self._relays.discard(relay)

    async def _to_server(
        self,
        client: trio.SocketStream,
        server: trio.SocketStream,
        relay: trio.CancelScope,
        answered: trio.Event,
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while chunk := await client.receive_some(CHUNK):
                await self._open.wait()
                self.requests += 1
                if self.cut_before is not None and self.cut_before in chunk:
                    break
                if self.cut_after is not None and self.cut_after in chunk:
                    answered.set()
                await server.send_all(chunk)
        relay.cancel()

    async def _to_client(
        self,
        server: trio.SocketStream,
        client: trio.SocketStream,
        relay: trio.CancelScope,
        answered: trio.Event,
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while chunk := await server.receive_some(CHUNK):
                await self._open.wait()
                if answered.is_set():
                    break
                await client.send_all(chunk)
        relay.cancel()


@asynccontextmanager
async def open_proxy(url: str) -> AsyncIterator[Proxy]:
    """A proxy in front of the server at ``url``."""
    proxy = Proxy(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        yield proxy
        nursery.cancel_scope.cancel()
