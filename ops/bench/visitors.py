"""Good clients: a process that asks for one page at a steady rate and notes how long each took.

``python -m ops.bench.visitors OPTIONS`` (JSON, `Options`) prints one line of JSON (`Seen`).
Requests follow a schedule whatever becomes of the answers (open loop), and a wait counts from when
a request was due: a server that falls behind is not spared. Connections are kept alive, and more
are opened while none is free, as browsers do.

Nothing but the standard library, so that a window costs no start worth speaking of. What the
measuring itself would add is kept out: no garbage is collected meanwhile (5 ms at a time), and the
loop waits by `select`, which hears of fractions of a millisecond, where epoll is up to 2 ms late.
"""

import asyncio
import gc
import json
import math
import os
import random
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

DEADLINE = 30.0
ADDRESS = "127.0.0.2"
"""Not that of anybody else: rates are counted by address."""
WARM_UP = 0.5


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to ask.

    Attributes:
        url: The page.
        token: Bearer token; empty: none.
        rate: Requests per second.
        seconds: For how long, after a moment that does not count.
        seed: Of the arrivals.
        processors: Where it runs; none: anywhere. In reality visitors are on machines of their
            own, and what makes them late is not what they wait for.
    """

    url: str
    token: str = ""
    rate: float
    seconds: float
    seed: int = 0
    processors: tuple[int, ...] = ()


@dataclass
class Seen:
    """What came of it; waits in seconds."""

    waits: list[float] = field(default_factory=list)
    failed: int = 0

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(self.waits + other.waits, self.failed + other.failed)

    def percentile(self, share: float) -> float:
        """The wait that this share of the requests did not exceed, in seconds."""
        return percentile(self.waits, share)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share does not exceed, the nearest one there is; infinite without any."""
    ordered = sorted(values) or [math.inf]
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


class _Connections:
    def __init__(self, options: Options) -> None:
        parts = urlsplit(options.url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        credentials = f"Authorization: Bearer {options.token}\r\n" if options.token else ""
        self._head = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{credentials}\r\n".encode()
        self._address = (parts.hostname, parts.port)
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._address, local_addr=(ADDRESS, 0))

    async def ask(self) -> int:
        """The status of one answer, read to its end."""
        kept = bool(self._free)
        reader, writer = self._free.pop() if kept else await self._connect()
        try:
            writer.write(self._head)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            await reader.readexactly(length)
        except BaseException as error:
            writer.close()
            if kept and isinstance(error, (asyncio.IncompleteReadError, ConnectionError)):
                return (
                    await self.ask()
                )  # it was closed while it lay idle, as any client must expect
            raise
        if "connection: close" in head:
            writer.close()
        else:
            self._free.append((reader, writer))
        return int(head.split(maxsplit=2)[1])


async def visit(options: Options) -> Seen:
    """Ask for as long as the options say."""
    if options.processors:
        os.sched_setaffinity(0, options.processors)
    connections, seen = _Connections(options), Seen()
    chance = random.Random(options.seed)  # noqa: S311 - no secret
    begin = time.monotonic()

    async def one(due: float) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                good = await connections.ask() == 200
        except (OSError, EOFError, TimeoutError):
            good = False
        now = time.monotonic()
        if due - begin < WARM_UP:
            return
        if good:
            seen.waits.append(now - due)
        else:
            seen.failed += 1

    due = begin
    async with asyncio.TaskGroup() as group:
        while due < begin + WARM_UP + options.seconds:
            await asyncio.sleep(due - time.monotonic())
            group.create_task(one(due))
            due += chance.expovariate(options.rate)
    return seen


def visitors(options: Options) -> Seen:
    """Run the process and read what it has seen."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "ops.bench.visitors", json.dumps(asdict(options))],
        check=True,
        capture_output=True,
        text=True,
        timeout=options.seconds + 2 * DEADLINE,
    )
    return Seen(**json.loads(done.stdout))


def _precise_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    """The process that `visitors` runs."""
    options = Options(**json.loads(sys.argv[1]))
    gc.disable()
    with asyncio.Runner(loop_factory=_precise_loop) as runner:
        print(json.dumps(asdict(runner.run(visit(options)))))


if __name__ == "__main__":
    main()
