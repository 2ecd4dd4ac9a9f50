"""Runs from their planning to their end: gates, suppression, bounces, cancelling, deciding."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest
import trio

from tests.integration.reports.conftest import (
    ACTOR,
    Office,
    days_until_yesterday,
    soon,
    yesterday,
)
from troupe.actors.analytics.answers import Answers, Snapshot
from troupe.actors.analytics.filters import Filters
from troupe.actors.analytics.reports.content import (
    TASK_KINDS,
    Phrase,
    ReportReader,
    Subject,
    TaskColumn,
    TaskTable,
)
from troupe.actors.analytics.reports.outcomes import MOST_ATTEMPTS, State
from troupe.actors.analytics.reports.periods import ReportPeriod
from troupe.actors.analytics.reports.planning import cancel_run, plan_slot, settle_by_hand
from troupe.actors.analytics.reports.records import Recipient, ReportSchedule
from troupe.actors.analytics.reports.unsubscribe import subscription_of, token_of, unsubscribe
from troupe.actors.analytics.reports.workshop import WorkshopFailed
from troupe.actors.auth.members import add_member
from troupe.actors.auth.tenants import set_tenant_state
from troupe.common.dates import DateRange
from troupe.common.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from troupe.platform.schedules import CronTimetable

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Darwin",
    "Australia/Lord_Howe",
    "America/Santiago",
)

CHANGES = {
    (month, day)
    for month, days in {3: (7, 16), 4: (1, 9), 9: (5, 9), 10: (3, 6), 11: (1, 4)}.items()
    for day in range(days[0], days[1] + 1)
} | {(month, day) for month in (3, 10) for day in range(24, 32)}
"""Days around which clocks of these zones change, in 2025 and 2026."""


async def plan(office: Office, schedule: ReportSchedule, zone: str, slot: datetime) -> UUID:
    return await office.database.run(
        lambda c: plan_slot(c, office.shop.tenant, schedule, zone, slot, 1),
        tenant=office.shop.tenant,
    )


async def schedule_of(office: Office, **changes: object) -> ReportSchedule:
    new = ReportSchedule(**({"name": "daily"} | changes))
    return await office.store.schedules.add(office.shop.tenant, new, ACTOR, now=datetime.now(UTC))


async def morning_after_morning(office: Office, days: Callable[[datetime], bool]) -> None:
    """Plan the slots of two years that `days` wants; each is one mail, of the day before."""
    for zone in ZONES:
        await office.add(f"{zone.rpartition('/')[2].lower()}@branch.example", time_zone=zone)
    schedule = await schedule_of(office)
    assert set(schedule.zones) == set(ZONES)
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    wanted = set()
    for zone in ZONES:
        every = takewhile(lambda at: at < end, CronTimetable(schedule.cron, zone).after(start))
        slots = [slot for slot in every if days(slot)]
        address = f"{zone.rpartition('/')[2].lower()}@branch.example"
        local = {slot.astimezone(ZoneInfo(zone)).date() for slot in slots}
        assert len(local) == len(slots)
        wanted |= {(address, day - timedelta(days=1)) for day in local}

        async def unit(
            connection: "asyncpg.Connection", zone: str = zone, slots: list[datetime] = slots
        ) -> None:
            for slot in [*slots, *slots[::50]]:  # some are tried again
                await plan_slot(connection, office.shop.tenant, schedule, zone, slot, 1)

        await office.database.run(unit, tenant=office.shop.tenant, deadline=120)
    rows = await office.database.fetch(
        "SELECT address, first_day FROM analytics.report_deliveries", tenant=office.shop.tenant
    )
    assert len(rows) == len(wanted)
    assert {(row["address"], row["first_day"]) for row in rows} == wanted


async def test_one_mail_for_each_local_day_when_the_clocks_change(office: Office) -> None:
    """The weeks of two years in which they do; all of both years: make chaos."""
    await morning_after_morning(office, lambda slot: (slot.month, slot.day) in CHANGES)


async def test_each_zone_of_the_recipients_has_a_schedule(office: Office) -> None:
    await office.add("a@branch.example", time_zone="Europe/Berlin")
    tokyo = await office.add("b@branch.example", time_zone="Asia/Tokyo")
    schedule = await schedule_of(office)
    assert schedule.zones == ("Asia/Tokyo", "Europe/Berlin")
    count = "SELECT count(*) FROM platform.schedules WHERE kind = 'report_plan'"
    assert await office.value(count) == 2
    assert tokyo.id is not None
    await office.store.recipients.remove(office.shop.tenant, tokyo.id, ACTOR)
    assert (await office.store.schedules.one(office.shop.tenant, schedule.id)).zones == (
        "Europe/Berlin",
    )
    await office.store.schedules.remove(office.shop.tenant, schedule.id, ACTOR)
    assert await office.value(count) == 0


async def test_a_slot_is_planned_and_sent_once(office: Office) -> None:
    await office.add("ada@branch.example")
    schedule = await schedule_of(office)
    slot = datetime.now(UTC).replace(hour=8, minute=0, second=0, microsecond=0)
    runs = {await plan(office, schedule, "UTC", slot) for _ in range(3)}
    assert len(runs) == 1
    async with office.running():
        await office.becomes(runs.pop(), "done")
    assert len(office.mail.rules.taken) == 1


async def test_two_slots_for_one_period_send_one_mail(office: Office) -> None:
    await office.add("ada@branch.example")
    schedule = await schedule_of(office, cron="0 8,9 * * *")
    day = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    async with office.running():
        for hour in (8, 9):
            run = await plan(office, schedule, "UTC", day.replace(hour=hour))
            await office.becomes(run, "done")
    assert len(office.mail.rules.taken) == 1


async def test_whoever_unsubscribes_gets_no_more_mail(office: Office) -> None:
    recipient = await office.add("Ada@branch.example")
    await office.add("ada@branch.example", "b2")
    await office.add("bob@branch.example")
    secret = await office.value(
        "SELECT secret FROM analytics.report_recipients WHERE recipient_id = $1", recipient.id
    )
    assert recipient.id is not None
    token = token_of(office.shop.tenant, recipient.id, secret)
    found = await subscription_of(office.database, token)
    assert found.address == "Ada@branch.example"
    await unsubscribe(office.database, found)
    await unsubscribe(office.database, found)
    run = await office.send()
    async with office.running():
        await office.becomes(run, "done")
    assert [mail.recipient for mail in office.mail.rules.taken] == ["bob@branch.example"]
    states = Counter(one.state for one in await office.deliveries(run))
    assert states == {State.SUPPRESSED: 2, State.SENT: 1}


async def test_a_link_of_another_secret_or_tenant_is_none(office: Office) -> None:
    recipient = await office.add("ada@branch.example")
    assert recipient.id is not None
    for tenant, secret in (
        (office.shop.tenant, b"x" * 16),
        (office.rival.tenant, b"x" * 16),
        (office.shop.tenant, b""),
    ):
        with pytest.raises(NotFound):
            await subscription_of(office.database, token_of(tenant, recipient.id, secret))
    for token in ("", "ä", "a" * 64, "=" * 64, "A" * 4000):
        with pytest.raises(NotFound):
            await subscription_of(office.database, token)


async def test_hard_bounces_suppress_after_a_set_number(office: Office) -> None:
    await office.settle(bounces_until_suppressed=2)
    await office.add("nobody@branch.example")
    async with office.running():
        for expected in (State.BOUNCED, State.BOUNCED, State.SUPPRESSED):
            run = await office.send()
            await office.becomes(run, "done")
            assert (await office.deliveries(run))[0].state is expected
    (suppressed,), _ = await office.store.suppressions.page(office.shop.tenant, limit=10)
    assert (suppressed.reason, suppressed.hard_bounces) == ("bounced", 2)
    await office.store.suppressions.lift(office.shop.tenant, "nobody@branch.example", ACTOR)
    assert await office.store.suppressions.page(office.shop.tenant, limit=10) == ([], None)


async def test_a_cancelled_run_sends_nothing_more(office: Office) -> None:
    await office.add_many([f"slow+{number}@branch.example" for number in range(30)])
    await office.settle(connections=1)
    run = await office.send()
    async with office.running():

        async def begun() -> bool:
            return len(office.mail.rules.taken) >= 1

        await soon(begun, "the first mail is taken")
        await cancel_run(office.database, office.shop.tenant, run.id, ACTOR)
        await trio.sleep(1.5)
    states = Counter(one.state for one in await office.deliveries(run))
    assert states[State.SENT] == len(office.mail.rules.taken) <= 4
    assert states[State.CANCELLED] + states[State.SENT] == 30
    with pytest.raises(Conflict):
        await cancel_run(office.database, office.shop.tenant, run.id, ACTOR)


async def test_an_ambiguous_mail_is_a_person_s_to_decide(office: Office) -> None:
    await office.add("lost@branch.example")
    run = await office.send()
    tenant = office.shop.tenant
    async with office.running():
        await office.becomes(run, "done")
        (delivery,) = await office.deliveries(run)
        assert delivery.state is State.AMBIGUOUS
        assert len(office.mail.rules.taken) == 1
        await settle_by_hand(office.database, tenant, delivery.id, ACTOR, again=True)
        await office.becomes(run, "done")
        assert len(office.mail.rules.taken) == 2

        async def said() -> bool:
            return (await office.store.runs.one(tenant, run.id)).problem is not None

        await soon(said, "the run says what is to be decided")
        await settle_by_hand(office.database, tenant, delivery.id, ACTOR, again=False)
        assert (await office.store.runs.one(tenant, run.id)).problem is None
    assert (await office.store.deliveries.one(tenant, delivery.id)).state is State.SENT
    with pytest.raises(Conflict):
        await settle_by_hand(office.database, tenant, delivery.id, ACTOR, again=True)
    first, second = office.mail.rules.taken
    assert first.content == second.content


async def test_no_statement_can_send_a_sent_mail_again(office: Office) -> None:
    await office.add("ada@branch.example")
    run = await office.send()
    async with office.running():
        await office.becomes(run, "done")
    for state in ("queued", "sending", "deferred", "ambiguous"):
        with pytest.raises(asyncpg.CheckViolationError):
            await office.database.execute(
                "UPDATE analytics.report_deliveries SET state = $1",
                state,
                tenant=office.shop.tenant,
            )


async def test_a_refused_login_uses_up_nobody_s_attempts(office: Office) -> None:
    await office.add_many([f"p{number}@branch.example" for number in range(20)])
    await office.connect_mail(port=1)
    run = await office.send()
    async with office.running():

        async def told() -> bool:
            return (await office.store.runs.one(office.shop.tenant, run.id)).problem is not None

        await soon(told, "the run says why it does not go on")
    deliveries = await office.deliveries(run)
    assert {one.state for one in deliveries} == {State.QUEUED}
    assert {one.attempts for one in deliveries} == {0}


async def test_a_sender_that_no_mail_can_have_is_said(office: Office) -> None:
    await office.add("ada@branch.example")
    await office.connect_mail(sender="berichte@läden.example")
    run = await office.send()
    async with office.running():
        await office.becomes(run, "done")
    (delivery,) = await office.deliveries(run)
    assert delivery.state is State.FAILED
    assert "cannot be written" in (delivery.server_answer or "")


async def test_a_recipient_is_checked(office: Office) -> None:
    await office.add("ada@branch.example")
    with pytest.raises(Conflict):
        await office.add("ADA@branch.example")
    for wrong in (
        {"address": "a, b@c.example"},
        {"address": "eve@branch.example", "branch": "nowhere"},
        {"address": "eve@branch.example", "time_zone": "Mars/Olympus"},
    ):
        values = dict(wrong)
        address, branch = values.pop("address"), values.pop("branch", "b1")
        with pytest.raises(InvalidInput):
            await office.add(address, branch, **values)


async def test_an_outdated_copy_changes_nothing(office: Office) -> None:
    recipient = await office.add("ada@branch.example")
    tenant = office.shop.tenant
    await office.store.recipients.change(tenant, recipient, ACTOR)
    with pytest.raises(PreconditionFailed):
        await office.store.recipients.change(tenant, recipient, ACTOR)


async def test_a_rival_sees_and_changes_nothing(office: Office) -> None:
    recipient = await office.add("ada@branch.example")
    run = await office.send()
    async with office.running():
        await office.becomes(run, "done")
    rival, store = office.rival.tenant, office.store
    assert await store.recipients.page(rival, limit=10) == ([], None, 0)
    assert await store.runs.page(rival, limit=10) == ([], None)
    assert await store.deliveries.page(rival, limit=10) == ([], None)
    assert recipient.id is not None
    for ask in (
        store.recipients.one(rival, recipient.id),
        store.runs.one(rival, run.id),
        store.recipients.remove(rival, recipient.id, ACTOR),
        cancel_run(office.database, rival, run.id, ACTOR),
    ):
        with pytest.raises(NotFound):
            await ask


async def test_a_test_goes_to_one_address_and_needs_no_recipient(office: Office) -> None:
    await office.add("ada@branch.example")
    run = await office.send(
        period=ReportPeriod.WEEK, test_address="me@shop.example", test_location="b2"
    )
    async with office.running():
        await office.becomes(run, "done")
    (mail,) = office.mail.rules.taken
    assert mail.recipient == "me@shop.example"
    assert mail.message["Subject"].startswith("[Test]")
    assert mail.message["List-Unsubscribe"] is None


async def add_owner(office: Office) -> None:
    await add_member(
        office.database,
        office.shop.tenant,
        issuer="https://login.example",
        subject="olga",
        role="owner",
        name="Olga",
        email="olga@shop.example",
    )


async def owner_is_told(office: Office) -> str:
    """What the owner is told, once."""

    async def told() -> bool:
        return bool(office.mail.rules.to("olga@shop.example"))

    await soon(told, "the owner is told")
    (mail,) = office.mail.rules.to("olga@shop.example")
    assert mail.message["Subject"] == "Troupe: reports of Shop need attention"
    return " ".join(mail.message.get_content().split())


async def test_owners_are_told_when_figures_are_late(office: Office) -> None:
    await add_owner(office)
    await office.add("ada@branch.example")
    await office.as_admin(
        "UPDATE data.versions SET data_until = NULL WHERE tenant_id = $1", office.shop.tenant
    )
    run = await office.send()
    async with office.running():
        await office.becomes(run, "done")
        assert "not complete in time" in await owner_is_told(office)
    assert len(office.mail.rules.taken) == 2


async def test_owners_are_told_of_mails_that_failed_or_may_have_arrived(office: Office) -> None:
    await add_owner(office)
    await office.add_many(["ada@branch.example", "lost@branch.example", "spam@branch.example"])
    run = await office.send()
    await office.as_admin(
        "UPDATE analytics.report_deliveries SET attempts = $1 WHERE address LIKE 'spam%'",
        MOST_ATTEMPTS - 1,
    )
    async with office.running():
        await office.becomes(run, "done")
        told = await owner_is_told(office)
    assert "could not be delivered: 1." in told
    assert "whether they arrived: 1." in told
    tenant, runs = office.shop.tenant, office.store.runs
    assert "could not be delivered: 1." in ((await runs.one(tenant, run.id)).problem or "")
    found = {one.state: one.id for one in await office.deliveries(run)}
    assert set(found) == {State.SENT, State.FAILED, State.AMBIGUOUS}
    await settle_by_hand(office.database, tenant, found[State.AMBIGUOUS], ACTOR, again=False)
    assert (await runs.one(tenant, run.id)).problem is not None  # one is still to be decided


async def test_a_closed_tenant_sends_nothing_more(office: Office) -> None:
    await office.add_many([f"p{number}@branch.example" for number in range(3)])
    run = await office.send()
    await set_tenant_state(office.database, office.shop.tenant, "deactivated")
    async with office.running():
        await office.becomes(run, "cancelled")
    assert {one.state for one in await office.deliveries(run)} == {State.CANCELLED}
    assert office.mail.rules.taken == []


async def test_a_failure_of_ours_cuts_no_mail_short(office: Office) -> None:
    """One connection fails while the other waits for the server's answer."""
    await office.add_many(
        [f"{kind}+{n}@branch.example" for n in range(6) for kind in ("a", "slow")]
    )
    await office.settle(connections=2)
    run = await office.send()
    failed = []

    def fail(step: str) -> None:
        busy = sum(office.mail.rules.seen.values()) > len(office.mail.rules.taken)
        if step == "written" and busy and len(failed) < 3:
            failed.append(step)
            raise WorkshopFailed("The process that writes mails has ended.")

    async with office.running(office.dispatch(at=fail)), trio.open_nursery() as nursery:

        async def hurry() -> None:
            while True:
                await office.hurry_jobs()
                await trio.sleep(0.2)

        nursery.start_soon(hurry)
        await office.becomes(run, "done")
        nursery.cancel_scope.cancel()
    assert failed
    assert {one.state for one in await office.deliveries(run)} == {State.SENT}
    assert len(office.mail.rules.taken) == 12


