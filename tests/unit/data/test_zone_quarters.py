"""derive.sql looks zones up for quarters of an hour: local hours must begin at one, everywhere."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

FIRST, LAST = datetime(2015, 1, 1, tzinfo=UTC), datetime(2037, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
QUARTER = 15 * 60
# A base of some dozen people, three of whose changes were at one minute past the hour: the events
# of those minutes count in the hour before.
ODD = {"Antarctica/Casey"}


def changes(zone: ZoneInfo, *, step: timedelta = WEEK) -> list[datetime]:
    """Instants, to the second, at which a zone's offset changes."""
    found = []
    at = FIRST
    while at < LAST:
        before, after = at, at + step
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            while after - before > timedelta(seconds=1):
                middle = before + timedelta(seconds=(after - before).total_seconds() // 2)
                same = middle.astimezone(zone).utcoffset() == at.astimezone(zone).utcoffset()
                before, after = (middle, after) if same else (before, middle)
            found.append(after)
        at += step
    return found


def test_offsets_are_quarters_and_change_at_quarters() -> None:
    # Before GA4 there were others: Newfoundland's clocks were changed at one minute past midnight.
    looked_at = 0
    for name in sorted(available_timezones() - ODD):
        zone = ZoneInfo(name)
        for instant in (FIRST, *changes(zone)):
            offset = instant.astimezone(zone).utcoffset()
            assert offset is not None
            assert offset.total_seconds() % QUARTER == 0, name
            assert instant.timestamp() % QUARTER == 0, f"{name} at {instant}"
            looked_at += 1
    assert looked_at > 1000


def test_a_change_at_an_odd_minute_would_be_noticed() -> None:
    zone = ZoneInfo("America/St_Johns")
    # At 00:01, in November 2010.
    odd = datetime(2010, 11, 7, 2, 31, tzinfo=UTC)
    just_before = odd - timedelta(seconds=1)
    assert odd.astimezone(zone).utcoffset() != just_before.astimezone(zone).utcoffset()
    assert odd.timestamp() % QUARTER != 0
