"""Tasks are exactly what a reading of the events by hand gives, and outlive every reload."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.integration.analytics.tasks_by_hand import Reading, Row
from tests.integration.data.loading import make_tenant
from tests.integration.data.test_derivation import (
    CUSTOMERS,
    EXAMPLES,
    Replace,
    Step,
    World,
    add_customers,
    expected,
    steps,
)
from tests.support.postgres import TestDatabase
from troupe.actors.analytics.following import Rules, follow
from troupe.actors.data.publication import Reporting
from troupe.common.tenant_settings import TenantSettings

PHONES = {"E1": "+49 1", "C1": "", "C2": "+49 3"}
COLUMNS = (
    "kind", "began_at", "happened_at", "raised_at", "is_customer", "person_id", "location_id",
    "value", "currency", "priority", "settled_at", "status", "present", "company", "phone",
)  # fmt: skip
LATER = datetime(2026, 11, 20, tzinfo=UTC)
MOMENTS = st.sampled_from([LATER, datetime(2026, 10, 25, 12, tzinfo=UTC)])
SETTINGS = st.builds(
    TenantSettings,
    cart_cooldown_days=st.sampled_from([0, 1, 7]),
    repeat_visit_sessions=st.sampled_from([2, 3]),
    repeat_visit_days=st.sampled_from([1, 2, 30]),
)


async def open_shop(connection: asyncpg.Connection, zone: str) -> World:
    tenant = await make_tenant(connection, zone=zone)
    world = World(connection, Reporting(tenant, zone, "EUR", "UTC", "nothing_found"))

    async def know(inside: asyncpg.Connection) -> None:
        await add_customers(inside, tenant, CUSTOMERS)
        await inside.executemany(
            "UPDATE data.customers SET company = 'Company ' || customer_id, phone = $2"
            " WHERE tenant_id = $3 AND customer_id = $1",
            [(customer, phone, tenant) for customer, phone in PHONES.items()],
        )

    await world.within(know)
    return world


async def follow_now(world: World, told: TenantSettings, now: datetime) -> None:
    rules = Rules(world.tenant, "EUR", world.reporting.zone, told, now)
    await world.within(lambda connection: follow(connection, rules))


async def tasks_of(world: World) -> list[Row]:
    async def read(connection: asyncpg.Connection) -> list[Row]:
        return [dict(row) for row in await connection.fetch("SELECT * FROM analytics.tasks")]

    return await world.within(read)


def reading(world: World, told: TenantSettings, now: datetime) -> Reading:
    return Reading(
        expected(world),
        PHONES,
        now,
        cooldown=timedelta(days=told.cart_cooldown_days),
        visits=told.repeat_visit_sessions,
        days=told.repeat_visit_days,
    )


def in_order(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    return sorted((tuple(row[name] for name in COLUMNS) for row in rows), key=repr)


EXAMPLE_SETTINGS = settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@EXAMPLE_SETTINGS
@given(
    sequence=steps(),
    zone=st.sampled_from(["UTC", "Australia/Lord_Howe"]),
    told=SETTINGS,
    now=MOMENTS,
)
def test_tasks_are_what_a_reading_by_hand_finds(
    module_database: TestDatabase,
    sequence: list[Step],
    zone: str,
    told: TenantSettings,
    now: datetime,
) -> None:
    async def work() -> tuple[list[Row], list[Row], list[Row]]:
        connection = await asyncpg.connect(module_database.runtime_url)
        try:
            world = await open_shop(connection, zone)
            for step in sequence:
                await world.take(step)
            await world.catch_up()
            await follow_now(world, told, now)
            once = await tasks_of(world)
            await follow_now(world, told, now)
            return once, await tasks_of(world), reading(world, told, now).all()
        finally:
            await connection.close()

    once, twice, wanted = asyncio.run(work())
    note(f"wrong: {[row for row in in_order(once) if row not in in_order(wanted)]}")
    assert in_order(once) == in_order(wanted)
    assert sorted(map(repr, once)) == sorted(map(repr, twice))


@EXAMPLE_SETTINGS
@given(sequence=steps(), told=SETTINGS)
def test_a_reload_keeps_what_people_made_of_tasks(
    module_database: TestDatabase, sequence: list[Step], told: TenantSettings
) -> None:
    """Loading the same again changes nothing; a note stays; nobody gets two within the cooldown."""

    async def work() -> None:
        connection = await asyncpg.connect(module_database.runtime_url)
        try:
            world = await open_shop(connection, "UTC")
            for step in sequence:
                await world.take(step)
                before = {row["task_id"]: row for row in await tasks_of(world)}
                await follow_now(world, told, LATER)
                after = {row["task_id"]: row for row in await tasks_of(world)}
                assert {key for key, row in before.items() if row["touched"]} <= after.keys()
                for key, row in before.items():
                    if row["touched"]:
                        assert after[key]["note"] == row["note"]
                check_distance(after, before.keys(), told)
                await world.within(
                    lambda c: c.execute(
                        "UPDATE analytics.tasks SET note = 'mine', touched = true"
                        " WHERE NOT touched AND get_byte(subject, 0) < 128"
                    )
                )
            kept = {row["task_id"]: row for row in await tasks_of(world)}
            for day, rows in world.days.items():
                await world.take(Replace(day, rows))
            await follow_now(world, told, LATER)
            again = {row["task_id"]: row for row in await tasks_of(world)}
            assert again == kept
        finally:
            await connection.close()

    asyncio.run(work())


def check_distance(after: dict[object, Row], before: object, told: TenantSettings) -> None:
    cooldowns = {
        "cart-abandonment": timedelta(days=told.cart_cooldown_days),
        "repeat-visits": timedelta(days=told.repeat_visit_days),
    }
    for key, row in after.items():
        if key in before or row["kind"] not in cooldowns:  # type: ignore[operator]
            continue
        for other, task in after.items():
            same = (task["kind"], task["is_customer"], task["person_id"]) == (
                row["kind"], row["is_customer"], row["person_id"]
            )  # fmt: skip
            if other != key and same:
                apart = abs(task["raised_at"] - row["raised_at"])
                assert apart >= cooldowns[row["kind"]]
