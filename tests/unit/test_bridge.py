"""What the bridge promises to trio code that calls asyncio libraries."""

import asyncio
import contextvars
import gc
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator

import pytest
import sniffio
import structlog
import trio
from trio.testing import MockClock

from troupe.common.bridge import (
    BridgeMisuse,
    ToTrio,
    aio,
    call_trio,
    from_trio,
    open_bridge,
)
from troupe.common.bridge import _host as host

tenant = contextvars.ContextVar("tenant", default="nobody")


@pytest.fixture
async def bridge() -> AsyncIterator[None]:
    async with open_bridge():
        yield


async def test_the_result_comes_back(bridge: None) -> None:
    assert await aio(asyncio.sleep(0, "immediately")) == "immediately"


@pytest.mark.parametrize("yields", [0, 1, 3])
async def test_a_failure_arrives_unchanged(bridge: None, yields: int) -> None:
    class Odd(Exception):
        pass

    odd = Odd()

    async def fail() -> None:
        for _ in range(yields):
            await asyncio.sleep(0)
        raise odd

    with pytest.raises(Odd) as caught:
        await aio(fail())
    assert caught.value is odd
    assert odd.__cause__ is None


async def test_a_failure_leaves_no_reference_cycle(bridge: None) -> None:
    class Forgettable(Exception):
        pass

    async def fail() -> None:
        await asyncio.sleep(0)
        raise Forgettable

    gc.collect()
    gc.disable()
    try:
        try:  # noqa: SIM105 - suppress() itself keeps the exception alive on Python 3.12
            await aio(fail())
        except Forgettable:
            pass
        assert not [found for found in gc.get_objects() if isinstance(found, Forgettable)]
    finally:
        gc.enable()


async def test_asyncio_timers_follow_the_clock_of_trio(
    bridge: None, autojump_clock: MockClock
) -> None:
    started = trio.current_time()
    await aio(asyncio.sleep(3600))
    assert trio.current_time() - started == pytest.approx(3600)


async def test_an_earlier_timer_is_not_held_up_by_a_later_one(
    bridge: None, autojump_clock: MockClock
) -> None:
    woken: list[tuple[int, float]] = []
    started = trio.current_time()

    async def sleep(seconds: int) -> None:
        await aio(asyncio.sleep(seconds))
        woken.append((seconds, trio.current_time() - started))

    async with trio.open_nursery() as nursery:
        for seconds in (50, 20, 80, 5):
            nursery.start_soon(sleep, seconds)
    assert [seconds for seconds, _ in woken] == [5, 20, 50, 80]
    assert all(at == pytest.approx(seconds) for seconds, at in woken)


