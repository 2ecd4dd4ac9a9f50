"""Ingestion jobs against the BigQuery stand-in, through Google's own clients."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tests.integration.data.conftest import Shop, World
from troupe.platform.jobs import JobState
from troupe_demo.bigquery import Fault
from troupe_demo.ga4 import HARBOR_SHOP, TOOL_SHOP, Family, late

TRUTH = Path(__file__).parents[3] / "ops" / "demo" / "truth.py"


def truth(shop: Shop, zone: str | None = None) -> dict[str, Any]:
    """The figures as the independent script computes them from the files."""
    command = [
        sys.executable, str(TRUTH), str(shop.folder), "--json",
        "--start", str(shop.first - timedelta(days=1)), "--end", str(shop.last + timedelta(days=1)),
        "--zone", zone or shop.profile.zone,
    ]  # fmt: skip
    figures: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, capture_output=True).stdout
    )
    return figures


async def figures(world: World, shop: Shop) -> dict[str, Any]:
    """The same figures from the derived tables."""
    (counts,) = await world.rows(
        "SELECT sum(events)::bigint AS events, sum(sessions)::bigint AS sessions,"
        " sum(engaged_sessions)::bigint AS engaged_sessions, sum(page_views)::bigint AS page_views,"
        " sum(events_without_consent)::bigint AS consent_denied_events,"
        " sum(searches)::bigint AS searches, sum(failed_searches)::bigint AS failed_searches,"
        " sum(sessions_with_cart)::bigint AS sessions_with_add_to_cart,"
        " sum(sessions_with_checkout)::bigint AS sessions_with_checkout,"
        " sum(sessions_with_purchase)::bigint AS sessions_with_purchase,"
        " sum(sessions_with_cart_without_purchase)::bigint AS sessions_with_cart_without_purchase"
        " FROM data.daily_rollup WHERE tenant_id = $1",
        shop.tenant,
    )
    (users,) = await world.rows(
        "SELECT count(DISTINCT user_pseudo_id) AS total_users,"
        " count(DISTINCT user_pseudo_id) FILTER (WHERE active) AS active_users,"
        " count(DISTINCT user_pseudo_id) FILTER (WHERE new) AS new_users,"
        ' count(DISTINCT user_pseudo_id) FILTER (WHERE "returning") AS returning_users,'
        " count(DISTINCT user_pseudo_id) FILTER (WHERE purchaser) AS purchasers"
        " FROM data.user_day WHERE tenant_id = $1",
        shop.tenant,
    )
    money = await world.rows(
        "SELECT currency, sum(purchases)::bigint AS purchases, sum(gross_revenue) AS gross,"
        " sum(refund_value) AS refunded FROM data.money_rollup WHERE tenant_id = $1"
        " GROUP BY currency",
        shop.tenant,
    )
    return {
        **counts,
        **users,
        "purchases": sum(row["purchases"] for row in money),
        "money": {
            row["currency"]: {
                "purchases": row["purchases"],
                "gross": f"{row['gross']:.2f}",
                "refunded": f"{row['refunded']:.2f}",
                "net": f"{row['gross'] - row['refunded']:.2f}",
            }
            for row in money
        },
    }


async def assert_true(world: World, shop: Shop, zone: str | None = None) -> None:
    """Every figure equals the independent script's."""
    found = await figures(world, shop)
    wanted = truth(shop, zone)["total"]
    assert {name: wanted[name] for name in found} == found


async def test_two_shops_are_loaded_as_the_truth_says(world: World) -> None:
    for shop in (await world.shop(TOOL_SHOP), await world.shop(HARBOR_SHOP)):
        job = await world.loaded(shop)
        await assert_true(world, shop)
        assert job.progress.done == job.progress.total == len(await world.source_days(shop))
        assert job.progress.detail["rows"] == job.result["rows"] == truth(shop)["total"]["events"]


