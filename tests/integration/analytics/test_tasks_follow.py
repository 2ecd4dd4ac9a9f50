"""Tasks are exactly what a reading of the events by hand gives, and outlive every reload."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.integration.analytics.tasks_by_hand import Reading, Row
from tests.integration.data.brute_force import Event
from tests.integration.data.loading import in_tenant, make_tenant, set_tenant
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
from troupe.actors.analytics import following
from troupe.actors.analytics.following import Rules, follow, follow_tenant
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
                await world.take(Replace({day: rows}))
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


# --- when it is done ---


@pytest.mark.parametrize("broken", [None, "refused"])
def test_the_comparison_finds_a_cooldown_that_is_not_kept(
    module_database: TestDatabase, monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    """A broken twin: three carts on three days, of which the cooldown allows the first."""
    item = json.dumps([{"id": "i1", "name": "One", "price": 10, "quantity": 1}])
    visit = {"user_pseudo_id": "u1", "ga_session_id": 1, "items": item, "currency": "EUR"}
    sequence: list[Step] = [
        Replace({day: [Event(datetime(day.year, day.month, day.day, 12, tzinfo=UTC), "add_to_cart",
                             **visit)]})
        for day in (date(2026, 10, 23), date(2026, 10, 25), date(2026, 10, 27))
    ]  # fmt: skip
    if broken is not None:
        monkeypatch.setattr(following, broken, lambda *_: [])
    told = TenantSettings(cart_cooldown_days=7)

    async def work() -> tuple[list[Row], list[Row]]:
        connection = await asyncpg.connect(module_database.runtime_url)
        try:
            world = await open_shop(connection, "UTC")
            for step in sequence:
                await world.take(step)
            await follow_now(world, told, LATER)
            return await tasks_of(world), reading(world, told, LATER).all()
        finally:
            await connection.close()

    found, wanted = asyncio.run(work())
    assert len(wanted) == 1
    assert (in_order(found) == in_order(wanted)) is (broken is None)


def test_it_is_done_when_something_has_changed_and_by_one_at_a_time(
    module_database: TestDatabase,
) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(module_database.runtime_url)
        other = await asyncpg.connect(module_database.runtime_url)
        try:
            for one in (connection, other):  # as the program's pool does
                await one.set_type_codec(
                    "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
                )
            world = await open_shop(connection, "UTC")
            tenant = world.tenant

            async def due() -> bool:
                return await world.within(lambda c: follow_tenant(c, tenant))

            async def sql(statement: str) -> None:
                await world.within(lambda c: c.execute(statement))

            day = date(2026, 10, 23)
            noon = datetime(2026, 10, 23, 12, tzinfo=UTC)
            assert await due()
            assert not await due()
            await world.take(Replace({day: [Event(noon, "page_view", user_pseudo_id="u1")]}))
            assert await due()
            assert not await due()
            await sql("UPDATE platform.tenants SET settings = '{\"cart_cooldown_days\": 3}'")
            assert await due()
            assert not await due()
            await sql("UPDATE analytics.followed SET next_at = now()")  # a cart turns idle
            assert await due()
            assert not await due()
            await sql("UPDATE analytics.followed SET followed_at = now() - interval '61 minutes'")
            async with connection.transaction():
                await set_tenant(connection, tenant)
                assert await follow_tenant(connection, tenant)
                second = in_tenant(other, tenant, lambda c: follow_tenant(c, tenant))
                assert not await asyncio.wait_for(second, 10)  # neither waits nor does it again
            await sql("UPDATE platform.tenants SET state = 'deactivated'")
            await sql("UPDATE analytics.followed SET next_at = now()")
            assert not await due()
        finally:
            await connection.close()
            await other.close()

    asyncio.run(work())
