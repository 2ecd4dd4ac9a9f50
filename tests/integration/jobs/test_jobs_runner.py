"""Running jobs: order, bounds, retries, progress, checkpoints, cancel, stop."""

import asyncpg
import pytest
import trio

from tests.integration.jobs.conftest import ADA, BOB, GROUP, World, kind, soon
from troupe.common.errors import ConfigurationError, InvalidInput, NotFound, TooManyRequests
from troupe.platform.errors import PermanentJobError
from troupe.platform.jobs import JobRun, JobState, NewJob
from troupe.platform.supervision import Backoff, ChildContext

LATER = Backoff(first=3600.0, limit=3600.0)


async def nothing(_run: JobRun) -> None:
    await trio.lowlevel.checkpoint()


async def forever(_run: JobRun) -> None:
    await trio.sleep_forever()


async def test_a_job_is_run_and_its_result_kept(world: World) -> None:
    async def double(run: JobRun) -> dict[str, int]:
        await run.progress(1, 2, "half", "the first half", rows=10)
        await run.progress(2, message="both", bytes=5)
        return {"twice": 2 * run.arguments["n"]}

    job = await world.enqueue(arguments={"n": 21})
    runner = world.runner({"work": kind(double)})
    async with world.running(runner):
        done = await world.becomes(job, JobState.DONE)
    assert done.result == {"twice": 42}
    assert (done.attempt, done.error, done.fencing_token is not None) == (1, None, True)
    assert (done.progress.done, done.progress.total, done.progress.phase) == (2, 2, "half")
    assert (done.progress.message, done.progress.detail) == ("both", {"rows": 10, "bytes": 5})
    assert done.created_at < done.started_at < done.finished_at  # type: ignore[operator]
    assert runner.outcomes == {"done": 1}
    assert await world.look("SELECT count(*) FROM platform.processes") == 0


async def test_within_a_tenant_by_priority_then_age_and_not_before_its_time(world: World) -> None:
    order: list[str] = []

    async def note(run: JobRun) -> None:
        order.append(run.arguments["name"])
        await trio.lowlevel.checkpoint()

    await world.enqueue(arguments={"name": "later"}, delay=1.0, priority=100)
    await world.enqueue(arguments={"name": "first of normal"})
    await world.enqueue(arguments={"name": "low"}, priority=-1)
    await world.enqueue(arguments={"name": "second of normal"})
    await world.enqueue(arguments={"name": "urgent"}, priority=5)
    async with world.running(world.runner({"work": kind(note, concurrency=1)})):
        await world.all_finished()
    assert order == ["urgent", "first of normal", "second of normal", "low", "later"]
    assert await world.look(
        "SELECT bool_and(started_at >= run_at) FROM platform.all_jobs WHERE priority = 100"
    )


async def test_jobs_of_other_kinds_and_groups_are_left_alone(world: World) -> None:
    mine = await world.enqueue()
    other = await world.enqueue(kind="unknown here")
    [foreign] = await world.enqueue_all([NewJob(group="analytics", kind="work")])
    async with world.running(world.runner({"work": kind(nothing)})):
        await world.becomes(mine, JobState.DONE)
        await trio.sleep(0.5)
    assert (await world.get(other)).state is JobState.AVAILABLE
    assert (await world.get(foreign)).state is JobState.AVAILABLE


async def test_failures_are_retried_until_the_job_is_dead(world: World) -> None:
    async def fail(run: JobRun) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError(f"secret {run.job.attempt}")

    job = await world.enqueue(max_attempts=3)
    async with world.running(world.runner({"work": kind(fail)})):
        dead = await world.becomes(job, JobState.DEAD)
    assert dead.attempt == 3
    assert dead.error is not None
    assert dead.error.kind == "RuntimeError"
    assert "secret" not in dead.error.message
    revived = await world.store.retry(ADA, job.id)
    assert (revived.state, revived.attempt) == (JobState.AVAILABLE, 0)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (PermanentJobError("The file is not there."), JobState.FAILED),
        (InvalidInput("The range is backwards."), JobState.FAILED),
        (NotFound("There is no such table."), JobState.FAILED),
        (ConfigurationError("No connection is set up."), JobState.FAILED),
        (ExceptionGroup("two", [OSError(), NotFound("Gone.")]), JobState.FAILED),
        (ExceptionGroup("two", [OSError(), OSError()]), JobState.AVAILABLE),
        (TooManyRequests("Slow down.", retry_after=60), JobState.AVAILABLE),
    ],
)
async def test_errors_that_no_retry_mends_fail_at_once(
    world: World, error: Exception, state: JobState
) -> None:
    async def fail(_run: JobRun) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    job = await world.enqueue()
    patient = world.runner({"work": kind(fail, retry=LATER)})
    async with world.running(patient):

        async def attempted() -> bool:
            return sum(patient.outcomes.values()) > 0

        await soon(attempted, "one attempt")
        seen = await world.get(job)
    assert (seen.state, seen.attempt) == (state, 1)
    assert seen.error is not None
    if isinstance(error, TooManyRequests):
        waits = "SELECT run_at > now() + interval '50 s' FROM platform.jobs"
        assert await world.look(waits)


