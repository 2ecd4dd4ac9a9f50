"""The scheduler on a real database: every slot once, on time, by the policy."""

from datetime import datetime, timedelta
from itertools import pairwise, takewhile

import asyncpg
import trio

from tests.integration.schedules.conftest import ADA, BOB, World, read_beat, soon
from troupe.common.bridge import aio
from troupe.platform.jobs import JobStore, NewJob, enqueue
from troupe.platform.leadership import Leadership
from troupe.platform.schedules import CronTimetable, Policy, Schedule, ScheduleChange
from troupe.platform.schedules._writing import write_slots

HOUR = timedelta(hours=1)
ANNUAL, YEAR = "0 0 1 1 *", timedelta(days=366)
"""Of such a line exactly one slot is missed."""


def expected(schedule: Schedule, begin: datetime, end: datetime) -> list[datetime]:
    slots = CronTimetable(schedule.cron, schedule.zone).after(begin)
    return list(takewhile(lambda slot: slot <= end, slots))


def texts(slots: list[datetime]) -> list[str]:
    return [f"{slot:%Y-%m-%dT%H:%M:%S}Z" for slot in slots]


async def test_after_an_outage_each_policy_does_what_it_says(world: World) -> None:
    made = {
        policy: await world.make("*/10 * * * *", policy=policy, grace=1, catch_up_limit=4)
        for policy in Policy
    }
    begins = {policy: await world.outage(made[policy], 5 * HOUR) for policy in Policy}
    async with world.running(world.scheduler()):
        await world.settled(*made.values())
    for policy, schedule in made.items():
        now = (await world.store.get(ADA, schedule.id)).settled_until
        slots = expected(schedule, begins[policy], now)
        assert len(slots) in {30, 31}
        found = await world.slots(schedule)
        assert [slot for slot, _ in found] == slots
        outcomes = [outcome for _, outcome in found]
        # Should a slot have come up just now, it is no missed one.
        last = outcomes[-1:] if policy is not Policy.COALESCE else []
        missed = slots[: len(slots) - len(last)]
        match policy:
            case Policy.SKIP:
                assert outcomes == ["skipped"] * len(missed) + last
                jobs: list[datetime] = []
            case Policy.COALESCE:
                assert outcomes == ["coalesced"] * (len(slots) - 1) + ["enqueued"]
                jobs = slots[-1:]
            case Policy.CATCH_UP:
                assert outcomes == ["enqueued"] * 4 + ["skipped"] * (len(missed) - 4) + last
                jobs = slots[:4]
        jobs += slots[-1:] if last == ["enqueued"] else []
        assert await world.jobs(schedule) == texts(jobs)


async def test_an_outage_that_needs_several_transactions_is_settled_like_one(world: World) -> None:
    schedule = await world.make("* * * * *", policy=Policy.CATCH_UP, catch_up_limit=1000, grace=90)
    begin = await world.outage(schedule, 60 * HOUR)
    other = await world.make("0 * * * *", tenant=BOB)
    await world.outage(other, 2 * HOUR)
    async with world.running(world.scheduler()):
        await world.settled(schedule, other)
    now = (await world.store.get(ADA, schedule.id)).settled_until
    found = await world.slots(schedule)
    assert [slot for slot, _ in found] == expected(schedule, begin, now)
    outcomes = [outcome for _, outcome in found]
    assert outcomes[:1000] == ["enqueued"] * 1000
    assert set(outcomes[1000:3500]) == {"skipped"}
    assert outcomes[-1] == "enqueued"
    assert len(await world.jobs(schedule)) == outcomes.count("enqueued")
    # Nobody waits for a long backlog.
    sql = "SELECT min(position) FROM public.written WHERE schedule_id = $1"
    assert await world.look(sql, other.id) < 2100
    largest = await world.look(
        "SELECT max(n) FROM (SELECT count(*) n FROM platform.schedule_slots GROUP BY written_at) t"
    )
    assert largest <= 1000


async def test_slots_across_a_change_of_the_clock_are_those_of_the_timetable(world: World) -> None:
    schedule = await world.make("30 2 * * *", "Europe/Berlin", policy=Policy.SKIP)
    begin = await world.outage(schedule, timedelta(days=400))
    async with world.running(world.scheduler()):
        await world.settled(schedule)
    now = (await world.store.get(ADA, schedule.id)).settled_until
    found = [slot for slot, _ in await world.slots(schedule)]
    assert found == expected(schedule, begin, now)
    assert len({slot.hour for slot in found}) == 2


