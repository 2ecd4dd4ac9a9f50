"""Bad clients of one kind: ``python -m ops.bench.hostile.crowd OPTIONS`` (FORM, `Options`).

It holds so many connections, says ``ready`` when all have begun, and ends when its standard input
does, or by itself after `LONGEST`. A connection that the server closes is replaced, but not before
it is `COMEBACK` seconds old: what is measured is many bad clients, not a flood of new connections.
At the end one line of JSON tells how many connections were open, how many the server closed, and
what share of a processor all that took since they were there.
"""

import asyncio
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from troupe.http.admission import Limits

LONGEST: Final = 120.0
COMEBACK: Final = 10.0
SETTLE: Final = 2.0
DRIP: Final = 1.0
SIP: Final = 1024
SMALL_BUFFER: Final = 4096
ADDRESSES: Final = 250


@dataclass(frozen=True)
class Options:
    """Where to, how many, and of what kind."""

    host: str
    port: int
    count: int
    kind: str


class Client:
    """One socket and the few things that bad clients do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, opened: socket.socket) -> None:
        self._loop = loop
        self._socket = opened

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self._socket, data)

    async def sip(self, size: int = SIP) -> bool:
        """Take some bytes; False at the end."""
        return bool(await self._loop.sock_recv(self._socket, size))

    async def until_closed(self) -> None:
        """Take what comes until the server closes."""
        while await self.sip(65536):
            pass

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)


def head(method: str, path: str, *headers: str) -> bytes:
    """A request's head."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: x", *headers, "", "")).encode()


PAGE = head("GET", "/health/live")
POST = "/api/v1/backchannel-logout"
"""On the port of auth; anybody may send a body there, and it is waited for."""
FORM = "Content-Type: application/x-www-form-urlencoded"


async def silent(client: Client) -> None:
    """Connects and says nothing."""
    await client.until_closed()


async def idle(client: Client) -> None:
    """Is answered once and stays."""
    await client.send(PAGE)
    await client.until_closed()


async def _drip(client: Client, data: bytes) -> None:
    async with asyncio.TaskGroup() as group:

        async def drip() -> None:
            for byte in data:
                await client.send(bytes([byte]))
                await asyncio.sleep(DRIP)

        dripping = group.create_task(drip())
        await client.until_closed()
        dripping.cancel()


async def slow_head(client: Client) -> None:
    """Sends a byte of its head every second."""
    await _drip(client, head("GET", "/health/live", "X: " + "x" * 1000))


async def slow_body(client: Client) -> None:
    """Sends a byte of its body every second."""
    await client.send(head("POST", POST, FORM, "Content-Length: 1000"))
    await _drip(client, b"logout_token=" + b"x" * 1000)


async def slow_reader(client: Client) -> None:
    """Asks for a large answer and takes 1 KiB of it every second."""
    await client.send(head("GET", "/openapi.json"))
    while await client.sip():  # noqa: ASYNC110 - slowness is the point
        await asyncio.sleep(DRIP)


async def oversized_body(client: Client) -> None:
    """Announces 100 MB and sends for as long as it is let."""
    await client.send(head("POST", POST, FORM, "Content-Length: 100000000"))
    for _ in range(100):
        await client.send(b"x" * 65536)
    await client.until_closed()


async def both_framings(client: Client) -> None:
    """Content-Length and Transfer-Encoding, with a request smuggled behind."""
    await client.send(
        head("POST", POST, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + PAGE
    )
    await client.until_closed()


async def header_flood(client: Client) -> None:
    """Thousands of headers."""
    await client.send(head("GET", "/health/live", *["a: b"] * 10_000))
    await client.until_closed()


async def pipelining(client: Client) -> None:
    """A thousand requests at once, whose answers it does not take."""
    await client.send(PAGE * 1000)
    await asyncio.sleep(COMEBACK)
    await client.until_closed()


async def half_closed(client: Client) -> None:
    """Asks, and closes its writing side."""
    await client.send(PAGE[:-2])
    client.half_close()
    await client.until_closed()


TO_AUTH: Final = frozenset({"slow_body", "oversized_body", "both_framings"})
KINDS: Final[dict[str, Callable[[Client], Awaitable[None]]]] = {
    kind.__name__: kind
    for kind in (
        silent,
        idle,
        slow_head,
        slow_body,
        slow_reader,
        oversized_body,
        both_framings,
        header_flood,
        pipelining,
        half_closed,
    )
}


LARGE: Final = 300_000
"""Bytes of `/openapi.json`, about."""
_LIMITS: Final = Limits()
BORNE: Final = {
    "silent": _LIMITS.head,
    "idle": _LIMITS.idle,
    "slow_head": _LIMITS.head,
    "slow_body": _LIMITS.body,
    "slow_reader": _LIMITS.patience(LARGE),
}
"""Seconds for which the server bears one of a kind at most."""
REFUSED: Final = 20.0
"""The same, longer than needed, for those that it refuses at once."""


class Crowd:
    """All of them.

    The first come spread over as long as the server bears one, so that those which are closed then,
    and return, come as evenly: what is measured is how it is from then on.
    """

    def __init__(self, options: Options) -> None:
        self.open = 0
        self.ended = 0
        self._ready: tuple[float, float] | None = None
        self._options = options
        self._behave = KINDS[options.kind]
        self._spread = BORNE.get(options.kind, REFUSED)

    async def gather(self) -> None:
        """Let them come, and say when all have."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._options.count):
                group.create_task(self._come_back(number))
            await asyncio.sleep(self._spread + SETTLE)
            self._ready = time.monotonic(), time.process_time()
            print("ready", flush=True)

    def told(self) -> dict[str, float]:
        """How they fare, and the share of a processor that they take."""
        busy = 0.0
        if self._ready is not None:
            began, used = self._ready
            busy = (time.process_time() - used) / (time.monotonic() - began)
        return {"open": self.open, "ended": self.ended, "busy": busy}

    async def _come_back(self, number: int) -> None:
        await asyncio.sleep(self._spread * number / self._options.count)
        while True:
            began = time.monotonic()
            await self._once(number)
            self.ended += 1
            pause = COMEBACK - (time.monotonic() - began)
            await asyncio.sleep(max(0.0, pause))

    async def _once(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as opened:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            with suppress(OSError, ExceptionGroup):
                # From many addresses, since rates are counted by address.
                opened.bind((f"127.1.{number // ADDRESSES}.{number % ADDRESSES + 1}", 0))
                await loop.sock_connect(opened, (self._options.host, self._options.port))
                self.open += 1
                try:
                    await self._behave(Client(loop, opened))
                finally:
                    self.open -= 1


async def main(options: Options) -> None:
    """Be bad until standard input ends."""
    crowd = Crowd(options)
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(sys.stdin, over.set)
    gathering = asyncio.create_task(crowd.gather())
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), LONGEST)
    print(json.dumps(crowd.told()), flush=True)
    gathering.cancel()


if __name__ == "__main__":
    asyncio.run(main(Options(**json.loads(sys.argv[1]))))
