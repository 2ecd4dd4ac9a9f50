"""Keep-alive connections that ask and measure, on plain sockets: the client is no bottleneck."""

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_PATIENCE = 60.0


@dataclass(frozen=True)
class Reply:
    """One answer: status, body, and what it took."""

    status: int
    body: bytes
    seconds: float


def request(path: str, token: str | None = None) -> bytes:
    """A GET as browsers and programs send it."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Line:
    """One connection; one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = b""
        self.began = 0.0

    def send(self, raw: bytes) -> None:
        """Ask."""
        self.began = time.perf_counter()
        self.socket.sendall(raw)

    def feed(self) -> Reply | None:
        """Take what has arrived; the reply if it is complete."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("closed by the server")
        self._input += data
        end = self._input.find(b"\r\n\r\n")
        if end < 0:
            return None
        at = self._input.lower().find(b"content-length: ", 0, end)
        length = int(self._input[at + 16 : self._input.find(b"\r\n", at)])
        if len(self._input) < end + 4 + length:
            return None
        reply = Reply(
            int(self._input[9:12]), self._input[end + 4 :], time.perf_counter() - self.began
        )
        self._input = b""
        return reply

    def ask(self, raw: bytes) -> Reply:
        """Ask and wait."""
        self.send(raw)
        while (reply := self.feed()) is None:
            pass
        return reply

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


@contextmanager
def lines(port: int, count: int) -> Iterator[list[Line]]:
    """So many connections."""
    made = [Line(port) for _ in range(count)]
    try:
        yield made
    finally:
        for line in made:
            line.close()


def keep_asking(
    port: int,
    clients: int,
    seconds: float,
    next_request: Callable[[int], bytes],
    seen: Callable[[int, Reply], None],
) -> None:
    """Every client asks again as soon as it is answered, for so many seconds."""
    with lines(port, clients) as made, selectors.DefaultSelector() as selector:
        for number, line in enumerate(made):
            selector.register(line.socket, selectors.EVENT_READ, number)
            line.send(next_request(number))
        end = time.perf_counter() + seconds
        running = clients
        while running:
            for key, _ in selector.select(_PATIENCE):
                reply = made[key.data].feed()
                if reply is None:
                    continue
                seen(key.data, reply)
                if time.perf_counter() < end:
                    made[key.data].send(next_request(key.data))
                else:
                    running -= 1
