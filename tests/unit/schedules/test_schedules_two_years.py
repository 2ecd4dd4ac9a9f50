"""Two years of slots against a reading of the clock, minute by minute.

The judge knows nothing of cron lines and nothing of gaps and overlaps. It walks every minute of two
years, looks at the wall clock of the zone, and has two rules:

- what *ticks* is due whenever the clock shows a matching time;
- what *names times of day* is due when the clock shows or leaps over a matching time that it has
  not shown before.
"""

import bisect
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest

from troupe.platform.schedules import CronTimetable

MINUTE = timedelta(minutes=1)
EVERY = frozenset(range(60))


@dataclass(frozen=True)
class Line:
    """A cron line, and what it means in words that the judge understands."""

    cron: str
    ticks: bool
    minutes: frozenset[int]
    matches: Callable[[datetime], bool]  # of the rest

    def shown(self, reading: datetime) -> bool:
        return reading.minute in self.minutes and self.matches(reading)


def line(cron: str, minutes: object, matches: Callable[[datetime], bool], *, ticks: bool = False):
    return Line(cron, ticks, frozenset(minutes), matches)


LINES = [
    line("0 8 * * *", [0], lambda at: at.hour == 8),
    line("30 2 * * *", [30], lambda at: at.hour == 2),
    line("0 0 * * *", [0], lambda at: at.hour == 0),
    line("5,35 0,1,2,3 * * *", [5, 35], lambda at: at.hour in {0, 1, 2, 3}),
    line("15 9 * * MON", [15], lambda at: at.hour == 9 and at.isoweekday() == 1),
    line("0 0 31 * *", [0], lambda at: at.day == 31 and at.hour == 0),
    line("0 12 29 2 *", [0], lambda at: (at.month, at.day, at.hour) == (2, 29, 12)),
    line("30 1 L * *", [30], lambda at: at.hour == 1 and (at + 24 * 60 * MINUTE).day == 1),
    line("0 3 1 * 7", [0], lambda at: at.hour == 3 and (at.day == 1 or at.isoweekday() == 7)),
    line("0 * * * *", [0], lambda _: True, ticks=True),
    line("45 0-23 * * *", [45], lambda _: True, ticks=True),
    line("*/10 * * * *", range(0, 60, 10), lambda _: True, ticks=True),
    line("*/20 3 * * *", [0, 20, 40], lambda at: at.hour == 3, ticks=True),
    line(
        "*/30 0-2 * 3,4,10 *",
        [0, 30],
        lambda at: at.hour < 3 and at.month in {3, 4, 10},
        ticks=True,
    ),
]

# Both pairs of years hold a 29 February. The earlier one is from the rules as they were.
THEN, SOON = datetime(2015, 7, 1, tzinfo=UTC), datetime(2027, 7, 1, tzinfo=UTC)
TWO_YEARS = {THEN: datetime(2017, 7, 1, tzinfo=UTC), SOON: datetime(2029, 7, 1, tzinfo=UTC)}
ZONES = [
    ("Europe/Berlin", SOON, 4),
    ("America/New_York", SOON, 4),
    ("Australia/Lord_Howe", SOON, 4),  # by half an hour
    ("Africa/Cairo", SOON, 4),  # at midnight
    ("America/Sao_Paulo", THEN, 4),  # at midnight, both ways
    ("Asia/Tehran", THEN, 4),  # at midnight; half an hour from its neighbours
    ("Africa/Casablanca", THEN, 8),  # summer time pauses for Ramadan
    ("Asia/Kathmandu", SOON, 0),  # a quarter of an hour from its neighbours
]


def judge(zone: ZoneInfo, start: datetime, end: datetime) -> tuple[dict[str, list[datetime]], int]:
    """What is due of each line after `start` and until `end`; how often the clock was changed."""
    by_minute = [[each for each in LINES if minute in each.minutes] for minute in range(60)]
    due: dict[str, list[datetime]] = {each.cron: [] for each in LINES}
    changes = 0
    instant, greenwich = start, start.replace(tzinfo=None)
    before = latest = greenwich + start.astimezone(zone).utcoffset()
    while instant < end:
        instant += MINUTE
        greenwich += MINUTE
        shown = greenwich + instant.astimezone(zone).utcoffset()
        if shown == before + MINUTE and shown > latest:
            for each in by_minute[shown.minute]:
                if each.matches(shown):
                    due[each.cron].append(instant)
        else:
            changes += shown != before + MINUTE
            new = [latest + n * MINUTE for n in range(1, (shown - latest) // MINUTE + 1)]
            for each in LINES:
                if each.shown(shown) if each.ticks else any(map(each.shown, new)):
                    due[each.cron].append(instant)
        before, latest = shown, max(latest, shown)
    return due, changes


@pytest.mark.parametrize(("name", "start", "changes"), ZONES, ids=[zone[0] for zone in ZONES])
def test_two_years_have_exactly_the_expected_slots(
    name: str, start: datetime, changes: int
) -> None:
    end = TWO_YEARS[start]
    expected, seen_changes = judge(ZoneInfo(name), start, end)
    assert seen_changes == changes, "the zone does not try what it is meant to try"
    chance = random.Random(f"{name} {start}")
    for each in LINES:
        timetable = CronTimetable(each.cron, name)
        slots = list(takewhile(lambda slot: slot <= end, timetable.after(start)))
        assert slots == expected[each.cron], each.cron
        # Wherever one begins, it goes on in the same way: also within gaps and overlaps.
        some = chance.sample(slots, min(len(slots), 40))
        for instant in [*some, *near_changes(name, start, end)]:
            at = bisect.bisect_right(slots, instant)
            found = [slot for slot in islice(timetable.after(instant), 1) if slot <= end]
            assert found == slots[at : at + 1], f"{each.cron} after {instant}"


def near_changes(name: str, start: datetime, end: datetime) -> list[datetime]:
    """Instants around the changes of a clock, from hours before to hours after."""
    zone, found, hour = ZoneInfo(name), [], start
    while hour < end:
        following = hour + timedelta(hours=1)
        if hour.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            found += [
                hour + timedelta(minutes=m, seconds=s) for m in range(-75, 200, 25) for s in (0, 30)
            ]
        hour = following
    return found


def test_the_judge_finds_what_a_naive_reading_does_wrong() -> None:
    """The broken twin: a reading that takes what the clock shows for what is due."""
    zone = ZoneInfo("Europe/Berlin")
    start, end = datetime(2027, 10, 1, tzinfo=UTC), datetime(2028, 4, 1, tzinfo=UTC)
    expected, _ = judge(zone, start, end)
    naive, instant = [], start
    while instant < end:
        instant += MINUTE
        shown = instant.astimezone(zone)
        if (shown.hour, shown.minute) == (2, 30):
            naive.append(instant)
    wrong = set(naive) ^ set(expected["30 2 * * *"])
    # Twice in October, not at all in March.
    assert wrong == {
        datetime(2027, 10, 31, 1, 30, tzinfo=UTC),
        datetime(2028, 3, 26, 1, tzinfo=UTC),
    }
