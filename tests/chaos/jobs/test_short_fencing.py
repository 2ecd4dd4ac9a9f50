"""Stopped and killed workers commit nothing stale, in short."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.chaos.fencing import Plan, torment
from tests.support.chaos.fleet import open_fleet
from tests.support.chaos.ground import Ground, open_ground
from tests.support.postgres import TestDatabase

TRIALS, SEED, WORKERS = 60, 1, 3


@pytest.fixture
async def ground(bridge: None, fresh_database: TestDatabase) -> AsyncIterator[Ground]:
    async with open_ground(fresh_database) as opened:
        yield opened


async def test_interrupted_attempts_commit_nothing_stale(
    ground: Ground, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with open_fleet(tmp_path) as fleet:
        plan = Plan(trials=TRIALS, seed=SEED, workers=WORKERS)
        tally, found = await torment(ground, fleet, plan)
    record_property("fencing", f"{plan} {tally}")
    assert found == []
    assert tally.trials >= TRIALS
    assert tally.outcomes["lease_lost"] > 0


async def test_effects_without_the_fence_are_found_out(ground: Ground, tmp_path: Path) -> None:
    """A broken twin: proves that the trials can fail."""
    async with open_fleet(tmp_path) as fleet:
        plan = Plan(trials=TRIALS, seed=SEED, workers=WORKERS, kills=0, backlog=4, flaw="unfenced")
        _, found = await torment(ground, fleet, plan)
    assert any("stale effects" in sentence for sentence in found), found


async def test_completion_by_identifier_alone_is_found_out(ground: Ground, tmp_path: Path) -> None:
    """A broken twin."""
    async with open_fleet(tmp_path) as fleet:
        plan = Plan(trials=TRIALS, seed=SEED, workers=WORKERS, kills=0, backlog=4, flaw="by_id")
        _, found = await torment(ground, fleet, plan)
    assert any("did not hold them" in sentence for sentence in found), found
