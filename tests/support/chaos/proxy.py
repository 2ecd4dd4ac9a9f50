"""A TCP proxy whose connections can fall silent, as if the other end had gone without a word.

A connection that fell silent stays open on both sides: what is sent is taken, and nothing comes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import trio

CHUNK = 64 * 1024
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Line:
    """One connection through the proxy.

    Attributes:
        silent: Nothing is passed on any more.
        mute: Only the server's answers are lost.
        muting: Its answers are lost from what the client sends next.
    """

    def __init__(self) -> None:
        self.silent = self.mute = self.muting = False


class Proxy:
    """Passes on until told otherwise.

    Attributes:
        url: Where to connect instead of the server.
        lines: Connections that are open.
        silences_new: Connections fall silent as soon as they are accepted.
        mutes_after: Whoever sends this gets the answer to it, and no answer ever after.
        heard: What clients have sent on lines that were mute by then.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self.url = ""
        self.lines: set[Line] = set()
        self.silences_new = False
        self.mutes_after: bytes | None = None
        self.heard = bytearray()

    def silence(self) -> None:
        """Let every connection that is open now fall silent."""
        for line in self.lines:
            line.silent = True

    async def serve(
        self,
        listener: trio.SocketListener | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections until cancelled; on loopback, unless told where."""
        async with trio.open_nursery() as nursery:
            if listener is None:
                [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            host, port = listener.socket.getsockname()[:2]
            netloc = self._parts.netloc.rsplit("@", 1)[0] + f"@{host}:{port}"
            self.url = self._parts._replace(netloc=netloc).geturl()
            nursery.start_soon(trio.serve_listeners, self._relay, [listener])
            task_status.started()

    async def _relay(self, client: trio.SocketStream) -> None:
        line = Line()
        line.silent = self.silences_new
        self.lines.add(line)
        try:
            with suppress(OSError):  # the server is away: so is the client's connection
                server = await trio.open_tcp_stream(
                    self._parts.hostname or "", self._parts.port or 0
                )
                async with client, server, trio.open_nursery() as nursery:
                    scope = nursery.cancel_scope
                    nursery.start_soon(self._to_server, line, client, server, scope)
                    nursery.start_soon(self._to_client, line, server, client, scope)
        finally:
            self.lines.discard(line)
            await trio.aclose_forcefully(client)

    async def _to_server(
        self,
        line: Line,
        client: trio.SocketStream,
        server: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        with suppress(*_GONE):
            while chunk := await client.receive_some(CHUNK):
                line.mute = line.mute or line.muting
                if line.mute:
                    self.heard += chunk
                if self.mutes_after is not None and self.mutes_after in chunk:
                    line.muting = True
                if not line.silent:
                    await server.send_all(chunk)
        scope.cancel()

    async def _to_client(
        self,
        line: Line,
        server: trio.SocketStream,
        client: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        with suppress(*_GONE):
            while chunk := await server.receive_some(CHUNK):
                if not line.silent and not line.mute:
                    await client.send_all(chunk)
        # A peer that is gone without a word does not say that it is gone.
        if not line.silent:
            scope.cancel()


@asynccontextmanager
async def open_proxy(url: str, listener: trio.SocketListener | None = None) -> AsyncIterator[Proxy]:
    """A proxy in front of the server at ``url``."""
    proxy = Proxy(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve, listener)
        yield proxy
        nursery.cancel_scope.cancel()
