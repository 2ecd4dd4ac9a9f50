"""Whose standing still counts: that of the loop that is asked, never that of the loop that asks."""

import math

import pytest
import trio
import trio.testing

from troupe.platform.processes._watchdog import Answered


async def test_an_answer_in_time_is_heard_at_once():
    answered = Answered()
    answered.expect()
    begun = trio.current_time()

    async def answer():
        await trio.sleep(2.95)
        answered.arrived()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert await answered.within(3)
    assert trio.current_time() - begun == pytest.approx(2.95)


@pytest.mark.parametrize("patience", [0.05, 1, 5, 7.77])
async def test_silence_is_found_out_when_the_patience_is_over(patience):
    answered = Answered()
    answered.expect()
    begun = trio.current_time()
    assert not await answered.within(patience)
    assert trio.current_time() - begun == pytest.approx(patience, abs=0.01)


async def test_an_answer_to_the_last_question_is_none_to_the_next():
    answered = Answered()
    answered.expect()
    answered.arrived()
    assert await answered.within(1)
    answered.expect()
    assert not await answered.within(1)


async def test_without_a_limit_it_waits_for_ever():
    answered = Answered()
    answered.expect()
    with trio.move_on_after(100_000) as scope:
        await answered.within(math.inf)
    assert scope.cancelled_caught


def test_time_in_which_our_own_loop_stood_still_is_not_held_against_the_child():
    clock = trio.testing.MockClock()

    async def main():
        answered = Answered()
        answered.expect()
        verdicts = []

        async def wait():
            verdicts.append(await answered.within(5))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(60)  # nothing ran for a minute
            await trio.testing.wait_all_tasks_blocked()
            assert verdicts == []
            answered.arrived()
        assert verdicts == [True]

    trio.run(main, clock=clock)
