"""A tenant with 100,000 jobs beside another's single ones; ten equal tenants."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.chaos.fairness import RUN_TIME, done_by_tenant, jain, waits_beside_backlog
from tests.support.chaos.fleet import open_fleet
from tests.support.chaos.ground import Ground
from troupe.common.units import SECONDS

BACKLOG = 100_000

Record = Callable[[str, object], None]


async def test_a_job_beside_100000_of_another_tenant_starts_within_one_jobs_run_time(
    ground: Ground, record_property: Record
) -> None:
    waits = await waits_beside_backlog(ground, backlog=BACKLOG, jobs=50, seed=2)
    record_property("beside a backlog", str(waits))
    assert max(waits.waits) <= RUN_TIME
    assert waits.backlog > 0.99 * BACKLOG


@pytest.mark.parametrize("workers", [1, 2])
async def test_equal_tenants_get_equal_shares(
    ground: Ground, tmp_path: Path, record_property: Record, workers: int
) -> None:
    async with open_fleet(tmp_path) as fleet:
        done = await done_by_tenant(
            ground, fleet, workers=workers, backlog=1000, seconds=20 * SECONDS
        )
    record_property("equal tenants", f"{workers} processes, {done}: Jain {jain(done):.4f}")
    assert jain(done) >= 0.95
