"""What goes wrong ends as one clear error, with the old data intact and nothing half-written."""

import pyarrow as pa
import pytest

from tests.integration.data.conftest import Shop, World
from tests.integration.data.test_ingestion import assert_true, figures
from troupe.common.bridge import aio
from troupe.platform.jobs import Job, JobState
from troupe_demo.bigquery import Fault
from troupe_demo.ga4 import TOOL_SHOP, Family, late


async def fails(world: World, shop: Shop, kind: str, words: str) -> Job:
    """Run an ingestion that must fail for good, at once and without leaving anything behind."""
    job = await world.ingest(shop)
    assert job.state is JobState.FAILED
    assert job.attempt == 1
    assert job.error is not None
    assert job.error.kind == kind
    assert words in job.error.message
    assert "\n" not in job.error.message
    assert await world.tables("staging") == []
    assert await world.value("SELECT count(*) FROM data.staged_days") == 0
    return job


async def test_a_key_that_is_no_key(world: World) -> None:
    shop = await world.shop()
    secret = world.account(shop.profile.project, private_key="-----BEGIN PRIVATE KEY-----")
    await world.connect(shop.tenant, shop.profile, secret=secret)
    await fails(world, shop, "CredentialsRejected", "not a service account's JSON file")


async def test_a_revoked_key(world: World) -> None:
    shop = await world.shop()
    for registration in (world.exports / shop.profile.project).glob("service_account.*"):
        registration.unlink()
    await fails(world, shop, "CredentialsRejected", "does not accept the service account's")


async def test_an_account_without_permission(world: World) -> None:
    shop = await world.shop()
    world.bigquery.faults.add(Fault("tables.list", times=None, reason="accessDenied"))
    await fails(world, shop, "PermissionMissing", "denies access while listing the tables")


async def test_a_dataset_that_is_not_there(world: World) -> None:
    shop = await world.shop()
    await world.connect(shop.tenant, shop.profile, dataset="analytics_0")
    await fails(world, shop, "SourceMissing", "Not found: Dataset")


async def test_no_table_at_all(world: World) -> None:
    shop = await world.shop()
    for path in shop.folder.glob("*.parquet"):
        path.unlink()
    await fails(world, shop, "NothingExported", "has no events table for 2026-09-25 to 2026-09-30")


async def test_no_connection(world: World) -> None:
    shop = await world.shop()
    await aio(world.admin.execute("DELETE FROM auth.connections"))
    await fails(world, shop, "NotConnected", "has no bigquery connection")


async def test_a_failed_extract_leaves_the_old_day_stale(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop)
    before = await figures(world, shop)
    version = await world.value("SELECT data_version FROM data.versions")
    late(world.exports, shop.profile, day=shop.first, hits=30, seed=1)
    world.bigquery.faults.add(Fault("job.run", times=None, reason="invalidQuery"))
    await fails(world, shop, "DaysNotLoaded", "1 of 6 days could not be loaded; 2026-09-25:")
    day = (await world.source_days(shop))[shop.first]
    assert day["state"] == "stale"
    assert "refuses the query" in day["problem"]
    assert await figures(world, shop) == before
    assert await world.value("SELECT data_version FROM data.versions") == version
    world.bigquery.faults.replace([])
    await world.loaded(shop)
    assert (await world.source_days(shop))[shop.first]["state"] == "loaded"
    await assert_true(world, shop)


