"""An ingestion killed again and again ends in the tables that an undisturbed one makes."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.integration.data.conftest import PATIENCE, Shop, World
from tests.integration.data.loading import DERIVED
from troupe.actors.data.encoding import EVENT_COLUMNS
from troupe.common.units import MILLISECONDS
from troupe.platform.jobs import JobState

KILLS = int(os.environ.get("TROUPE_TEST_KILLS", "4"))


@asynccontextmanager
async def worker(url: str) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.integration.data.worker", url], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        with trio.fail_after(PATIENCE):
            assert await process.stdout.receive_some(64) == b"ready\n"
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()


async def everything(world: World, shop: Shop) -> dict[str, list[dict[str, Any]]]:
    """All that a tenant's days consist of, in a fixed order."""
    found = {}
    for table in DERIVED:
        found[table] = await world.rows(
            f"SELECT * FROM data.{table} t WHERE tenant_id = $1 ORDER BY t::text", shop.tenant
        )
    columns = ", ".join(("source_day", *EVENT_COLUMNS))
    found["events"] = await world.rows(
        f"SELECT {columns} FROM data.events e WHERE tenant_id = $1 ORDER BY e::text", shop.tenant
    )
    for rows in found.values():
        for row in rows:
            row.pop("tenant_id", None)
    return found


@pytest.mark.parametrize("seed", [1])
async def test_kills_change_nothing(world: World, seed: int) -> None:
    dice = random.Random(seed)
    undisturbed, killed = await world.shop(), await world.shop()
    await world.loaded(undisturbed)
    job = await world.enqueue(killed)
    kills = 0
    while kills < KILLS:
        async with worker(world.where.runtime_url) as process:
            began = trio.current_time()
            # Once it holds the job, at any moment of its first days.
            await world.until(job, lambda seen: seen.state is not JobState.AVAILABLE)
            await trio.sleep(dice.uniform(0, 1200 * MILLISECONDS))
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        kills += 1
        assert trio.current_time() - began < PATIENCE
        if (await world.store.get(killed.tenant, job.id)).state.finished:
            break
        # The attempts are the platform's business: this test wants more of them than it gives.
        await world.change("UPDATE platform.jobs SET attempt = 0 WHERE job_id = $1", job.id)
    async with world.running():
        ended = await world.finished(job)
    assert ended.state is JobState.DONE, ended.error
    assert await everything(world, killed) == await everything(world, undisturbed)
    assert await world.tables("staging") == []
    versions = await world.rows("SELECT data_version FROM data.versions")
    # One version per published day, however often a day was begun.
    assert [row["data_version"] for row in versions] == [6, 6]
