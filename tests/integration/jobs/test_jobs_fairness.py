"""Tenants beside each other; the long form is in tests/chaos/jobs."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.chaos.fairness import RUN_TIME, done_by_tenant, jain, waits_beside_backlog
from tests.support.chaos.fleet import open_fleet
from tests.support.chaos.ground import Ground, open_ground
from tests.support.postgres import TestDatabase
from troupe.common.units import MILLISECONDS, SECONDS

Record = Callable[[str, object], None]


@pytest.fixture
async def ground(bridge: None, fresh_database: TestDatabase) -> AsyncIterator[Ground]:
    async with open_ground(fresh_database) as opened:
        yield opened


async def test_a_job_beside_another_tenants_backlog_starts_within_one_jobs_run_time(
    ground: Ground, record_property: Record
) -> None:
    waits = await waits_beside_backlog(ground, backlog=3000, jobs=10, seed=1)
    record_property("beside a backlog", str(waits))
    assert max(waits.waits) < RUN_TIME + 100 * MILLISECONDS  # the machine may be busy
    assert waits.backlog > 2000


@pytest.mark.parametrize("workers", [1, 2])
async def test_equal_tenants_get_equal_shares(
    ground: Ground, tmp_path: Path, record_property: Record, workers: int
) -> None:
    async with open_fleet(tmp_path) as fleet:
        done = await done_by_tenant(
            ground, fleet, workers=workers, backlog=200, seconds=4 * SECONDS
        )
    record_property("equal tenants", f"{workers} processes, {done}: Jain {jain(done):.4f}")
    assert sum(done) > 50
    assert jain(done) >= 0.95


def test_jains_index_tells_equal_from_unequal() -> None:
    assert jain([5] * 10) == pytest.approx(1.0)
    assert jain([10, *[0] * 9]) == pytest.approx(0.1)
    assert jain([10, 10, 10, 10, 10, 1, 1, 1, 1, 1]) < 0.95
