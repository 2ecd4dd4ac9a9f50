"""The database fails under load, and is back, in short."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.chaos.faults import (
    Stage,
    half_open_connections,
    immediate_restart,
    killed_backends,
    open_stage,
    pooler_restart,
)
from tests.support.chaos.recovery import Recovery, Size
from troupe.common.units import MILLISECONDS, SECONDS

# Short windows on a busy machine: less is asked of the throughput, all of the rest.
SIZE = Size(
    before=2 * SECONDS,
    grace=8 * SECONDS,
    after=2 * SECONDS,
    share=0.8,
    nap=400 * MILLISECONDS,
)


FAULTS = (immediate_restart, killed_backends, half_open_connections, pooler_restart)


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
