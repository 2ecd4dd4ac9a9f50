"""Two hundred processes and supervisors killed at random under load; ``make chaos`` has more."""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.support.chaos.random_kills import kill_at_random

KILLS = int(os.environ.get("TROUPE_TEST_KILLS", "200"))
PATIENCE = 900.0
DEADLINE = PATIENCE + 240


def new_seed() -> int:
    """Another one each time, unless somebody wants to see a failure again."""
    return int(os.environ.get("TROUPE_TEST_SEED", random.randrange(10**6)))


@pytest.mark.timeout(DEADLINE + 60)
async def test_nothing_acknowledged_is_lost_and_nothing_happens_twice(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = new_seed()
    sys.stdout.write(f"seed {seed}\n")
    with trio.fail_after(DEADLINE):
        trial = await kill_at_random(tmp_path, seed=seed, kills=KILLS, seconds=PATIENCE)
    sys.stdout.write(f"{trial}\n")
    record_property("random kills", str(trial))
    assert trial.found == []
    assert trial.kills.total() >= KILLS
    assert trial.kills["child"] >= KILLS / 2