async def test_tasks_on_both_sides_take_turns(bridge: None) -> None:
    progress = 0

    async def busy() -> None:
        while progress < 3:
            await asyncio.sleep(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(aio, busy())
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            progress += 1


async def test_context_variables_travel(bridge: None) -> None:
    async def read() -> str:
        await asyncio.sleep(0)
        return tenant.get()

    seen: dict[str, str] = {}

    async def visit(name: str) -> None:
        tenant.set(name)
        seen[name] = await aio(read())

    async with trio.open_nursery() as nursery:
        for name in ("ada", "bob"):
            nursery.start_soon(visit, name)
    assert seen == {"ada": "ada", "bob": "bob"}


async def test_libraries_can_tell_which_side_they_are_on(bridge: None) -> None:
    async def ask() -> str:
        return sniffio.current_async_library()

    assert await aio(ask()) == "asyncio"
    assert sniffio.current_async_library() == "trio"


async def test_every_crossing_is_a_checkpoint(bridge: None) -> None:
    others = 0

    async def count() -> None:
        nonlocal others
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            others += 1

    async def nothing() -> None:
        pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        while others < 3:
            await aio(nothing())


async def test_bridges_open_one_after_another() -> None:
    for _ in range(3):
        async with open_bridge():
            assert await aio(asyncio.sleep(0, 1)) == 1


async def test_a_second_bridge_is_refused(bridge: None) -> None:
    with pytest.raises(BridgeMisuse, match="already open"):
        async with open_bridge():
            pass
    assert await aio(asyncio.sleep(0, "unharmed")) == "unharmed"


async def test_without_a_bridge_the_mistake_is_named() -> None:
    with pytest.raises(BridgeMisuse, match="open_bridge"):
        await aio(asyncio.sleep(0))


async def test_aio_inside_asyncio_is_refused(bridge: None) -> None:
    async def inner() -> None:
        await aio(asyncio.sleep(0))

    with pytest.raises(BridgeMisuse, match="await the coroutine directly"):
        await aio(inner())


def test_trio_as_guest_of_asyncio_is_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        async def guest() -> None:
            with pytest.raises(BridgeMisuse, match="already runs in this thread"):
                async with open_bridge():
                    pass

        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        (await done).unwrap()

    asyncio.run(main())


async def test_what_is_no_coroutine_is_refused_and_harms_nothing(bridge: None) -> None:
    with pytest.raises(TypeError, match="coroutine"):
        await aio(17)  # type: ignore[arg-type]
    assert await aio(asyncio.sleep(0, "unharmed")) == "unharmed"


async def test_an_exception_of_the_body_is_not_wrapped() -> None:
    with pytest.raises(LookupError):
        async with open_bridge():
            raise LookupError


async def test_who_computes_between_two_awaits_leaves_others_their_turn(bridge: None) -> None:
    pieces, most, before = 0, 0, 0

    async def compute() -> None:
        nonlocal pieces
        for _ in range(20):
            until = time.perf_counter() + host._LONGEST_TURN
            while time.perf_counter() < until:
                pass
            pieces += 1
            await asyncio.sleep(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(aio, compute())
        while pieces < 20:
            await trio.lowlevel.checkpoint()
            most, before = max(most, pieces - before), pieces
    # A turn finishes the iteration that has begun: two pieces. Trio shuffles who is due, so that
    # between two looks there may be two turns, and no third.
    assert most in {2, 4}


async def test_idle_takes_no_turns(bridge: None, autojump_clock: MockClock) -> None:
    await aio(asyncio.sleep(0))
    await trio.testing.wait_all_tasks_blocked()
    turns = 0
    current = host._current.get()
    assert current is not None
    turn = current.turn

    def counted() -> None:
        nonlocal turns
        turns += 1
        turn()

    current.turn = counted  # type: ignore[method-assign]
    await trio.sleep(24 * 3600)
    assert turns == 0


async def test_the_loop_can_be_touched_from_trio_code(bridge: None) -> None:
    loop = await aio(_running_loop())
    future: asyncio.Future[str] = loop.create_future()

    async def wait() -> str:
        return await future

    async with trio.open_nursery() as nursery:
        heard: list[str] = []

        async def listen() -> None:
            heard.append(await aio(wait()))

        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        future.set_result("set from trio")
    assert heard == ["set from trio"]


async def test_a_timer_set_from_trio_code_fires(bridge: None, autojump_clock: MockClock) -> None:
    loop = await aio(_running_loop())
    rung = trio.Event()
    started = trio.current_time()
    loop.call_later(60, rung.set)
    await rung.wait()
    assert trio.current_time() - started == pytest.approx(60)


async def test_after_a_stall_what_arrived_counts_before_what_is_due(bridge: None) -> None:
    events: list[str] = []
    ours, theirs = socket.socketpair()

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, lambda: events.append(ours.recv(10).decode()))
        loop.call_later(0.001, events.append, "due")

    with ours, theirs:
        await aio(watch())
        theirs.sendall(b"arrived")
        time.sleep(0.002)  # noqa: ASYNC251 - the stall
        await aio(asyncio.sleep(0))
        assert events == ["arrived", "due"]
        asyncio_side = await aio(_running_loop())
        asyncio_side.remove_reader(ours)


async def test_threads_reach_the_loop(bridge: None) -> None:
    async def think() -> int:
        return await asyncio.get_running_loop().run_in_executor(None, threading.get_ident)

    assert await aio(think()) != threading.get_ident()


async def test_signals_stay_with_trio(bridge: None) -> None:
    loop = await aio(_running_loop())
    with pytest.raises(BridgeMisuse, match="signals belong to trio"):
        loop.add_signal_handler(signal.SIGTERM, print)


@pytest.mark.parametrize("crossing", ["first step", "later step"])
def test_keyboard_interrupt_waits_for_trio(crossing: str) -> None:
    events: list[str] = []

    async def interrupted() -> None:
        if crossing == "later step":
            await asyncio.sleep(0.001)
        signal.raise_signal(signal.SIGINT)
        events.append("the step ran to its end")
        try:
            await asyncio.sleep(60)
        finally:
            events.append("cleaned up")

    async def main() -> None:
        async with open_bridge():
            await aio(interrupted())

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert events == ["the step ran to its end", "cleaned up"]


async def test_exit_of_a_task_reaches_its_caller(bridge: None) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    with structlog.testing.capture_logs(), pytest.raises(SystemExit):
        await aio(leave())
    assert await aio(asyncio.sleep(0, "unharmed")) == "unharmed"


async def test_failures_that_nobody_awaits_are_logged(bridge: None) -> None:
    async def fail() -> None:
        raise LookupError("lost")

    async def start() -> None:
        asyncio.get_running_loop().call_soon(_divide_by_zero)
        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])

    with structlog.testing.capture_logs() as logs:
        await aio(start())
        gc.collect()
    assert [entry["event"] for entry in logs] == ["asyncio_exception_uncaught"] * 2
    assert {type(entry["exc_info"]) for entry in logs} == {ZeroDivisionError, LookupError}


