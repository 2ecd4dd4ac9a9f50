"""Speed and time left, by what was done lately."""

import pytest
import trio
from trio.testing import MockClock

from troupe.actors.data.pace import WINDOW, Pace


async def test_nothing_is_told_before_something_is_done(autojump_clock: MockClock) -> None:
    del autojump_clock
    pace = Pace(7)
    assert pace.per_second is None
    assert pace.seconds_left(1) is None
    await trio.sleep(5)
    pace.note(7)
    assert pace.per_second is None
    assert pace.seconds_left(0) == 0


async def test_a_steady_pace(autojump_clock: MockClock) -> None:
    del autojump_clock
    pace = Pace()
    for second in range(1, 100):
        await trio.sleep(1)
        pace.note(second * 4)
    assert pace.per_second == pytest.approx(4)
    assert pace.seconds_left(10) == 3


async def test_what_was_long_ago_does_not_count(autojump_clock: MockClock) -> None:
    del autojump_clock
    pace = Pace()
    await trio.sleep(1)
    pace.note(1_000_000)  # days that had not changed
    assert pace.seconds_left(10) == 1
    for second in range(1, 60):
        await trio.sleep(1)
        pace.note(1_000_000 + second)
    assert pace.per_second == pytest.approx(1)
    assert pace.seconds_left(10) == 10


async def test_a_standstill_shows_and_ends_in_not_knowing(autojump_clock: MockClock) -> None:
    del autojump_clock
    pace = Pace()
    await trio.sleep(10)
    pace.note(100)
    quick = pace.seconds_left(100)
    await trio.sleep(10)
    assert quick == 10
    assert pace.seconds_left(100) == 20
    await trio.sleep(2 * WINDOW)
    assert pace.per_second is None
    pace.note(101)
    slow = pace.seconds_left(100)
    assert slow is not None
    assert slow > 1000


async def test_readings_are_bounded_however_often_they_come(autojump_clock: MockClock) -> None:
    del autojump_clock
    pace = Pace()
    for number in range(5_000):
        await trio.sleep(0.01)
        pace.note(number)
    assert len(pace._readings) <= WINDOW + 2
    assert pace.per_second == pytest.approx(100, rel=0.01)


async def test_less_than_before_is_not_believed(autojump_clock: MockClock) -> None:
    del autojump_clock
    pace = Pace()
    await trio.sleep(2)
    pace.note(10)
    pace.note(3)
    assert pace.per_second == 5
