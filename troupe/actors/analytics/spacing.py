"""No second task for the same person within the cooldown: which of several may become one.

Decided greedily in the order in which they would be raised, so that the earliest counts and what
comes next counts from it. Tasks that are there already are never taken back by a later decision:
whatever a reload brings to light before them must keep its distance from them as well.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Person:
    """A customer, else a visitor."""

    is_customer: bool
    person_id: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """What might become a task.

    Attributes:
        subject: Tells it from others.
        person: Whom it is about.
        raised_at: When it would be raised.
    """

    subject: bytes
    person: Person
    raised_at: datetime


def refused(
    candidates: Iterable[Candidate],
    raised: Iterable[tuple[Person, datetime]],
    cooldown: timedelta,
) -> list[bytes]:
    """Subjects of those that must not become tasks.

    Args:
        candidates: Of one person in the order of `Candidate.raised_at`.
        raised: When tasks of these persons were raised, in any order.
        cooldown: Two tasks of a person are at least so far apart; nothing: any distance will do.
    """
    taken: dict[Person, list[datetime]] = {}
    for person, moment in raised:
        insort(taken.setdefault(person, []), moment)
    found = []
    for candidate in candidates:
        moments = taken.setdefault(candidate.person, [])
        place = bisect_left(moments, candidate.raised_at)
        nearest = moments[max(place - 1, 0) : place + 1]
        if any(abs(candidate.raised_at - moment) < cooldown for moment in nearest):
            found.append(candidate.subject)
        else:
            moments.insert(place, candidate.raised_at)
    return found
