"""One failover after the other; and the twin that loses something."""

from collections.abc import Callable
from pathlib import Path

import trio

from tests.support.chaos.failover import fail_over_under_load


async def test_a_standby_that_did_not_follow_is_found_out(tmp_path: Path) -> None:
    """The twin: without synchronous replication, what was acknowledged last is gone."""
    with trio.fail_after(180):
        came = await fail_over_under_load(tmp_path, times=1, synchronous=False)
    assert any("is gone" in line for line in came.found), came


async def test_ten_failovers_lose_nothing_and_restart_no_process(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with trio.fail_after(900):
        came = await fail_over_under_load(tmp_path, times=10)
    record_property("failovers", str(came))
    assert came.found == []
    assert came.restarted == 0
