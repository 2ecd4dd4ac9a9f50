"""What is heard of tenants while somebody follows others."""

from uuid import UUID

import trio
from trio.testing import MockClock

from troupe.actors.analytics.following import QUIET, Bell
from troupe.common.ids import TenantId

ADA, BO = (TenantId(UUID(int=number)) for number in (1, 2))


async def test_changes_shortly_after_one_another_are_heard_together(
    autojump_clock: MockClock,
) -> None:
    bell = Bell()
    bell.ring(ADA)
    async with trio.open_nursery() as nursery:

        async def ring_again() -> None:
            await trio.sleep(QUIET / 2)
            bell.ring(BO)
            bell.ring(ADA)

        nursery.start_soon(ring_again)
        assert await bell.wait() == {ADA, BO}
    with trio.move_on_after(100) as scope:
        await bell.wait()
    assert scope.cancelled_caught


async def test_what_is_heard_is_not_lost_when_waiting_is_given_up(
    autojump_clock: MockClock,
) -> None:
    bell = Bell()
    bell.ring(ADA)
    with trio.move_on_after(QUIET / 2):
        await bell.wait()
    assert await bell.wait() == {ADA}
