"""What one crossing of the asyncio bridge costs, and what the rejected variant would save.

Rows, all in one process and interleaved, medians over the rounds:

- ``asyncio``: no bridge, ``asyncio.run``, with the receive size that the bridge sets (64 KiB);
- ``asyncio, 256 KiB``: the same as asyncio comes;
- ``bridge``: ``troupe.common.bridge`` as it is: documented calls of asyncio only;
- ``bridge, private``: the same bridge, its turns walking the loop's private queues.

Columns, microseconds: ``return`` a coroutine that returns at once; ``sleep(0)`` one that goes once
through the loop; ``echo`` 64 bytes to another process and back; ``query`` a prepared ``SELECT 1``;
``query x 8`` the wall time per query with 8 tasks on 8 connections; ``CPU`` this process's CPU time
per query in that run. Queries need ``--database URL``.

    python ops/bench/bridge.py --database 'postgresql://postgres@/postgres?host=/run/postgresql'

Weaknesses: client and server share the machine; ``query`` is as noisy as the scheduler is.
"""

import argparse
import asyncio
import heapq
import platform
import socket
import statistics
import subprocess
import sys
import time
from asyncio import selector_events
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from unittest import mock

import asyncpg
import sniffio
import trio

from troupe.common.bridge import _host, aio, open_bridge
from troupe.common.units import KiB

T = TypeVar("T")
Cross = Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]
Gather = Callable[[list[Callable[[], Awaitable[None]]]], Awaitable[None]]
Figures = dict[str, float]

CONNECTIONS = 8
_ECHO = (
    "import socket; s = socket.socket(fileno=0)\nwhile data := s.recv(4096):\n    s.sendall(data)"
)


class PrivateBridge(_host.Bridge):
    """A bridge that runs the loop's queues itself: six private attributes of asyncio."""

    @trio.lowlevel.enable_ki_protection
    def turn(self) -> None:
        """Run the queues until they are empty."""
        loop: Any = self.loop
        selector = self._selector
        library, sniffio.thread_local.name = sniffio.thread_local.name, None
        loop.settled = False
        loop.in_turn = True
        asyncio._set_running_loop(loop)
        try:
            loop._process_events(super(type(selector), selector).select(0))
            now, scheduled, ready = loop.time(), loop._scheduled, loop._ready
            while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= now):
                handle = heapq.heappop(scheduled)
                handle._scheduled = False
                if handle._cancelled:
                    loop._timer_cancelled_count -= 1
                else:
                    ready.append(handle)
            for _ in range(1000):
                if not ready:
                    break
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            asyncio._set_running_loop(None)
            loop.in_turn = False
            loop.settled = True
            sniffio.thread_local.name = library
        selector.wait = (
            0.0 if ready else scheduled[0]._when - loop.time() if scheduled else float("inf")
        )
        if selector.wait < float("inf"):
            due = trio.current_time() + selector.wait
            if due < self._nap_until:
                self._nap.deadline = self._nap_until = due


async def _return() -> None:
    pass


async def _await(coroutine: Coroutine[Any, Any, T]) -> T:
    return await coroutine


async def _gather_trio(functions: list[Callable[[], Awaitable[None]]]) -> None:
    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(function)


async def _gather_asyncio(functions: list[Callable[[], Awaitable[None]]]) -> None:
    await asyncio.gather(*(function() for function in functions))


async def _timed(count: int, once: Callable[[], Awaitable[object]]) -> float:
    """Microseconds per call, after a tenth of the calls to warm up."""
    for _ in range(count // 10):
        await once()
    started = time.perf_counter()
    for _ in range(count):
        await once()
    return (time.perf_counter() - started) / count * 1e6


async def _measure(cross: Cross, gather: Gather, database: str | None, count: int) -> Figures:
    """One round of every column; ``cross`` runs an asyncio coroutine from wherever we are."""
    figures = {
        "return": await _timed(count, lambda: cross(_return())),
        "sleep(0)": await _timed(count, lambda: cross(asyncio.sleep(0))),
    }
    ours, theirs = socket.socketpair()
    with subprocess.Popen([sys.executable, "-c", _ECHO], stdin=theirs.fileno()) as echo:  # noqa: ASYNC220, S603 - starts at once, and is ours
        theirs.close()
        reader, writer = await cross(asyncio.open_connection(sock=ours))

        async def exchange() -> None:
            writer.write(bytes(64))
            await reader.readexactly(64)

        figures["echo"] = await _timed(count, lambda: cross(exchange()))
        writer.close()
        await cross(writer.wait_closed())
        echo.wait()
    if database is None:
        return figures

    connections = [await cross(asyncpg.connect(database)) for _ in range(CONNECTIONS)]
    figures["query"] = await _timed(count, lambda: cross(connections[0].fetchval("SELECT 1")))

    def worker(connection: asyncpg.Connection) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            for _ in range(count // CONNECTIONS):
                await cross(connection.fetchval("SELECT 1"))

        return work

    started, cpu = time.perf_counter(), time.process_time()
    await gather([worker(connection) for connection in connections])
    figures[f"query x {CONNECTIONS}"] = (time.perf_counter() - started) / count * 1e6
    figures["CPU"] = (time.process_time() - cpu) / count * 1e6
    for connection in connections:
        await cross(connection.close())
    return figures


def _on_asyncio(receive_bytes: int, database: str | None, count: int) -> Figures:
    transport = vars(selector_events)["_SelectorTransport"]
    before, transport.max_size = transport.max_size, receive_bytes
    try:
        return asyncio.run(_measure(_await, _gather_asyncio, database, count))
    finally:
        transport.max_size = before


def _on_bridge(kind: type[_host.Bridge], database: str | None, count: int) -> Figures:
    async def main() -> Figures:
        async with open_bridge():
            return await _measure(aio, _gather_trio, database, count)

    with mock.patch.object(_host, "Bridge", kind):
        return trio.run(main)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Cost of one crossing of the asyncio bridge.")
    parser.add_argument("--database", help="PostgreSQL URL; without it no query is measured")
    parser.add_argument("--count", type=int, default=4000, help="calls per figure and round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ways: dict[str, Callable[[], Figures]] = {
        "asyncio": lambda: _on_asyncio(64 * KiB, options.database, options.count),
        "asyncio, 256 KiB": lambda: _on_asyncio(256 * KiB, options.database, options.count),
        "bridge": lambda: _on_bridge(_host.Bridge, options.database, options.count),
        "bridge, private": lambda: _on_bridge(PrivateBridge, options.database, options.count),
    }
    rounds: dict[str, list[Figures]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, measure in ways.items():
            rounds[way].append(measure())
    columns = list(rounds["bridge"][0])
    print(f"Python {platform.python_version()}, microseconds, medians of {options.rounds}\n")
    print(f"| {'':16} | " + " | ".join(f"{column:>9}" for column in columns) + " |")
    print(f"|{'-' * 18}|" + "|".join("-" * 10 + ":" for _ in columns) + "|")
    for way, figures in rounds.items():
        medians = [statistics.median(figure[column] for figure in figures) for column in columns]
        print(f"| {way:16} | " + " | ".join(f"{median:9.1f}" for median in medians) + " |")


if __name__ == "__main__":
    main()
