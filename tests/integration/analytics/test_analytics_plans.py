"""The hot queries read by index: one tenant's rows, of the days that were asked for.

One tenant of 90 days and 10 branches stands among others as large, so that a plan which reads
everybody's rows is dearer than one which does not, as it is in production.
"""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from tests.support.postgres import TestDatabase
from troupe.actors.analytics.answers import QUERIES
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId, new_id
from troupe.common.sql import parse

CROWD: Final = parse(Path(__file__).with_name("crowd.sql").read_text(), origin="crowd.sql")
FIRST_DAY: Final = date(2026, 1, 1)
DAYS: Final = 90
LAST_DAY: Final = FIRST_DAY + timedelta(days=DAYS - 1)
BRANCHES: Final = 10
NEIGHBOURS: Final = 5
BIG: Final = {
    "user_day", "hourly_rollup", "daily_rollup", "money_rollup", "daily_money",
    "visitor_returns", "location_returns",
}  # fmt: skip

Node = dict[str, Any]


@pytest.fixture(scope="module")
def crowd(module_database: TestDatabase) -> TenantId:
    tenants = [TenantId(new_id()) for _ in range(NEIGHBOURS + 1)]
    asyncio.run(_gather(module_database, tenants))
    return tenants[NEIGHBOURS // 2]


async def _gather(database: TestDatabase, tenants: list[TenantId]) -> None:
    runtime = await asyncpg.connect(database.runtime_url)
    admin = await asyncpg.connect(database.admin_url)
    try:
        for tenant in tenants:
            async with runtime.transaction():
                await runtime.execute(
                    "SELECT set_config('troupe.tenant_id', $1, true)", str(tenant)
                )
                await runtime.execute(CROWD["tenant"], tenant)
                await runtime.execute(CROWD["version"], tenant)
                await runtime.execute(CROWD["locations"], tenant, BRANCHES)
                await runtime.execute(CROWD["hours"], tenant, FIRST_DAY, DAYS, BRANCHES)
                await runtime.execute(CROWD["days"], tenant)
                await runtime.execute(CROWD["money"], tenant)
                await runtime.execute(CROWD["daily_money"], tenant)
                await runtime.execute(CROWD["users"], tenant, FIRST_DAY, DAYS, BRANCHES, 24)
        await admin.execute(CROWD["tidy"])
    finally:
        await runtime.close()
        await admin.close()


def nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def explain(
    pool: Database, settings: Iterable[str], sql: str, tenant: TenantId, *args: object
) -> Node:
    """The plan of one statement as the runtime role runs it, with what it really did."""

    async def unit(connection: Any) -> Any:
        for setting in settings:
            await connection.execute(f"SET LOCAL {setting}")
        await connection.execute(f"PREPARE hot AS {sql}")
        values = ", ".join(literal(value) for value in (tenant, *args))
        return await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE hot ({values})")

    (found,) = await pool.run(unit, tenant=tenant, read_only=True)
    plan: Node = found["Plan"]
    return plan


def literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case list():
            return "'{" + ",".join(map(str, value)) + "}'"
        case _:
            return f"'{value}'"


def condition(node: Node) -> str:
    """What an index looks for, of a scan or of the bitmaps below it."""
    return " ".join(str(part.get("Index Cond", "")) for part in nodes(node))


def complaints(plan: Node, *, all_branches: bool) -> list[str]:
    """What is wrong with how a plan reads the big tables."""
    found = []
    for scan in nodes(plan):
        name, kind = scan.get("Relation Name"), scan["Node Type"]
        if name not in BIG:
            continue
        if "tenant_id" not in condition(scan) or "day" not in condition(scan):
            found.append(f"{kind} of {name} looks for {condition(scan) or 'nothing'}")
        if all_branches and scan.get("Rows Removed by Filter"):
            found.append(f"{kind} of {name} throws away {scan['Rows Removed by Filter']} rows")
    return found


MONTH = (LAST_DAY - timedelta(days=27), LAST_DAY)
STEPS = [FIRST_DAY + timedelta(days=number) for number in range(DAYS)]
HOT: Final[dict[str, tuple[str, tuple[object, ...]]]] = {
    "stats of a month": ("measures_by_period", ([MONTH[0]], [MONTH[1]], None)),
    "stats of all days": ("measures_by_period", ([FIRST_DAY], [LAST_DAY], None)),
    "stats of a branch": ("measures_by_period", ([MONTH[0]], [MONTH[1]], ["b3"])),
    "stats of two branches": (
        "measures_by_period",
        ([MONTH[0]], [MONTH[1]], ["b3", "b4"]),
    ),
    "chart by day": ("measures_by_period", (STEPS, STEPS, None)),
    "chart by hour": ("measures_by_hour", (LAST_DAY, LAST_DAY, None)),
    "chart by hour of a week": ("measures_by_hour", (LAST_DAY - timedelta(days=6), LAST_DAY, None)),
    "branches of a month": (
        "measures_by_location",
        ([MONTH[0], MONTH[0] - timedelta(days=28)], [MONTH[1], MONTH[0]], None),
    ),
    "branches of all days": ("measures_by_location", ([FIRST_DAY], [LAST_DAY], None)),
    "one branch": ("measures_by_location", ([MONTH[0]], [MONTH[1]], ["b3"])),
}


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("question", HOT)
async def test_hot_queries_read_by_index(
    module_database: TestDatabase, bridge: None, crowd: TenantId, question: str, mode: str
) -> None:
    name, arguments = HOT[question]
    async with open_database(module_database.runtime_url, connections=1) as pool:
        plan = await explain(pool, [f"plan_cache_mode = {mode}"], QUERIES[name], crowd, *arguments)
    assert complaints(plan, all_branches=arguments[-1] is None) == []
    conditions = " ".join(condition(node) for node in nodes(plan))
    assert ("$1" in conditions) == (mode == "force_generic_plan")


@pytest.mark.parametrize("question", HOT)
async def test_the_checker_sees_sequential_scans(
    module_database: TestDatabase, bridge: None, crowd: TenantId, question: str
) -> None:
    name, arguments = HOT[question]
    no_index = [f"enable_{kind} = off" for kind in ("indexscan", "indexonlyscan", "bitmapscan")]
    async with open_database(module_database.runtime_url, connections=1) as pool:
        plan = await explain(pool, no_index, QUERIES[name], crowd, *arguments)
    assert complaints(plan, all_branches=False)
