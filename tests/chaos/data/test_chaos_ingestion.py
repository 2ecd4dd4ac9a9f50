"""Sixty days, more than fifty kills at random moments: the tables are those of a quiet load.

``TROUPE_TEST_SEED`` repeats a run; the seed is printed.
"""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.data.conftest import (
    LAST_DAY,
    World,
    bigquery,
    exports,
    world,
)
from tests.integration.data.killing import check, kill_ingestion
from troupe_demo.ga4 import TOOL_SHOP, generate

DAYS = 60
EVENTS = 12_000
KILLS = 55
FEWEST_KILLS = 50

__all__ = ["bigquery", "exports", "world"]


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty days of a shop; never changed."""
    root = tmp_path_factory.mktemp("sixty_days")
    generate(root, (TOOL_SHOP,), days=DAYS, events=EVENTS, seed=60, last_day=LAST_DAY)
    return root


async def test_sixty_days_survive_fifty_kills(
    world: World,
    record_property: Callable[[str, object], None],
) -> None:
    seed = int(os.environ.get("TROUPE_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"TROUPE_TEST_SEED={seed}", flush=True)  # noqa: T201 - to repeat the run
    first = LAST_DAY - timedelta(days=DAYS - 1)
    undisturbed = replace(await world.shop(), first=first)
    killed = replace(await world.shop(), first=first)
    await world.loaded(undisturbed)
    ordeal = await kill_ingestion(world, killed, kills=KILLS, seed=seed)
    record_property("seed", seed)
    record_property("kills of one ingestion", ordeal.kills)
    record_property("attempts that went on from a checkpoint", ordeal.resumed)
    assert ordeal.kills >= FEWEST_KILLS
    assert ordeal.resumed > 0
    await check(world, undisturbed, killed, ordeal)
