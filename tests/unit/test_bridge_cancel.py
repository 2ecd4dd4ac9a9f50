"""Cancellation across the bridge: once, in order, and never waited for without end."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import structlog
import trio
from trio.testing import MockClock

from troupe.common.bridge import (
    AbandonedInAsyncio,
    BridgeMisuse,
    CancelledInAsyncio,
    aio,
    call_trio,
    open_bridge,
)
from troupe.common.units import SECONDS


@pytest.fixture
async def bridge() -> AsyncIterator[None]:
    async with open_bridge():
        yield


async def test_a_deadline_cancels_the_task(bridge: None, autojump_clock: MockClock) -> None:
    ended: list[str] = []

    async def stay() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    started = trio.current_time()
    with trio.move_on_after(5) as scope:
        await aio(stay())
    assert scope.cancelled_caught
    assert ended == ["cancelled"]
    assert trio.current_time() - started == pytest.approx(5)


async def test_clean_up_is_waited_for_and_not_cancelled_again(
    bridge: None, autojump_clock: MockClock
) -> None:
    cancellations = 0
    cleaned = False

    async def stay() -> None:
        nonlocal cancellations, cleaned
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            for _ in range(10):
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    cancellations += 1
            cleaned = True
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(aio, stay())
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert cleaned
    assert cancellations == 0


async def test_a_failure_during_clean_up_arrives(bridge: None) -> None:
    async def stay() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise LookupError

    with trio.CancelScope() as scope, pytest.raises(LookupError):
        async with _cancelled_once_blocked(scope):
            await aio(stay())


async def test_a_result_reached_despite_cancellation_is_kept(bridge: None) -> None:
    async def finish() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return "committed"

    result = None
    with trio.CancelScope() as scope:
        async with _cancelled_once_blocked(scope):
            result = await aio(finish())
    assert result == "committed"


async def test_a_cancelled_caller_starts_nothing(bridge: None) -> None:
    started = False

    async def start() -> None:
        nonlocal started
        started = True

    with trio.CancelScope() as scope:
        scope.cancel()
        await aio(start())
    assert scope.cancelled_caught
    assert not started
    gc.collect()  # a coroutine left unclosed would warn here, and warnings are errors


async def test_cancellation_from_the_asyncio_side_is_an_ordinary_failure(bridge: None) -> None:
    async def give_up() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(3600)

    with pytest.raises(CancelledInAsyncio) as caught:
        await aio(give_up())
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_a_task_that_ignores_cancellation_is_abandoned(autojump_clock: MockClock) -> None:
    released = False

    async def stubborn() -> None:
        while not released:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    with structlog.testing.capture_logs() as logs:
        async with open_bridge():
            started = trio.current_time()
            with trio.move_on_after(5) as scope:
                await aio(stubborn(), clean_up=7 * SECONDS)
            assert scope.cancelled_caught
            assert trio.current_time() - started == pytest.approx(12)
            [report] = logs
            assert report["event"] == "asyncio_task_abandoned"
            assert "stubborn" in report["task"]
            assert __file__ in report["stuck_at"]
            released = True  # the bridge's own cancellation now ends it
    assert logs == [report]


async def test_a_task_that_ends_just_in_time_is_not_abandoned(
    bridge: None, autojump_clock: MockClock
) -> None:
    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(7)

    with structlog.testing.capture_logs() as logs, trio.move_on_after(5) as scope:
        await aio(slow(), clean_up=7 * SECONDS)
    assert scope.cancelled_caught
    assert not [entry for entry in logs if entry["event"] != "asyncio_task_abandoned"]


async def test_closing_cancels_what_runs(autojump_clock: MockClock) -> None:
    ended: list[str] = []

    async def stay() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(1)
            ended.append("in order")

    async def visit() -> None:
        with pytest.raises(CancelledInAsyncio):
            await aio(stay())
        with pytest.raises(BridgeMisuse, match="closing"):
            await aio(stay())

    async with trio.open_nursery() as nursery, open_bridge(shutdown_deadline=10 * SECONDS):
        nursery.start_soon(visit)
        await trio.testing.wait_all_tasks_blocked()
    assert ended == ["in order"]


async def test_closing_is_bounded(autojump_clock: MockClock) -> None:
    released = False

    async def stubborn() -> None:
        while not released:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    async def visit() -> None:
        with pytest.raises(AbandonedInAsyncio):
            await aio(stubborn())

    async with trio.open_nursery() as nursery:
        with structlog.testing.capture_logs() as logs:
            async with open_bridge(shutdown_deadline=10 * SECONDS):
                nursery.start_soon(visit)
                await trio.testing.wait_all_tasks_blocked()
                started = trio.current_time()
            assert trio.current_time() - started == pytest.approx(10, abs=0.2)
            released = True
            await trio.testing.wait_all_tasks_blocked()
            gc.collect()
    assert logs[0]["event"] == "asyncio_task_abandoned"
    assert "stubborn" in logs[0]["task"]


async def test_closing_does_not_wait_for_threads() -> None:
    release = threading.Event()

    async def think() -> None:
        await asyncio.get_running_loop().run_in_executor(None, release.wait)

    try:
        async with open_bridge():
            with trio.CancelScope() as scope:
                async with _cancelled_once_blocked(scope):
                    await aio(think())
    finally:
        release.set()


async def test_closing_finishes_async_generators() -> None:
    ended: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("finished")

    generator = numbers()

    async def start() -> int:
        return await anext(generator)

    async with open_bridge():
        assert await aio(start()) == 1
    assert ended == ["finished"]


async def test_a_cancelled_body_closes_the_bridge_in_order(autojump_clock: MockClock) -> None:
    ended: list[str] = []

    async def stay() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(1)
            ended.append("in order")

    with trio.move_on_after(5) as scope:
        async with open_bridge():
            await aio(stay())
    assert scope.cancelled_caught
    assert ended == ["in order"]


async def test_cancelling_the_caller_of_a_trio_function_cancels_it(
    bridge: None, autojump_clock: MockClock
) -> None:
    ended: list[str] = []

    async def stay() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            ended.append("trio")

    async def visit() -> None:
        try:
            await call_trio(stay)
        finally:
            ended.append("asyncio")

    with trio.move_on_after(5) as scope:
        await aio(visit())
    assert scope.cancelled_caught
    assert ended == ["trio", "asyncio"]


class _cancelled_once_blocked:  # noqa: N801 - reads as a statement
    """Cancels the scope as soon as everything waits."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self._done = trio.Event()

    async def __aenter__(self) -> None:
        async def cancel() -> None:
            await trio.testing.wait_all_tasks_blocked()
            self._scope.cancel()
            self._done.set()

        trio.lowlevel.spawn_system_task(cancel)

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):
            await self._done.wait()
