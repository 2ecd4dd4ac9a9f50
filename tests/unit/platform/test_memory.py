"""Bytes shared between transfers."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from troupe.platform.memory import Account, Memory


async def test_who_finds_none_waits_in_line() -> None:
    memory = Memory(100)
    granted: list[str] = []

    async def take(account: Account, size: int, name: str) -> None:
        await account.take(size)
        granted.append(name)

    with memory.account() as first, memory.account() as others:
        await first.take(80)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, others, 50, "large")
            await wait_all_tasks_blocked()
            # It would fit, and does not overtake.
            nursery.start_soon(take, others, 10, "small")
            await wait_all_tasks_blocked()
            assert granted == []
            assert memory.waiting == 2
            first.give(30)
            await wait_all_tasks_blocked()
            assert granted == ["large"]
            first.give(50)
        assert granted == ["large", "small"]
        assert (first.held, others.held, memory.held) == (0, 60, 60)
    assert memory.held == 0


async def test_what_is_left_comes_back_however_a_transfer_ends() -> None:
    memory = Memory(100)
    account = memory.account()

    async def fail() -> None:
        with account:
            await account.take(70)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert memory.held == 0
    account.give(70)
    assert memory.held == 0
    with pytest.raises(trio.ClosedResourceError):
        await account.take(1)


async def test_one_that_is_larger_than_all_waits_until_it_is_alone() -> None:
    memory = Memory(100)
    with memory.account() as small, memory.account() as large:
        await small.take(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(large.take, 500)
            await wait_all_tasks_blocked()
            assert large.held == 0
            small.give(1)
        assert memory.held == 500


async def test_a_cancelled_wait_leaves_the_line_to_the_next() -> None:
    memory = Memory(100)
    with memory.account() as holder, memory.account() as other:
        await holder.take(60)
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(other.take, 30)
                scope.cancel()
                await trio.lowlevel.checkpoint()
        with trio.move_on_after(0.1):
            await other.take(90)
        assert memory.waiting == 0
        await other.take(10)
        assert memory.held == 100


async def test_a_cancelled_wait_does_not_hold_up_who_stands_behind() -> None:
    memory = Memory(100)
    with memory.account() as holder, memory.account() as other:
        await holder.take(60)
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def take_much() -> None:
                with scope:
                    await other.take(90)

            nursery.start_soon(take_much)
            await wait_all_tasks_blocked()
            nursery.start_soon(other.take, 30)
            await wait_all_tasks_blocked()
            assert memory.waiting == 2
            scope.cancel()
        assert other.held == 30


async def test_closing_an_account_ends_its_waits() -> None:
    memory = Memory(100)
    with memory.account() as holder:
        await holder.take(100)
        account = memory.account()
        async with trio.open_nursery() as nursery:

            async def take() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await account.take(10)

            nursery.start_soon(take)
            await wait_all_tasks_blocked()
            account.close()
        assert memory.waiting == 0
    assert memory.held == 0


async def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Memory(0)
    with Memory(10).account() as account:
        with pytest.raises(ValueError, match="not negative"):
            await account.take(-1)
        await account.take(5)
        with pytest.raises(ValueError, match="more than was taken"):
            account.give(6)
