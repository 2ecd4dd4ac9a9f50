"""Days that are ready wait for each other, but not long and not for many."""

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
    next_together,
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


async def numbers(channel: trio.MemoryReceiveChannel[tuple[StagedDay, Digest]]) -> list[int]:
    return [(day.source_day - FIRST.source_day).days for day in await next_together(channel)]


async def test_those_that_are_ready_go_together_up_to_a_number(
    autojump_clock: trio.testing.MockClock,
) -> None:
    send, receive = trio.open_memory_channel[tuple[StagedDay, Digest]](20)
    for number in range(DAYS_AT_ONCE + 1):
        send.send_nowait(ready(number))
    began = trio.current_time()
    assert await numbers(receive) == list(range(DAYS_AT_ONCE))
    assert trio.current_time() == began
    send.close()
    assert await numbers(receive) == [DAYS_AT_ONCE]
    assert trio.current_time() == began
    with pytest.raises(trio.EndOfChannel):
        await next_together(receive)


async def test_none_is_added_to_many_rows(autojump_clock: trio.testing.MockClock) -> None:
    send, receive = trio.open_memory_channel[tuple[StagedDay, Digest]](20)
    for number, rows in enumerate((ROWS_AT_ONCE - 1, ROWS_AT_ONCE, 1, ROWS_AT_ONCE)):
        send.send_nowait(ready(number, rows=rows))
    send.close()
    assert [await numbers(receive), await numbers(receive)] == [[0, 1], [2, 3]]


async def test_a_day_waits_for_others_a_little(autojump_clock: trio.testing.MockClock) -> None:
    send, receive = trio.open_memory_channel[tuple[StagedDay, Digest]](20)

    async def one_after_another() -> None:
        for number in range(3):
            await trio.sleep(0.4 * LONGEST_WAIT)
            await send.send(ready(number))
        await trio.sleep(LONGEST_WAIT)
        await send.send(ready(3))
        send.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one_after_another)
        assert await numbers(receive) == [0, 1, 2]
        assert trio.current_time() == pytest.approx(1.4 * LONGEST_WAIT)
        assert await numbers(receive) == [3]
        assert trio.current_time() == pytest.approx(2.2 * LONGEST_WAIT)
