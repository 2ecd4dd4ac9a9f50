"""What is kept of answers, and who computes them."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from troupe.actors.analytics.keeping import NEVER, OVERHEAD_BYTES, AnswerCache, SingleFlight
from troupe.common.ids import TenantId, new_id

A, B, C = (TenantId(new_id()) for _ in range(3))
BODY = b"x" * (1000 - OVERHEAD_BYTES)
"""Takes a thousand bytes with its entry."""


async def test_a_body_is_kept_under_its_tenant_and_tag() -> None:
    cache = AnswerCache[str](10_000)
    cache.put(A, "t", b"a", "?")
    assert cache.get(A, "t") == b"a"
    assert cache.get(B, "t") is None
    assert cache.get(A, "u") is None
    cache.put(A, "t", b"b", "?")
    assert cache.get(A, "t") == b"b"
    found = cache.statistics()
    assert (found.answers, found.hits, found.misses) == (1, 2, 2)
    assert found.size_bytes == 1 + OVERHEAD_BYTES


async def test_bytes_are_the_bound_and_the_least_used_goes_first() -> None:
    cache = AnswerCache[str](4_000)
    for tenant in (A, B):
        for tag in ("1", "2"):
            cache.put(tenant, tag, BODY, "?")
    assert cache.statistics().size_bytes == 4_000
    assert cache.get(A, "1") == BODY
    cache.put(C, "1", BODY, "?")
    assert cache.get(A, "2") is None
    assert cache.get(A, "1") == BODY
    assert cache.statistics().size_bytes == 4_000


async def test_no_tenant_takes_more_than_half() -> None:
    cache = AnswerCache[str](4_000)
    cache.put(B, "1", BODY, "?")
    for number in range(50):
        cache.put(A, str(number), BODY, "?")
    assert cache.get(B, "1") == BODY
    assert [tag for tag in map(str, range(50)) if cache.get(A, tag)] == ["48", "49"]


@pytest.mark.parametrize("limit", [0, 1999])
async def test_what_has_no_room_is_not_kept(limit: int) -> None:
    cache = AnswerCache[str](limit)
    cache.put(A, "1", BODY, "?")
    assert cache.get(A, "1") is None
    assert cache.statistics().size_bytes == 0


async def test_a_tenants_answers_are_dropped_together() -> None:
    cache = AnswerCache[str](10_000)
    for tenant in (A, B):
        cache.put(tenant, "1", BODY, "?")
        cache.put(tenant, "2", BODY, "?")
    cache.drop(A)
    cache.drop(C)
    assert cache.get(A, "1") is None
    assert cache.get(B, "2") == BODY
    assert cache.statistics().size_bytes == 2_000


class Work:
    """Computations that end when they are told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = trio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        mine = self.begun
        await self.go.wait()
        return mine


async def _ask(
    flights: SingleFlight[int], key: object, work: Callable[[], Awaitable[int]], into: list[int]
) -> None:
    into.append(await flights.do(key, work))


async def test_what_was_asked_of_late_is_known_by_its_questions(autojump_clock: object) -> None:
    cache = AnswerCache[str](10_000)
    for tag, asked_at in (("warmed", NEVER), ("early", 0.0), ("late", 9.0)):
        cache.put(A, tag, BODY, f"{tag}?", asked_at)
    cache.put(B, "other", BODY, "other?", 9.0)
    assert cache.recent(A, 5.0, 10) == [("late?", 9.0)]
    assert cache.peek(A, "warmed") == BODY
    assert cache.recent(A, -1.0, 10) == [("late?", 9.0), ("early?", 0.0)]
    await trio.sleep_until(20.0)
    cache.get(A, "warmed")
    assert cache.recent(A, 15.0, 10) == [("warmed?", 20.0)]
    assert cache.recent(A, -1.0, 2) == [("warmed?", 20.0), ("late?", 9.0)]


async def test_what_was_asked_stays_asked_when_it_is_got_ready_as_well(
    autojump_clock: object,
) -> None:
    cache = AnswerCache[str](10_000)
    cache.put(A, "tag", BODY, "question", 9.0)
    cache.put(A, "tag", BODY, "question", NEVER)
    assert cache.recent(A, 5.0, 10) == [("question", 9.0)]


async def test_equal_computations_are_done_once() -> None:
    flights, work = SingleFlight[int](), Work()
    found: list[int] = []
    async with trio.open_nursery() as nursery:
        for key in ("a", "a", "a", "b"):
            nursery.start_soon(_ask, flights, key, work, found)
        await trio.testing.wait_all_tasks_blocked()
        assert work.begun == 2
        work.go.set()
    assert sorted(found) in ([1, 1, 1, 2], [1, 2, 2, 2])
    # Nothing is remembered.
    assert await flights.do("a", work) == 3


async def test_a_cancelled_computation_is_taken_over_by_who_waits() -> None:
    flights, work = SingleFlight[int](), Work()
    found: list[int] = []
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as first:
                first.start_soon(_ask, flights, "a", work, found)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(_ask, flights, "a", work, found)
                nursery.start_soon(_ask, flights, "a", work, found)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert work.begun == 2
        work.go.set()
    assert found == [2, 2]


async def test_a_failure_concerns_its_own_asker() -> None:
    flights = SingleFlight[int]()
    asked = 0
    go = trio.Event()

    async def work() -> int:
        nonlocal asked
        asked += 1
        mine = asked
        await go.wait()
        if mine == 1:
            raise OSError("no luck")
        return mine

    found: list[int] = []

    async def first() -> None:
        with pytest.raises(OSError, match="no luck"):
            await flights.do("a", work)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(_ask, flights, "a", work, found)
        await trio.testing.wait_all_tasks_blocked()
        go.set()
    assert found == [2]