async def test_a_retry_resumes_from_the_checkpoint(world: World) -> None:
    visited: list[tuple[int, int]] = []

    async def walk(run: JobRun) -> None:
        for step in range(run.checkpoint or 0, 6):
            if step == 4 and run.job.attempt == 1:
                raise OSError
            visited.append((run.job.attempt, step))
            await run.save_checkpoint(step + 1)

    job = await world.enqueue()
    async with world.running(world.runner({"work": kind(walk)})):
        done = await world.becomes(job, JobState.DONE)
    assert visited == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    assert (done.attempt, done.checkpoint) == (2, 6)


async def test_progress_shows_while_it_runs_and_costs_few_writes(world: World) -> None:
    await world.change(
        """CREATE SEQUENCE public.writes;
           CREATE FUNCTION public.count_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
           AS $$ BEGIN PERFORM nextval('public.writes'); RETURN NULL; END $$;
           CREATE TRIGGER counted AFTER UPDATE OF progress_done ON platform.jobs
           FOR EACH ROW EXECUTE FUNCTION public.count_write()"""
    )
    seen = trio.Event()

    async def busy(run: JobRun) -> None:
        for step in range(5000):
            await run.progress(step, 5000)
        await seen.wait()
        await run.progress(5000)

    job = await world.enqueue()
    async with world.running(world.runner({"work": kind(busy)})):

        async def half_way() -> bool:
            return (await world.get(job)).progress.done == 4999

        await soon(half_way, "progress shows")
        seen.set()
        done = await world.becomes(job, JobState.DONE)
    assert done.progress.done == 5000
    assert await world.look("SELECT last_value FROM public.writes") <= 20


@pytest.mark.parametrize("listen", [True, False])
async def test_a_running_job_is_cancelled_within_a_second_and_cleans_up(
    world: World, listen: bool
) -> None:
    trace: list[str] = []
    begun = trio.Event()

    async def endless(run: JobRun) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(1, shield=True):
                await run.save_checkpoint("cleaned up")
            trace.append("cleaned up")

    job = await world.enqueue()
    # Without notifications the look every 0.5 s (the default) has to do.
    async with world.running(world.runner({"work": kind(endless)}, listen=listen, look=0.5)):
        await begun.wait()
        asked = trio.current_time()
        running = await world.store.request_cancel(ADA, job.id)
        assert (running.state, running.cancel_requested) == (JobState.RUNNING, True)
        done = await world.becomes(job, JobState.CANCELLED)
        assert trio.current_time() - asked < 1.0
    assert trace == ["cleaned up"]
    assert (done.checkpoint, done.error) == ("cleaned up", None)
    assert done.finished_at is not None


async def test_a_job_that_finishes_in_spite_of_the_request_is_done(world: World) -> None:
    begun = trio.Event()

    async def quick(_run: JobRun) -> str:
        begun.set()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.6)
        return "made it"

    job = await world.enqueue()
    async with world.running(world.runner({"work": kind(quick)})):
        await begun.wait()
        await world.store.request_cancel(ADA, job.id)
        done = await world.becomes(job, JobState.DONE)
    assert done.result == "made it"


async def test_an_attempt_that_takes_too_long_fails_and_is_retried(world: World) -> None:
    async def slow_at_first(run: JobRun) -> str:
        if run.job.attempt == 1:
            await trio.sleep_forever()
        return "second"

    job = await world.enqueue()
    async with world.running(world.runner({"work": kind(slow_at_first, timeout=0.3)})):
        done = await world.becomes(job, JobState.DONE)
    assert (done.attempt, done.result) == (2, "second")


async def test_a_result_without_a_json_form_fails_the_job_not_the_runner(world: World) -> None:
    async def strange(_run: JobRun) -> object:
        await trio.lowlevel.checkpoint()
        return object()

    job = await world.enqueue()
    async with world.running(world.runner({"work": kind(strange)})) as supervisor:
        failed = await world.becomes(job, JobState.FAILED)
        assert supervisor.snapshot().find("runner-0").restarts == 0
    assert failed.error is not None
    assert failed.error.kind == "UnfitResult"


