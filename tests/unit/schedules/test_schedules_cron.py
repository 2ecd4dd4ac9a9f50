"""What a cron line means where the clock is changed, and what is no line at all."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from troupe.common.errors import InvalidInput
from troupe.platform.schedules import CronTimetable, read_timetable, upcoming
from troupe.platform.schedules._cron import LONGEST_CRON, check_fires

BERLIN, LORD_HOWE = "Europe/Berlin", "Australia/Lord_Howe"
NOW = datetime(2027, 1, 1, tzinfo=UTC)


def clock(cron: str, zone: str, start: str, count: int) -> list[str]:
    """What the clock shows at the next slots, with its distance from Greenwich."""
    local = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone))
    slots = upcoming(CronTimetable(cron, zone), local, count)
    return [f"{slot.astimezone(ZoneInfo(zone)):%d %H:%M %z}" for slot in slots]


def minutes_between(cron: str, zone: str, start: str, count: int) -> set[int]:
    local = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone))
    slots = upcoming(CronTimetable(cron, zone), local, count)
    return {int((b - a).total_seconds()) // 60 for a, b in pairwise(slots)}


def test_a_daily_time_in_the_gap_is_due_once_behind_it() -> None:
    assert clock("30 2 * * *", BERLIN, "2027-03-27T12:00", 3) == [
        "28 03:00 +0200",
        "29 02:30 +0200",
        "30 02:30 +0200",
    ]


def test_several_times_in_one_gap_and_the_one_behind_it_are_due_once_together() -> None:
    assert clock("0,20,40 2,3 * * *", BERLIN, "2027-03-28T00:00", 4) == [
        "28 03:00 +0200",
        "28 03:20 +0200",
        "28 03:40 +0200",
        "29 02:00 +0200",
    ]


def test_a_daily_time_in_the_overlap_is_due_the_first_time() -> None:
    assert clock("30 2 * * *", BERLIN, "2027-10-30T12:00", 2) == [
        "31 02:30 +0200",
        "01 02:30 +0100",
    ]


@pytest.mark.parametrize("cron", ["7 * * * *", "7 0-23 * * *"])
@pytest.mark.parametrize("day", ["2027-03-27T20:00", "2027-10-30T20:00"])
def test_an_hourly_line_is_due_every_hour_whatever_the_clock_does(cron: str, day: str) -> None:
    assert minutes_between(cron, BERLIN, day, 15) == {60}


@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE])
@pytest.mark.parametrize("day", ["2027-03-27T20:00", "2027-10-30T20:00", "2027-04-03T20:00"])
def test_every_ten_minutes_is_every_ten_minutes(zone: str, day: str) -> None:
    assert minutes_between("*/10 * * * *", zone, day, 90) == {10}


def test_an_hourly_line_keeps_its_minute_where_the_clock_moves_by_half_an_hour() -> None:
    assert minutes_between("0 * * * *", LORD_HOWE, "2027-04-03T20:00", 12) == {60, 90}
    assert minutes_between("0 * * * *", LORD_HOWE, "2027-10-02T20:00", 12) == {60, 90}


def test_a_line_that_ticks_within_an_hour_comes_twice_or_not_at_all_with_it() -> None:
    assert clock("*/30 2 * * *", BERLIN, "2027-10-31T00:00", 4) == [
        "31 02:00 +0200",
        "31 02:30 +0200",
        "31 02:00 +0100",
        "31 02:30 +0100",
    ]
    assert clock("*/30 2 * * *", BERLIN, "2027-03-28T00:00", 1) == ["29 02:00 +0200"]


def test_a_day_that_a_whole_country_left_out_is_made_up_for_at_its_end() -> None:
    assert clock("30 2 * * *", "Pacific/Apia", "2011-12-29T12:00", 2) == [
        "31 00:00 +1400",
        "31 02:30 +1400",
    ]


def test_a_gap_at_midnight_ends_the_day_before_and_not_the_program() -> None:
    # The library alone goes round in circles here; see the module's text.
    slots = clock("*/30 0 23-24 * *", "Africa/Cairo", "2026-04-22T12:00", 4)
    # The 24th of April has no such hour, the 23rd of May does.
    assert slots == ["23 00:00 +0200", "23 00:30 +0200", "23 00:00 +0300", "23 00:30 +0300"]


def test_slots_lie_strictly_behind_the_instant_asked_for() -> None:
    timetable = CronTimetable("0 8 * * *", "UTC")
    at = datetime(2027, 1, 1, 8, tzinfo=UTC)
    assert next(timetable.after(at)) == at.replace(day=2)
    assert (
        next(timetable.after(at.replace(hour=7, minute=59, second=59, microsecond=999_999))) == at
    )
    assert next(timetable.after(at.replace(microsecond=1))) == at.replace(day=2)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("", "five fields"),
        ("@daily", "five fields"),
        ("0 8 * *", "five fields"),
        ("*/5 0 8 * * *", "five fields"),
        ("60 8 * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 8 0 * *", "bad day-of-month"),
        ("0 8 * 13 *", "bad month"),
        ("0 8 * * 8", "bad day-of-week"),
        ("*/0 8 * * *", "bad minute"),
        ("5-1 8 * * *", "bad minute"),
        ("1,,2 8 * * *", "bad minute"),
        ("0 8 30 2 *", "bad day-of-month"),
        ("\N{ARABIC-INDIC DIGIT ONE} 8 * * *", "ASCII"),
        ("0 8 * * *" + " " * LONGEST_CRON, "characters"),
    ],
)
def test_what_is_no_line_is_refused_with_its_field(cron: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        CronTimetable(cron, BERLIN)
    [(where, what)] = refused.value.errors
    assert where == "/cron"
    assert words in what


@pytest.mark.parametrize(
    "zone",
    ["", "Europe/Atlantis", "CEST", "EST", "posix/Europe/Berlin", "../etc/passwd", "Factory"],
)
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_timetable("0 8 * * *", zone)
    assert [where for where, _ in refused.value.errors] == ["/zone"]


def test_both_can_be_wrong_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        CronTimetable("never", "nowhere")
    assert [where for where, _ in refused.value.errors] == ["/cron", "/zone"]


def test_a_line_that_is_never_due_is_refused() -> None:
    never = CronTimetable("* * */20 * 1L", "UTC")  # a last Monday on the 1st or the 21st
    with pytest.raises(InvalidInput, match="never run"):
        check_fires(never, NOW)
    assert upcoming(never, NOW, 3) == []
    check_fires(CronTimetable("0 0 29 2 *", "UTC"), NOW)


FIELD = st.text("0123456789*/-,#LW", min_size=1, max_size=8) | st.sampled_from(["*", "MON", "5L"])


@settings(max_examples=500, deadline=None)
@given(st.lists(FIELD, min_size=5, max_size=5).map(" ".join) | st.text(max_size=30))
def test_whatever_is_written_is_a_line_or_is_refused(cron: str) -> None:
    try:
        timetable = CronTimetable(cron, "America/New_York")
    except InvalidInput:
        return
    slots = upcoming(timetable, datetime(2027, 3, 14, tzinfo=UTC), 5)
    assert slots == sorted(set(slots))
    assert all(slot.tzinfo is UTC and (slot.second, slot.microsecond) == (0, 0) for slot in slots)
