"""Schedules as people see them, and that they see only their own."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest

from tests.integration.schedules.conftest import ADA, BOB, World, soon
from tests.support import tenancy
from troupe.common.bridge import aio
from troupe.common.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from troupe.platform.schedules import NewSchedule, Policy, ScheduleChange, ScheduleStore

OURS = (
    *("schedules", "schedule_slots", "leaders", "due_schedules", "next_schedule", "forget_slots"),
    *("take_term", "extend_term", "release_term", "hold_term"),
)
"""Tables and doors of migration 0007."""
NIGHTLY = NewSchedule(
    name="nightly",
    group="data",
    kind="ingest",
    cron="30 2 * * *",
    zone="Europe/Berlin",
    arguments={"days": 2, "share": 0.1},
    policy=Policy.SKIP,
    grace=120,
    catch_up_limit=7,
    priority=3,
    max_attempts=2,
)


async def test_what_is_made_can_be_read(world: World) -> None:
    made = await world.store.create(ADA, NIGHTLY)
    read = await world.store.get(ADA, made.id)
    assert read == made
    for name in NewSchedule.__dataclass_fields__:
        if name != "arguments":
            assert getattr(read, name) == getattr(NIGHTLY, name), name
    assert read.arguments["days"] == 2
    assert str(read.arguments["share"]) == "0.1"
    assert read.version == 1
    now = await world.look("SELECT now()")
    assert timedelta(0) <= now - made.settled_until < timedelta(seconds=5)


async def test_what_cannot_be_used_is_refused_whole(world: World) -> None:
    bad = NewSchedule(name="", group="data", kind="ingest", cron="0 0 30 2 *", zone="Mars/Olympus")
    with pytest.raises(InvalidInput) as refused:
        await world.store.create(ADA, bad)
    assert [where for where, _ in refused.value.errors] == ["/name", "/cron", "/zone"]
    made = await world.store.create(ADA, NIGHTLY)
    with pytest.raises(InvalidInput):
        await world.store.change(ADA, made.id, ScheduleChange(priority=1, cron="99 2 * * *"))
    assert await world.store.get(ADA, made.id) == made


async def test_a_name_is_unique_within_its_tenant(world: World) -> None:
    await world.store.create(ADA, NIGHTLY)
    other = await world.make(name="other")
    await world.store.create(BOB, NIGHTLY)
    with pytest.raises(Conflict):
        await world.store.create(ADA, NIGHTLY)
    with pytest.raises(Conflict):
        await world.store.change(ADA, other.id, ScheduleChange(name="nightly"))


async def test_a_change_says_which_version_it_is_meant_for(world: World) -> None:
    made = await world.store.create(ADA, NIGHTLY)
    changed = await world.store.change(ADA, made.id, ScheduleChange(priority=9), version=1)
    assert (changed.version, changed.priority, changed.cron) == (2, 9, made.cron)
    assert changed.settled_until == made.settled_until
    with pytest.raises(PreconditionFailed):
        await world.store.change(ADA, made.id, ScheduleChange(priority=8), version=1)
    # A number that came from the database goes back there.
    again = await world.store.change(ADA, made.id, ScheduleChange(name="later"))
    assert again.arguments == made.arguments


async def test_what_decides_about_times_settles_everything_before(world: World) -> None:
    made = await world.store.create(ADA, NIGHTLY)
    for change in (
        ScheduleChange(cron="31 2 * * *"),
        ScheduleChange(zone="UTC"),
        ScheduleChange(enabled=False),
        ScheduleChange(enabled=True),
    ):
        await world.outage(made, timedelta(days=2))
        changed = await world.store.change(ADA, made.id, change)
        assert await world.look("SELECT now()") - changed.settled_until < timedelta(seconds=5)
    await world.outage(made, timedelta(days=2))
    same = ScheduleChange(cron="31 2 * * *", zone="UTC", enabled=True, grace=5)
    unchanged = await world.store.change(ADA, made.id, same)
    assert await world.look("SELECT now()") - unchanged.settled_until > timedelta(days=1)


async def test_what_comes_next_is_told_by_the_clock_of_the_database(world: World) -> None:
    made = await world.store.create(ADA, NIGHTLY)
    now = await world.look("SELECT now()")
    slots = await world.store.upcoming(ADA, made.id, 400)
    assert len(slots) == 400
    assert slots[0] - now < timedelta(hours=26)
    assert {slot.hour for slot in slots} == {0, 1}
    await world.store.disable(ADA, made.id)
    assert await world.store.upcoming(ADA, made.id) == []
    with pytest.raises(InvalidInput):
        await world.store.upcoming(ADA, made.id, 1001)


async def test_lists_come_in_pages(world: World) -> None:
    names = [f"schedule {number:02}" for number in range(7)]
    for name in reversed(names):
        await world.make(name=name)
    seen: list[str] = []
    cursor = None
    while True:
        page = await world.store.list(ADA, cursor=cursor, limit=3)
        assert page.total == 7
        seen += [schedule.name for schedule in page.data]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == names


@pytest.mark.parametrize("cursor", ["?", "AA", "", "MjAyNw"])
async def test_cursors_that_nobody_gave_out_are_refused(world: World, cursor: str) -> None:
    made = await world.make()
    with pytest.raises(InvalidInput):
        await world.store.slots(ADA, made.id, cursor=cursor)
    with pytest.raises(InvalidInput):
        await world.store.list(ADA, cursor="AAAA")
    with pytest.raises(InvalidInput):
        await world.store.list(ADA, limit=0)


async def test_a_deleted_schedule_takes_its_slots_along_and_leaves_its_jobs(world: World) -> None:
    made = await world.make("0 0 1 1 *")
    await world.outage(made, timedelta(days=366))
    async with world.running(world.scheduler()):
        await world.settled(made)
    assert len(await world.jobs(made)) == 1
    await world.store.delete(ADA, made.id)
    assert await world.look("SELECT count(*) FROM platform.schedule_slots") == 0
    assert len(await world.jobs(made)) == 1
    with pytest.raises(NotFound):
        await world.store.delete(ADA, made.id)


Call = Callable[[ScheduleStore, uuid.UUID], Awaitable[object]]


@pytest.mark.parametrize(
    "call",
    [
        lambda store, which: store.get(BOB, which),
        lambda store, which: store.change(BOB, which, ScheduleChange(priority=1)),
        lambda store, which: store.delete(BOB, which),
        lambda store, which: store.upcoming(BOB, which),
        lambda store, which: store.slots(BOB, which),
    ],
    ids=["get", "change", "delete", "upcoming", "slots"],
)
async def test_another_tenants_schedule_does_not_exist(world: World, call: Call) -> None:
    made = await world.make()
    with pytest.raises(NotFound):
        await call(world.store, made.id)
    assert await world.store.get(ADA, made.id) == made
    assert (await world.store.list(BOB)).data == ()


async def test_the_checker_of_tenancy_finds_nothing(world: World) -> None:
    for tenant in (ADA, BOB):
        await world.outage(await world.make("0 0 1 1 *", tenant=tenant), timedelta(days=366))
    async with world.running(world.scheduler()):

        async def both() -> bool:
            return bool(
                await world.look(
                    "SELECT count(DISTINCT tenant_id) = 2 FROM platform.schedule_slots"
                )
            )

        await soon(both, "slots of both tenants")
    runtime = await aio(asyncpg.connect(world.where.runtime_url))
    ours = {f"platform.{name}" for name in OURS}
    try:
        found = await aio(tenancy.structure(world.admin))
        found += await aio(tenancy.behaviour(world.admin, runtime, [ADA, BOB]))
    finally:
        await aio(runtime.close())
    assert [line for line in found if line.split(":")[0].split("(")[0] in ours] == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.database.fetch("SELECT * FROM platform.leaders")