async def test_a_result_that_postgresql_refuses_fails_its_job_and_no_other(world: World) -> None:
    async def work(run: JobRun) -> object:
        await trio.lowlevel.checkpoint()
        return run.arguments["result"]

    fine = [await world.enqueue(arguments={"result": n}) for n in range(20)]
    many_digits = await world.enqueue(arguments={"result": "9" * 10}, kind="large")
    surrogate = await world.enqueue(kind="surrogate")

    async def large(_run: JobRun) -> object:
        await trio.lowlevel.checkpoint()
        return 10**140_000  # JSON for Python, too long a number for PostgreSQL

    async def lone(_run: JobRun) -> object:
        await trio.lowlevel.checkpoint()
        return "\ud800"

    kinds = {"work": kind(work, concurrency=20), "large": kind(large), "surrogate": kind(lone)}
    runner = world.runner(kinds, slots=30)
    async with world.running(runner) as supervisor:
        await world.all_finished()
        assert supervisor.snapshot().find("runner-0").restarts == 0
    assert [(await world.get(job)).result for job in fine] == list(range(20))
    for job in (many_digits, surrogate):
        failed = await world.get(job)
        assert failed.state is JobState.FAILED
        assert failed.error is not None
        assert failed.error.kind == "UnfitResult"


async def test_a_job_that_its_own_lost_transaction_locks_holds_up_no_other(world: World) -> None:
    locked = await world.enqueue(kind="locked")
    others = [await world.enqueue() for _ in range(5)]
    zombie = await world.connect()
    begun, release = trio.Event(), trio.Event()

    async def wait(_run: JobRun) -> None:
        begun.set()
        await release.wait()

    kinds = {"locked": kind(wait), "work": kind(wait, concurrency=8)}
    async with world.running(world.runner(kinds)):
        await begun.wait()
        await zombie.execute("BEGIN")
        await zombie.execute("SELECT FROM platform.jobs WHERE kind = 'locked' FOR KEY SHARE")
        release.set()
        for job in others:
            await world.becomes(job, JobState.DONE)
        assert (await world.get(locked)).state is JobState.RUNNING
        await zombie.execute("ROLLBACK")
        await world.becomes(locked, JobState.DONE)


async def test_never_more_at_a_time_than_kind_and_pool_allow(world: World) -> None:
    running: dict[str, int] = {"a": 0, "b": 0}
    most: dict[str, int] = {"a": 0, "b": 0, "all": 0}

    async def work(run: JobRun) -> None:
        name = run.job.kind
        running[name] += 1
        most[name] = max(most[name], running[name])
        most["all"] = max(most["all"], sum(running.values()))
        await trio.sleep(0.02)
        running[name] -= 1

    for name in "ab":
        news = [NewJob(group=GROUP, kind=name) for _ in range(25)]
        await world.enqueue_all(news)
    kinds = {"a": kind(work, concurrency=2), "b": kind(work, concurrency=9)}
    async with world.running(world.runner(kinds, slots=5)):
        await world.all_finished()
    assert most == {"a": 2, "b": most["b"], "all": 5}
    assert 3 <= most["b"] <= 5


async def test_a_runner_that_is_cancelled_gives_back_its_slots_and_jobs(world: World) -> None:
    jobs = await world.enqueue_all([NewJob(group=GROUP, kind="work")] * 6)
    runner = world.runner({"work": kind(forever, concurrency=8)}, slots=4)

    async def all_taken() -> bool:
        return runner._pool.statistics().running == 4

    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.child_spec().start, ChildContext("jobs"))
        await soon(all_taken, "the slots are taken")
        nursery.cancel_scope.cancel()
    assert runner._pool.statistics().running == 0
    states = {(await world.get(job)).state for job in jobs}
    assert states == {JobState.AVAILABLE}


async def test_a_limited_kind_goes_on_as_soon_as_a_place_is_free(world: World) -> None:
    jobs = await world.enqueue_all([NewJob(group=GROUP, kind="work")] * 30)
    runner = world.runner({"work": kind(nothing, limit=1)}, poll=5.0)
    async with world.running(runner):
        with trio.fail_after(5):
            await world.becomes(jobs[-1], JobState.DONE)


async def test_a_busy_pool_leaves_jobs_where_others_can_take_them(world: World) -> None:
    runner = world.runner({"work": kind(nothing)}, slots=1)
    pool = runner._pool
    job = await world.enqueue()
    with await pool.acquire("somebody else"):
        async with world.running(runner):
            await trio.sleep(0.6)
            assert (await world.get(job)).state is JobState.AVAILABLE
    async with world.running(runner):
        await world.becomes(job, JobState.DONE)
    assert pool.statistics().running == 0


