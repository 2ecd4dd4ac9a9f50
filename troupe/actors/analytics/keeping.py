"""Answers that are kept as bytes, and the one computation that several askers share.

An answer is a pure function of (tenant, its settings and data version, request); its entity tag is
made of just these. So an answer is kept under its tag and never becomes wrong: when the tenant's
data or settings change, questions get other tags, and what is kept under the old ones is merely of
no use any more and dropped.

Bounds are bytes. The least recently used answer goes first; no tenant takes more than half of the
room, so that one with a thousand dashboards does not push out everybody else's. Each answer is kept
with its question, so that those which people look at can be asked again ahead of them.
"""

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, TypeVar

import trio

from troupe.common.ids import TenantId

NEVER: Final = -math.inf
OVERHEAD_BYTES: Final = 512
"""What an entry takes beside its body, about."""

T = TypeVar("T")
Q = TypeVar("Q")


@dataclass(frozen=True, slots=True)
class KeepingStatistics:
    """A cache at one moment."""

    answers: int
    size_bytes: int
    hits: int
    misses: int


@dataclass(slots=True)
class _Kept(Generic[Q]):
    body: bytes
    question: Q
    asked_at: float


class AnswerCache(Generic[Q]):
    """Bodies and their questions, by tenant and tag.

    Args:
        limit_bytes: For all together, overhead included; 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[tuple[TenantId, str], _Kept[Q]] = OrderedDict()
        self._tags: dict[TenantId, OrderedDict[str, None]] = {}
        self._sizes: dict[TenantId, int] = {}
        self._size = 0
        self._hits = 0
        self._misses = 0

    def get(self, tenant: TenantId, tag: str) -> bytes | None:
        """The body that is kept under a tag."""
        key = tenant, tag
        kept = self._kept.get(key)
        if kept is None:
            self._misses += 1
            return None
        self._hits += 1
        kept.asked_at = trio.current_time()
        self._kept.move_to_end(key)
        self._tags[tenant].move_to_end(tag)
        return kept.body

    def peek(self, tenant: TenantId, tag: str) -> bytes | None:
        """The body that is kept under a tag, if nobody asks for it: that is no use of it."""
        kept = self._kept.get((tenant, tag))
        return None if kept is None else kept.body

    def recent(self, tenant: TenantId, since: float, limit: int) -> list[tuple[Q, float]]:
        """Questions that were asked of late and when, the last one first.

        Args:
            tenant: Whose.
            since: When, at the earliest; on trio's clock.
            limit: At most so many; answers that nobody has asked for yet count.
        """
        latest = islice(reversed(self._tags.get(tenant, {})), limit)
        found = (self._kept[tenant, tag] for tag in latest)
        return [(kept.question, kept.asked_at) for kept in found if kept.asked_at >= since]

    def put(
        self, tenant: TenantId, tag: str, body: bytes, question: Q, asked_at: float = NEVER
    ) -> None:
        """Keep a body, if there is room for it at all.

        Args:
            tenant: Whose.
            tag: What the answer stands under.
            body: The answer.
            question: Which it answers.
            asked_at: When somebody last asked it, on trio's clock, if nobody did later.
        """
        share = self._limit // 2
        size = len(body) + OVERHEAD_BYTES
        if size > share:
            return
        before = self._kept.get((tenant, tag))
        if before is not None:
            asked_at = max(asked_at, before.asked_at)
        self._drop(tenant, tag)
        while self._sizes.get(tenant, 0) + size > share:
            self._drop(tenant, next(iter(self._tags[tenant])))
        while self._size + size > self._limit:
            self._drop(*next(iter(self._kept)))
        self._kept[tenant, tag] = _Kept(body, question, asked_at)
        self._tags.setdefault(tenant, OrderedDict())[tag] = None
        self._sizes[tenant] = self._sizes.get(tenant, 0) + size
        self._size += size

    def drop(self, tenant: TenantId) -> None:
        """Forget a tenant's answers: nobody asks for them under these tags any more."""
        for tag in list(self._tags.get(tenant, ())):
            self._drop(tenant, tag)

    def statistics(self) -> KeepingStatistics:
        """The cache at this moment."""
        return KeepingStatistics(len(self._kept), self._size, self._hits, self._misses)

    def _drop(self, tenant: TenantId, tag: str) -> None:
        kept = self._kept.pop((tenant, tag), None)
        if kept is None:
            return
        size = len(kept.body) + OVERHEAD_BYTES
        self._size -= size
        self._sizes[tenant] -= size
        del self._tags[tenant][tag]
        if not self._tags[tenant]:
            del self._tags[tenant], self._sizes[tenant]


@dataclass(slots=True)
class _Flight(Generic[T]):
    """A computation under way; whoever else wants its result waits for `ended`."""

    ended: trio.Event = field(default_factory=trio.Event)
    results: list[T] = field(default_factory=list)


class SingleFlight(Generic[T]):
    """Equal computations at the same time are done once.

    A computation that fails or is cancelled concerns its own asker only: one of those who wait then
    tries for itself.
    """

    def __init__(self) -> None:
        self._flights: dict[object, _Flight[T]] = {}

    async def do(self, key: object, compute: Callable[[], Awaitable[T]]) -> T:
        """The result of `compute`, or of an equal one that is under way.

        Args:
            key: What makes computations equal.
            compute: Done at most once at a time per key.
        """
        while (waiting := self._flights.get(key)) is not None:
            await waiting.ended.wait()
            if waiting.results:
                return waiting.results[0]
        mine = self._flights[key] = _Flight()
        try:
            result = await compute()
            mine.results.append(result)
            return result
        finally:
            del self._flights[key]
            mine.ended.set()
