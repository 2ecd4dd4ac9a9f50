"""Days that are loaded: derived anew when that would give something else, and taken away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio
from pydantic import ValidationError
from structlog.testing import capture_logs

from tests.integration.data.brute_force import ordered
from tests.integration.data.conftest import DAYS, Shop, World
from tests.integration.data.loading import DERIVED
from troupe.actors.data.availability import read_days
from troupe.actors.data.job_requests import GROUP
from troupe.actors.data.rederivation import DERIVE_AGAIN, derive_kind
from troupe.actors.data.retention import RETENTION, retention_kind
from troupe.actors.data.upkeep import look_after, look_after_days
from troupe.common.tenant_settings import MIN_RETENTION_DAYS, TenantSettings
from troupe.platform.jobs import JobRunner, JobState, RunnerSettings
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor


@asynccontextmanager
async def upkeep_runs(world: World) -> AsyncIterator[None]:
    """Runs the jobs of upkeep."""
    runner = JobRunner(
        GROUP,
        {
            DERIVE_AGAIN: derive_kind(world.database, world.vault),
            RETENTION: retention_kind(world.database, world.vault),
        },
        pool=Pool("data", limit=4),
        database=lambda: world.database,
        settings=RunnerSettings(poll=0.2, look=0.1, report=0.1, drain=2.0),
    )
    supervisor = Supervisor("upkeep", [runner.child_spec()])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.serve)
        try:
            yield
        finally:
            supervisor.request_stop()


async def tidied(world: World, shop: Shop) -> list[str]:
    """Look after a tenant's days and wait until that is done; the kinds of the jobs."""
    needed = await look_after(world.database, shop.tenant)
    again = await look_after(world.database, shop.tenant)
    assert [job.kind for job in again] == [job.kind for job in needed]
    jobs = (await world.store.list(shop.tenant)).data
    live = [job for job in jobs if job.kind in {DERIVE_AGAIN, RETENTION} and not job.state.finished]
    assert sorted(job.kind for job in live) == sorted(job.kind for job in needed)
    async with upkeep_runs(world):
        for job in live:
            ended = await world.finished(job)
            assert ended.state is JobState.DONE, ended.error
    return [job.kind for job in needed]


async def tables(world: World, shop: Shop) -> dict[str, list[dict[str, Any]]]:
    return {
        name: ordered(
            await world.rows(f"SELECT * FROM data.{name} WHERE tenant_id = $1", shop.tenant)
        )
        for name in DERIVED
    }


def days_since(day: date, zone: str) -> int:
    """Days from `day` to today in `zone`, both included: keeping so many keeps just that day."""
    return (datetime.now(ZoneInfo(zone)).date() - day).days + 1


async def test_another_zone_is_as_if_the_days_had_been_loaded_in_it(world: World) -> None:
    shop, twin = await world.shop(), await world.shop(zone="America/New_York")
    await world.loaded(shop)
    await world.loaded(twin)
    assert await tidied(world, shop) == []
    before = await tables(world, shop)
    version = await world.value(
        "SELECT data_version FROM data.versions WHERE tenant_id = $1", shop.tenant
    )

    await world.change(
        "UPDATE platform.tenants SET reporting_time_zone = 'America/New_York' WHERE tenant_id = $1",
        shop.tenant,
    )
    assert await tidied(world, shop) == [DERIVE_AGAIN]
    after = await tables(world, shop)
    assert after == await tables(world, twin)
    assert after["daily_rollup"] != before["daily_rollup"]
    assert await tidied(world, shop) == []
    seen = await world.rows("SELECT * FROM data.versions WHERE tenant_id = $1", shop.tenant)
    wanted = await world.rows("SELECT * FROM data.versions WHERE tenant_id = $1", twin.tenant)
    assert seen[0]["data_version"] == version + DAYS
    assert seen[0]["first_day"] == wanted[0]["first_day"]
    assert seen[0]["data_until"] == wanted[0]["data_until"]

    # What was read once need not be read again.
    job = await world.loaded(shop)
    assert job.result["unchanged"] == DAYS


async def test_another_idle_time_of_carts_is_followed(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop)
    waits = (
        "SELECT DISTINCT idle_at - last_activity_at AS idle FROM data.cart_episodes"
        " WHERE tenant_id = $1"
    )
    assert await world.rows(waits, shop.tenant) == [{"idle": timedelta(hours=24)}]
    await world.change(
        "UPDATE platform.tenants SET settings = settings || '{\"cart_idle_hours\": 2}'"
        " WHERE tenant_id = $1",
        shop.tenant,
    )
    assert await tidied(world, shop) == [DERIVE_AGAIN]
    assert await world.rows(waits, shop.tenant) == [{"idle": timedelta(hours=2)}]