async def test_a_slot_happens_within_a_second_of_its_instant(world: World) -> None:
    schedule = await world.make("25 0 * * *", policy=Policy.SKIP)
    scheduler = world.scheduler(read=read_beat, poll=60)
    async with world.running(scheduler):

        async def enough() -> bool:
            return len(await world.slots(schedule)) >= 12

        await soon(enough, "a dozen slots")
    slots = await world.rows(
        "SELECT slot, outcome, written_at FROM platform.schedule_slots ORDER BY 1"
    )
    assert {row["outcome"] for row in slots} == {"enqueued"}
    steps = {b["slot"] - a["slot"] for a, b in pairwise(slots)}
    assert steps == {timedelta(milliseconds=250)}
    late = [row["written_at"] - row["slot"] for row in slots[1:]]
    assert timedelta(0) <= min(late)
    assert sorted(late)[len(late) // 2] < timedelta(seconds=0.1)
    assert max(late) < timedelta(seconds=1)


async def test_a_change_wakes_the_leader(world: World) -> None:
    async with world.running(world.scheduler(poll=60, read=read_beat)):

        async def leads() -> bool:
            return bool(await world.look("SELECT count(*) FROM platform.leaders"))

        await soon(leads, "somebody leads")
        await trio.sleep(0.2)
        schedule = await world.make("30 0 * * *")

        async def happened() -> bool:
            return len(await world.slots(schedule)) > 1

        with trio.fail_after(3):
            await soon(happened, "slots of the new schedule")


async def test_without_notifications_polling_finds_it(world: World) -> None:
    async with world.running(world.scheduler(listen=False, poll=0.3, read=read_beat)):
        await trio.sleep(0.5)
        schedule = await world.make("30 0 * * *")

        async def happened() -> bool:
            return len(await world.slots(schedule)) > 1

        with trio.fail_after(3):
            await soon(happened, "slots of the new schedule")


async def test_another_line_or_zone_counts_from_the_change_on(world: World) -> None:
    schedule = await world.make("*/10 * * * *", "UTC")
    for change in (ScheduleChange(cron="* * * * *"), ScheduleChange(zone="Asia/Kathmandu")):
        await world.outage(schedule, 3 * HOUR)
        before = await world.look("SELECT now()")
        await world.store.change(ADA, schedule.id, change)
        async with world.running(world.scheduler()):
            await world.settled(schedule)
        assert all(slot > before for slot, _ in await world.slots(schedule))
        due = await world.look("SELECT due_at FROM platform.schedules")
        assert [due] == await world.store.upcoming(ADA, schedule.id, 1)


async def test_what_is_switched_off_does_not_happen_and_is_not_made_up_for(world: World) -> None:
    off = await world.make("* * * * *")
    changed = await world.make("* * * * *")
    begin = await world.outage(changed, HOUR)
    await world.store.disable(ADA, off.id)
    await world.outage(off, 3 * HOUR)
    await world.store.change(ADA, changed.id, ScheduleChange(priority=7, policy=Policy.COALESCE))
    async with world.running(world.scheduler()):
        await world.settled(changed)
        assert await world.slots(off) == []
        on = await world.store.enable(ADA, off.id)
        await world.settled(off)
    assert all(slot > on.changed_at for slot, _ in await world.slots(off))
    # Other changes leave the past alone.
    slots = await world.slots(changed)
    assert len(slots) in {60, 61, 62}
    assert slots[0][0] > begin
    assert await world.look("SELECT array_agg(DISTINCT priority) FROM platform.all_jobs") == [7]


async def test_a_tenant_that_was_deactivated_misses_its_slots(world: World) -> None:
    schedule = await world.make("*/10 * * * *", policy=Policy.COALESCE)
    other = await world.make("*/10 * * * *", policy=Policy.COALESCE, tenant=BOB)
    for each in (schedule, other):
        await world.outage(each, 2 * HOUR)
    await world.change(
        "UPDATE platform.tenants SET state = 'deactivated' WHERE tenant_id = $1", ADA
    )
    async with world.running(world.scheduler(poll=0.1)):
        await world.settled(other)
        assert await world.slots(schedule) == []
        await world.change("UPDATE platform.tenants SET state = 'active'")
        await world.settled(schedule)
    assert [outcome for _, outcome in await world.slots(schedule)].count("enqueued") == 1


async def test_two_schedulers_write_every_slot_once(world: World) -> None:
    beats = [await world.make("4 0 * * *", tenant=tenant) for tenant in (ADA, BOB)]
    pair = [world.scheduler(read=read_beat) for _ in range(2)]
    async with world.running(*pair) as supervisor:
        for _ in range(6):
            await trio.sleep(0.4)
            await world.change("UPDATE platform.leaders SET expires_at = '-infinity'")
        details = [child.details for child in supervisor.snapshot().children]
        assert sum(bool(each["leads"]) for each in details) <= 1
    assert await world.look("SELECT max(term) FROM platform.leaders") >= 4
    for schedule in beats:
        slots = [slot for slot, _ in await world.slots(schedule)]
        assert len(slots) > 20
        steps = {b - a for a, b in pairwise(slots)}
        assert steps == {timedelta(milliseconds=40)}
        assert len(await world.jobs(schedule)) == len(slots)
    terms = await world.look("SELECT array_agg(term ORDER BY position) FROM public.written")
    assert terms == sorted(terms)


async def test_a_leader_that_stops_in_order_is_succeeded_at_once(world: World) -> None:
    await world.make("10 0 * * *")
    async with world.running(world.scheduler(read=read_beat, lease=60)) as first:

        async def begun() -> bool:
            return bool(await world.look("SELECT count(*) FROM public.written") > 2)

        await soon(begun, "the first one leads")
        async with world.running(world.scheduler(read=read_beat, lease=60)):
            await trio.sleep(0.3)
            first.request_stop()

            async def succeeded() -> bool:
                return bool(await world.look("SELECT max(term) = 2 FROM public.written"))

            with trio.fail_after(3):
                await soon(succeeded, "the second one leads")


async def test_a_schedule_that_cannot_be_used_holds_up_nobody(world: World) -> None:
    lost = await world.make("*/10 * * * *")
    sound = await world.make("*/10 * * * *")
    begin = await world.outage(lost, HOUR)
    await world.outage(sound, HOUR)
    await world.change(
        "UPDATE platform.schedules SET zone = 'Europe/Atlantis' WHERE schedule_id = $1", lost.id
    )
    async with world.running(world.scheduler()):
        await world.settled(lost, sound)
        assert len(await world.slots(sound)) in {6, 7}
        problem = (await world.store.get(ADA, lost.id)).problem
        assert problem == "/zone must be a time zone, such as Europe/Berlin"
        # As soon as its zone is known it goes on where it was.
        await world.change("UPDATE platform.schedules SET zone = 'UTC', due_at = now()")
        await world.settled(lost)
    assert (await world.store.get(ADA, lost.id)).problem is None
    slots = await world.slots(lost)
    assert len(slots) in {6, 7}
    assert slots[0][0] > begin


async def test_a_slot_that_cannot_be_written_puts_off_its_schedule_only(world: World) -> None:
    poisoned = await world.make(ANNUAL)
    sound = [await world.make(ANNUAL) for _ in range(3)]
    for each in (poisoned, *sound):
        await world.outage(each, YEAR)
    settled = (await world.store.get(ADA, poisoned.id)).settled_until
    [slot] = expected(poisoned, settled, await world.look("SELECT now()"))

    async def forge(connection: asyncpg.Connection) -> None:
        key = f"schedule/{poisoned.id}/{texts([slot])[0]}"
        await enqueue(connection, NewJob(group="data", kind="work", idempotency_key=key))

    await world.database.run(forge, tenant=ADA)
    async with world.running(world.scheduler()):
        await world.settled(poisoned, *sound)
    for each in sound:
        assert await world.slots(each) == [(slot, "enqueued")]
    assert await world.slots(poisoned) == []
    problem = (await world.store.get(ADA, poisoned.id)).problem
    assert problem is not None
    assert "idempotency key" in problem


async def test_a_schedule_that_somebody_is_changing_is_left_for_later(world: World) -> None:
    held, free = [await world.make(ANNUAL) for _ in range(2)]
    for each in (held, free):
        await world.outage(each, YEAR)
    holder = await aio(asyncpg.connect(world.where.admin_url))
    try:
        await aio(holder.execute("BEGIN"))
        lock = "SELECT FROM platform.schedules WHERE schedule_id = $1 FOR UPDATE"
        await aio(holder.execute(lock, held.id))
        async with world.running(world.scheduler()):
            with trio.fail_after(5):
                await world.settled(free)
            assert await world.slots(held) == []
            await aio(holder.execute("COMMIT"))
            await world.settled(held)
    finally:
        await aio(holder.close())
    assert len(await world.slots(held)) == 1


async def test_what_was_due_is_looked_at_again_under_its_lock(world: World) -> None:
    """Between finding it and locking it, it may have been settled or switched off."""
    off, elsewhere, due = [await world.make(ANNUAL) for _ in range(3)]
    for each in (off, elsewhere, due):
        await world.outage(each, YEAR)
    await world.change(
        "UPDATE platform.schedules SET enabled = false WHERE schedule_id = $1", off.id
    )
    later = "UPDATE platform.schedules SET due_at = now() + interval '1 h' WHERE schedule_id = $1"
    await world.change(later, elsewhere.id)
    term = await Leadership(world.database, "schedules").acquire()
    assert term is not None
    which = [off.id, elsewhere.id, due.id]
    written = await world.database.run(
        lambda connection: write_slots(connection, term, ADA, which, CronTimetable), tenant=ADA
    )
    assert (written.looked_at, written.outcomes.total()) == (1, 1)
    assert await world.slots(off) == await world.slots(elsewhere) == []
    assert len(await world.slots(due)) == 1


async def test_slots_go_on_after_the_database_was_away(world: World) -> None:
    schedule = await world.make("5 0 * * *")
    scheduler = world.scheduler(read=read_beat)
    async with world.running(scheduler) as supervisor:
        for _ in range(4):
            await trio.sleep(0.3)
            await world.change(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'troupe%'"
            )
        written = len(await world.slots(schedule))

        async def goes_on() -> bool:
            return len(await world.slots(schedule)) > written + 5

        await soon(goes_on, "slots after the outage")
        assert supervisor.snapshot().find("scheduler-0").restarts == 0
    slots = [slot for slot, _ in await world.slots(schedule)]
    assert {b - a for a, b in pairwise(slots)} == {timedelta(milliseconds=50)}
    assert len(await world.jobs(schedule)) == len(slots)


async def test_slots_that_exist_are_not_written_again_when_a_schedule_is_set_back(
    world: World,
) -> None:
    schedule = await world.make("*/10 * * * *")
    begin = await world.outage(schedule, HOUR)
    async with world.running(world.scheduler()):
        await world.settled(schedule)
        jobs = await world.jobs(schedule)
        await world.change(
            "UPDATE platform.schedules SET settled_until = $1, due_at = now()",
            begin - timedelta(minutes=20),
        )
        await world.settled(schedule)
    slots = [slot for slot, _ in await world.slots(schedule)]
    assert {b - a for a, b in pairwise(slots)} == {timedelta(minutes=10)}
    assert (await world.jobs(schedule))[2 : 2 + len(jobs)] == jobs
    assert len(await world.jobs(schedule)) == len(slots)


async def test_a_slot_written_by_somebody_who_asks_nobody_undoes_the_transaction(
    world: World,
) -> None:
    """What the row's uniqueness is good for, with nothing else in its way."""
    schedule = await world.make(ANNUAL)
    await world.outage(schedule, YEAR)
    rogue = await aio(asyncpg.connect(world.where.admin_url))
    [slot] = expected(
        schedule,
        (await world.store.get(ADA, schedule.id)).settled_until,
        await world.look("SELECT now()"),
    )
    try:
        await aio(rogue.execute("BEGIN"))
        await aio(
            rogue.execute(
                "INSERT INTO platform.schedule_slots (tenant_id, schedule_id, slot, outcome, term)"
                " VALUES ($1, $2, $3, 'skipped', 0)",
                ADA,
                schedule.id,
                slot,
            )
        )
        async with world.running(world.scheduler()):
            waits = (
                "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            )

            async def waiting() -> bool:
                return bool(await world.look(waits))

            await soon(waiting, "the scheduler meets the other's row")
            await aio(rogue.execute("COMMIT"))
            await world.settled(schedule)
    finally:
        await aio(rogue.close())
    assert await world.slots(schedule) == [(slot, "skipped")]
    assert await world.jobs(schedule) == []


async def test_many_schedules_due_at_once_are_many_short_transactions(world: World) -> None:
    count = 1500
    await world.change(
        """
        INSERT INTO platform.schedules
            (tenant_id, schedule_id, name, group_name, kind, cron, zone, policy, grace_seconds,
             catch_up_limit, priority, max_attempts, enabled, settled_until)
        SELECT CASE n % 3 WHEN 0 THEN $1::uuid ELSE $2::uuid END, gen_random_uuid(), 'many ' || n,
               'data', 'work', '0 0 1 1 *', 'UTC', 'coalesce', 60, 1, 0, 5, true,
               now() - interval '366 days'
        FROM generate_series(1, $3::integer) n
        """,
        ADA,
        BOB,
        count,
    )
    async with world.running(world.scheduler()):

        async def settled() -> bool:
            sql = "SELECT count(*) = 0 FROM platform.schedules WHERE due_at <= now()"
            return bool(await world.look(sql))

        await soon(settled, "all of them")
    [(largest, transactions)] = await world.rows(
        "SELECT max(n), count(*) FROM"
        " (SELECT count(*) n FROM platform.schedule_slots GROUP BY written_at) t"
    )
    assert largest <= 100
    assert transactions >= count / 100
    assert await world.look("SELECT count(*) FROM platform.all_jobs") == count


async def test_slots_are_forgotten_in_batches_when_they_are_old(world: World) -> None:
    schedule = await world.make("* * * * *", policy=Policy.SKIP)
    await world.outage(schedule, 40 * HOUR)
    async with world.running(world.scheduler()):
        await world.settled(schedule)
    kept = await world.look(
        "WITH aged AS ("
        "  UPDATE platform.schedule_slots SET written_at = now() - interval '91 days'"
        "  WHERE slot < now() - interval '1 day' RETURNING 1)"
        " SELECT (SELECT count(*) FROM platform.schedule_slots) - (SELECT count(*) FROM aged)"
    )
    assert kept in range(1430, 1450)
    # 960 are gone with the first batch; a full batch would be followed by another.
    async with world.running(world.scheduler()):

        async def forgotten() -> bool:
            count = await world.look("SELECT count(*) FROM platform.schedule_slots")
            return count - kept in {0, 1}

        await soon(forgotten, "slots of the last day are left")


async def test_the_status_tells_who_leads_and_what_comes_next(world: World) -> None:
    schedule = await world.make("0 * * * *")
    async with world.running(world.scheduler(), world.scheduler()) as supervisor:
        await world.settled(schedule)

        async def told() -> bool:
            found = [child.details for child in supervisor.snapshot().children]
            return any(each["next_look"] for each in found)

        await soon(told, "the next look is told")
        leader, other = sorted(
            (child.details for child in supervisor.snapshot().children),
            key=lambda details: not details["leads"],
        )
    due = await world.look("SELECT due_at FROM platform.schedules")
    assert (leader["term"], leader["next_look"]) == (1, due.isoformat())
    assert (other["leads"], other["term"], other["next_look"]) == (False, None, None)


async def test_slots_name_their_jobs_and_what_became_of_these(world: World) -> None:
    schedule = await world.make("*/10 * * * *", policy=Policy.CATCH_UP, grace=1, catch_up_limit=2)
    await world.outage(schedule, HOUR)
    async with world.running(world.scheduler()):
        await world.settled(schedule)
    jobs = JobStore(world.database)
    seen = (await world.store.slots(ADA, schedule.id)).data
    first = seen[-1]
    assert first.job_id is not None
    job = await jobs.get(ADA, first.job_id)
    assert job.arguments["slot"] == texts([first.instant])[0]
    assert (first.job_state, first.term) == (job.state, 1)
    await jobs.request_cancel(ADA, first.job_id)
    page = await world.store.slots(ADA, schedule.id, limit=4)
    assert (page.total, len(page.data)) == (len(seen), 4)
    rest = await world.store.slots(ADA, schedule.id, cursor=page.next_cursor)
    assert [slot.instant for slot in (*page.data, *rest.data)] == [slot.instant for slot in seen]
    assert rest.data[-1].job_state == "cancelled"
    assert (page.data[-1].outcome, page.data[-1].job_id) == ("skipped", None)