async def test_tenants_take_turns(world: World) -> None:
    order: list[str] = []

    async def note(run: JobRun) -> None:
        order.append("ada" if run.job.tenant_id == ADA else "bob")
        await trio.sleep(0.005)

    await world.enqueue_all([NewJob(group=GROUP, kind="work")] * 200)
    await world.enqueue_all([NewJob(group=GROUP, kind="work")] * 3, tenant=BOB)
    async with world.running(world.runner({"work": kind(note, concurrency=1)}, slots=1)):
        await world.all_finished()
    assert [position for position, name in enumerate(order) if name == "bob"][-1] <= 6
    assert len(order) == 203


async def test_a_notification_makes_it_quick_and_polling_alone_suffices(world: World) -> None:
    listening = world.runner({"work": kind(nothing)}, poll=30, listen=True)
    async with world.running(listening):
        await trio.sleep(0.5)  # long enough for the first look, which finds nothing
        asked = trio.current_time()
        job = await world.enqueue()
        await world.becomes(job, JobState.DONE)
        assert trio.current_time() - asked < 5
    async with world.running(world.runner({"work": kind(nothing)}, poll=0.2, listen=False)):
        await world.becomes(await world.enqueue(), JobState.DONE)


async def test_a_stop_gives_jobs_back_without_losing_an_attempt(world: World) -> None:
    begun = trio.Event()

    async def endless(run: JobRun) -> None:
        await run.save_checkpoint("half way")
        begun.set()
        await trio.sleep_forever()

    job = await world.enqueue(max_attempts=1)
    async with world.running(world.runner({"work": kind(endless)}, drain=0.2)):
        await begun.wait()
    back = await world.get(job)
    assert (back.state, back.attempt, back.checkpoint) == (JobState.AVAILABLE, 0, "half way")
    assert await world.look("SELECT count(*) FROM platform.processes") == 0

    async def resume(run: JobRun) -> object:
        await trio.lowlevel.checkpoint()
        return run.checkpoint

    async with world.running(world.runner({"work": kind(resume)})):
        done = await world.becomes(job, JobState.DONE)
    assert (done.result, done.attempt) == ("half way", 1)


async def test_at_a_stop_jobs_may_finish_or_leave_within_the_drain(world: World) -> None:
    ready = [trio.Event(), trio.Event()]

    async def finishes(run: JobRun) -> str:
        ready[0].set()
        await run.stopping.wait()
        await trio.sleep(0.1)
        return "finished"

    async def leaves(run: JobRun) -> None:
        ready[1].set()
        await run.stopping.wait()
        raise run.leave()

    finishing = await world.enqueue(kind="finishes")
    leaving = await world.enqueue(kind="leaves")
    runner = world.runner({"finishes": kind(finishes), "leaves": kind(leaves)}, drain=10)
    begun = trio.current_time()
    async with world.running(runner):
        for event in ready:
            await event.wait()
        begun = trio.current_time()
    assert trio.current_time() - begun < 5
    assert (await world.get(finishing)).state is JobState.DONE
    back = await world.get(leaving)
    assert (back.state, back.attempt) == (JobState.AVAILABLE, 0)


async def test_a_runner_that_is_cancelled_outright_still_gives_its_jobs_back(world: World) -> None:
    begun = trio.Event()

    async def endless(_run: JobRun) -> None:
        begun.set()
        await trio.sleep_forever()

    job = await world.enqueue()
    with trio.CancelScope() as scope:
        async with world.running(world.runner({"work": kind(endless)})):
            await begun.wait()
            scope.cancel()
            await trio.lowlevel.checkpoint()
    back = await world.get(job)
    assert (back.state, back.attempt) == (JobState.AVAILABLE, 0)


async def test_a_claim_costs_no_more_when_one_tenant_has_many_jobs(world: World) -> None:
    await world.change(
        """INSERT INTO platform.jobs (tenant_id, job_id, group_name, kind, max_attempts)
           SELECT '00000000-0000-0000-0000-000000000ada', gen_random_uuid(), 'data', 'work', 1
           FROM generate_series(1, 20000)"""
    )
    job = await world.enqueue(kind="rare", tenant=BOB)
    run = await world.held(job)
    assert run.job.id == job.id

    async def unit(connection: asyncpg.Connection) -> int:
        process = "(SELECT process_id FROM platform.jobs WHERE state = 'running')"
        plan = await connection.fetchval(
            "EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT json)"
            f" SELECT * FROM platform.claim_jobs('data', {process}, '{{work}}', '{{8}}',"
            " '{NULL}', '{NULL}', 8, $1, false)",
            BOB,
        )
        top = plan[0]["Plan"]
        return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])

    assert await world.database.run(unit, tenant=BOB) < 600
    assert await world.look("SELECT count(*) FROM platform.jobs WHERE state = 'running'") == 9
