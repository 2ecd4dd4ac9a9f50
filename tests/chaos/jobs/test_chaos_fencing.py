"""At least 1,500 interrupted attempts, none of which commits anything stale."""

import secrets
from collections.abc import Callable
from pathlib import Path

from tests.support.chaos.fencing import Plan, torment
from tests.support.chaos.fleet import open_fleet
from tests.support.chaos.ground import Ground

TRIALS = 1500


async def test_interrupted_attempts_commit_nothing_stale(
    ground: Ground, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    plan = Plan(trials=TRIALS, seed=secrets.randbelow(1_000_000), workers=5)
    async with open_fleet(tmp_path) as fleet:
        tally, found = await torment(ground, fleet, plan)
    record_property("fencing", f"{plan} {tally}")
    assert found == [], plan
    assert tally.trials >= TRIALS
    assert tally.past_lease > TRIALS / 2
