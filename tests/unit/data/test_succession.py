"""Days that are ready wait for each other, but not long and not for many; then fewer are begun."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
import trio

from troupe.actors.data.digest import Digest
from troupe.actors.data.publication import StagedDay
from troupe.actors.data.succession import (
    DAYS_AT_ONCE,
    LONGEST_WAIT,
    ROWS_AT_ONCE,
    Succession,
)

FIRST = StagedDay(
    source_day=date(2026, 9, 1), table="t", rows=10, family="daily",
    source_modified=datetime(2026, 9, 2, tzinfo=UTC), source_rows=10, extraction="e",
    scanned_bytes=0,
)  # fmt: skip
DIGEST = Digest(
    rows=10, first_event_at=None, last_event_at=None, counts=(), days=(), activity=1, erasures=0,
    derived_as="",
)  # fmt: skip


def ready(number: int, *, rows: int = 10) -> tuple[StagedDay, Digest]:
    day = FIRST.source_day + timedelta(days=number)
    return replace(FIRST, source_day=day, table=f"t{number}", rows=rows), DIGEST


async def numbers(succession: Succession) -> list[int]:
    days = await succession.next_together()
    return [(day.source_day - FIRST.source_day).days for day in days]


async def test_those_that_are_ready_go_together_up_to_a_number(
    autojump_clock: trio.testing.MockClock,
) -> None:
    succession = Succession(3)
    for number in range(DAYS_AT_ONCE):
        await succession.hand_over(*ready(number))
    began = trio.current_time()
    assert await numbers(succession) == list(range(DAYS_AT_ONCE))
    assert trio.current_time() == began
    await succession.hand_over(*ready(9))
    succession.close()
    assert await numbers(succession) == [9]
    assert trio.current_time() == began
    with pytest.raises(trio.EndOfChannel):
        await succession.next_together()


async def test_none_is_added_to_many_rows(autojump_clock: trio.testing.MockClock) -> None:
    succession = Succession(3)
    for number, rows in enumerate((ROWS_AT_ONCE - 1, ROWS_AT_ONCE, 1, ROWS_AT_ONCE)):
        await succession.hand_over(*ready(number, rows=rows))
    succession.close()
    assert [await numbers(succession), await numbers(succession)] == [[0, 1], [2, 3]]


async def test_a_day_waits_for_others_a_moment(autojump_clock: trio.testing.MockClock) -> None:
    succession = Succession(3)

    async def one_after_another() -> None:
        for number in range(3):
            await trio.sleep(0.4 * LONGEST_WAIT)
            await succession.hand_over(*ready(number))
        await trio.sleep(LONGEST_WAIT)
        await succession.hand_over(*ready(3))
        succession.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one_after_another)
        assert await numbers(succession) == [0, 1, 2]
        assert trio.current_time() == pytest.approx(1.4 * LONGEST_WAIT)
        assert await numbers(succession) == [3]
        assert trio.current_time() == pytest.approx(2.2 * LONGEST_WAIT)


async def test_handing_over_waits_while_many_wait(autojump_clock: trio.testing.MockClock) -> None:
    succession = Succession(3)
    for number in range(DAYS_AT_ONCE):
        await succession.hand_over(*ready(number))
    with trio.move_on_after(60) as waited:
        await succession.hand_over(*ready(5))
    assert waited.cancelled_caught
    assert len(await succession.next_together()) == DAYS_AT_ONCE
    await succession.hand_over(*ready(6))


@pytest.mark.parametrize(("behind", "at_once"), [(0, 3), (1, 2), (2, 1), (3, 1), (4, 1)])
async def test_the_more_wait_the_fewer_are_begun(
    autojump_clock: trio.testing.MockClock, behind: int, at_once: int
) -> None:
    succession = Succession(3)
    begun = most = 0

    async def one_after_another() -> None:
        nonlocal begun, most
        for _ in range(4):
            await succession.room()
            with succession.loading():
                begun += 1
                most = max(most, begun)
                await trio.sleep(1)
                begun -= 1

    for number in range(behind):
        await succession.hand_over(*ready(number))
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one_after_another)
    assert most == at_once


async def test_room_comes_with_a_publication(autojump_clock: trio.testing.MockClock) -> None:
    succession = Succession(2)
    await succession.hand_over(*ready(0))
    days = await succession.next_together()
    with succession.loading():
        with trio.move_on_after(60) as waited:
            await succession.room()
        assert waited.cancelled_caught

        async def publish() -> None:
            await trio.sleep(1)
            succession.published(days)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            with trio.fail_after(2):
                await succession.room()
