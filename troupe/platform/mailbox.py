"""A bounded queue of messages with one reader, and what happens when it is full.

A mailbox belongs to an actor's address, not to one incarnation, so that messages survive a restart.
It keeps the books: at every moment ``sent = delivered + dead + depth + waiting``, where *dead* are
those in the dead letters and *waiting* are senders that stand in line for a place.

Senders that wait are served in the order in which they came: a place that becomes free is filled
by the mailbox itself with the first waiting message, so that no newcomer can slip in before it.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Generic, TypeVar

import trio

from troupe.common.units import SECONDS
from troupe.platform.dead_letters import DeadLetters, Reason
from troupe.platform.errors import ActorUnavailable, MailboxFull, PlatformError

M = TypeVar("M")

DEFAULT_CAPACITY: Final = 256


class Overflow(StrEnum):
    """What a full mailbox does with one message more."""

    WAIT = "wait"
    """The sender waits for a place, at most until its deadline."""
    REJECT = "reject"
    """The sender gets `MailboxFull` at once."""
    DROP_OLDEST = "drop_oldest"
    """The oldest message is dropped; for figures of which only the newest matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxSettings:
    """How a mailbox is bounded.

    Attributes:
        capacity: Messages that may wait, at least 1.
        overflow: What happens to one more.
        patience: Seconds that `Overflow.WAIT` waits unless the sender names a deadline.
    """

    capacity: int = DEFAULT_CAPACITY
    overflow: Overflow = Overflow.WAIT
    patience: float = 5 * SECONDS

    def __post_init__(self) -> None:
        if self.capacity < 1 or self.patience < 0:
            raise ValueError("capacity must be at least 1, patience not negative")


class Reply:
    """The place where an answer is laid for the one who asked.

    Attributes:
        settled: Set once `value` or `error` is there.
        given_up: Whether nobody waits for it any more.
    """

    def __init__(self) -> None:
        self.settled = trio.Event()
        self.given_up = False
        self.value: object = None
        self.error: Exception | None = None

    def answer(self, value: object) -> None:
        """Lay down the answer; the first one counts."""
        if not self.settled.is_set():
            self.value = value
            self.settled.set()

    def fail(self, error: Exception) -> None:
        """Lay down why there is no answer; the first outcome counts."""
        if not self.settled.is_set():
            self.error = error
            self.settled.set()


class Envelope(Generic[M]):
    """A message on its way, with the reply that its sender waits for, if any."""

    __slots__ = ("message", "reply")

    def __init__(self, message: M, reply: Reply | None = None) -> None:
        self.message = message
        self.reply = reply


class _Place:
    """A sender's place in the line."""

    __slots__ = ("decided", "refused")

    def __init__(self) -> None:
        self.decided = trio.Event()
        self.refused: Reason | None = None


@dataclass(frozen=True, slots=True)
class MailboxStatistics:
    """The books of one mailbox; counts since it was made."""

    capacity: int
    depth: int
    waiting: int
    sent: int
    delivered: int
    dead: int


