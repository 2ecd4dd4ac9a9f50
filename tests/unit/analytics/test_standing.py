"""How long it is known where a tenant stands, and what ends it early."""

from dataclasses import replace

import pytest
import trio
import trio.testing

from troupe.actors.analytics.answers import Reporting
from troupe.actors.analytics.standing import MAX_AGE, MAX_TENANTS, Standing
from troupe.common.ids import TenantId, new_id

A, B = (TenantId(new_id()) for _ in range(2))


class Source:
    """Where tenants really stand."""

    def __init__(self) -> None:
        self.version = 1
        self.looks = 0
        self.delay = 0.0
        self.changed: list[TenantId] = []

    async def look(self, tenant: TenantId) -> Reporting:
        self.looks += 1
        seen = self.version
        await trio.sleep(self.delay)
        return Reporting(tenant, "Shop", "UTC", "EUR", 1, seen, None, None)

    def standing(self, max_age: float = MAX_AGE) -> Standing:
        return Standing(self.look, self.changed.append, max_age=max_age)


@pytest.fixture
def source() -> Source:
    return Source()


async def test_it_is_remembered_for_a_moment(autojump_clock: object, source: Source) -> None:
    standing = source.standing()
    assert standing.recall(A) is None
    assert (await standing.of(A)).data_version == 1
    source.version = 2
    await trio.sleep(MAX_AGE * 0.9)
    assert (await standing.of(A)).data_version == 1
    assert source.looks == 1
    await trio.sleep(MAX_AGE * 0.1)
    assert standing.recall(A) is None
    assert (await standing.of(A)).data_version == 2
    assert source.changed == [A]


async def test_the_moment_begins_before_the_look(autojump_clock: object, source: Source) -> None:
    source.delay = MAX_AGE / 2
    standing = source.standing()
    await standing.of(A)
    await trio.sleep(MAX_AGE / 2)
    assert standing.recall(A) is None


async def test_a_notification_ends_it_at_once(autojump_clock: object, source: Source) -> None:
    standing = source.standing()
    await standing.of(A)
    await standing.of(B)
    source.version = 2
    standing.outdate(A)
    assert (await standing.of(A)).data_version == 2
    assert (await standing.of(B)).data_version == 1
    standing.outdate(None)
    assert (await standing.of(B)).data_version == 2


async def test_a_look_that_began_before_the_notification_is_not_remembered(
    autojump_clock: object, source: Source
) -> None:
    source.delay = MAX_AGE / 5
    standing = source.standing()
    found: list[int] = []

    async def ask() -> None:
        found.append((await standing.of(A)).data_version)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        source.version = 2
        standing.outdate(A)
        nursery.start_soon(ask)  # heard of it: must not share the look that began before
    assert sorted(found) == [1, 1, 2]
    assert source.looks == 2
    assert (await standing.of(A)).data_version == 2


async def test_what_was_seen_later_stays(autojump_clock: object, source: Source) -> None:
    standing = source.standing()
    early = trio.current_time()
    await trio.sleep(0.1)
    seen = await standing.of(A)
    standing.note(replace(seen, data_version=9), early)
    assert (await standing.of(A)).data_version == 1
    standing.note(replace(seen, data_version=10), trio.current_time() + 0.1)
    assert (await standing.of(A)).data_version == 10
    assert source.changed == [A]


async def test_with_no_age_every_question_looks(autojump_clock: object, source: Source) -> None:
    standing = source.standing(max_age=0)
    for _ in range(3):
        await standing.of(A)
    assert source.looks == 3


async def test_the_number_of_tenants_is_bounded(autojump_clock: object, source: Source) -> None:
    standing = source.standing()
    tenants = [TenantId(new_id()) for _ in range(MAX_TENANTS + 3)]
    for tenant in tenants:
        await standing.of(tenant)
    assert [tenant for tenant in tenants if standing.recall(tenant) is None] == tenants[:3]
    assert source.changed == tenants[:3]
