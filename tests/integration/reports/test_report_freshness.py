"""The gate: a report waits for its days and for its task lists, and says so when they are late."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta

import asyncpg
import pytest

from tests.integration.reports.conftest import ACTOR, Office, soon, yesterday
from tests.integration.reports.test_report_life import plan, schedule_of
from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.following import follow_once
from troupe.actors.analytics.reports import dispatch, writing
from troupe.actors.analytics.reports.content import ReportReader
from troupe.actors.analytics.reports.freshness import freshness_of
from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.planning import cancel_run
from troupe.actors.analytics.reports.task_lists import every_list
from troupe.actors.analytics.reports.workshop import ThreadWriter
from troupe.actors.analytics.reports.writing import Press, TasksBehind
from troupe.actors.auth.connections import put_connection
from troupe.common.bridge import aio
from troupe.common.dates import DateRange

A_DAY = timedelta(days=1)


@asynccontextmanager
async def somebody_follows(office: Office) -> AsyncIterator[None]:
    """Another instance is at the shop's tasks, and does not get on."""
    connection = await aio(asyncpg.connect(office.where.admin_url))
    try:
        await aio(connection.execute("BEGIN"))
        await aio(
            connection.execute(
                "SELECT FROM analytics.followed WHERE tenant_id = $1 FOR UPDATE",
                office.shop.tenant,
            )
        )
        yield
        await aio(connection.execute("ROLLBACK"))
    finally:
        await aio(connection.close())


async def load(office: Office) -> None:
    """Something was loaded: there is another version of the data."""
    await office.as_admin(
        "UPDATE data.versions SET data_version = data_version + 1 WHERE tenant_id = $1",
        office.shop.tenant,
    )


async def followed(office: Office) -> bool:
    days = DateRange(yesterday(), yesterday())
    return (await freshness_of(office.database, office.shop.tenant, days)).followed


async def test_a_report_waits_for_its_data(office: Office) -> None:
    await office.add("ada@branch.example")
    await office.as_admin(
        "UPDATE data.versions SET data_until = $2 WHERE tenant_id = $1",
        office.shop.tenant,
        yesterday() - timedelta(days=1),
    )
    schedule = await schedule_of(office, patience=3600)
    run = await plan(office, schedule, "UTC", datetime.now(UTC).replace(microsecond=0))
    async with office.running():

        async def waited() -> bool:
            return bool(
                await office.value(
                    "SELECT count(*) FROM platform.job_history WHERE kind = 'report_deliver'"
                )
            )

        await soon(waited, "it has looked")
    assert (await office.store.runs.one(office.shop.tenant, run)).state == "waiting"
    assert office.mail.rules.taken == []


async def test_after_its_patience_a_notice_is_sent_and_no_figures(office: Office) -> None:
    await office.add("ada@branch.example")
    await office.as_admin(
        "UPDATE data.versions SET data_until = $2 WHERE tenant_id = $1",
        office.shop.tenant,
        yesterday() - timedelta(days=1),
    )
    schedule = await schedule_of(office, patience=0)
    run = await plan(office, schedule, "UTC", datetime.now(UTC).replace(microsecond=0))
    async with office.running():
        done = await office.becomes(run, "done")
    assert done.notice
    (mail,) = office.mail.rules.taken
    assert mail.message["Subject"].startswith("Figures are late:")
    assert b"Key figures" not in mail.content


async def test_a_stale_day_is_not_complete(office: Office) -> None:
    await office.add("ada@branch.example")
    await office.as_admin(
        "INSERT INTO data.source_days (tenant_id, source_day, state) VALUES ($1, $2, 'stale')",
        office.shop.tenant,
        yesterday(),
    )
    run = await office.send()
    async with office.running():
        assert (await office.becomes(run, "done")).notice


async def looked(office: Office) -> bool:
    return bool(
        await office.value(
            "SELECT count(*) FROM platform.job_history WHERE kind = 'report_deliver'"
        )
    )


async def test_a_report_waits_until_its_task_lists_have_followed(office: Office) -> None:
    await office.add("ada@branch.example")
    assert await follow_once(office.database, office.shop.tenant)
    async with office.running():
        async with somebody_follows(office):
            await load(office)
            run = await office.send()
            await soon(lambda: looked(office), "it has looked")
            assert (await office.store.runs.one(office.shop.tenant, run.id)).state == "waiting"
            assert office.mail.rules.taken == []
        await office.hurry_jobs()
        done = await office.becomes(run, "done")
    assert not done.notice
    assert await followed(office)
    assert len(office.mail.rules.taken) == 1


async def test_task_lists_that_never_follow_are_waited_for_so_long(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "FOLLOW_PATIENCE", 0)
    await office.add("ada@branch.example")
    await follow_once(office.database, office.shop.tenant)
    await load(office)
    async with somebody_follows(office), office.running():
        run = await office.send()
        assert (await office.becomes(run, "done")).notice


