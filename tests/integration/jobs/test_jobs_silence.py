"""A database that does not answer: every statement has a deadline; polling needs no notifications.

The proxy answers BEGIN and nothing after it, so that each unit of work is caught in its first
statement. What the runner sends after that is kept: each of its statements must come again.
"""

import time
from collections.abc import AsyncIterator
from statistics import median

import pytest
import trio

from tests.support.chaos.ground import TENANTS, Ground, open_ground
from tests.support.chaos.proxy import Proxy, open_proxy
from tests.support.chaos.worker import GROUP
from tests.support.postgres import TestDatabase
from troupe.common.database import Database, PoolSettings, Unit, open_database
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.errors import ChildFailedToStart
from troupe.platform.jobs import (
    JobKind,
    JobRun,
    JobRunner,
    JobStore,
    NewJob,
    RunnerSettings,
    enqueue,
)
from troupe.platform.jobs import _runner as runner_module
from troupe.platform.jobs._enqueue import QUERIES
from troupe.platform.pool import Pool
from troupe.platform.supervision import Intensity, Supervisor

POLL = 300 * MILLISECONDS
SLACK = 200 * MILLISECONDS  # for a machine that is busy
LONGEST_UNIT = 10 * SECONDS
"""The issue asks for throughput to be back by then, so nothing may wait for longer."""

TENANT = TENANTS[0]

REPEATED = {
    "finish",
    "extend_lease",
    "jobs_to_cancel",
    "jobs_of_process",
    "rescue",
    "progress",
    "turn_ring",
    "forget_old_jobs",
}
ONCE = {"register_process", "claim", "release_process"}
"""At the start and at the end; and before a claim is tried again, `jobs_of_process` must answer."""
PEOPLE = {
    *("enqueue", "enqueue_without_keys", "enqueue_with_idempotency_keys", "drop_unused_keys"),
    "existing",
    *("get", "list", "count", "request_cancel", "retry", "redrive", "pause_kind", "kinds_at_work"),
}
"""Not the runner's."""
BEHIND_OTHERS = {"next_delayed", "endings", "finish_done", "tend_history", "register_kinds"}
"""The runner's, but the statement before is never answered, or another one is sent in its place."""
HANDLERS = {"fence", "checkpoint", "complete"}


@pytest.fixture
async def ground(bridge: None, fresh_database: TestDatabase) -> AsyncIterator[Ground]:
    async with open_ground(fresh_database) as opened:
        yield opened


class Timed(Database):
    """Notes how long units of work take."""

    longest = 0.0

    async def run(self, unit: Unit, **options: object) -> object:  # type: ignore[override]
        began = trio.current_time()
        try:
            return await super().run(unit, **options)  # type: ignore[arg-type]
        finally:
            Timed.longest = max(Timed.longest, trio.current_time() - began)


def runner_on(database: Database, kinds: dict[str, JobKind], lease: float) -> JobRunner:
    return JobRunner(
        GROUP,
        kinds,
        pool=Pool(GROUP, limit=8),
        database=lambda: database,
        settings=RunnerSettings(lease=lease, poll=POLL, listen=False, drain=0.5),
    )


