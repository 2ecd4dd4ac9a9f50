"""A standby takes the primary's place under load, in short; ``make chaos`` has more."""

import sys
from collections.abc import Callable
from pathlib import Path

import trio

from tests.support.chaos.failover import fail_over_under_load


async def test_after_a_failover_nothing_acknowledged_is_lost_and_no_process_was_restarted(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with trio.fail_after(180):
        came = await fail_over_under_load(tmp_path, times=1)
    sys.stdout.write(f"{came}\n")
    record_property("failover", str(came))
    assert came.found == []
    assert came.restarted == 0
