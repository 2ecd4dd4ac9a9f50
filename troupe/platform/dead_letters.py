"""Where messages go that reach nobody: counted by reason, the last ones remembered.

Only the kind of a message is kept, never the message: it may hold a tenant's data, and a status
page is no place for that.
"""

from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

REMEMBERED: Final = 64
"""How many of the last dead letters a group can show."""


class Reason(StrEnum):
    """Why a message reached nobody."""

    REJECTED = "rejected"
    """The mailbox was full, and its policy is to reject."""
    DROPPED = "dropped"
    """A newer message took its place, as the policy says."""
    EXPIRED = "expired"
    """No place became free within the sender's deadline."""
    ABANDONED = "abandoned"
    """The sender gave up before it was delivered."""
    RESTARTING = "restarting"
    """It asked for an answer, and the actor was being restarted."""
    STOPPED = "stopped"
    """The actor does not run, or stopped before it came to this message."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that reached nobody.

    Attributes:
        actor: Its addressee.
        message: The name of its type.
        reason: Why.
        at: When (UTC).
    """

    actor: str
    message: str
    reason: Reason
    at: datetime


class DeadLetters:
    """The dead letters of one group."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._counts: Counter[tuple[str, Reason]] = Counter()
        self._last: deque[DeadLetter] = deque(maxlen=remembered)

    def add(self, actor: str, message: object, reason: Reason) -> None:
        """Count one message that reached nobody."""
        self._counts[actor, reason] += 1
        self._last.append(DeadLetter(actor, type(message).__name__, reason, datetime.now(UTC)))

    def counts(self, actor: str | None = None) -> dict[Reason, int]:
        """How many for each reason, of one actor or of all."""
        totals: Counter[Reason] = Counter()
        for (name, reason), count in self._counts.items():
            if actor in (None, name):
                totals[reason] += count
        return dict(totals)

    def total(self, actor: str | None = None) -> int:
        """How many, of one actor or of all."""
        return sum(self.counts(actor).values())

    def details(self, actor: str | None = None) -> dict[str, int]:
        """The figures of one actor or of all for a status page: the total, and each reason's."""
        counts = self.counts(actor)
        reasons = {
            f"dead_letters_{reason}": counts[reason] for reason in Reason if reason in counts
        }
        return {"dead_letters": sum(counts.values()), **reasons}

    def last(self) -> tuple[DeadLetter, ...]:
        """The last ones, oldest first; at most as many as are remembered."""
        return tuple(self._last)
