"""Two hundred leaders killed, by the same means as the twenty of the integration tests."""

import sys
from collections.abc import AsyncIterator

import pytest

from tests.integration.schedules.conftest import World, open_world
from tests.integration.schedules.killing import kill_leaders
from tests.support.postgres import TestDatabase


@pytest.fixture
async def world(fresh_database: TestDatabase) -> AsyncIterator[World]:
    async with open_world(fresh_database) as made:
        yield made


async def test_every_slot_happens_once_though_two_hundred_leaders_are_killed(world: World) -> None:
    verdict = await kill_leaders(world, kills=200, deadline=300)
    sys.stdout.write(f"{verdict}\n")
    verdict.check()
    assert verdict.within > 10, "too few died within a transaction"
