"""Two hosts that are cut off a hundred times; the seed is another one in every run, and is told."""

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.chaos.fleet import open_fleet
from tests.support.chaos.ground import Ground, open_ground
from tests.support.hosts.cuts import Plan, endure_cuts
from tests.support.postgres import TestDatabase

CUTS = 100


@pytest.fixture
async def ground(bridge: None, fresh_database: TestDatabase) -> AsyncIterator[Ground]:
    async with open_ground(fresh_database) as opened:
        yield opened


async def test_hosts_that_are_cut_off_lose_nothing_and_do_nothing_twice(
    ground: Ground, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    plan = Plan(cuts=CUTS, seed=secrets.randbits(32))
    async with open_fleet(tmp_path) as fleet:
        tally, found, _ = await endure_cuts(ground, fleet, tmp_path, plan)
    record_property("cut hosts", f"{plan} {tally}")
    assert found == []