async def test_what_is_older_than_kept_is_taken_away(world: World) -> None:
    # Where it is about noon: the last day kept must not change while the test runs.
    zone = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
    shop, twin = await world.shop(zone=zone), await world.shop(zone=zone)
    await world.loaded(shop)
    kept = shop.last - timedelta(days=2)
    await world.loaded(twin, kept, twin.last)
    version = await world.value(
        "SELECT data_version FROM data.versions WHERE tenant_id = $1", shop.tenant
    )
    await world.change(
        "UPDATE platform.tenants SET settings = settings || jsonb_build_object("
        "'retention_days', $2::integer) WHERE tenant_id = $1",
        shop.tenant,
        days_since(kept, zone),
    )
    assert await tidied(world, shop) == [RETENTION]

    assert await tables(world, shop) == await tables(world, twin)
    days = await read_days(world.database, shop.tenant, first=None, last=None, limit=100)
    assert [day.state for day in days] == ["removed"] * (DAYS - 3) + ["loaded"] * 3
    assert all(day.loaded_rows is None for day in days[: DAYS - 3]), [asdict(day) for day in days]
    partitions = await world.tables("data")
    mine = [name for name in partitions if name.startswith(f"events_{shop.tenant.hex}_")]
    assert len(mine) == 3
    assert await world.tables("staging") == []
    [seen] = await world.rows("SELECT * FROM data.versions WHERE tenant_id = $1", shop.tenant)
    [wanted] = await world.rows("SELECT * FROM data.versions WHERE tenant_id = $1", twin.tenant)
    assert seen["data_version"] == version + DAYS - 3
    assert seen["first_day"] == wanted["first_day"]
    assert await tidied(world, shop) == []


async def test_a_tenant_without_data_needs_nothing(world: World) -> None:
    shop = await world.shop()
    assert await tidied(world, shop) == []
    await world.change(
        "UPDATE platform.tenants SET state = 'deactivated' WHERE tenant_id = $1", shop.tenant
    )
    assert await look_after(world.database, shop.tenant) == []


async def test_no_file_is_held_for_longer_than_a_week(world: World) -> None:
    """Also if the tenant never sends another one, and whatever its settings say."""
    shop = await world.shop()
    held = (
        "INSERT INTO data.held_files (tenant_id, file_id, purpose, content, name, size, found,"
        " held_at) VALUES ($1, gen_random_uuid(), 'transfer', 'customers', $2, 1, 'x',"
        " now() - $3::interval)"
    )
    await world.change(held, shop.tenant, "old.csv", timedelta(days=7, minutes=1))
    await world.change(held, shop.tenant, "young.csv", timedelta(days=6, hours=23))
    await world.change(
        "UPDATE platform.tenants SET settings = '{\"retention_days\": 1}' WHERE tenant_id = $1",
        shop.tenant,
    )
    await look_after(world.database, shop.tenant)
    rows = await world.rows("SELECT name FROM data.held_files WHERE tenant_id = $1", shop.tenant)
    assert [row["name"] for row in rows] == ["young.csv"]


async def test_settings_that_break_a_rule_by_now_hold_up_nobody(world: World) -> None:
    shop = await world.shop()
    await world.change(
        "UPDATE platform.tenants SET settings = settings || '{\"retention_days\": 1}'"
        " WHERE tenant_id = $1",
        shop.tenant,
    )
    with capture_logs() as logs:
        assert await look_after(world.database, shop.tenant) == []
    assert [entry["event"] for entry in logs] == ["tenant_settings_unusable"]


async def test_the_actor_looks_at_every_tenant(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop)
    await world.change(
        "UPDATE data.source_days SET derived_as = NULL WHERE tenant_id = $1", shop.tenant
    )
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_after_days, world.database, stopping)
        with trio.fail_after(10):
            while not (await world.store.list(shop.tenant, kind=DERIVE_AGAIN)).data:
                await trio.sleep(0.02)
        stopping.set()


def test_there_is_a_least_that_is_kept() -> None:
    with pytest.raises(ValidationError, match="retention_days"):
        TenantSettings(retention_days=MIN_RETENTION_DAYS - 1)
    today = date(2026, 9, 30)
    # Whatever is stored: it may be older than the rule.
    stored = TenantSettings.model_construct(retention_days=1)
    assert stored.first_kept(today) == today - timedelta(days=MIN_RETENTION_DAYS - 1)
    assert TenantSettings(retention_days=40).first_kept(today) == date(2026, 8, 22)