async def test_a_load_while_mails_are_sent_is_followed_before_the_next_branch(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = office.shop.tenant
    for branch in ("b1", "b2", "b3"):
        await office.add("ada@branch.example", branch)
    run = await office.send()
    found = {one.location_id: one for one in await office.deliveries(run)}
    await cancel_run(office.database, tenant, run.id, ACTOR)
    await follow_once(office.database, tenant)
    reader = ReportReader(Answers(office.database), every_list())
    press = Press(reader, ThreadWriter(office.threads), "https://board.example")
    look = await office.store.look(tenant)
    edition = press.edition(tenant, look, "reports@shop.example", awaits_tasks=True)
    before = await edition.write(found["b1"], None, b"", notice=False)
    await load(office)
    after = await edition.write(found["b2"], None, b"", notice=False)
    assert after.content.data_version == before.content.data_version + 1
    assert after.content.tasks_followed
    assert await followed(office)
    monkeypatch.setattr(writing, "FOLLOW_TRIES", 2)
    await load(office)
    async with somebody_follows(office):
        with pytest.raises(TasksBehind):
            await edition.write(found["b3"], None, b"", notice=False)
        preview = press.edition(tenant, look, "reports@shop.example")
        shown = await preview.write(found["b3"], None, b"", notice=False)
        assert not shown.content.tasks_followed


async def test_lists_that_stop_following_end_the_round_and_cost_nobody_a_mail(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They had followed when the run began."""
    monkeypatch.setattr(writing, "FOLLOW_TRIES", 2)
    await office.add("ada@branch.example")
    await follow_once(office.database, office.shop.tenant)
    run = await office.send()
    await office.as_admin("UPDATE analytics.report_runs SET state = 'sending'")
    await load(office)
    async with office.running():
        async with somebody_follows(office):

            async def told() -> bool:
                now = await office.store.runs.one(office.shop.tenant, run.id)
                return "task lists" in (now.problem or "")

            await soon(told, "the run says why it does not go on")
            (delivery,) = await office.deliveries(run)
            assert (delivery.state, delivery.attempts) == (State.QUEUED, 0)
        await office.hurry_jobs()
        await office.becomes(run, "done")
    assert len(office.mail.rules.taken) == 1


Cases = dict[str, tuple[DateRange, dict[date, dict[str, object]], bool]]


def middle() -> date:
    """Of a week that ends yesterday."""
    return yesterday() - 2 * A_DAY


def intraday(hour: int) -> dict[str, object]:
    """A table of the day in the middle that was last written at an hour of it, or after it."""
    midnight = datetime.combine(middle(), time(), UTC)
    return {"family": "intraday", "source_modified": midnight + timedelta(hours=hour)}


def cases() -> Cases:
    """Days asked for, what is wrong with some, whether the period is complete."""
    last, day = yesterday(), middle()
    week = DateRange(last - 6 * A_DAY, last)
    return {
        "all there": (week, {}, True),
        "failed": (week, {day: {"state": "failed"}}, False),
        "stale": (week, {day: {"state": "stale"}}, False),
        "never looked at": (week, {day: {"state": None}}, False),
        "its table may come late": (week, {day: {"state": "missing"}}, False),
        "its table comes no more": (week, {last - 5 * A_DAY: {"state": "missing"}}, True),
        "most of a day": (week, {day: intraday(20)}, False),
        "a whole day": (week, {day: intraday(25)}, True),
        "another day": (DateRange(last, last), {day: {"state": "failed"}}, True),
        "the day before": (week, {last - 7 * A_DAY: {"state": "failed"}}, True),
        "the day after": (week, {last + A_DAY: {"state": "failed"}}, True),
        "history begins within": (DateRange(last - 30 * A_DAY, last), {}, True),
        "not over": (DateRange(last, last + A_DAY), {}, False),
    }


async def test_a_period_is_complete_when_each_of_its_days_is_there(office: Office) -> None:
    found, wanted = {}, cases()
    for name, (days, changes, _) in wanted.items():
        await store_days(office, changes)
        found[name] = (await freshness_of(office.database, office.shop.tenant, days)).complete
    assert found == {name: complete for name, (_, _, complete) in wanted.items()}


async def test_days_of_another_zone_are_two_of_the_export(office: Office) -> None:
    """A day in UTC reaches into the day before in Los Angeles, and the day after in Tokyo."""
    day = middle()
    days, before, after = DateRange(day, day), day - A_DAY, day + A_DAY
    for zone, touched, other in (
        ("America/Los_Angeles", before, after),
        ("Asia/Tokyo", after, before),
    ):
        config = {"project": "shop-1", "dataset": "analytics_1", "property_time_zone": zone}
        tenant = office.shop.tenant
        await put_connection(office.database, office.vault, tenant, "bigquery", config, None)
        for stale, complete in ((touched, False), (other, True)):
            await store_days(office, {stale: {"state": "stale"}})
            found = await freshness_of(office.database, tenant, days)
            assert found.complete is complete, (zone, stale)


async def store_days(office: Office, changes: dict[date, dict[str, object]]) -> None:
    """Ten days until yesterday, loaded whole, with changes; nothing else is known."""
    rows = []
    for number in range(-1, 10):
        day = yesterday() - number * A_DAY
        row = {"state": "loaded", "family": "daily", "source_modified": None}
        row |= changes.get(day, {"state": None} if number < 0 else {})
        if row["state"] is not None:
            rows.append((office.shop.tenant, day, *row.values()))
    await office.as_admin("DELETE FROM data.source_days")
    for values in rows:
        await office.as_admin(
            "INSERT INTO data.source_days (tenant_id, source_day, state, family, source_modified)"
            " VALUES ($1, $2, $3, $4, $5)",
            *values,
        )
