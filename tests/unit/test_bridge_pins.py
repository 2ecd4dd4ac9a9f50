"""What the bridge relies on in asyncio, pinned: a Python that changes it fails here, by name.

Everything but the receive size is documented behaviour of asyncio's event loop; what is pinned is
that the documented calls compose as the bridge composes them.
"""

import asyncio
import selectors
import socket
import threading
from asyncio import selector_events
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import troupe.common.bridge
from troupe.common.units import KiB


class Recorder(selectors.DefaultSelector):
    """Says what the loop asks for and does not block."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float | None] = []
        self.on_select: Callable[[], object] = int

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.asked.append(timeout)
        self.on_select()
        return super().select(0)


@pytest.fixture
def selector() -> Recorder:
    return Recorder()


@pytest.fixture
def loop(selector: Recorder) -> Iterator[asyncio.SelectorEventLoop]:
    loop = asyncio.SelectorEventLoop(selector)
    yield loop
    loop.close()


def test_stopping_inside_select_ends_run_forever_after_that_iteration(
    loop: asyncio.SelectorEventLoop, selector: Recorder
) -> None:
    selector.on_select = loop.stop
    ran: list[int] = []

    def first() -> None:
        ran.append(1)
        loop.call_soon(ran.append, 2)

    loop.call_soon(first)
    loop.run_forever()
    assert ran == [1]
    assert len(selector.asked) == 1
    loop.run_forever()
    assert ran == [1, 2]


def test_select_is_told_whether_callbacks_wait_and_when_the_next_timer_is(
    loop: asyncio.SelectorEventLoop, selector: Recorder
) -> None:
    selector.on_select = loop.stop
    loop.call_soon(int)
    loop.run_forever()
    loop.run_forever()
    timer = loop.call_later(100, int)
    loop.run_forever()
    timer.cancel()
    loop.run_forever()
    busy, idle, timed, idle_again = selector.asked
    assert busy == 0
    assert idle is None
    assert timed == pytest.approx(100, abs=1)
    assert idle_again is None


def test_the_loop_reads_its_clock_through_time(selector: Recorder) -> None:
    now = 1000.0

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return now

    loop = Loop(selector)
    selector.on_select = loop.stop
    ran: list[str] = []
    loop.call_later(50, ran.append, "due")
    loop.run_forever()
    assert (selector.asked, ran) == ([50], [])
    now += 50
    loop.run_forever()
    assert ran == ["due"]
    loop.close()


def test_futures_and_tasks_schedule_through_call_soon(selector: Recorder) -> None:
    scheduled: list[str] = []

    class Loop(asyncio.SelectorEventLoop):
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
            scheduled.append("soon")
            return super().call_soon(callback, *args, context=context)

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
            scheduled.append("at")
            return super().call_at(when, callback, *args, context=context)

    loop = Loop(selector)
    selector.on_select = loop.stop
    try:
        loop.call_later(1, int)
        assert scheduled == ["at"], "call_later no longer goes through call_at"
        future = loop.create_future()
        future.add_done_callback(repr)
        future.set_result(None)
        assert scheduled == ["at", "soon"], "futures no longer schedule through call_soon"
        task = loop.create_task(asyncio.sleep(0))
        assert scheduled == ["at", "soon", "soon"], "tasks no longer schedule through call_soon"
        while not task.done():
            loop.run_forever()
    finally:
        loop.close()


def test_call_soon_threadsafe_wakes_the_selector_and_bypasses_call_soon() -> None:
    class Loop(asyncio.SelectorEventLoop):
        def call_soon(self, *_: Any, **__: Any) -> Any:  # type: ignore[override]
            pytest.fail("call_soon_threadsafe goes through call_soon: it would recurse")

    selector = selectors.DefaultSelector()
    loop = Loop(selector)
    assert selector.select(0) == []
    loop.call_soon_threadsafe(int)
    assert selector.select(0), "call_soon_threadsafe no longer makes the selector readable"
    loop.close()


def test_run_forever_leaves_no_running_loop_behind(
    loop: asyncio.SelectorEventLoop, selector: Recorder
) -> None:
    selector.on_select = loop.stop
    running: list[object] = []
    loop.call_soon(lambda: running.append(asyncio.get_running_loop()))
    loop.run_forever()
    assert running == [loop]
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_the_selector_can_be_waited_for() -> None:
    with selectors.DefaultSelector() as selector:
        assert selector.fileno() >= 0, "this platform's selector cannot be waited for by trio"


def test_transports_read_64_kib_at_once() -> None:
    assert troupe.common.bridge is not None  # importing it sets the size
    assert hasattr(selector_events, "_SelectorTransport"), "asyncio renamed its transport"
    received: list[int] = []

    class Count(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.append(len(data))

    async def main() -> None:
        ours, theirs = socket.socketpair()
        writer = threading.Thread(target=theirs.sendall, args=(bytes(1024 * KiB),))
        transport, _ = await asyncio.get_running_loop().create_connection(Count, sock=ours)
        writer.start()
        while sum(received) < 1024 * KiB:
            await asyncio.sleep(0)
        writer.join()
        theirs.close()
        transport.close()

    asyncio.run(main())
    assert max(received) <= 64 * KiB, "the transport no longer reads by its max_size attribute"
