"""What bounds an ingestion: a tenant's budget, a group's slots and memory, a slow PostgreSQL."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pyarrow as pa
import trio

from tests.integration.data.conftest import Shop, World
from tests.integration.data.test_ingestion import assert_true
from troupe.common.bridge import aio
from troupe.common.units import MINUTES, SECONDS, GiB, MiB
from troupe.platform.jobs import Job, JobState
from troupe_demo.bigquery import Fault
from troupe_demo.ga4 import TOOL_SHOP, Family, late


def asked(world: World, operation: str) -> int:
    return sum(entry.operation == operation for entry in world.bigquery.faults.log())


async def scans(world: World, shop: Shop) -> list[dict[str, Any]]:
    return await world.rows("SELECT * FROM data.scans WHERE tenant_id = $1", shop.tenant)


async def estimates(world: World, shop: Shop) -> list[int]:
    days = await world.rows(
        "SELECT scanned_bytes FROM data.source_days WHERE tenant_id = $1 ORDER BY source_day",
        shop.tenant,
    )
    return [day["scanned_bytes"] for day in days]


# ---- the budget


async def test_what_is_scanned_is_put_down_in_the_tenants_zone(world: World) -> None:
    # At no instant do these two have the same date.
    west = await world.shop(TOOL_SHOP, zone="Etc/GMT+12")
    east = await world.shop(TOOL_SHOP, zone="Pacific/Kiritimati")
    for shop in (west, east):
        await world.loaded(shop)
    ((spent_west,), (spent_east,)) = [await scans(world, shop) for shop in (west, east)]
    assert spent_west["scanned_bytes"] == sum(await estimates(world, west)) > 0
    assert spent_west["queries"] == len(await estimates(world, west))
    assert spent_west["day"] < spent_east["day"]
    # A second look at unchanged days scans nothing.
    await world.loaded(west)
    assert await scans(world, west) == [spent_west]


async def test_a_spent_budget_refuses_the_day_and_keeps_what_is_there(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop)
    sizes = await estimates(world, shop)
    late(world.exports, shop.profile, day=shop.first, hits=30, seed=1)
    await world.change("DELETE FROM data.scans")
    # Enough for half of the day that changed.
    budget = sizes[0] // 2 / GiB
    world.bigquery.faults.forget()
    job = await world.ingest(shop, scan_budget_gib=budget)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.kind == "ScanBudgetSpent"
    words = job.error.message
    assert words.startswith(f"Reading {Family.DAILY.table(shop.first)} would scan ")
    assert "; 0 bytes of today's " in words
    assert words.endswith(f"The budget begins anew at midnight in {shop.profile.zone}.")
    assert asked(world, "job.run") == 0
    day = (await world.source_days(shop))[shop.first]
    assert day["state"] == "stale"
    assert day["problem"] == words
    assert await world.tables("staging") == []
    # Another day, the same budget twice: the job goes on.
    await world.loaded(shop, scan_budget_gib=4 * budget)
    assert (await world.source_days(shop))[shop.first]["state"] == "loaded"
    await assert_true(world, shop)


async def test_days_are_loaded_as_far_as_the_budget_goes_and_on_the_next_day_the_rest(
    world: World,
) -> None:
    other, shop = await world.shop(), await world.shop()
    await world.loaded(other)
    budget = sum(await estimates(world, other)) * 2 // 3
    job = await world.ingest(shop, days_in_flight=1, scan_budget_gib=budget / GiB)
    assert job.error is not None
    assert job.error.kind == "ScanBudgetSpent"
    loaded = [day for day in (await world.source_days(shop)).values() if day["state"] == "loaded"]
    (spent,) = await scans(world, shop)
    assert 0 < len(loaded) == spent["queries"] < 6
    assert spent["scanned_bytes"] <= budget
    while job.state is JobState.FAILED:
        # Midnight passes, and somebody tries the job again.
        await world.change("UPDATE data.scans SET day = day - 1 WHERE day > current_date - 1")
        await world.change("DELETE FROM data.scans WHERE day < current_date")
        await world.store.retry(shop.tenant, job.id)
        async with world.running(days_in_flight=1, scan_budget_gib=budget / GiB):
            job = await world.finished(job)
    assert job.state is JobState.DONE, job.error
    await assert_true(world, shop)


async def test_a_tenant_has_a_budget_of_its_own(world: World) -> None:
    shop, other = await world.shop(), await world.shop()
    await world.change(
        "UPDATE platform.tenants SET settings = $2::jsonb WHERE tenant_id = $1",
        shop.tenant,
        '{"scan_budget_gib": 0.000001}',
    )
    job = await world.ingest(shop)
    assert job.error is not None
    assert job.error.kind == "ScanBudgetSpent"
    assert "of today's 1.05 KiB" in job.error.message
    await world.loaded(other)


async def test_a_query_that_failed_costs_nothing(world: World) -> None:
    shop = await world.shop()
    world.bigquery.faults.add(Fault("job.run", times=1, reason="backendError"))
    await world.loaded(shop, shop.first, shop.first)
    (spent,) = await scans(world, shop)
    assert [spent["scanned_bytes"]] == await estimates(world, shop)
    assert spent["queries"] == 1


# ---- what the server asks for


async def test_a_short_hint_is_waited_for(world: World) -> None:
    shop = await world.shop()
    for operation in ("tables.get", "storage.createReadSession"):
        world.bigquery.faults.add(
            Fault(operation, times=1, reason="rateLimitExceeded", status=429, retry_after=2)
        )
    job = await world.loaded(shop, shop.first, shop.first)
    assert job.attempt == 1
    moments: dict[str, list[float]] = {}
    for entry in world.bigquery.faults.log():
        moments.setdefault(entry.operation, []).append(entry.at)
    first, second = moments["tables.get"][:2]
    assert second - first >= 2 * SECONDS


async def test_a_long_hint_sends_the_job_away_for_that_long(world: World) -> None:
    shop = await world.shop()
    world.bigquery.faults.add(
        Fault("tables.get", times=None, reason="rateLimitExceeded", status=429, retry_after=900)
    )
    job = await world.enqueue(shop)
    async with world.running():
        seen = await world.until(job, lambda seen: seen.error is not None)
    assert seen.state is JobState.AVAILABLE
    left = seen.run_at - datetime.now(UTC)
    assert timedelta(minutes=13) < left < timedelta(minutes=20)


async def test_a_stream_is_taken_up_again_where_the_server_asked_to_wait(world: World) -> None:
    shop = await world.shop()
    rows = await enlarged(shop, 20)
    world.bigquery.faults.add(
        Fault("storage.readRows", after=1, reason="rateLimitExceeded", status=429, retry_after=1)
    )
    job = await world.loaded(shop, shop.first, shop.first)
    assert job.result["rows"] == rows == await world.value("SELECT count(*) FROM data.events")
    assert asked(world, "job.run") <= 1


# ---- slots, memory, PostgreSQL


async def enlarged(shop: Shop, times: int, *, noise: int = 0) -> int:
    """Make the first day so many times as large; its rows.

    Args:
        shop: Whose.
        times: How often every row is there.
        noise: Random bytes in each.
    """
    found = 0

    def enlarge(day: pa.Table) -> pa.Table:
        nonlocal found
        larger = pa.concat_tables([day] * times)
        found = larger.num_rows
        if noise:
            texts = pa.array([os.urandom(noise).hex() for _ in range(found)])
            larger = larger.set_column(larger.schema.get_field_index("user_id"), "user_id", texts)
        return larger

    shop.rewrite(Family.DAILY.table(shop.first), enlarge)
    return found


async def test_without_a_free_slot_the_jobs_own_is_enough(world: World) -> None:
    shop = await world.shop()
    job = await world.ingest(shop, slots=1, days_in_flight=4)
    assert job.state is JobState.DONE, job.error
    await assert_true(world, shop)


async def test_days_in_flight_take_free_slots_and_no_more(world: World) -> None:
    shop = await world.shop()
    world.bigquery.faults.add(Fault("job.run", times=None, delay=60.0))
    job = await world.enqueue(shop)
    async with world.running(slots=3, days_in_flight=8):
        with trio.fail_after(1 * MINUTES):
            while asked(world, "jobs.insert") < 3:
                await trio.sleep(0.05)
        await trio.sleep(1.5)
        # The stand-in logs the dry run and the query of each.
        assert await world.value("SELECT queries FROM data.scans") == 3
        await world.store.request_cancel(shop.tenant, job.id)
        await world.finished(job)
    assert await world.tables("staging") == []


async def test_little_memory_is_slow_and_enough(world: World) -> None:
    shop = await world.shop()
    await enlarged(shop, 40)
    job = await world.ingest(shop, memory_mib=32, days_in_flight=4)
    assert job.state is JobState.DONE, job.error
    assert job.result["rows"] == await world.value("SELECT count(*) FROM data.events")


async def test_a_slow_postgresql_holds_up_the_reader(world: World) -> None:
    shop = await world.shop()
    # Of rows that compress badly, so that the network's own buffers do not hold the day.
    rows = await enlarged(shop, 200, noise=128)
    # Every row that is copied waits for a lock that we hold.
    await world.change(
        """
        CREATE FUNCTION public.may_go_on() RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(42);
            RETURN true;
        END $$;
        ALTER TABLE data.events ADD CONSTRAINT slow CHECK (public.may_go_on());
        """
    )
    world.bigquery.faults.add(Fault("storage.readRows", after=1_000_000, reason="backendError"))

    def messages() -> int:
        left: int = world.bigquery.faults.pending()[0]["after"]
        return 1_000_000 - left

    holder = await aio(asyncpg.connect(world.where.admin_url))
    try:
        await aio(holder.execute("SELECT pg_advisory_lock(42)"))
        job = await world.enqueue(shop, shop.first, shop.first)
        async with world.running(batch_rows=2000):
            with trio.fail_after(1 * MINUTES):
                while messages() == 0:
                    await trio.sleep(0.05)
            seen = -1
            while seen != messages():
                seen = messages()
                await trio.sleep(1.5)
            # What has been sent lies in gRPC's window and in our few batches.
            assert seen < rows * 800 / MiB / 2, f"{seen} messages were sent for {rows} rows"
            await aio(holder.execute("SELECT pg_advisory_unlock(42)"))
            ended: Job = await world.finished(job)
    finally:
        with trio.CancelScope(shield=True):
            await aio(holder.close(timeout=5 * SECONDS))
    assert ended.state is JobState.DONE, ended.error
    assert ended.result["rows"] == rows
    assert messages() > seen
