"""Enqueueing and looking: in the caller's transaction, once per key, one tenant at a time."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import trio

from tests.integration.jobs.conftest import ADA, BOB, GROUP, World
from troupe.common.bridge import aio
from troupe.common.errors import Conflict, InvalidInput, NotFound
from troupe.common.ids import new_id
from troupe.platform.jobs import Job, JobState, NewJob, enqueue

CHANNEL = f"troupe_jobs_{GROUP}"


async def test_a_job_exists_exactly_if_its_transaction_commits(world: World) -> None:
    class Undo(Exception):
        pass

    async def unit(connection: asyncpg.Connection) -> Job:
        job = await enqueue(connection, NewJob(group=GROUP, kind="work"))
        assert await connection.fetchval("SELECT count(*) FROM platform.jobs") == 1
        raise Undo(job.id)

    with pytest.raises(Undo):
        await world.database.run(unit, tenant=ADA)
    assert await world.look("SELECT count(*) FROM platform.jobs") == 0


async def test_what_was_asked_for_is_what_is_stored(world: World) -> None:
    at = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    job = await world.enqueue(
        arguments={"days": [1, "zwei", None, {"ä": True}]},
        priority=-7,
        run_at=at,
        unique_key="u",
        idempotency_key="i",
        max_attempts=9,
    )
    found = await world.get(job)
    assert found == job
    assert (found.kind, found.group, found.tenant_id) == ("work", GROUP, ADA)
    assert found.arguments == {"days": [1, "zwei", None, {"ä": True}]}
    assert (found.priority, found.run_at, found.max_attempts) == (-7, at, 9)
    assert (found.state, found.attempt, found.error) == (JobState.AVAILABLE, 0, None)
    assert not found.deduplicated
    later = await world.enqueue(delay=3600)
    assert timedelta(minutes=59) < later.run_at - later.created_at < timedelta(minutes=61)


async def test_a_transaction_without_a_tenant_enqueues_nothing(world: World) -> None:
    with pytest.raises((asyncpg.NotNullViolationError, asyncpg.InsufficientPrivilegeError)):
        await world.enqueue(tenant=None)  # type: ignore[arg-type]


async def test_a_unique_key_gives_back_the_job_that_lives(world: World) -> None:
    first = await world.enqueue(unique_key="day", arguments={"n": 1})
    again = await world.enqueue(unique_key="day", arguments={"n": 2})
    assert (again.id, again.deduplicated, again.arguments) == (first.id, True, {"n": 1})
    assert (await world.enqueue(unique_key="day", tenant=BOB)).id != first.id
    assert (await world.enqueue(kind="other", unique_key="day")).id != first.id
    await world.store.request_cancel(ADA, first.id)
    another = await world.enqueue(unique_key="day")
    assert another.id != first.id
    assert not another.deduplicated


async def test_an_idempotency_key_gives_back_the_job_even_when_it_is_over(world: World) -> None:
    first = await world.enqueue(idempotency_key="k", arguments={"x": 1.5})
    await world.store.request_cancel(ADA, first.id)
    again = await world.enqueue(idempotency_key="k", arguments={"x": 1.5})
    assert (again.id, again.deduplicated, again.state) == (first.id, True, JobState.CANCELLED)
    with pytest.raises(Conflict, match="other arguments"):
        await world.enqueue(idempotency_key="k", arguments={"x": 2})


async def test_two_transactions_with_one_unique_key_make_one_job(world: World) -> None:
    jobs: list[Job] = []
    key = NewJob(group=GROUP, kind="work", unique_key="day")
    connection = await aio(asyncpg.connect(world.where.runtime_url))
    try:
        await aio(_prepare_plain(connection))
        jobs.append(await aio(enqueue(connection, key)))
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def second() -> None:
                jobs.append(await world.enqueue(unique_key="day"))

            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            with trio.fail_after(5):
                while await world.look(waiting) == 0:
                    await trio.sleep(0.01)
            await aio(connection.execute("COMMIT"))
    finally:
        await aio(connection.close())
    assert jobs[0].id == jobs[1].id
    assert jobs[1].deduplicated


async def _prepare_plain(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )
    await connection.execute("BEGIN")
    await connection.execute(f"SET LOCAL troupe.tenant_id = '{ADA}'")


async def test_many_jobs_are_enqueued_in_order_by_one_statement(world: World) -> None:
    news = [
        NewJob(group=GROUP, kind="work", arguments={"n": n}, unique_key=f"k{n % 80}")
        for n in range(100)
    ]
    jobs = await world.enqueue_all(news)
    assert [job.arguments["n"] for job in jobs] == [*range(80), *range(20)]
    assert [job.deduplicated for job in jobs] == [False] * 80 + [True] * 20
    assert await world.look("SELECT count(*) FROM platform.jobs") == 80


async def test_who_waits_is_notified_once_per_statement_and_never_for_later(world: World) -> None:
    heard: list[str] = []
    many = [NewJob(group=GROUP, kind="work") for _ in range(50)]
    connection = await aio(asyncpg.connect(world.where.runtime_url))
    try:
        await aio(connection.add_listener(CHANNEL, lambda *args: heard.append(args[3])))
        await world.enqueue_all(many)  # nobody waits: nobody is told
        await world.database.execute(
            "SELECT platform.register_process($1, $2, 'host', 1, 3600)", uuid.uuid4(), GROUP
        )
        await world.enqueue_all(many)  # the process is busy
        await world.change("UPDATE platform.processes SET waits = true")
        await world.enqueue_all(many)
        await world.enqueue(delay=60)
        await world.enqueue(kind="last")
        await aio(connection.execute(f"NOTIFY {CHANNEL}, 'the end'"))
        with trio.fail_after(5):
            while "the end" not in heard:
                await trio.sleep(0.01)
    finally:
        await aio(connection.close())
    assert heard == ["available", "available", "the end"]


async def test_a_tenant_sees_and_touches_its_own_jobs_only(world: World) -> None:
    job = await world.enqueue()
    for attempt in (world.store.get, world.store.request_cancel, world.store.retry):
        with pytest.raises(NotFound):
            await attempt(BOB, job.id)
    assert (await world.store.list(BOB)).total == 0
    with pytest.raises(NotFound):
        await world.store.get(ADA, new_id())
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.database.fetch("SELECT * FROM platform.processes", tenant=ADA)


async def test_lists_are_paged_by_key_filtered_and_counted(world: World) -> None:
    jobs = [await world.enqueue(kind="ab"[n % 2]) for n in range(7)]
    newest_first = sorted((job.id for job in jobs), reverse=True)  # to the millisecond
    first = await world.store.list(ADA, limit=3)
    await world.enqueue(kind="newcomer")
    second = await world.store.list(ADA, limit=3, cursor=first.next_cursor)
    third = await world.store.list(ADA, limit=3, cursor=second.next_cursor)
    pages = [*first.data, *second.data, *third.data]
    assert [job.id for job in pages] == newest_first
    assert (first.total, second.total, third.next_cursor) == (7, 8, None)
    await world.store.request_cancel(ADA, jobs[0].id)
    only = await world.store.list(ADA, kind="a", state=JobState.CANCELLED)
    assert [job.id for job in only.data] == [jobs[0].id]
    assert only.total == 1


@pytest.mark.parametrize("cursor", ["", "nonsense", "AAAA", "ä", "x" * 5000])
async def test_a_cursor_from_elsewhere_is_refused(world: World, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        await world.store.list(ADA, cursor=cursor)
    with pytest.raises(InvalidInput, match="limit"):
        await world.store.list(ADA, limit=0)


async def test_cancel_and_retry_of_jobs_that_wait(world: World) -> None:
    job = await world.enqueue(unique_key="day")
    with pytest.raises(Conflict, match="available"):
        await world.store.retry(ADA, job.id)
    cancelled = await world.store.request_cancel(ADA, job.id)
    assert (cancelled.state, cancelled.cancel_requested) == (JobState.CANCELLED, True)
    assert cancelled.finished_at is not None
    assert (await world.store.request_cancel(ADA, job.id)).state is JobState.CANCELLED
    other = await world.enqueue(unique_key="day")
    with pytest.raises(Conflict, match="same kind and key"):
        await world.store.retry(ADA, job.id)
    await world.store.request_cancel(ADA, other.id)
    again = await world.store.retry(ADA, job.id)
    assert (again.state, again.cancel_requested, again.finished_at) == (
        JobState.AVAILABLE,
        False,
        None,
    )
