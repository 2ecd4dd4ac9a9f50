"""Whether a day is unlike others: the question behind spikes and drops.

A day is compared with the same weekday of the weeks before, since shops have a rhythm of weeks:
with the mean of up to four, at least two. How far it may be from that is for people to say, in
percent, because what is noise in one branch is an outage in another; so is from which size on it
matters. Rejected: limits learnt from the past's own spread. They are right more often, and nobody
can say why an alarm came or did not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Final

WEEKS: Final = 4
FEWEST: Final = 2
_PLACES: Final = Decimal("0.000001")
_PERCENT: Final = 100


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far a day is from what is usual.

    Attributes:
        value: Of the day.
        usual: Mean of the days before.
        percent: 50 is half as much again, -50 half.
    """

    value: Decimal
    usual: Decimal
    percent: Decimal


def deviation(
    value: Decimal | int | None, before: Sequence[Decimal | int | None], least: Decimal
) -> Deviation | None:
    """Compare a day with the ones before it.

    Args:
        value: Of the day; None: it has none (a ratio of nothing).
        before: Of the same weekdays before it.
        least: What is usual must be so much, else nothing is said.

    Returns:
        None where nothing can be said: too few days, or nothing is usual.
    """
    known = [Decimal(one) for one in before if one is not None]
    if value is None or len(known) < FEWEST:
        return None
    with localcontext() as context:
        context.prec = 50
        usual = sum(known, Decimal(0)) / len(known)
        if usual <= 0 or usual < least:
            return None
        percent = (Decimal(value) - usual) / usual * _PERCENT
        return Deviation(
            Decimal(value),
            usual.quantize(_PLACES, ROUND_HALF_EVEN),
            percent.quantize(_PLACES, ROUND_HALF_EVEN),
        )
