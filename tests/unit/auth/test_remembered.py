"""One fetch for everybody, rarely, and never losing what is there. On trio's autojump clock."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from troupe.actors.auth.errors import ProviderMisbehaved, ProviderUnavailable
from troupe.actors.auth.remembered import FRESH, MAX_FETCHES, WINDOW, Remembered


class Source:
    """A peer that takes a second and gives what it is told to."""

    def __init__(self) -> None:
        self.fetches = 0
        self.give: Callable[[], int] = lambda: self.fetches

    async def __call__(self) -> int:
        self.fetches += 1
        await trio.sleep(1)
        return self.give()

    def fail(self) -> None:
        def give() -> int:
            raise ProviderUnavailable("down")

        self.give = give


async def test_all_who_wait_share_one_fetch(autojump_clock: MockClock) -> None:
    source = Source()
    remembered = Remembered("x", source)
    got: list[int] = []

    async def get() -> None:
        got.append(await remembered.get())

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(get)
    assert got == [1] * 10
    assert source.fetches == 1
    assert autojump_clock.current_time() > 0


async def test_a_fresh_value_is_not_fetched_again(autojump_clock: MockClock) -> None:
    source = Source()
    remembered = Remembered("x", source)
    assert await remembered.get() == 1
    autojump_clock.jump(FRESH - 2)
    assert await remembered.get() == 1
    autojump_clock.jump(2)
    assert await remembered.get() == 2


async def test_a_failure_keeps_what_is_there(autojump_clock: MockClock) -> None:
    source = Source()
    remembered = Remembered("x", source)
    assert await remembered.get() == 1
    source.fail()
    autojump_clock.jump(FRESH)
    assert await remembered.get() == 1
    assert await remembered.renew() == 1
    assert source.fetches == 3


async def test_failures_too_are_not_repeated_without_end(autojump_clock: MockClock) -> None:
    source = Source()
    source.fail()
    remembered = Remembered("x", source)
    for _ in range(10):
        with pytest.raises(ProviderUnavailable, match="down"):
            await remembered.get()
    assert source.fetches == MAX_FETCHES
    source.give = lambda: 7
    autojump_clock.jump(WINDOW)
    assert await remembered.get() == 7


async def test_unknown_key_ids_cannot_make_us_flood_the_peer(autojump_clock: MockClock) -> None:
    source = Source()
    remembered = Remembered("x", source)
    for _ in range(100):
        await remembered.renew()
    assert source.fetches == MAX_FETCHES
    autojump_clock.jump(WINDOW)
    assert await remembered.renew() == MAX_FETCHES + 1


async def test_the_failure_keeps_its_kind(autojump_clock: MockClock) -> None:
    async def fetch() -> int:
        raise ProviderMisbehaved("nonsense")

    with pytest.raises(ProviderMisbehaved, match="nonsense"):
        await Remembered("x", fetch).get()
    assert autojump_clock.current_time() >= 0


async def test_who_is_cancelled_while_fetching_leaves_it_to_the_next(
    autojump_clock: MockClock,
) -> None:
    source = Source()
    remembered = Remembered("x", source)
    got: list[int] = []

    async def leader() -> None:
        with trio.move_on_after(0.5):
            await remembered.get()

    async def follower() -> None:
        await trio.sleep(0.1)
        got.append(await remembered.get())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leader)
        nursery.start_soon(follower)
    assert got == [2]
    assert autojump_clock.current_time() > 0


async def test_who_misses_the_same_thing_while_it_is_fetched_takes_what_comes(
    autojump_clock: MockClock,
) -> None:
    """They come one after the other, each with the old value in hand."""
    source = Source()
    remembered = Remembered("x", source)
    old = await remembered.get()
    got: list[int] = []

    async def renew(after: float) -> None:
        await trio.sleep(after)
        got.append(await remembered.renew(instead_of=old))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(renew, number * 0.09)
    assert got == [2] * 10
    assert source.fetches == 2
    # Who has that one already, and misses something in it, has it fetched.
    assert await remembered.renew(instead_of=got[0]) == 3
    assert autojump_clock.current_time() > 0
