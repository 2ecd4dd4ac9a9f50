"""Ingestions whose processes are killed again and again, and what must be left of that."""

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from tests.integration.data.conftest import PATIENCE, Shop, World
from tests.integration.data.loading import DERIVED
from troupe.actors.data.encoding import EVENT_COLUMNS
from troupe.common.units import MILLISECONDS
from troupe.platform.jobs import Job, JobState

LONGEST_LIFE = 1200 * MILLISECONDS


@asynccontextmanager
async def worker(url: str) -> AsyncIterator[trio.Process]:
    """A process that runs ingestions; ready when given."""
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


@dataclass(frozen=True)
class Ordeal:
    """What became of a job.

    Attributes:
        job: As it ended.
        kills: Processes that were killed while they had it.
        resumed: Attempts that found days done by an earlier one.
    """

    job: Job
    kills: int
    resumed: int


async def kill_ingestion(world: World, shop: Shop, *, kills: int, seed: int) -> Ordeal:
    """Load a shop in processes that are killed at random moments, then let one finish.

    A life ends at any moment after the process has taken the job: the fewer days are left for the
    kills that are to come, the earlier, so that the job does not end before them; and the later,
    the more lives in a row have come to nothing, however slow the machine.
    """
    dice = random.Random(seed)
    job = await world.enqueue(shop)
    days = (shop.last - shop.first).days + 1
    killed = resumed = before = fruitless = 0
    while killed < kills:
        async with worker(world.where.runtime_url) as process:
            await world.until(job, lambda seen: seen.state is not JobState.AVAILABLE)
            seen = await world.store.get(job.tenant_id, job.id)
            done = len(seen.checkpoint["done"]) if seen.checkpoint else 0
            resumed += done > 0
            fruitless = fruitless + 1 if done == before else 0
            before = done
            share = (days - done) / days / (1 - killed / kills)
            longest = LONGEST_LIFE * (1 + fruitless / 4)
            await trio.sleep(dice.uniform(0, longest * min(1.0, share)))
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        if (await world.store.get(job.tenant_id, job.id)).state.finished:
            break
        killed += 1
        # The attempts are the platform's business: this wants more of them than it gives.
        await world.change("UPDATE platform.jobs SET attempt = 0 WHERE job_id = $1", job.id)
    async with world.running():
        ended = await world.finished(job)
    return Ordeal(ended, killed, resumed)


async def digests(world: World, shop: Shop) -> dict[str, tuple[int, str]]:
    """Of each table: rows, and a digest of all their values as PostgreSQL writes them, in order.

    The tenant's id alone is left out: it is what two tenants with the same data differ in.
    """
    found = {}
    for table in (*DERIVED, "activity", "interests", "subject_days", "cart_events", "events"):
        columns = await world.value(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped"
            " AND attname <> 'tenant_id'",
            f"data.{table}",
        )
        assert table != "events" or set(EVENT_COLUMNS) <= set(columns.split(", "))
        rows = await world.rows(
            f"SELECT row({columns})::text AS row FROM data.{table} WHERE tenant_id = $1 ORDER BY 1",
            shop.tenant,
        )
        text = "\n".join(row["row"] for row in rows)
        found[table] = (len(rows), hashlib.sha256(text.encode()).hexdigest())
    return found


async def check(world: World, undisturbed: Shop, killed: Shop, ordeal: Ordeal) -> None:
    """The job ended well, and nothing tells that it was ever killed."""
    assert ordeal.job.state is JobState.DONE, ordeal.job.error
    expected = await digests(world, undisturbed)
    assert expected["events"][0] > 0
    assert await digests(world, killed) == expected
    assert await world.tables("staging") == []
    # Every day took effect once, however often it was begun.
    assert await world.published(undisturbed) == undisturbed.days
    assert await world.published(killed) == killed.days
