"""When a cron line is due: a clock on a wall somewhere, turned into instants.

Problem. A cron line names readings of a wall clock, a schedule has instants. Twice a year the two
part: a reading does not exist (the clock leaps over it: a *gap*) or exists twice (the clock goes
back: an *overlap*). What people expect then depends on what they meant. "Every night at 02:30" is
meant once per night; "every ten minutes" is meant evenly, whatever the clock says.

Choice. A line is one of two sorts, by the meaning of its fields:

- It **ticks** if its hour field allows every hour, or its minute field begins with ``*``: hourly,
  every ten minutes, every five minutes from one to six. It is due at every minute whose reading
  matches. Readings in a gap do not come, readings in an overlap come twice, and so the instants lie
  as evenly as on any other day.
- Otherwise it **names times of day**, each due once on each of its days. A time in a gap is due at
  the first instant after it (several of them together once); of a time in an overlap the first
  occurrence counts.

This is what Debian's cron does, except that there ``0 0-23 * * *`` names 24 times of day (and in
autumn pauses for two hours) while ``0 * * * *`` ticks, and that ``0 */2 * * *`` ticks, although it
is coarser than hourly (and so loses its 02:00 in spring).

======================  =======================  ============================
the line                the clock leaps over it  the clock repeats it
======================  =======================  ============================
02:30 every day         once, after the leap     once, the first time
every hour              no pause, none twice     no pause, none twice
every 10 minutes        no pause, none twice     no pause, none twice
every 10 minutes, 2-3h  not at all               in both hours
======================  =======================  ============================

Where the clock moves by half an hour (Lord Howe Island) an hourly line stays at its minute, so that
one interval is 90 minutes long, in spring and in autumn.

Parsing a line and walking its readings is done by the library `cronsim`, *without* a zone. Its own
treatment of zones is not used: where midnight falls into a gap (Cairo, ``*/30 0 24 * *``) version
2.8 goes round in circles for ever, in a gap of half an hour (Lord Howe, ``*/20 3 * * *``) it misses
readings behind the gap.

Rejected: walking instants minute by minute (a leap day is two million minutes away); storing a
number of seconds ("every 600 s"), which cannot say "at eight".
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Final, Protocol
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from troupe.common.errors import InvalidInput

LONGEST_CRON: Final = 200
"""Characters of a cron line."""
_FIELDS: Final = 5  # a sixth would be seconds: one slot a minute is the most
_MINUTE: Final = timedelta(minutes=1)
_VARIANTS: Final = ("posix/", "right/")
_ANY_READING: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - a reading of a wall clock


class Timetable(Protocol):
    """Says when something is due."""

    def after(self, instant: datetime) -> Iterator[datetime]:
        """The instants (UTC) strictly after `instant`, in order, each once."""


class CronTimetable:
    """The instants of a cron line in a time zone; see the module's text for what a line means.

    Five fields: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday), with
    lists, ranges, steps, names of months and days, ``L`` (last day), ``LW`` (last working day),
    ``5L`` (last Friday) and ``MON#2`` (second Monday). If both days are given, either suffices;
    if one of them begins with ``*``, both must match.

    Args:
        cron: The line.
        zone: Name of the time zone whose clock it reads, such as ``Europe/Berlin``.

    Raises:
        InvalidInput: One of them cannot be used.

    >>> berlin = CronTimetable("30 2 * * *", "Europe/Berlin")
    >>> [f"{due:%d %H:%M}" for due in islice(berlin.after(datetime(2026, 3, 28, tzinfo=UTC)), 3)]
    ['28 01:30', '29 01:00', '30 00:30']
    """

    def __init__(self, cron: str, zone: str) -> None:
        problems: list[tuple[str, str]] = []
        line, wrong = _parsed(cron)
        if wrong:
            problems.append(("/cron", wrong))
        if zone not in _zones():
            problems.append(("/zone", "must be a time zone, such as Europe/Berlin"))
        if line is None or problems:
            raise InvalidInput("The schedule's times cannot be used.", problems)
        self._cron = cron
        self._zone = ZoneInfo(zone)
        self._ticks = line.hours.issuperset(range(24)) or line.parts[1].startswith("*")

    def after(self, instant: datetime) -> Iterator[datetime]:
        """See `Timetable.after`; ends if nothing is due for 50 years."""
        last = instant.astimezone(UTC)
        repeats: deque[datetime] = deque()  # second occurrences whose turn has not come
        for reading in CronSim(self._cron, self._first_reading(last)):
            occurrences = self._occurrences(reading)
            if not occurrences:
                continue
            # Second occurrences lie behind all first ones of their overlap; first ones never
            # decrease, but several readings of a gap share one.
            first, *again = occurrences
            while repeats and repeats[0] < first:
                if repeats[0] > last:
                    yield (last := repeats[0])
                repeats.popleft()
            if first > last:
                yield (last := first)
            repeats.extend(again)
        yield from (due for due in repeats if due > last)

    def _first_reading(self, instant: datetime) -> datetime:
        """Where to begin: all later occurrences have a later reading."""
        local = instant.astimezone(self._zone)
        reading = local.replace(tzinfo=None)
        again = local.replace(fold=1).astimezone(UTC)
        # Within the first pass of an overlap, what was read already comes once more.
        return reading - (again - instant) if again > instant else reading

    def _occurrences(self, reading: datetime) -> tuple[datetime, ...]:
        """The instants at which a reading is due, in order."""
        first = reading.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
        second = reading.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        if first < second:
            return (first, second) if self._ticks else (first,)
        if first > second:  # a gap: by the clock's new setting it was before, by the old one it is
            return () if self._ticks else (self._leap(second, first),)
        return (first,)

    def _leap(self, before: datetime, behind: datetime) -> datetime:
        """The first minute after the leap that lies between two instants."""
        new = behind.astimezone(self._zone).utcoffset()
        while behind - before > _MINUTE:
            middle = before + (behind - before) // _MINUTE // 2 * _MINUTE
            if middle.astimezone(self._zone).utcoffset() == new:
                behind = middle
            else:
                before = middle
        return behind


def read_timetable(cron: str, zone: str) -> Timetable:
    """The timetable of a schedule as it is stored.

    Raises:
        InvalidInput: It cannot be used (here: a zone that this host does not know).
    """
    return CronTimetable(cron, zone)


def check_fires(timetable: Timetable, after: datetime) -> None:
    """Refuse a line that is never due, such as 30 February.

    Raises:
        InvalidInput: It is not due within 50 years.
    """
    if next(timetable.after(after), None) is None:
        problem = ("/cron", "names no day that exists")
        raise InvalidInput("The schedule would never run.", [problem])


def upcoming(timetable: Timetable, after: datetime, count: int) -> list[datetime]:
    """The next `count` instants, fewer if there are none for 50 years."""
    return list(islice(timetable.after(after), count))


def _parsed(cron: str) -> tuple[CronSim | None, str]:
    """The line, or what is wrong with it."""
    if len(cron) > LONGEST_CRON or not cron.isascii():
        return None, f"must have at most {LONGEST_CRON} characters, ASCII only"
    if len(cron.split()) != _FIELDS:
        return None, "must have five fields: minute, hour, day of the month, month, day of the week"
    try:
        return CronSim(cron, _ANY_READING), ""
    except CronSimError as error:
        return None, f"cannot be read: {str(error).lower()}"


@cache
def _zones() -> frozenset[str]:
    """Zones that mean the same everywhere: no abbreviations, none of this host's own."""
    names = available_timezones()
    return frozenset(n for n in names if n == "UTC" or ("/" in n and not n.startswith(_VARIANTS)))
