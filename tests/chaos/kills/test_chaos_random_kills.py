"""Two hundred processes killed at random under load."""

import sys
from collections.abc import Callable
from pathlib import Path

import trio

from tests.integration.kills.test_random_kills import new_seed
from tests.support.chaos.random_kills import kill_at_random


async def test_two_hundred_kills_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = new_seed()
    sys.stdout.write(f"seed {seed}\n")
    with trio.fail_after(1800):
        trial = await kill_at_random(tmp_path, seed=seed, kills=200, seconds=1500)
    record_property("random kills", str(trial))
    assert trial.found == []
    assert trial.kills.total() >= 200
