"""Killed processes: their jobs run again soon, the others go on, in short."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.chaos.fleet import open_fleet
from tests.support.chaos.ground import Ground, open_ground
from tests.support.chaos.rescue import LEASE, endure, seconds_until_all_run_again
from tests.support.postgres import TestDatabase
from troupe.common.units import SECONDS

Record = Callable[[str, object], None]


@pytest.fixture
async def ground(bridge: None, fresh_database: TestDatabase) -> AsyncIterator[Ground]:
    async with open_ground(fresh_database) as opened:
        yield opened


async def test_all_jobs_of_a_killed_process_run_again_within_twice_the_lease(
    ground: Ground, tmp_path: Path, record_property: Record
) -> None:
    async with open_fleet(tmp_path) as fleet:
        waited = await seconds_until_all_run_again(ground, fleet, kills=2, jobs=20, seed=1)
    record_property("rescue", f"lease {LEASE:g} s, all again after {sorted(waited)} s")
    assert max(waited) < 2 * LEASE


async def test_repeated_kills_cost_little_more_than_the_slots_that_are_gone(
    ground: Ground, tmp_path: Path, record_property: Record
) -> None:
    async with open_fleet(tmp_path) as fleet:
        endurance, found = await endure(
            ground, fleet, before=4 * SECONDS, during=8 * SECONDS, every=3 * SECONDS
        )
    record_property("repeated kills", str(endurance))
    assert found == []
    assert endurance.share > 0.85
