"""Replacing one day reads that day, not the tenant's others: asked of the planner itself."""

import asyncio
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.integration.data.brute_force import Event
from tests.integration.data.loading import load_staged, make_tenant, replace_day, set_tenant
from tests.support.postgres import TestDatabase
from troupe.actors.data.carts import CARTS
from troupe.actors.data.digest import DIGEST
from troupe.actors.data.publication import DAYS, DERIVE, Reporting, digest, publish
from troupe.actors.data.searches import SEARCHES
from troupe.actors.data.shopping import SHOPPING
from troupe.common.ids import TenantId

DAY = date(2026, 9, 3)
WEEK = [DAY + timedelta(days=number) for number in range(-2, 5)]
DERIVED = {**DERIVE, **DIGEST, **SEARCHES, **CARTS, **SHOPPING}
NAMES = {statement: name for name, statement in (*DERIVED.items(), *DAYS.items())}
PARTITION = re.compile(r"on (events_[0-9a-f]{32}_(\d{8}))(_[0-9a-f]{6})?\b")


def visits(day: date) -> list[Event]:
    noon = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=12)
    return [
        Event(
            noon + timedelta(seconds=number),
            "purchase" if number % 40 == 0 else "page_view",
            user_pseudo_id=f"u{number % 50}",
            ga_session_id=day.toordinal() * 100 + number % 50,
            transaction_id=f"T{day}{number}",
            purchase_revenue=1.5,
        )
        for number in range(400)
    ]


class Watched:
    """A connection that asks for the plan of every statement before it runs it."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.read: dict[str, set[str]] = {}

    async def execute(self, sql: str, *arguments: Any) -> str:
        await self._explain(sql, arguments)
        return await self._connection.execute(sql, *arguments)

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        await self._explain(sql, arguments)
        return await self._connection.fetch(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        await self._explain(sql, arguments)
        return await self._connection.fetchval(sql, *arguments)

    async def _explain(self, sql: str, arguments: tuple[Any, ...]) -> None:
        if re.search(r"^(SELECT|WITH|INSERT|UPDATE|DELETE)\b", sql, re.MULTILINE):
            plan = await self._connection.fetch(f"EXPLAIN {sql}", *arguments)
            text = "\n".join(row[0] for row in plan)
            self.read[NAMES[sql]] = {match[2] for match in PARTITION.finditer(text)}


async def watched_replacement(url: str) -> tuple[dict[str, set[str]], TenantId]:
    connection = await asyncpg.connect(url)
    try:
        tenant = await make_tenant(connection)
        reporting = Reporting(tenant, "UTC", "EUR", "UTC", "x")
        for day in WEEK:
            await replace_day(connection, reporting, day, visits(day))
        staged = await load_staged(connection, reporting, DAY, visits(DAY)[:300])
        watched = Watched(connection)
        async with connection.transaction():
            await set_tenant(connection, tenant)
            digested = await digest(watched, reporting, staged)  # type: ignore[arg-type]
        async with connection.transaction():
            await set_tenant(connection, tenant)
            await publish(watched, reporting, {staged: digested})  # type: ignore[arg-type]
        return watched.read, tenant
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def read(module_database: TestDatabase) -> dict[str, set[str]]:
    return asyncio.run(watched_replacement(module_database.runtime_url))[0]


def test_no_statement_looks_into_another_day(read: dict[str, set[str]]) -> None:
    assert {name: days for name, days in read.items() if days - {"20260903"}} == {}
    # The ones that must read the day did, so the pattern finds partitions at all.
    reading = {"read_clock", "count_events", *(name for name in DIGEST if "digest_" in name)}
    for name in reading - {"measure_digest"}:
        assert read[name] == {"20260903"}, name


def test_no_statement_of_a_publication_reads_the_day_again(read: dict[str, set[str]]) -> None:
    """Those come one after the other, so what they do bounds the rate of a load."""
    assert {name for name, days in read.items() if days and name not in DIGEST} == set()


def test_every_statement_was_seen(read: dict[str, set[str]]) -> None:
    # But for those that a day that is alone and whole needs not, and one that has no plan.
    unneeded = {"changed_days", "clear_digest", "drop_part_sessions", "close_roll_bench"}
    assert set(read) >= set(DERIVED) - unneeded