class Mailbox(Generic[M]):
    """The queue.

    Args:
        owner: The actor's name, for dead letters and messages.
        settings: Bound and policy.
        dead_letters: Where undelivered messages are counted.
    """

    def __init__(self, owner: str, settings: MailboxSettings, dead_letters: DeadLetters) -> None:
        self._owner = owner
        self._settings = settings
        self._dead_letters = dead_letters
        # Ordered dictionaries, so that any envelope can be withdrawn at once.
        self._queue: OrderedDict[Envelope[M], None] = OrderedDict()
        self._waiting: OrderedDict[Envelope[M], _Place] = OrderedDict()
        self._arrival = trio.Event()
        self._interrupted = False
        self._open = True
        self._sent = self._delivered = self._dead = 0

    async def put(self, envelope: Envelope[M], *, deadline: float | None = None) -> None:
        """Add a message, as the policy says.

        Args:
            envelope: The message.
            deadline: Seconds to wait for a place (`Overflow.WAIT` only).

        Raises:
            MailboxFull: It was not added.
            ActorUnavailable: The mailbox is closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._sent += 1
        if not self._open:
            raise self._undeliverable(envelope, Reason.STOPPED)
        if len(self._queue) < self._settings.capacity and not self._waiting:
            self._append(envelope)
        elif self._settings.overflow is Overflow.REJECT:
            raise self._undeliverable(envelope, Reason.REJECTED)
        elif self._settings.overflow is Overflow.DROP_OLDEST:
            oldest, _ = self._queue.popitem(last=False)
            self.kill(oldest, Reason.DROPPED)
            self._append(envelope)
        else:
            patience = self._settings.patience if deadline is None else deadline
            await self._wait_for_place(envelope, patience)
            return
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _wait_for_place(self, envelope: Envelope[M], patience: float) -> None:
        place = self._waiting[envelope] = _Place()
        reason = Reason.ABANDONED
        try:
            with trio.move_on_after(patience):
                await place.decided.wait()
            reason = Reason.EXPIRED
        finally:
            # Still in line: neither placed nor refused, so the deadline or a cancellation struck.
            if self._waiting.pop(envelope, None) is not None:
                self.kill(envelope, reason)
                place.refused = reason
        if place.refused is not None:
            raise self._refusal(place.refused)

    async def get(self) -> Envelope[M] | None:
        """The next message, or None after `interrupt`. There is one reader."""
        await trio.lowlevel.checkpoint()
        while not self._queue:
            if self._interrupted:
                self._interrupted = False
                return None
            self._arrival = trio.Event()
            await self._arrival.wait()
        envelope, _ = self._queue.popitem(last=False)
        self._delivered += 1
        self._fill()
        return envelope

    def interrupt(self) -> None:
        """Wake the reader, although there may be nothing to read."""
        self._interrupted = True
        self._arrival.set()

    def resize(self, capacity: int) -> None:
        """Change how many messages may wait; what waits already stays, also above the bound."""
        self._settings = replace(self._settings, capacity=capacity)
        self._fill()

    def open(self) -> None:
        """Take messages, if it was closed."""
        self._open = True
        self._interrupted = False

    def close(self) -> None:
        """Take no more messages; those who wait for a place are told so. What is in it stays."""
        self._open = False
        for envelope in list(self._waiting):
            self._send_away(envelope, Reason.STOPPED)

    def withdraw(self, envelope: Envelope[M], reason: Reason) -> None:
        """Take back a message that was not delivered yet; no effect on any other."""
        if envelope in self._queue:
            del self._queue[envelope]
            self.kill(envelope, reason)
            self._fill()

    def drop_questions(self, reason: Reason) -> None:
        """Take out every message whose sender waits for an answer, and tell the sender.

        Those that stand in line go first, or they would take the places that become free.
        """
        for envelope in [envelope for envelope in self._waiting if envelope.reply is not None]:
            self._send_away(envelope, reason)
        for envelope in [envelope for envelope in self._queue if envelope.reply is not None]:
            self.withdraw(envelope, reason)

    def drop_all(self, reason: Reason) -> None:
        """Empty a closed mailbox."""
        for envelope in list(self._queue):
            self.withdraw(envelope, reason)

    @property
    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self._queue

    def kill(self, envelope: Envelope[M], reason: Reason) -> None:
        """Count a message among the dead letters and tell whoever asked."""
        self._dead += 1
        self._dead_letters.add(self._owner, envelope.message, reason)
        if envelope.reply is not None and reason is not Reason.ABANDONED:
            envelope.reply.fail(self._refusal(reason))

    def refuse(self, envelope: Envelope[M], reason: Reason) -> PlatformError:
        """Count a message that is not even tried; returns the error for its sender."""
        self._sent += 1
        return self._undeliverable(envelope, reason)

    def statistics(self) -> MailboxStatistics:
        """The books as they stand."""
        return MailboxStatistics(
            capacity=self._settings.capacity,
            depth=len(self._queue),
            waiting=len(self._waiting),
            sent=self._sent,
            delivered=self._delivered,
            dead=self._dead,
        )

    def _append(self, envelope: Envelope[M]) -> None:
        self._queue[envelope] = None
        self._arrival.set()

    def _fill(self) -> None:
        while self._waiting and len(self._queue) < self._settings.capacity:
            envelope, place = self._waiting.popitem(last=False)
            self._append(envelope)
            place.decided.set()

    def _send_away(self, envelope: Envelope[M], reason: Reason) -> None:
        """Refuse one that stands in line."""
        place = self._waiting.pop(envelope)
        self.kill(envelope, reason)
        place.refused = reason
        place.decided.set()

    def _undeliverable(self, envelope: Envelope[M], reason: Reason) -> PlatformError:
        self.kill(envelope, reason)
        return self._refusal(reason)

    def _refusal(self, reason: Reason) -> PlatformError:
        if reason is Reason.STOPPED:
            return ActorUnavailable(f"{self._owner} has stopped")
        if reason is Reason.RESTARTING:
            return ActorUnavailable(f"{self._owner} is being restarted")
        return MailboxFull(f"{self._owner} has more messages waiting than it takes")