class Doubles:
    """A list of tasks that is made up, from the snapshot it is given."""

    kind = "performance"

    async def read(self, snapshot: Snapshot, days: DateRange, filters: Filters) -> TaskTable:
        del snapshot, days
        title = Phrase("Performance", "Leistung")
        column = TaskColumn("branch", Phrase("Branch", "Filiale"))
        rows = tuple((branch,) for branch in filters.locations)
        return TaskTable(self.kind, title, (column,), rows, len(rows))


async def test_task_lists_come_through_a_seam(office: Office) -> None:
    subject = Subject("b2", ReportPeriod.DAY, DateRange(yesterday(), yesterday()))
    answers = Answers(office.database)
    without = await ReportReader(answers).read(office.shop.tenant, subject)
    assert without.missing == TASK_KINDS
    content = await ReportReader(answers, [Doubles()]).read(office.shop.tenant, subject)
    assert [table.rows for table in content.tasks] == [(("b2",),)]
    assert "performance" not in content.missing


async def test_the_figures_are_those_of_the_warehouse(office: Office) -> None:
    days = days_until_yesterday()
    subject = Subject("b1", ReportPeriod.WEEK, DateRange(days[6], days[0]))
    content = await ReportReader(Answers(office.database)).read(office.shop.tenant, subject)
    truth = office.shop.over(subject.days, ["b1"])
    figures = {line.name: line.value for line in content.figures}
    assert figures["gross_revenue"] == truth["gross_revenue"]
    assert figures["sessions"] == truth["sessions"]
    assert figures["total_users"] == truth["total_users"]
    assert sum(day.value for day in content.days) == truth["gross_revenue"]
    before = office.shop.over(subject.days.shifted(-7), ["b1"])
    assert content.figures[0].before == before["gross_revenue"]


async def test_nobody_to_send_to_is_said(office: Office) -> None:
    with pytest.raises(InvalidInput):
        await office.send()
    await office.store.recipients.add(
        office.shop.tenant,
        Recipient(location_id="b1", address="off@branch.example", enabled=False),
        ACTOR,
    )
    with pytest.raises(InvalidInput):
        await office.send()
