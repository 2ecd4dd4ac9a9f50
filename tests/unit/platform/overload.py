"""An actor under ten times more than it can do, and what that must not cost.

The same run serves two tests: simulated time for the unit tests, real time for the soak. Many
senders tell one message each at fixed instants, every tenth of them asks; the actor handles one at
a time and breaks now and then. Senders keep books of their own, so that the mailbox's books are
compared with what really happened and not with themselves.
"""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import trio

from troupe.common.errors import TroupeError
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.actor import Actor, Behaviour, Request
from troupe.platform.dead_letters import DeadLetters, Reason
from troupe.platform.errors import (
    ActorUnavailable,
    AskDeadlineExceeded,
    MailboxFull,
)
from troupe.platform.mailbox import MailboxSettings, Overflow
from troupe.platform.supervision import Intensity, Supervisor

HANDLING = 5 * MILLISECONDS
FACTOR = 10
SENDERS = 100
INTERVAL = SENDERS * HANDLING / FACTOR
"""Between two messages of one sender: all together they send FACTOR times what is handled."""
PATIENCE = 0.8 * INTERVAL
"""Less than the interval, so that a sender that waits keeps its pace."""
CAPACITY = 64
BLOCKS = {"blocks": sys.getallocatedblocks}
"""Memory in pieces of whatever size, which costs nothing to ask for."""
EVERY_ASK = 10
CRASH_AFTER = 300
"""Messages that one incarnation of the actor handles before it breaks."""


class Broken(TroupeError):
    """What a message makes of the actor now and then."""


@dataclass(frozen=True)
class Work(Request[int]):
    number: int
    payload: bytes = b"x" * 200


class Busy(Behaviour[Work]):
    def __init__(self) -> None:
        self.handled = 0

    async def handle(self, message: Work) -> int:
        await trio.sleep(HANDLING)
        self.handled += 1
        if self.handled == CRASH_AFTER:
            raise Broken(f"message {message.number}")
        return message.number


@dataclass
class Overload:
    """One run.

    Attributes:
        duration: Seconds for which is sent.
        warm_up: Of those, seconds until memory is first measured.
        measures: What memory is measured by; each has a unit of its own.
        samples: The values: after the warm-up, and at the end of sending.
    """

    overflow: Overflow
    duration: float
    warm_up: float
    measures: Mapping[str, Callable[[], int]] = field(default_factory=lambda: BLOCKS)
    told: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, int]] = field(default_factory=list)
    deepest: int = 0
    longest_line: int = 0

    def __post_init__(self) -> None:
        self.dead_letters = DeadLetters()
        settings = MailboxSettings(capacity=CAPACITY, overflow=self.overflow, patience=PATIENCE)
        self.actor: Actor[Work] = Actor(
            "busy", Busy, mailbox=settings, dead_letters=self.dead_letters
        )

    @property
    def turns(self) -> int:
        """Messages of one sender."""
        return round(self.duration / INTERVAL)

    async def run(self) -> None:
        """Send for the duration, then stop in order."""
        supervisor = Supervisor(
            "root",
            [self.actor.child_spec(shutdown=1 * SECONDS)],
            intensity=Intensity(restarts=1_000, period=1 * SECONDS),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            begun = trio.current_time()
            async with trio.open_nursery() as senders:
                for number in range(SENDERS):
                    senders.start_soon(self._send, number, begun)
                await trio.sleep_until(begun + self.warm_up)
                self._sample()
                await trio.sleep_until(begun + self.duration)
                self._sample()
            supervisor.request_stop()

    def _sample(self) -> None:
        gc.collect()
        self.samples.append({name: measure() for name, measure in self.measures.items()})

    async def _send(self, number: int, begun: float) -> None:
        first = begun + number * INTERVAL / SENDERS
        for turn in range(self.turns):
            await trio.sleep_until(first + turn * INTERVAL)
            await self._send_one(Work(turn * SENDERS + number), asks=turn % EVERY_ASK == 0)

    async def _send_one(self, message: Work, *, asks: bool) -> None:
        self.told += 1
        try:
            if asks:
                answer = await self.actor.ask(message, deadline=PATIENCE)
                assert answer == message.number
                self.outcomes["answered"] += 1
            else:
                await self.actor.tell(message)
                self.outcomes["taken"] += 1
        except (MailboxFull, ActorUnavailable, AskDeadlineExceeded) as error:
            self.outcomes[type(error).__name__] += 1
        books = self.actor.statistics().mailbox
        self.deepest = max(self.deepest, books.depth)
        self.longest_line = max(self.longest_line, books.waiting)

    def growth(self, measure: str) -> int:
        """By how much memory grew between the two samples."""
        first, last = self.samples
        return last[measure] - first[measure]

    def check_books(self) -> None:
        """Every message is accounted for, and the overload was one."""
        statistics, dead = self.actor.statistics(), self.dead_letters
        books = statistics.mailbox
        assert books.sent == self.told == self.outcomes.total()
        assert books.depth == books.waiting == 0
        assert books.sent == books.delivered + books.dead
        assert books.delivered == statistics.handled
        assert books.dead == dead.total() == sum(dead.counts("busy").values())
        assert self.deepest <= CAPACITY
        assert self.longest_line <= SENDERS
        assert books.sent >= 0.9 * FACTOR * books.delivered
        assert statistics.failed > 0
        full = {
            Overflow.WAIT: Reason.EXPIRED,
            Overflow.REJECT: Reason.REJECTED,
            Overflow.DROP_OLDEST: Reason.DROPPED,
        }
        assert dead.counts()[full[self.overflow]] > 0.6 * books.sent
        for policy, reason in full.items():
            assert (reason in dead.counts()) is (policy is self.overflow)
