"""Terms of leadership: one at a time, strictly one after the other, by the database's clock."""

from contextlib import AsyncExitStack
from datetime import timedelta

import asyncpg
import pytest
import trio

from tests.integration.database.proxy import open_proxy
from tests.integration.schedules.conftest import PATIENCE, World
from troupe.common.bridge import aio
from troupe.common.database import Database, open_database
from troupe.common.errors import DatabaseUnavailable
from troupe.platform.leadership import Leadership, Term, TermOver


def contender(world: World, lease: float = 30.0, database: Database | None = None) -> Leadership:
    return Leadership(database or world.database, "warming", lease=lease)


async def holds(world: World, term: Term) -> bool:
    try:
        await world.database.run(term.hold)
    except TermOver:
        return False
    return True


async def expire(world: World) -> None:
    await world.change("UPDATE platform.leaders SET expires_at = clock_timestamp()")


async def test_one_leads_and_the_others_learn_how_long_to_wait(world: World) -> None:
    one, other = contender(world), contender(world)
    term = await one.acquire()
    assert term is not None
    assert (term.name, term.number) == ("warming", 1)
    assert await other.acquire() is None
    assert 29 < other._vacant_in <= 30
    assert await holds(world, term)


async def test_terms_grow_and_only_the_last_is_in_force(world: World) -> None:
    one, other = contender(world), contender(world)
    first = await one.acquire()
    assert first is not None
    await expire(world)
    # Over is over, even if nobody has taken it.
    assert not await holds(world, first)
    assert not await one.extend(first)
    second = await other.acquire()
    assert second is not None
    assert second.number == 2
    assert not await holds(world, first)
    await one.release(first)
    assert await holds(world, second)
    await other.release(second)
    third = await one.acquire()
    assert third is not None
    assert third.number == 3


async def test_an_answer_that_was_lost_does_not_lock_its_receiver_out(world: World) -> None:
    one = contender(world)
    first, second = await one.acquire(), await one.acquire()
    assert first is not None
    assert second is not None
    assert second.number == 2
    assert not await holds(world, first)


async def test_different_works_have_different_leaders(world: World) -> None:
    one, other = contender(world), Leadership(world.database, "sweeping")
    assert await one.acquire() is not None
    term = await other.acquire()
    assert term is not None
    assert term.number == 1


async def test_what_holds_a_term_is_waited_for_and_does_not_hinder_extending(world: World) -> None:
    one, other = contender(world), contender(world)
    term = await one.acquire()
    assert term is not None
    async with AsyncExitStack() as stack:
        writer = await aio(asyncpg.connect(world.where.runtime_url))
        stack.push_async_callback(lambda: aio(writer.close()))
        await aio(writer.execute("BEGIN"))
        await aio(term.hold(writer))
        with trio.fail_after(3):
            assert await one.extend(term)
        # Its time runs out within the transaction: the successor waits for the end of that.
        await expire(world)
        with trio.fail_after(3):
            assert await other.acquire() is None
        assert 0 < other._vacant_in < 30
        await aio(writer.execute("COMMIT"))
    assert await other.acquire() is not None


async def test_terms_run_out_by_the_clock_of_the_database(world: World) -> None:
    one, other = contender(world, lease=0.3), contender(world)
    term = await one.acquire()
    assert term is not None
    lasts = await world.look("SELECT expires_at - began_at FROM platform.leaders")
    assert timedelta(seconds=0.29) < lasts < timedelta(seconds=0.31)
    assert await other.acquire() is None
    await trio.sleep(0.35)
    assert not await one.extend(term)
    assert await other.acquire() is not None


async def test_watching_extends_the_term_until_it_is_lost(world: World) -> None:
    one = contender(world, lease=3.0)
    term = await one.acquire()
    assert term is not None
    ended = trio.Event()

    async def hold_office() -> None:
        with trio.CancelScope() as office:
            await one.watch(term, office)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_office)
        await trio.sleep(3.5)
        assert not ended.is_set()
        assert await holds(world, term)
        await expire(world)
        # The next extension is refused, long before the time is up.
        with trio.fail_after(1.8):
            await ended.wait()


async def test_a_leader_that_is_cut_off_gives_up_by_its_own_clock(world: World) -> None:
    async with (
        open_proxy(world.where.runtime_url) as proxy,
        open_database(proxy.url, connections=2) as shaky,
    ):
        one = contender(world, lease=1.0, database=shaky)
        term = await one.acquire()
        assert term is not None
        proxy.hold()
        began = trio.current_time()
        with trio.fail_after(PATIENCE), trio.CancelScope() as office:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.watch, term, office)
                try:
                    await trio.sleep_forever()
                finally:
                    lasted = trio.current_time() - began
        proxy.release()
    assert office.cancelled_caught
    assert 0.8 < lasted < 1.1


async def test_the_work_is_done_by_one_at_a_time_whoever_fails(world: World) -> None:
    """Also by those who cannot ask whether they still lead."""
    at_work: set[int] = set()
    terms: list[int] = []
    stopping = trio.Event()
    contenders = [contender(world, lease=0.5) for _ in range(3)]

    async def unreachable(_term: Term) -> bool:
        raise DatabaseUnavailable("as if it were away")

    async def work(term: Term) -> None:
        assert not at_work
        at_work.add(term.number)
        terms.append(term.number)
        [leader] = [each for each in contenders if each.term == term]
        try:
            match term.number % 3:
                case 0:
                    await trio.sleep(0.05)
                    raise TermOver("as if a fence had said so")
                case 1:
                    leader.extend = unreachable
                    await trio.sleep_forever()
                case _:
                    await trio.sleep(1.0)  # twice as long as the lease: extended meanwhile
                    assert await holds(world, term)
                    if term.number > 7:
                        stopping.set()
        finally:
            at_work.discard(term.number)
            vars(leader).pop("extend", None)

    async with trio.open_nursery() as nursery:
        for each in contenders:
            nursery.start_soon(each.run, work, stopping)
        with trio.fail_after(20):
            await stopping.wait()
        for each in contenders:
            each.ring()
    assert terms == list(range(1, terms[-1] + 1))
    assert await world.look("SELECT expires_at < now() FROM platform.leaders")


async def test_a_failure_of_the_work_is_passed_on_and_ends_the_term(world: World) -> None:
    async def work(_term: Term) -> None:
        raise LookupError("ours")

    with pytest.raises(ExceptionGroup) as failed, trio.fail_after(PATIENCE):
        await contender(world).run(work, trio.Event())
    assert failed.group_contains(LookupError)
    assert await contender(world).acquire() is not None


async def test_people_can_see_where_the_leader_is(world: World) -> None:
    await contender(world).acquire()
    [row] = await world.rows("SELECT * FROM platform.leaders")
    assert row["host"]
    assert row["pid"]
    assert row["began_at"] < row["expires_at"]
