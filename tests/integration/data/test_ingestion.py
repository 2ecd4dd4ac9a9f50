"""Ingestion jobs against the BigQuery stand-in, through Google's own clients."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.integration.data.conftest import Shop, World
from troupe.platform.jobs import JobState
from troupe_demo.ga4 import HARBOR_SHOP, TOOL_SHOP

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


async def test_two_shops_are_loaded_as_the_truth_says(world: World) -> None:
    for shop in (await world.shop(TOOL_SHOP), await world.shop(HARBOR_SHOP)):
        job = await world.loaded(shop)
        wanted = truth(shop)["total"]
        found = await figures(world, shop)
        assert {name: wanted[name] for name in found} == found
        assert job.progress.done == job.progress.total
        assert job.result["rows"] == wanted["events"]


async def test_an_unchanged_day_is_not_read_again(world: World) -> None:
    shop = await world.shop()
    await world.loaded(shop)
    again = await world.loaded(shop)
    assert again.result["unchanged"] == again.result["days"]
    assert again.result["rows"] == 0
    assert again.state is JobState.DONE
