"""A customer who moves takes along what they did, in the transaction that imports the file."""

from datetime import UTC, date, datetime, timedelta

import asyncpg

from tests.integration.data.brute_force import Event
from tests.integration.data.loading import replace_day
from tests.integration.master_data.conftest import Shop, World
from tests.support.postgres import TestDatabase
from troupe.actors.data.publication import Reporting
from troupe.common.bridge import aio

DAY = date(2026, 9, 1)
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)


async def load(where: TestDatabase, shop: Shop, customer: str) -> None:
    """A purchase of a customer, and a visit of theirs to a branch that they name."""
    named = shop.profile.branches[-1].id

    async def work() -> None:
        connection = await asyncpg.connect(where.runtime_url)
        try:
            reporting = Reporting(shop.tenant, shop.profile.zone, "EUR", shop.profile.zone, "x")
            at = {"erp_customer_id": customer, "customer_id": "login", "user_pseudo_id": "u"}
            events = [
                Event(
                    NOON, "purchase", ga_session_id=1, transaction_id="T", purchase_revenue=9.5,
                    currency="EUR", **at,
                ),
                Event(NOON + timedelta(hours=1), ga_session_id=2, location_id=named, **at),
            ]  # fmt: skip
            await replace_day(connection, reporting, DAY, events)
        finally:
            await connection.close()

    await aio(work())


async def branches(world: World, shop: Shop) -> dict[str, list[str]]:
    """Which branches the customer's doings stand under."""
    tables = ("sessions", "purchases", "daily_rollup", "money_rollup", "daily_money", "user_day")
    return {
        table: [
            row["location_id"]
            for row in await aio(
                world.admin.fetch(
                    f"SELECT DISTINCT location_id FROM data.{table} WHERE tenant_id = $1"
                    " ORDER BY 1",
                    shop.tenant,
                )
            )
        ]
        for table in tables
    }


async def test_what_they_did_moves_along(world: World, fresh_database: TestDatabase) -> None:
    shop = await world.shop()
    await world.imported(shop)
    named = shop.profile.branches[-1].id
    before, after = (branch.id for branch in shop.profile.branches[:2])
    customer = next(one for one in shop.profile.customers if one.branch == before)
    await load(fresh_database, shop, customer.erp_id)
    assert await branches(world, shop) == {
        "sessions": sorted([before, named]),
        "purchases": [before],
        "daily_rollup": sorted([before, named]),
        "money_rollup": [before],
        "daily_money": [before],
        "user_day": sorted([before, named]),
    }
    version = await world.version(shop)

    def moved(text: str) -> str:
        lines = text.splitlines(keepends=True)
        found = [number for number, line in enumerate(lines) if customer.erp_id in line]
        assert len(found) == 1
        assert before in lines[found[0]]
        lines[found[0]] = lines[found[0]].replace(before, after)
        return "".join(lines)

    shop.rewrite("customers", moved)
    result = await world.imported(shop)
    assert result["changed"] == 1
    assert await branches(world, shop) == {
        "sessions": sorted([after, named]),
        "purchases": [after],
        "daily_rollup": sorted([after, named]),
        "money_rollup": [after],
        "daily_money": [after],
        "user_day": sorted([after, named]),
    }
    assert await world.version(shop) == version + 1