async def test_a_reporting_zone_of_its_own_moves_days_not_figures(world: World) -> None:
    shop = await world.shop(TOOL_SHOP, zone="America/New_York")
    await world.loaded(shop)
    await assert_true(world, shop, "America/New_York")
    found = {
        str(row["day"]): row
        for row in await world.rows(
            "SELECT day, sum(sessions)::int AS sessions, sum(events)::int AS events"
            " FROM data.daily_rollup WHERE tenant_id = $1 GROUP BY day",
            shop.tenant,
        )
    }
    for day, wanted in truth(shop, "America/New_York")["days"].items():
        if day in found:
            assert found[day]["sessions"] == wanted["sessions"]
            assert found[day]["events"] == wanted["events"]
        else:
            assert wanted["events"] == 0


async def test_another_reporting_zone_cuts_every_day_anew(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop)
    await world.change(
        "UPDATE platform.tenants SET reporting_time_zone = 'Asia/Kolkata' WHERE tenant_id = $1",
        shop.tenant,
    )
    again = await world.loaded(shop)
    assert again.result["unchanged"] == 0
    await assert_true(world, shop, "Asia/Kolkata")
    left = await world.rows("SELECT DISTINCT day FROM data.hourly_rollup ORDER BY day")
    right = truth(shop, "Asia/Kolkata")["days"]
    assert [str(row["day"]) for row in left] == [
        day for day, figures in right.items() if figures["events"]
    ]


async def test_an_unchanged_day_is_not_read_again(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop)
    world.bigquery.faults.forget()
    again = await world.loaded(shop)
    assert again.result["unchanged"] == again.result["days"]
    assert again.result["rows"] == 0
    asked = {entry.operation for entry in world.bigquery.faults.log()}
    assert "jobs.insert" not in asked


async def test_late_hits_are_loaded_and_nothing_else(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop)
    day = shop.first + timedelta(days=2)
    late(world.exports, shop.profile, day=day, hits=40, seed=3)
    again = await world.loaded(shop)
    assert again.result["unchanged"] == again.result["days"] - 1
    await assert_true(world, shop)


async def test_a_better_family_replaces_a_worse_one(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop)
    day = shop.last - timedelta(days=1)
    assert (await world.source_days(shop))[day]["family"] == "fresh"
    fresh = shop.table(Family.FRESH.table(day))
    # Google delivers the daily table, here a smaller one.
    fresh.rename(shop.table(Family.DAILY.table(day)))
    shop.rewrite(Family.DAILY.table(day), lambda rows: rows.slice(10))
    await world.loaded(shop)
    assert (await world.source_days(shop))[day]["family"] == "daily"
    await assert_true(world, shop)


async def test_a_day_of_no_rows_becomes_empty_a_missing_one_stays(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop)
    emptied, gone = shop.first, shop.first + timedelta(days=1)
    shop.rewrite(Family.DAILY.table(emptied), lambda rows: rows.slice(0, 0))
    rows_before = await events_of(world, shop, gone)
    shop.table(Family.DAILY.table(gone)).unlink()
    job = await world.loaded(shop)
    days = await world.source_days(shop)
    assert days[emptied]["state"] == "loaded"
    assert days[emptied]["loaded_rows"] == 0
    assert await events_of(world, shop, emptied) == 0
    assert days[gone]["state"] == "loaded"
    assert days[gone]["problem"] == "The source no longer has a table for this day."
    assert await events_of(world, shop, gone) == rows_before
    assert job.result["missing"] == [gone.isoformat()]


async def test_a_day_that_never_was_is_missing(world: World) -> None:
    shop = await world.shop()
    before = shop.first - timedelta(days=1)
    job = await world.loaded(shop, before, shop.first)
    assert job.result["missing"] == [before.isoformat()]
    days = await world.source_days(shop)
    assert days[before]["state"] == "missing"
    assert days[shop.first]["state"] == "loaded"
    assert await world.value("SELECT data_version FROM data.versions") == 1


