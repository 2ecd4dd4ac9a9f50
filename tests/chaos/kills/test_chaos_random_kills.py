"""Processes killed at random under load, more often than in every run of the tests."""

import sys
from collections.abc import Callable
from pathlib import Path

import trio

from tests.integration.kills.test_random_kills import new_seed
from tests.support.chaos.random_kills import kill_at_random


async def test_six_hundred_kills_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = new_seed()
    sys.stdout.write(f"seed {seed}\n")
    with trio.fail_after(1800):
        trial = await kill_at_random(tmp_path, seed=seed, kills=600, seconds=1500)
    record_property("random kills", str(trial))
    assert trial.found == []
    assert trial.kills.total() >= 600


async def test_a_careless_handler_is_found_out(tmp_path: Path) -> None:
    """The twin: effects outside of the fence happen twice when their process is killed."""
    seed = new_seed()
    with trio.fail_after(240):
        trial = await kill_at_random(
            tmp_path,
            seed=seed,
            kills=10,
            seconds=60,
            flaw="unfenced",
            supervisors=0,
            ingests=False,
        )
    sys.stdout.write(f"{trial}\n")
    assert any("effects in all" in line or "stale" in line for line in trial.found)
