"""What keeps a queue fit for years: pause, redrive, retention, tickets that leave no trace."""

import json
import uuid
from datetime import timedelta

import asyncpg
import pytest
import trio

from tests.integration.jobs.conftest import ADA, BOB, GROUP, World, kind, soon
from troupe.common.errors import Conflict, NotFound
from troupe.platform.errors import PermanentJobError
from troupe.platform.jobs import (
    JobRun,
    JobState,
    NewJob,
    kinds_at_work,
    pause_kind,
    resume_kind,
)
from troupe.platform.jobs._enqueue import QUERIES

TEND = QUERIES["tend_history"]
FORGET = QUERIES["forget_old_jobs"]
TURN = QUERIES["turn_ring"]


async def nothing(_run: JobRun) -> None:
    await trio.lowlevel.checkpoint()


async def test_no_job_of_a_paused_kind_starts_until_it_is_resumed(world: World) -> None:
    runner = world.runner({"work": kind(nothing), "other": kind(nothing)})
    async with world.running(runner):
        await pause_kind(world.database, "work")
        held, other = await world.enqueue(), await world.enqueue(kind="other")
        await world.becomes(other, JobState.DONE)
        await trio.sleep(0.5)
        assert (await world.get(held)).state is JobState.AVAILABLE
        paused = {one.kind: one for one in await kinds_at_work(world.database)}
        assert paused["work"].paused_at is not None
        assert (paused["work"].waiting, paused["work"].running) == (1, 0)
        assert (paused["other"].waiting, paused["other"].paused_at) == (0, None)
        asked = trio.current_time()
        await resume_kind(world.database, "work")
        await world.becomes(held, JobState.DONE)
        assert trio.current_time() - asked < 1
    with pytest.raises(NotFound, match="no kind of job"):
        await pause_kind(world.database, "unheard of")


async def test_jobs_that_run_go_on_while_their_kind_is_paused(world: World) -> None:
    release = trio.Event()

    async def wait(_run: JobRun) -> None:
        await release.wait()

    job = await world.enqueue()
    async with world.running(world.runner({"work": kind(wait)})):
        await world.becomes(job, JobState.RUNNING)
        await pause_kind(world.database, "work")
        release.set()
        await world.becomes(job, JobState.DONE)


async def test_redrive_runs_the_dead_and_failed_again_from_their_checkpoints(world: World) -> None:
    broken = True

    async def work(run: JobRun) -> object:
        if broken:
            await run.save_checkpoint("half way")
            raise PermanentJobError("no")
        return run.checkpoint

    jobs = [await world.enqueue() for _ in range(3)]
    other = await world.enqueue(kind="other")
    foreign = await world.enqueue(tenant=BOB)
    kinds = {"work": kind(work), "other": kind(work)}
    async with world.running(world.runner(kinds)):
        await world.all_finished()
        broken = False
        assert len(await world.store.redrive(ADA, kind="work", limit=2)) == 2
        assert len(await world.store.redrive(ADA, kind="work")) == 1
        assert await world.store.redrive(ADA, kind="work") == ()
        for job in jobs:
            done = await world.becomes(job, JobState.DONE)
            assert (done.result, done.attempt, done.error) == ("half way", 1, None)
    assert (await world.get(other)).state is JobState.FAILED
    assert (await world.get(foreign)).state is JobState.FAILED


async def test_redrive_leaves_the_unique_key_to_the_job_that_lives(world: World) -> None:
    for _ in range(2):
        job = await world.enqueue(unique_key="day")
        await world.change("UPDATE platform.jobs SET max_attempts = 1, state = 'available'")
        run = await world.held(job)
        failed = {str(run.key[2]): {"ending": "failed"}}
        await world.database.execute(QUERIES["finish"], *([part] for part in run.key), failed)
    live = await world.enqueue(unique_key="day")
    assert await world.store.redrive(ADA) == ()
    await world.store.request_cancel(ADA, live.id)
    (revived,) = await world.store.redrive(ADA)
    assert revived.id == job.id  # the newer of the two
    with pytest.raises(Conflict):
        await world.store.retry(ADA, live.id)


