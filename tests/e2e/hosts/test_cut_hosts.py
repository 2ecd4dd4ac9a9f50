"""Two hosts that are cut off from their database again and again, in short."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.chaos.checks import unkept_promises
from tests.support.chaos.fleet import open_fleet
from tests.support.chaos.ground import Ground, open_ground
from tests.support.hosts.cuts import Plan, endure_cuts
from tests.support.postgres import TestDatabase

CUTS, SEED = 8, 1


@pytest.fixture
async def ground(bridge: None, fresh_database: TestDatabase) -> AsyncIterator[Ground]:
    async with open_ground(fresh_database) as opened:
        yield opened


async def test_hosts_that_are_cut_off_lose_nothing_and_do_nothing_twice(
    ground: Ground, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with open_fleet(tmp_path) as fleet:
        plan = Plan(cuts=CUTS, seed=SEED)
        tally, found, logs = await endure_cuts(ground, fleet, tmp_path, plan)
    record_property("cut hosts", f"{plan} {tally}")
    assert found == []
    assert tally.outcomes["lease_lost"] > 0
    assert tally.past_lease > 0

    # The check of what was promised can fail, too.
    await ground.change(
        "DELETE FROM public.effects WHERE position = (SELECT 1 + min(position) FROM public.effects)"
    )
    assert len(await unkept_promises(ground, logs)) == 1


async def test_a_host_without_the_fence_is_found_out(ground: Ground, tmp_path: Path) -> None:
    """A broken twin: proves that the cuts reach what the fence protects."""
    async with open_fleet(tmp_path) as fleet:
        plan = Plan(cuts=CUTS, seed=SEED, flaw="unfenced")
        _, found, _ = await endure_cuts(ground, fleet, tmp_path, plan)
    assert any("stale effects" in sentence for sentence in found), found