async def test_every_statement_of_the_runner_is_given_up_in_time_and_tried_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "TEND_HISTORY_EVERY", 1 * SECONDS)
    monkeypatch.setattr("troupe.common.database._pool.Database", Timed)
    Timed.longest = 0.0
    silence = trio.Event()

    async def fails_in_the_silence(_run: JobRun) -> None:
        await silence.wait()
        raise ValueError("so that there is an outcome with details")

    async def reports(run: JobRun) -> None:
        while True:
            await run.progress(message=f"{time.time()}")
            await trio.sleep(0.05)

    kinds = {
        "fails": JobKind(handler=fails_in_the_silence),
        "reports": JobKind(handler=reports),
    }
    settings = PoolSettings(statement_cache_size=0, clean_up_deadline=0.5)
    async with (
        open_proxy(ground.where.runtime_url) as proxy,
        open_database(proxy.url, connections=16, settings=settings) as database,
    ):
        # A lease that outlives the silence: without one there is no outcome left to record.
        first, second = runner_on(database, kinds, 18.0), runner_on(database, kinds, 3.0)
        for kind in kinds:
            await ground.enqueue(kind, 1)

        async def both_run() -> bool:
            held = "SELECT count(*) FROM platform.jobs WHERE state = 'running'"
            return bool(await ground.look(held) == 2)

        intensity = Intensity(restarts=1000, period=1)
        supervisor = Supervisor("deaf", [first.child_spec()], intensity=intensity)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            await ground.soon(both_run, "both jobs run")
            proxy.mutes_after = b"BEGIN"
            await trio.sleep(0.2)
            silence.set()
            with pytest.raises(ChildFailedToStart):
                await Supervisor("late", [second.child_spec()]).serve()
            with trio.move_on_after(60 * SECONDS):
                while missing := _missing(proxy, REPEATED):
                    await trio.sleep(0.1)
            assert not missing, f"not tried again: {missing}"
            assert supervisor.snapshot().find("jobs").restarts == 0
            supervisor.request_stop()
            asked = trio.current_time()
        assert trio.current_time() - asked < 25 * SECONDS
    assert all(_times(proxy, name) for name in ONCE)
    assert 0 < Timed.longest < LONGEST_UNIT


def _times(proxy: Proxy, name: str) -> int:
    return proxy.heard.count(QUERIES[name].encode())


def _missing(proxy: Proxy, names: set[str]) -> dict[str, int]:
    return {name: _times(proxy, name) for name in names if _times(proxy, name) < 2}


def test_every_statement_is_known_to_be_the_runners_or_somebody_elses() -> None:
    known = REPEATED | ONCE | BEHIND_OTHERS | HANDLERS | PEOPLE
    assert set(QUERIES) <= known


# ---- without notifications


async def delays(ground: Ground, count: int) -> list[float]:
    """Seconds that single jobs, enqueued while nothing runs, wait until they are claimed."""
    new = NewJob(group=GROUP, kind="quick")
    store = JobStore(ground.database)
    found = []
    for _ in range(count):
        await trio.sleep(2.5 * POLL)  # so that the runner has nothing to do, and knows it
        job = await ground.database.run(lambda c: enqueue(c, new), tenant=TENANT)

        async def done(job_id: object = job.id) -> bool:
            return (await store.get(TENANT, job_id)).state.finished  # type: ignore[arg-type]

        await ground.soon(done, "the job is done")
        again = await store.get(TENANT, job.id)
        assert again.started_at is not None
        found.append((again.started_at - again.created_at).total_seconds())
    return found


async def quick(_run: JobRun) -> None:
    await trio.lowlevel.checkpoint()


QUICK = {"quick": JobKind(handler=quick)}


async def test_without_listening_jobs_start_within_the_polling_interval(ground: Ground) -> None:
    async with ground.running(QUICK, poll=POLL, listen=False):
        found = await delays(ground, 8)
    assert max(found) < POLL + SLACK
    assert max(found) > 50 * MILLISECONDS, "polling can hardly be that quick: was it notified?"


async def test_a_listener_that_fell_silent_is_replaced_and_polling_bridges_the_gap(
    ground: Ground,
) -> None:
    settings = PoolSettings(probe_interval=2 * SECONDS, begin_deadline=1 * SECONDS)
    async with (
        open_proxy(ground.where.runtime_url) as proxy,
        open_database(
            ground.where.runtime_url, connections=4, listen_url=proxy.url, settings=settings
        ) as database,
        ground.running(QUICK, database=database, poll=POLL),
    ):
        assert median(await delays(ground, 3)) < 50 * MILLISECONDS

        proxy.silence()
        (deaf,) = proxy.lines
        assert max(await delays(ground, 3)) < POLL + SLACK

        async def replaced() -> bool:
            return bool(proxy.lines) and deaf not in proxy.lines

        await ground.soon(replaced, "the watchdog replaces the listener", patience=10 * SECONDS)
        await trio.sleep(0.5)
        assert median(await delays(ground, 3)) < 50 * MILLISECONDS