async def test_history_is_kept_by_the_day_and_dropped_by_the_day(world: World) -> None:
    jobs = [await world.enqueue(idempotency_key=f"key {n}") for n in range(3)]
    async with world.running(world.runner({"work": kind(nothing)})):
        await world.all_finished()
    days = await world.look(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'platform.job_history'::regclass"
        # Not those that are over: the tests' template may have been made yesterday.
        " AND (inhrelid = 'platform.job_history_default'::regclass OR inhrelid::regclass::text"
        " >= to_char(now(), '\"platform.job_history_y\"YYYYMMDD'))"
    )
    assert days == 9  # today, seven ahead, and the one for all others
    today = "SELECT tableoid::regclass::text FROM platform.job_history"
    assert (await world.look(today)).startswith("platform.job_history_y")

    # Two of them grow older than what is kept: one in a partition of its own, one in the default.
    await world.change(
        """CREATE TABLE platform.job_history_y20200101 PARTITION OF platform.job_history
               FOR VALUES FROM ('2020-01-01') TO ('2020-01-02');
           UPDATE platform.job_keys SET created_at = '2020-01-01'"""
    )
    for job, day in zip(jobs, ("2020-01-01", "2020-02-02"), strict=False):
        await world.change(
            f"UPDATE platform.job_history SET finished_at = '{day} 12:00' WHERE job_id = $1", job.id
        )
    assert await world.database.fetch_value(FORGET, 30, 100) == 2
    row = await world.database.fetch_row(TEND, 30, 7)
    assert row is not None
    assert tuple(row) == (0, 1)
    assert await world.look("SELECT count(*) FROM platform.job_history") == 1
    assert (await world.enqueue(idempotency_key="key 2")).id == jobs[2].id
    again = await world.enqueue(idempotency_key="key 0")
    assert (again.id == jobs[0].id, again.deduplicated) == (False, False)


async def test_a_day_that_nobody_prepared_is_caught_and_found(world: World) -> None:
    await world.change(
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'platform.job_history'::regclass AND inhrelid::regclass::text ~ '_y'"
        " LOOP EXECUTE 'DROP TABLE ' || t; END LOOP; END $$"
    )
    run = await world.held(await world.enqueue())
    await world.database.run(lambda c: run.complete_in(c, "kept"), tenant=ADA)
    row = await world.database.fetch_row(TEND, 30, 2)
    assert row is not None
    assert row["made"] == 2  # not today, whose job is in the default
    assert (await world.get(run.job)).result == "kept"


async def test_tickets_leave_nothing_behind_although_an_old_snapshot_is_held(world: World) -> None:
    reader = await world.connect()
    await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await reader.execute("SELECT count(*), txid_current() FROM platform.jobs")
    patient = await world.enqueue(kind="patient")  # a straggler: nobody runs it
    size = "SELECT pg_total_relation_size('platform.job_tickets_{}')"
    emptied = 0
    async with world.running(world.runner({"work": kind(nothing, concurrency=64)}, slots=64)):
        for _ in range(4):
            await world.enqueue_all([NewJob(group=GROUP, kind="work")] * 400)
            await world.all_finished_of("work")
            emptied += await world.database.fetch_value(TURN, 8192)
    assert emptied >= 3
    sizes = [await world.look(size.format(ring)) for ring in range(3)]
    assert sum(sizes) < 300_000, "1,600 dead tickets take more than that"
    assert (await world.get(patient)).state is JobState.AVAILABLE
    async with world.running(world.runner({"patient": kind(nothing)})):
        await world.becomes(patient, JobState.DONE)
    await reader.execute("ROLLBACK")


async def test_a_ring_that_somebody_uses_is_left_for_the_next_time(world: World) -> None:
    await world.enqueue_all([NewJob(group=GROUP, kind="work")] * 200)
    assert await world.database.fetch_value(TURN, 8192) == 1  # moved on: all of them wait still
    writer = await world.connect()
    await writer.execute("BEGIN")
    await writer.execute("LOCK TABLE platform.job_tickets_1 IN ROW EXCLUSIVE MODE")
    assert await world.database.fetch_value(TURN, 8192) == 0
    await writer.execute("COMMIT")
    assert await world.look("SELECT count(*) FROM platform.job_tickets") == 200


async def test_a_delayed_job_starts_when_it_is_due_not_at_the_next_poll(world: World) -> None:
    async with world.running(world.runner({"work": kind(nothing)}, poll=30.0)):
        await trio.sleep(0.3)
        job = await world.enqueue(delay=0.7)
        # The runner has not been told; it learns of it at its next claim, for whatever reason.
        await world.becomes(await world.enqueue(), JobState.DONE)
        done = await world.becomes(job, JobState.DONE)
    assert done.started_at is not None
    assert timedelta(0) <= done.started_at - done.run_at < timedelta(seconds=0.3)


