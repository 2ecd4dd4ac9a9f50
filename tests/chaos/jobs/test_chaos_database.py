"""Each fault of the database: at least 99 % of the throughput is back within 10 s."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.chaos.faults import FAULTS, Stage, open_stage
from tests.support.chaos.recovery import Recovery, Size
from troupe.common.units import SECONDS

SIZE = Size(
    before=20 * SECONDS, grace=10 * SECONDS, after=20 * SECONDS, share=0.99, nap=3 * SECONDS
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_after_a_fault_of_the_database_jobs_run_as_before(
    fault: Callable[[Stage], Awaitable[tuple[Recovery, list[str]]]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    async with open_stage(tmp_path / "state", tmp_path, SIZE) as stage:
        recovery, found = await fault(stage)
    record_property(fault.__name__, str(recovery))
    assert found == []
