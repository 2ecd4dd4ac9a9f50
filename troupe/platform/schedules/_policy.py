"""What becomes of the slots that are due: one, as a rule; many, after an outage.

A slot is *missed* when it is looked at more than its schedule's grace after its instant.

==========  ==================================  =====================================
policy      missed slots                        slots within the grace
==========  ==================================  =====================================
skip        skipped, all of them                a job each
coalesce    one job, for the latest slot that is due; all before it are coalesced
catch_up    a job each, oldest first, until     a job each
            the limit; the rest is skipped
==========  ==================================  =====================================

`coalesce` has no use for the grace: whatever is due at once is done at once, by one job.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Policy(StrEnum):
    """What to do about slots that were missed."""

    SKIP = "skip"
    """Nothing."""
    COALESCE = "coalesce"
    """One job for all of them."""
    CATCH_UP = "catch_up"
    """A job for each of them, up to a limit."""


class Outcome(StrEnum):
    """What became of a slot."""

    ENQUEUED = "enqueued"
    """It has a job."""
    SKIPPED = "skipped"
    """It was missed and is not made up for."""
    COALESCED = "coalesced"
    """The job of a later slot stands for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A policy and its numbers.

    Attributes:
        policy: What to do.
        grace: How late a slot may be without being missed.
        room: Jobs that may still be made for slots missed in this outage; for `catch_up`.
    """

    policy: Policy
    grace: timedelta
    room: int = 0

    def outcomes(self, slots: Sequence[datetime], now: datetime, *, more: bool) -> list[Outcome]:
        """What becomes of each slot.

        Args:
            slots: Due and not settled, in order.
            now: Present time of the database.
            more: Whether later slots are due as well (only so many are settled at once).
        """
        if self.policy is Policy.COALESCE:
            last = Outcome.COALESCED if more else Outcome.ENQUEUED
            return [Outcome.COALESCED] * (len(slots) - 1) + [last] if slots else []
        missed = self.missed(slots, now)
        made_up_for = min(missed, self.room) if self.policy is Policy.CATCH_UP else 0
        return (
            [Outcome.ENQUEUED] * made_up_for
            + [Outcome.SKIPPED] * (missed - made_up_for)
            + [Outcome.ENQUEUED] * (len(slots) - missed)
        )

    def missed(self, slots: Sequence[datetime], now: datetime) -> int:
        """How many of the slots (the first so many) were missed."""
        return sum(now - slot > self.grace for slot in slots)
