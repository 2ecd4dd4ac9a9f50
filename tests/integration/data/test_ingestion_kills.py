"""An ingestion killed again and again ends in the tables that an undisturbed one makes.

The long form, sixty days and more kills, is part of ``make chaos``.
"""

import sys

from tests.integration.data.conftest import World
from tests.integration.data.killing import check, kill_ingestion

KILLS = 4
SEED = 1


async def test_kills_change_nothing(world: World) -> None:
    sys.stdout.write(f"seed {SEED}\n")
    undisturbed, killed = await world.shop(), await world.shop()
    await world.loaded(undisturbed)
    ordeal = await kill_ingestion(world, killed, kills=KILLS, seed=SEED)
    assert ordeal.kills > 0
    await check(world, undisturbed, killed, ordeal)


async def test_the_check_notices_one_changed_value(world: World) -> None:
    undisturbed, other = await world.shop(), await world.shop()
    await world.loaded(undisturbed)
    await world.loaded(other)
    # One more look at unchanged days stands for an ordeal that ended well.
    ordeal = await kill_ingestion(world, other, kills=0, seed=SEED)
    await check(world, undisturbed, other, ordeal)
    await world.change(
        "UPDATE data.sessions SET engagement_ms = engagement_ms + 1"
        " WHERE ctid = (SELECT min(ctid) FROM data.sessions WHERE tenant_id = $1)",
        other.tenant,
    )
    try:
        await check(world, undisturbed, other, ordeal)
    except AssertionError:
        return
    raise AssertionError("the change went unnoticed")
