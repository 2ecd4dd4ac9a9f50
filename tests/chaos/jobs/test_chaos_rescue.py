"""Many kills: all jobs run again within twice the lease, and the others hardly notice."""

from collections.abc import Callable
from pathlib import Path

from tests.support.chaos.fleet import open_fleet
from tests.support.chaos.ground import Ground
from tests.support.chaos.rescue import LEASE, endure, seconds_until_all_run_again
from troupe.common.units import SECONDS

Record = Callable[[str, object], None]


async def test_all_jobs_of_a_killed_process_run_again_within_twice_the_lease(
    ground: Ground, tmp_path: Path, record_property: Record
) -> None:
    async with open_fleet(tmp_path) as fleet:
        waited = await seconds_until_all_run_again(ground, fleet, kills=20, jobs=20, seed=2)
    told = ", ".join(f"{seconds:.2f}" for seconds in sorted(waited))
    record_property("rescue", f"lease {LEASE:g} s, all 20 jobs again after {told} s")
    assert max(waited) < 2 * LEASE


async def test_repeated_kills_keep_95_percent_of_the_throughput_of_the_slots_that_are_there(
    ground: Ground, tmp_path: Path, record_property: Record
) -> None:
    async with open_fleet(tmp_path) as fleet:
        endurance, found = await endure(
            ground, fleet, before=20 * SECONDS, during=96 * SECONDS, every=8 * SECONDS
        )
    record_property("repeated kills", str(endurance))
    assert found == []
    assert endurance.share >= 0.95
