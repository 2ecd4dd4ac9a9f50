"""The task pool: bounded, fair between tenants, resizable, and it never loses a slot."""

import threading

import pytest
import trio
import trio.testing

from troupe.platform.errors import PoolSaturated, TaskCancelled
from troupe.platform.pool import Pool
from troupe.platform.threads import Threads


async def test_results_and_errors_go_where_they_would_without_the_pool():
    pool = Pool("data", limit=1)

    async def double(number: int) -> int:
        await trio.lowlevel.checkpoint()
        return 2 * number

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("x")

    assert await pool.run(double, 21) == 42
    with pytest.raises(KeyError):
        await pool.run(fail)
    assert pool.statistics().running == 0


async def test_never_more_than_the_limit():
    pool = Pool("data", limit=3)
    most = 0

    async def work() -> None:
        nonlocal most
        most = max(most, pool.statistics().running)
        await trio.sleep(1)

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(pool.run, work)
    assert most == 3
    assert trio.current_time() == pytest.approx(begun + 4)


async def test_tenants_take_turns_whatever_the_length_of_their_lines():
    pool = Pool("data", limit=1)
    order: list[str] = []

    async def work(tenant: str) -> None:
        await trio.sleep(1)
        order.append(tenant)

    async with trio.open_nursery() as nursery:

        async def submit(tenant: str) -> None:
            nursery.start_soon(lambda: pool.run(work, tenant, tenant=tenant, deadline=1000))
            await trio.testing.wait_all_tasks_blocked()

        for _ in range(100):
            await submit("greedy")
        await submit("modest")
        await submit("shy")
        assert pool.statistics().waiting_by_tenant == {"greedy": 99, "modest": 1, "shy": 1}
    assert order[:4] == ["greedy", "greedy", "modest", "shy"]
    assert len(order) == 102
    assert pool.statistics().running_by_tenant == {}


async def test_a_free_slot_goes_to_who_waits_not_to_who_comes():
    pool = Pool("data", limit=1)
    slot = await pool.acquire("a")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def waiting() -> None:
            with await pool.acquire("b"):
                await trio.sleep(1)

        await trio.testing.wait_all_tasks_blocked()
        slot.release()
        slot.release()
        assert pool.try_acquire("a") is None
        assert pool.free == 0
    assert pool.free == 1


async def test_waiting_has_a_deadline_and_the_line_a_bound():
    pool = Pool("data", limit=1, waiting=1)
    with await pool.acquire("a"):
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def waits_in_vain() -> None:
                with pytest.raises(PoolSaturated, match="within 3 s"):
                    await pool.acquire("b", deadline=3)

            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(PoolSaturated, match="waiting already"):
                await pool.acquire("c")
        assert trio.current_time() == pytest.approx(begun + 3)
    figures = pool.statistics()
    assert (figures.running, figures.waiting, figures.refused) == (0, 0, 2)


async def test_resizing_takes_effect_in_place():
    pool = Pool("data", limit=1)
    running = 0

    async def work() -> None:
        nonlocal running
        running += 1
        await trio.sleep(10)
        running -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(pool.run, work)
        await trio.testing.wait_all_tasks_blocked()
        assert running == 1
        pool.resize(4)
        await trio.testing.wait_all_tasks_blocked()
        assert running == 4
        pool.resize(2)
        await trio.sleep(10.5)
        assert running == 2
    assert pool.statistics().running == 0


async def test_cancel_by_key_ends_waiting_and_running_tasks_typed():
    pool = Pool("data", limit=1)
    outcomes: list[str] = []

    async def task(key: str) -> None:
        try:
            await pool.run(trio.sleep, 100, key=key)
            outcomes.append("done")
        except TaskCancelled:
            outcomes.append("cancelled")

    async with trio.open_nursery() as nursery:
        for key in ("one", "one", "two"):
            nursery.start_soon(task, key)
            await trio.testing.wait_all_tasks_blocked()
        assert pool.cancel("one") == 2
        assert pool.cancel("none") == 0
    assert outcomes == ["cancelled", "cancelled", "done"]
    assert pool.statistics().running == pool.statistics().waiting == 0


async def test_outer_cancellations_at_any_moment_lose_no_slot():
    pool = Pool("data", limit=2)

    async def impatient(patience: float) -> None:
        with trio.move_on_after(patience):
            await pool.run(trio.sleep, 1.0)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(impatient, number * 0.1)
    figures = pool.statistics()
    assert (figures.running, figures.waiting) == (0, 0)
    assert figures.waiting_by_tenant == {}
    assert pool.free == 2


@pytest.mark.parametrize("_attempt", range(20))
async def test_a_slot_that_comes_to_a_task_just_being_cancelled_is_passed_on(_attempt):
    """Trio runs tasks in a random order, so both orders of the race come up in twenty attempts."""
    pool = Pool("data", limit=1)
    async with trio.open_nursery() as nursery:
        for key in ("a", "b"):

            @nursery.start_soon
            async def task(key=key) -> None:
                with pytest.raises(TaskCancelled):
                    await pool.run(trio.sleep_forever, key=key)

            await trio.testing.wait_all_tasks_blocked()
        pool.cancel("a")
        pool.cancel("b")
    assert pool.statistics().running == 0
    assert pool.free == 1


async def test_a_reserved_slot_is_counted_for_whom_it_is_used():
    pool = Pool("data", limit=2)
    slot = pool.try_acquire()
    assert slot is not None
    slot.assign("a")
    assert pool.statistics().running_by_tenant == {"a": 1}
    slot.release()
    assert pool.statistics().running_by_tenant == {}


async def test_one_task_may_use_several_threads_and_an_abandoned_one_keeps_its_place():
    threads = Threads(2)
    gate = threading.Event()
    try:
        async with trio.open_nursery() as nursery:

            async def two_at_once() -> None:
                async with trio.open_nursery() as inner:
                    inner.start_soon(lambda: threads.run(gate.wait, 60.0, abandon=True))
                    inner.start_soon(lambda: threads.run(gate.wait, 60.0, abandon=True))

            nursery.start_soon(two_at_once)
            await trio.lowlevel.checkpoint()
            while threads.running < 2:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert threads.running == 2
    finally:
        gate.set()
    while threads.running:
        await trio.lowlevel.checkpoint()
    assert await threads.run(lambda: 7) == 7
