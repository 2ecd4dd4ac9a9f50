"""What the promise is worth: killed and stopped processes, stale attempts, a database that fails.

*At-least-once execution; at most one attempt can commit through us; effects outside carry an
idempotency key.*
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import trio

from tests.integration.database.proxy import open_proxy
from tests.integration.jobs.conftest import (
    ADA,
    GROUP,
    LEASE,
    PATIENCE,
    World,
    effect_in,
    kind,
    soon,
)
from troupe.common.bridge import aio
from troupe.common.database import open_database
from troupe.platform.errors import LeaseLost
from troupe.platform.jobs import Job, JobRun, JobState, NewJob

ROOT = Path(__file__).parents[3]


class Worker:
    """A worker process and what it says."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._said = b""

    async def says(self, word: str) -> None:
        assert self.process.stdout is not None
        with trio.fail_after(PATIENCE):
            while word.encode() + b"\n" not in self._said:
                chunk = await self.process.stdout.receive_some(4096)
                assert chunk, f"the worker ended before it said {word}"
                self._said += chunk


@asynccontextmanager
async def worker(world: World) -> AsyncIterator[Worker]:
    command = [sys.executable, "-m", "tests.integration.jobs.worker"]
    process = await trio.lowlevel.open_process(
        [*command, world.where.runtime_url, str(LEASE)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield Worker(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def simple(run: JobRun) -> str:
    await trio.lowlevel.checkpoint()
    return f"attempt {run.job.attempt}"


async def test_after_sigkill_a_job_runs_again_within_twice_the_lease(world: World) -> None:
    job = await world.enqueue(arguments={"steps": 10_000})
    async with worker(world) as victim:
        await victim.says("begun")
        async with world.running(world.runner({"work": kind(simple)})):
            victim.process.kill()
            killed = trio.current_time()
            done = await world.becomes(job, JobState.DONE)
            assert trio.current_time() - killed < 2 * LEASE
    assert (done.attempt, done.result) == (2, "attempt 2")


async def test_a_job_that_kills_its_process_every_time_ends_up_dead(world: World) -> None:
    job = await world.enqueue(arguments={"steps": 10_000}, max_attempts=1)
    async with worker(world) as victim:
        await victim.says("begun")
    async with world.running(world.runner({"work": kind(simple)})):
        dead = await world.becomes(job, JobState.DEAD)
    assert dead.error is not None
    assert dead.error.kind == "ProcessDied"


async def is_stopped_between_units(world: World, running: Worker) -> bool:
    """Stop it; let it go on if the server would have to end a transaction of its own first."""
    running.process.send_signal(signal.SIGSTOP)
    await trio.sleep(0.05)
    begun = "SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL"
    others = " AND datname = current_database() AND pid <> pg_backend_pid()"
    if await world.look(begun + others) == 0:
        return True
    running.process.send_signal(signal.SIGCONT)
    return False


async def test_a_process_stopped_past_its_lease_commits_nothing_when_it_continues(
    world: World,
) -> None:
    job = await world.enqueue(arguments={"steps": 10_000})

    async def take_over(run: JobRun) -> None:
        assert await world.commits(run)

    async with worker(world) as stale:
        await stale.says("begun")

        async def has_effects() -> bool:
            return bool(await world.look("SELECT count(*) FROM public.effects") > 3)

        await soon(has_effects, "the worker commits")
        await soon(lambda: is_stopped_between_units(world, stale), "the worker holds no locks")
        async with world.running(world.runner({"work": kind(take_over)})):
            await world.becomes(job, JobState.DONE)
            stale.process.send_signal(signal.SIGCONT)
            await stale.says("lost")
    tokens = [
        row["fencing_token"]
        for row in await world.rows("SELECT fencing_token FROM public.effects ORDER BY position")
    ]
    assert len(set(tokens)) == 2
    assert tokens == sorted(tokens)
    assert tokens.count(tokens[-1]) == 1


async def test_a_stale_attempt_can_do_nothing_to_the_job(world: World) -> None:
    job = await world.enqueue()
    stale = await world.held(job)
    assert await world.commits(stale)
    assert [row["state"] for row in await world.rescue()] == ["available"]
    assert not await world.commits(stale)
    fresh = await world.held(job)
    assert fresh.job.attempt == 2
    assert not await world.commits(stale)
    with pytest.raises(LeaseLost):
        await stale.save_checkpoint("stale")
    with pytest.raises(LeaseLost):
        await world.database.run(lambda c: stale.complete_in(c, "stale"), tenant=ADA)
    assert await world.commits(fresh)
    await world.database.run(lambda c: fresh.complete_in(c, "fresh"), tenant=ADA)
    assert (await world.get(job)).result == "fresh"
    assert not await world.commits(fresh)


async def test_with_completion_by_identifier_alone_the_stale_attempt_would_win(
    world: World,
) -> None:
    """The broken twin: proves that the trial above can fail."""
    job = await world.enqueue()
    stale = await world.held(job)
    await world.rescue()
    await world.held(job)
    by_id = "SELECT platform.bury_jobs($1, ARRAY[$2::uuid], NULL, 'done', NULL)"
    await world.change(by_id, ADA, stale.job.id)
    assert (await world.get(job)).state is JobState.DONE


async def test_a_fenced_transaction_keeps_the_job_until_it_ends(world: World) -> None:
    job = await world.enqueue()
    run = await world.held(job)
    holder = await aio(asyncpg.connect(world.where.admin_url))
    try:
        await aio(holder.execute("BEGIN"))
        await aio(run.fence(holder))
        # Reports and requests to cancel wait for nobody …
        with trio.fail_after(2):
            await world.store.request_cancel(ADA, job.id)
        # … but nobody can take the job away.
        assert await world.rescue() == []
        assert (await world.get(job)).state is JobState.RUNNING
        await aio(holder.execute("COMMIT"))
    finally:
        await aio(holder.close())
    assert [row["state"] for row in await world.rescue()] == ["cancelled"]


async def test_a_transaction_left_open_keeps_the_job_but_holds_up_no_other(world: World) -> None:
    """An attempt is reported as failed while its word to commit is still on its way."""
    left_open = await aio(asyncpg.connect(world.where.runtime_url))

    async def leaves_it_open_at_first(run: JobRun) -> None:
        if run.job.attempt == 1:
            await aio(left_open.execute("BEGIN"))
            await aio(left_open.execute(f"SET LOCAL troupe.tenant_id = '{ADA}'"))
            await aio(run.fence(left_open))
            await aio(effect_in(left_open, run, 1))
            raise TimeoutError
        assert await world.commits(run, step=2)

    job = await world.enqueue()
    kinds = {"work": kind(leaves_it_open_at_first), "other": kind(simple)}
    try:
        async with world.running(world.runner(kinds)):
            for _ in range(3):
                await trio.sleep(0.5)
                await world.becomes(await world.enqueue("other"), JobState.DONE)
            assert (await world.get(job)).attempt == 1
            await aio(left_open.execute("COMMIT"))
            await world.becomes(job, JobState.DONE)
    finally:
        await aio(left_open.close())
    steps = "SELECT array_agg(step ORDER BY position) FROM public.effects"
    assert await world.look(steps) == [1, 2]


async def test_a_fence_in_another_tenants_transaction_is_a_mistake_not_a_lost_lease(
    world: World,
) -> None:
    run = await world.held(await world.enqueue())
    with pytest.raises(ValueError, match="not the job's"):
        await world.database.run(run.fence)


async def test_work_and_completion_are_committed_together_or_not_at_all(world: World) -> None:
    class Undo(Exception):
        pass

    async def undone_at_first(run: JobRun) -> str:
        async def unit(connection: asyncpg.Connection) -> None:
            await effect_in(connection, run, run.job.attempt)
            await run.complete_in(connection, {"in": run.job.attempt})
            if run.job.attempt == 1:
                raise Undo

        await world.database.run(unit, tenant=ADA)
        await run.progress(1)  # after the end: neither an error nor written
        await trio.sleep(0.3)
        return "what the handler returns counts no more"

    job = await world.enqueue()
    runner = world.runner({"work": kind(undone_at_first)})
    async with world.running(runner):
        done = await world.becomes(job, JobState.DONE)
        assert await world.look("SELECT array_agg(step) FROM public.effects") == [2]

        async def settled() -> bool:
            return runner.outcomes == {"available": 1, "done": 1}

        await soon(settled, "the runner agrees")
    assert (done.result, done.attempt) == ({"in": 2}, 2)


async def test_a_process_declared_dead_loses_its_jobs_and_goes_on_under_a_new_name(
    world: World,
) -> None:
    endings: list[str] = []

    async def first_time_forever(run: JobRun) -> str:
        if run.job.attempt == 1:
            try:
                await trio.sleep_forever()
            finally:
                endings.append("cancelled")
        return "again"

    job = await world.enqueue()
    runner = world.runner({"work": kind(first_time_forever)}, lease=1.0)
    async with world.running(runner):
        await world.becomes(job, JobState.RUNNING)
        await world.change("UPDATE platform.processes SET dead_at = now()")
        done = await world.becomes(job, JobState.DONE)

        async def settled() -> bool:
            return runner.outcomes == {"lease_lost": 1, "done": 1}

        await soon(settled, "both attempts have ended")
    assert endings == ["cancelled"]
    assert (done.attempt, done.result) == (2, "again")


async def test_what_a_dead_process_held_is_the_rescues_to_give_back(world: World) -> None:
    """Given back by itself, it would be free of charge, and could kill without end."""
    job = await world.enqueue(max_attempts=1)
    await world.held(job)
    held = (
        "SELECT array_agg(f.job_id) FROM platform.processes AS p,"
        " platform.jobs_of_process(p.process_id) AS f"
    )
    assert await world.look(held) == [job.id]
    await world.change("UPDATE platform.processes SET dead_at = now()")
    assert await world.look(held) is None
    await world.rescue()
    assert (await world.get(job)).state is JobState.DEAD


SLOW_GRANTS = """
    CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON platform.job_places
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.dawdle();
"""


async def test_a_job_that_comes_while_claims_wait_for_other_kinds_counts_towards_its_limit(
    world: World,
) -> None:
    """Two processes wait for the locks of two kinds; jobs of a third come meanwhile."""
    at_a_time, most = 0, 0

    async def stays(_run: JobRun) -> None:
        nonlocal at_a_time, most
        at_a_time += 1
        most = max(most, at_a_time)
        await trio.sleep(1)
        at_a_time -= 1

    await world.change(SLOW_GRANTS)  # so that two claims that overlap do so for long
    alone = {
        name: kind(simple if name != "third" else stays, limit=1)
        for name in ("first", "second", "third")
    }
    await world.database.execute("SELECT platform.register_kinds($1, $2)", GROUP, list(alone))
    for name in ("first", "second"):
        await world.enqueue(name)
    holder = await aio(asyncpg.connect(world.where.admin_url))
    try:
        await aio(holder.execute("BEGIN"))
        await aio(holder.execute("SELECT FROM platform.job_kinds WHERE kind <> 'third' FOR UPDATE"))
        async with world.running(
            *(
                world.runner({name: alone[name], "third": alone["third"]}, lease=30)
                for name in ("first", "second")
            )
        ):
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

            async def both_wait() -> bool:
                return bool(await world.look(waiting) >= 2)

            await soon(both_wait, "both claims wait")
            await world.enqueue("third")
            await world.enqueue("third")
            await aio(holder.execute("COMMIT"))
            await world.all_finished()
    finally:
        await aio(holder.close())
    assert most == 1


async def test_a_claim_whose_answer_is_lost_is_given_back(world: World) -> None:
    async with (
        open_proxy(world.where.runtime_url) as proxy,
        open_database(proxy.url, connections=4) as shaky,
    ):
        runner = world.runner({"work": kind(simple)}, database=shaky, listen=False, lease=60)
        async with world.running(runner):
            proxy.cut_after = b"COMMIT;"
            job = await world.enqueue()
            await world.becomes(job, JobState.RUNNING)
            assert runner.outcomes == {}
            proxy.cut_after = None
            done = await world.becomes(job, JobState.DONE)
    assert done.attempt == 1


async def test_killed_connections_lose_no_job_and_double_no_effect(world: World) -> None:
    async def work(run: JobRun) -> None:
        async def unit(connection: asyncpg.Connection) -> None:
            await effect_in(connection, run, 0)
            await connection.execute("SELECT pg_sleep(0.02)")
            await run.complete_in(connection)

        await world.database.run(unit, tenant=run.job.tenant_id)

    news = [NewJob(group=GROUP, kind="work", max_attempts=50) for _ in range(60)]
    await world.enqueue_all(news)
    runner = world.runner({"work": kind(work, concurrency=4)}, slots=4, lease=5)
    async with world.running(runner) as supervisor:
        for _ in range(5):
            await trio.sleep(0.1)
            await world.change(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'troupe%'"
            )
        await world.all_finished()
        assert supervisor.snapshot().find("runner-0").restarts == 0
    assert await world.look("SELECT count(*) FROM public.effects") == 60
    assert await world.look("SELECT count(DISTINCT job_id) FROM public.effects") == 60
    assert await world.look("SELECT bool_and(state = 'done') FROM platform.all_jobs")


async def test_a_runner_cut_off_for_a_whole_lease_stops_its_handlers_by_itself(
    world: World,
) -> None:
    cut = trio.Event()
    ended: list[float] = []

    async def endless(_run: JobRun) -> None:
        cut.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async with (
        open_proxy(world.where.runtime_url) as proxy,
        open_database(proxy.url, connections=4) as shaky,
    ):
        runner = world.runner({"work": kind(endless)}, database=shaky, listen=False, lease=1.0)
        job = await world.enqueue()
        async with world.running(runner) as supervisor:
            await cut.wait()
            proxy.hold()
            held_at = trio.current_time()

            async def gave_up() -> bool:
                return bool(ended)

            await soon(gave_up, "the handler is cancelled")
            assert ended[0] - held_at < 3.0
            async with world.running(world.runner({"work": kind(simple)})):
                done = await world.becomes(job, JobState.DONE)
            proxy.release()
            supervisor.request_stop()
    assert isinstance(done, Job)
    assert done.attempt == 2


async def test_a_runner_cut_off_for_a_whole_lease_that_nobody_declared_dead_runs_its_jobs_again(
    world: World,
) -> None:
    begun: list[int] = []

    async def endless_at_first(run: JobRun) -> None:
        begun.append(run.job.fencing_token)
        if len(begun) == 1:
            await trio.sleep_forever()

    # With one process, whether it declares itself dead before it sends a heartbeat is chance.
    await world.change(
        "CREATE OR REPLACE FUNCTION platform.rescue_jobs(p_limit integer)"
        " RETURNS TABLE (job_id uuid, state text) LANGUAGE plpgsql AS 'BEGIN RETURN; END'"
    )
    async with (
        open_proxy(world.where.runtime_url) as proxy,
        open_database(proxy.url, connections=4) as shaky,
    ):
        runner = world.runner(
            {"work": kind(endless_at_first)}, database=shaky, listen=False, lease=1.0
        )
        job = await world.enqueue()
        async with world.running(runner):
            await world.becomes(job, JobState.RUNNING)
            proxy.hold()

            async def gave_up() -> bool:
                return runner.outcomes == {"lease_lost": 1}

            await soon(gave_up, "the handler is cancelled")
            proxy.release()
            await world.becomes(job, JobState.DONE)
    assert len(begun) == 2
    assert begun[0] < begun[1]
