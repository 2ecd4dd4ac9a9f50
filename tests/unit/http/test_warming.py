"""When the usual answers are got ready, and when that is given up."""

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from troupe.common.ids import TenantId, new_id
from troupe.http.answering import Answering
from troupe.http.warming import QUIET, USUAL, Warming

A, B = TenantId(new_id()), TenantId(new_id())
STEP = QUIET / len(USUAL)


class Kept:
    """Takes `STEP` for an answer; says of whom something was published in between."""

    def __init__(self) -> None:
        self.asked: list[TenantId] = []
        self.published: set[TenantId] = set()

    async def keep(self, tenant: TenantId, _question: Any) -> bool:
        await trio.sleep(STEP)
        self.asked.append(tenant)
        return tenant not in self.published


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def warming(kept: Kept) -> Warming:
    return Warming(cast("Answering", kept))


async def test_it_waits_until_it_is_quiet(
    autojump_clock: MockClock, kept: Kept, warming: Warming
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(warming.run)
        for _ in range(100):
            warming.heard(A)
            await trio.sleep(QUIET / 2)
        assert not kept.asked
        await trio.sleep(2 * QUIET)
        assert kept.asked == [A] * len(USUAL)
        await trio.sleep(10 * QUIET)
        assert kept.asked == [A] * len(USUAL)
        nursery.cancel_scope.cancel()


async def test_it_ends_when_something_is_published_and_begins_again(
    autojump_clock: MockClock, kept: Kept, warming: Warming
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(warming.run)
        warming.heard(A)
        warming.heard(B)
        await trio.sleep(QUIET + 2.5 * STEP)
        assert kept.asked == [A, A]
        kept.published.add(A)
        warming.heard(A)
        await trio.sleep(STEP)
        kept.published.clear()
        assert kept.asked == [A, A, A]
        await trio.sleep(QUIET)
        assert set(kept.asked[3:]) == {B}
        await trio.sleep(2 * QUIET)
        assert kept.asked[3:] == [B] * len(USUAL) + [A] * len(USUAL)
        nursery.cancel_scope.cancel()