async def test_a_callback_feeds_a_bounded_channel(bridge: None) -> None:
    send, receive = trio.open_memory_channel[int](2)
    feed = ToTrio(send)

    async def produce() -> list[bool]:
        return [feed.offer(number) for number in range(4)]

    assert await aio(produce()) == [True, True, False, False]
    assert feed.refused == 2
    feed.close()
    assert [item async for item in receive] == [0, 1]


async def test_a_gone_consumer_is_no_error_for_a_callback(bridge: None) -> None:
    send, receive = trio.open_memory_channel[int](2)
    feed = ToTrio(send)
    receive.close()
    assert feed.offer(1) is False
    with pytest.raises(trio.BrokenResourceError):
        await aio(feed.send(1))


async def test_a_full_channel_holds_the_asyncio_producer_back(bridge: None) -> None:
    send, receive = trio.open_memory_channel[int](1)
    feed = ToTrio(send)
    sent: list[int] = []

    async def produce() -> None:
        for number in range(5):
            await feed.send(number)
            sent.append(number)
        feed.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(aio, produce())
        await trio.testing.wait_all_tasks_blocked()
        assert sent == [0]
        assert [item async for item in receive] == [0, 1, 2, 3, 4]


async def test_a_trio_producer_feeds_asyncio_code(bridge: None) -> None:
    send, receive = trio.open_memory_channel[int](1)

    async def produce() -> None:
        with send:
            for number in range(5):
                await send.send(number)

    async def consume() -> list[int]:
        return [item async for item in from_trio(receive)]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        assert await aio(consume()) == [0, 1, 2, 3, 4]


async def test_trio_functions_can_be_called_back(bridge: None) -> None:
    async def greet(name: str) -> str:
        await trio.lowlevel.checkpoint()
        if name == "nobody":
            raise LookupError(name)
        return f"{sniffio.current_async_library()} greets {name} of {tenant.get()}"

    async def visit(name: str) -> str:
        return await call_trio(greet, name)

    tenant.set("acme")
    assert await aio(visit("ada")) == "trio greets ada of acme"
    with pytest.raises(LookupError):
        await aio(visit("nobody"))


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def _divide_by_zero() -> None:
    raise ZeroDivisionError
