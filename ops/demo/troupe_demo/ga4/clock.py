"""Local days as the property sees them, with their odd lengths, and how busy they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final, Self
from zoneinfo import ZoneInfo

from troupe_demo.ga4.dice import Dice, Wheel
from troupe_demo.ga4.profiles import TenantProfile

MICROSECOND: Final = 1
SECOND: Final = 1_000_000 * MICROSECOND
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
ONE_DAY: Final = timedelta(days=1)

GROWTH_PERIOD: Final = 30


def midnight(day: date, zone: ZoneInfo) -> int:
    """The instant a local day begins, in microseconds since 1970."""
    local = datetime(day.year, day.month, day.day, tzinfo=zone)
    return int(local.timestamp()) * SECOND


@dataclass(frozen=True, slots=True)
class BusinessDay:
    """One local day: 23, 24 or 25 hours long, each hour as busy as its place on the wall clock."""

    start: int
    end: int
    """First instant after the day, or after its last visit when the day is still going on."""
    _hours: Wheel[int]

    @classmethod
    def of(
        cls, day: date, zone: ZoneInfo, weights: Sequence[float], *, until_hour: int | None = None
    ) -> Self:
        """The day in `zone`; with `until_hour` only the part before that hour of the wall clock."""
        start = midnight(day, zone)
        end = midnight(day + ONE_DAY, zone)
        slots: list[tuple[int, float]] = []
        for instant in range(start, end, HOUR):
            hour = datetime.fromtimestamp(instant / SECOND, UTC).astimezone(zone).hour
            if until_hour is not None and hour >= until_hour:
                end = instant
                break
            slots.append((instant, weights[hour]))
        return cls(start, end, Wheel(slots))

    def moment(self, dice: Dice) -> int:
        """A random instant of the day, at busy hours more often."""
        slot = dice.spin(self._hours)
        return min(slot + dice.below(HOUR), self.end - SECOND)


def quotas(profile: TenantProfile, days: Sequence[date], events: int) -> list[int]:
    """How many events each of `days` shall have; they add up to `events`.

    Weekday and growth shape them; rounding is carried from day to day and never lost.
    """
    weights = [
        profile.weekdays[day.weekday()] * (1.0 + profile.growth) ** (number / GROWTH_PERIOD)
        for number, day in enumerate(days)
    ]
    total = sum(weights)
    running = 0.0
    marks = [0]
    for weight in weights:
        running += weight
        marks.append(round(events * running / total))
    marks[-1] = events
    return [after - before for before, after in pairwise(marks)]