async def test_a_tenant_takes_its_jobs_along_when_it_goes(world: World) -> None:
    await world.enqueue(tenant=BOB, idempotency_key="k")
    await world.enqueue(tenant=BOB, delay=60)
    run = await world.held(await world.enqueue(tenant=BOB, kind="done"))
    await world.database.run(run.complete_in, tenant=BOB)
    kept = await world.enqueue()
    await world.change("DELETE FROM platform.tenants WHERE tenant_id = $1", BOB)
    for table in ("all_jobs", "job_keys", "job_tickets", "job_delayed"):
        rows = await world.rows(f"SELECT tenant_id FROM platform.{table}")
        assert {row["tenant_id"] for row in rows} <= {ADA}, table
    assert (await world.get(kept)).state is JobState.AVAILABLE
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await world.enqueue(tenant=BOB)


async def test_claims_and_completions_read_no_table_from_end_to_end(world: World) -> None:
    """The plans of the hot statements, with statistics that say that the tables are empty."""
    await world.enqueue_all([NewJob(group=GROUP, kind="work")] * 3000)
    await world.change("ANALYZE platform.jobs, platform.job_tickets")
    await world.change("DELETE FROM platform.job_tickets")
    for table in ("jobs", "job_tickets_0"):
        await world.change(
            f"UPDATE pg_class SET reltuples = 0, relpages = 0 WHERE relname = '{table}'"
        )
    run = await world.held(await world.enqueue(kind="other"))
    await world.change("SELECT pg_stat_force_next_flush()")
    before = await world.look(_SCANS)
    await world.held(await world.enqueue(kind="third"))
    await world.database.run(run.complete_in, tenant=ADA)
    await world.store.request_cancel(ADA, (await world.enqueue()).id)

    async def counted() -> bool:  # statistics arrive a moment later
        await world.change("SELECT pg_stat_clear_snapshot()")
        seen = json.loads(await world.look(_SCANS))
        return bool(seen["index"] > json.loads(before)["index"])

    await soon(counted, "the scans are counted")
    assert json.loads(await world.look(_SCANS))["rows"] == json.loads(before)["rows"]


async def test_a_claim_reads_what_it_claims_although_statistics_say_that_all_is_empty(
    world: World,
) -> None:
    """Vacuum believes an empty queue to have one row; a join by that belief reads all of it."""
    many = [NewJob(group=GROUP, kind="work")] * 1500
    reader = await world.connect()
    await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await reader.execute("SELECT count(*), txid_current() FROM platform.tenants")
    await world.enqueue_all(many)  # their dead rows stay, because of the reader
    async with world.running(world.runner({"work": kind(nothing, concurrency=64)}, slots=64)):
        await world.all_finished()
    await world.change("VACUUM (ANALYZE) platform.jobs")
    await world.change("VACUUM (ANALYZE) platform.job_tickets")
    await world.enqueue_all(many)
    process = uuid.uuid4()

    async def claim(connection: asyncpg.Connection) -> tuple[int, int]:
        await connection.execute(
            "SELECT platform.register_process($1, $2, 'host', 1, 3600)", process, GROUP
        )
        start = int(await connection.fetchval(_READ_HERE))
        rows = await connection.fetch(
            "SELECT tenant_id, job_id, fencing_token FROM platform.claim_jobs("
            " $1, $2, '{work}', '{200}', '{NULL}', '{NULL}', 200, $2, false)",
            GROUP,
            process,
        )
        assert len(rows) == 200
        claimed = int(await connection.fetchval(_READ_HERE))
        keys = zip(*(tuple(row) for row in rows), strict=True)
        assert await connection.fetchval(QUERIES["finish_done"], *keys) == 200
        finished = int(await connection.fetchval(_READ_HERE))
        return claimed - start, finished - claimed

    to_claim, to_finish = await world.database.run(claim)
    assert (to_claim, to_finish) == (200, 200)
    await reader.execute("ROLLBACK")


_READ_HERE = """
    SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables
    WHERE schemaname = 'platform' AND relname = 'jobs'
"""
_SCANS = """
    SELECT jsonb_build_object('rows', sum(seq_tup_read), 'index', sum(idx_scan))::text
    FROM pg_stat_user_tables
    WHERE schemaname = 'platform' AND relname IN ('jobs', 'job_tickets_0')
"""