async def test_a_full_disk(world: World) -> None:
    # The server's own word for a full disk, from the middle of a COPY into a staged table.
    shop = await world.shop()
    await aio(
        world.admin.execute(
            """
            CREATE TABLE public.room (rows_left bigint);
            INSERT INTO public.room VALUES (1000);
            CREATE SEQUENCE public.written;
            CREATE FUNCTION public.has_room() RETURNS boolean
                LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN
                IF nextval('public.written') > (SELECT rows_left FROM public.room) THEN
                    RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100';
                END IF;
                RETURN true;
            END $$;
            ALTER TABLE data.events ADD CONSTRAINT room CHECK (public.has_room());
            """
        )
    )
    await fails(world, shop, "NoRoom", "No space is left where PostgreSQL writes.")
    found = sorted((await world.source_days(shop)).items())
    assert await world.published(shop) == [day for day, row in found if row["state"] == "loaded"]
    await aio(world.admin.execute("UPDATE public.room SET rows_left = 1000000000"))
    await world.loaded(shop)
    await assert_true(world, shop)


async def test_a_disk_that_is_full_when_days_take_effect(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop, shop.first, shop.first)
    await world.change(
        """
        CREATE FUNCTION public.no_room() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100';
        END $$;
        CREATE TRIGGER no_room BEFORE INSERT ON data.event_counts
            FOR EACH STATEMENT EXECUTE FUNCTION public.no_room();
        """
    )
    await fails(world, shop, "NoRoom", "No space is left where PostgreSQL writes.")
    assert await world.published(shop) == [shop.first]
    await world.change("DROP TRIGGER no_room ON data.event_counts")
    await world.loaded(shop)
    assert await world.published(shop) == shop.days
    await assert_true(world, shop)


RETRIED = [
    Fault("tables.list", times=2, reason="backendError"),
    Fault("tables.get", times=2, reason="rateLimitExceeded"),
    Fault("token", times=1, reason="backendError", status=503),
    Fault("jobs.insert", times=2, reason="backendError", status=503),
    Fault("jobs.getQueryResults", times=2, reason="backendError", status=503),
    Fault("job.run", times=1, reason="backendError"),
    Fault("job.run", times=1, reason="rateLimitExceeded"),
    Fault("storage.createReadSession", times=1, reason="backendError", status=503),
    Fault("storage.readRows", times=1, reason="backendError", status=503),
]


@pytest.mark.parametrize("fault", RETRIED, ids=lambda fault: f"{fault.operation}-{fault.reason}")
async def test_passing_trouble_is_outlived(world: World, fault: Fault) -> None:
    shop = await world.shop()
    world.bigquery.faults.add(fault)
    job = await world.loaded(shop, shop.first, shop.first)
    assert job.attempt == 1
    assert job.result["rows"] > 0
    assert await world.tables("staging") == []


async def test_a_stream_that_breaks_in_the_middle_loses_and_doubles_nothing(world: World) -> None:
    shop = await world.shop()
    # One large day, so that its stream has several messages.
    table = Family.DAILY.table(shop.first)
    rows = 0

    def enlarge(day: pa.Table) -> pa.Table:
        nonlocal rows
        larger = pa.concat_tables([day] * 60)
        rows = larger.num_rows
        return larger

    shop.rewrite(table, enlarge)
    world.bigquery.faults.add(
        Fault("storage.readRows", after=1, times=1, reason="backendError", status=503)
    )
    job = await world.loaded(shop, shop.first, shop.first)
    assert job.result["rows"] == rows
    assert await world.value("SELECT count(*) FROM data.events") == rows


async def test_bigquery_away_for_long_is_tried_again_later(world: World) -> None:
    shop = await world.shop()
    world.bigquery.faults.add(Fault("job.run", times=None, reason="quotaExceeded", retry_after=900))
    job = await world.enqueue(shop)
    async with world.running():
        seen = await world.until(job, lambda seen: seen.error is not None)
    assert seen.state is JobState.AVAILABLE
    assert seen.error is not None
    assert "quota is used up" in seen.error.message
    assert {day["state"] for day in (await world.source_days(shop)).values()} == {"failed"}
    assert await world.tables("staging") == []


async def test_rest_alone_gives_the_same_rows(world: World) -> None:
    shop = await world.shop(TOOL_SHOP, storage_endpoint="")
    await world.loaded(shop)
    await assert_true(world, shop)
