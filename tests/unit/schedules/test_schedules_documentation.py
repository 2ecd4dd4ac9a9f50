"""What docs/schedules.md says about Berlin is what happens there."""

import doctest
import re
from datetime import UTC, date, datetime, time, timedelta
from itertools import takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from troupe.platform.schedules import CronTimetable, _cron

DOCUMENT = Path(__file__).parents[3] / "docs" / "schedules.md"
BERLIN = ZoneInfo("Europe/Berlin")
DAYS = (date(2026, 3, 29), date(2026, 10, 25))

_TABLE = DOCUMENT.read_text(encoding="utf-8").split("For Berlin in 2026:")[1].split("\n\n")[1]
ROWS = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", _TABLE, re.MULTILINE)


def test_the_table_is_found() -> None:
    assert len(ROWS) == 4


@pytest.mark.parametrize(("cron", "spring", "autumn"), ROWS)
def test_the_table_holds(cron: str, spring: str, autumn: str) -> None:
    for day, words in zip(DAYS, (spring, autumn), strict=True):
        begin, end = (
            datetime.combine(day + timedelta(days=n), time(), BERLIN).astimezone(UTC)
            for n in (0, 1)
        )
        after = CronTimetable(cron, "Europe/Berlin").after(begin - timedelta(microseconds=1))
        slots = list(takewhile(lambda slot, end=end: slot < end, after))
        if counted := re.search(r"(\d+) times", words):
            assert len(slots) == int(counted[1])
        else:
            [shown], [at] = (
                re.findall(r"^(\d\d:\d\d)", words),
                re.findall(r"(\d\d:\d\d) UTC", words),
            )
            [slot] = slots
            assert f"{slot:%H:%M}" == at
            assert f"{slot.astimezone(BERLIN):%H:%M}" == shown


def test_the_examples_in_the_code_hold() -> None:
    found = doctest.testmod(_cron)
    assert (found.failed, found.attempted) == (0, 2)