async def test_columns_come_and_go(world: World) -> None:
    shop = await world.shop()
    table = Family.DAILY.table(shop.first)

    def drift(rows: pa.Table) -> pa.Table:
        lacks = rows.drop_columns(
            ["is_active_user", "batch_event_index", "session_traffic_source_last_click"]
        )
        return lacks.append_column("consent_mode", pa.array(["x"] * rows.num_rows))

    shop.rewrite(table, drift)
    await world.loaded(shop, shop.first, shop.first)
    (found,) = await world.rows(
        "SELECT count(*) AS events, count(is_active_user) AS flags, count(channel) AS channels"
        " FROM data.events WHERE tenant_id = $1",
        shop.tenant,
    )
    assert found["events"] > 0
    assert found["flags"] == found["channels"] == 0
    # Without the exported group our own rules name the channel.
    versions = await world.rows("SELECT DISTINCT channel_rules FROM data.sessions")
    assert [row["channel_rules"] for row in versions] == [1]


async def test_integers_in_stream_id_and_nul_in_texts(world: World) -> None:
    shop = await world.shop()
    table = Family.DAILY.table(shop.first)

    def older(rows: pa.Table) -> pa.Table:
        column = rows.schema.get_field_index("stream_id")
        numbers = pc.cast(rows.column(column), pa.int64())
        rows = rows.set_column(column, "stream_id", numbers)
        column = rows.schema.get_field_index("event_name")
        names = pc.replace_substring(rows.column(column), "view_item", "view\0item")
        return rows.set_column(column, "event_name", names)

    shop.rewrite(table, older)
    await world.loaded(shop, shop.first, shop.first)
    (found,) = await world.rows("SELECT DISTINCT stream_id FROM data.events")
    assert found["stream_id"] == shop.profile.stream_id
    assert await world.value("SELECT count(*) FROM data.events WHERE event_name = 'viewitem'") > 0


async def test_a_job_is_followed_and_cancelled(world: World) -> None:
    shop = await world.shop()
    world.bigquery.faults.add(Fault("job.run", after=2, times=None, delay=60.0))
    job = await world.enqueue(shop)
    async with world.running(days_in_flight=1):
        await world.until(job, lambda seen: (seen.progress.done or 0) >= 2)
        await world.store.request_cancel(shop.tenant, job.id)
        ended = await world.finished(job)
    assert ended.state is JobState.CANCELLED
    assert len(await world.source_days(shop)) == 2
    assert await world.value("SELECT count(*) FROM data.staged_days") == 0
    # The tenant's partition and the two days', nothing half-made.
    assert await world.tables("staging") == []


async def test_a_dead_letter_goes_on_where_it_stopped(world: World) -> None:
    shop = await world.shop()
    world.bigquery.faults.add(Fault("job.run", after=3, times=None, reason="invalidQuery"))
    job = await world.ingest(shop, days_in_flight=1)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.message.startswith("3 of 6 days could not be loaded;")
    days = await world.source_days(shop)
    assert sorted(day["state"] for day in days.values()) == ["failed"] * 3 + ["loaded"] * 3
    world.bigquery.faults.replace([])
    world.bigquery.faults.forget()
    await world.store.retry(shop.tenant, job.id)
    async with world.running():
        ended = await world.finished(job)
    assert ended.state is JobState.DONE, ended.error
    queries = [entry for entry in world.bigquery.faults.log() if entry.operation == "job.run"]
    assert len(queries) <= 3
    await assert_true(world, shop)


async def events_of(world: World, shop: Shop, day: object) -> int:
    count: int = await world.value(
        "SELECT count(*) FROM data.events WHERE tenant_id = $1 AND source_day = $2",
        shop.tenant,
        day,
    )
    return count


async def test_labels_name_tenant_and_job(world: World) -> None:
    shop = await world.shop()
    job = await world.loaded(shop, shop.first, shop.first)
    labels = [entry.labels for entry in world.bigquery.faults.log() if entry.labels]
    assert labels
    assert all(label == {"tenant": str(shop.tenant), "troupe_job": str(job.id)} for label in labels)
