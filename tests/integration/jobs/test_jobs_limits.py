"""Limits over all processes together: granted one at a time, given back whatever happens."""

import uuid

import pytest
import trio

from tests.integration.jobs.conftest import ADA, BOB, GROUP, World, kind, soon
from troupe.platform.jobs import JobKind, JobRun, JobState, NewJob
from troupe.platform.supervision import Backoff


class Gauge:
    """How many run at a time, and the most that ever did."""

    def __init__(self) -> None:
        self.now: dict[object, int] = {}
        self.most: dict[object, int] = {}

    async def work(self, run: JobRun) -> None:
        for key in ("all", run.job.tenant_id):
            self.now[key] = self.now.get(key, 0) + 1
            self.most[key] = max(self.most.get(key, 0), self.now[key])
        await trio.sleep(0.01)
        for key in ("all", run.job.tenant_id):
            self.now[key] -= 1


async def test_a_limit_holds_over_three_runners(world: World) -> None:
    gauge = Gauge()
    for tenant in (ADA, BOB):
        await world.enqueue_all([NewJob(group=GROUP, kind="work")] * 40, tenant)
    limited = kind(gauge.work, concurrency=8, limit=3, tenant_limit=2)
    async with world.running(*(world.runner({"work": limited}) for _ in range(3))):
        await world.all_finished()
    assert gauge.most == {"all": 3, ADA: 2, BOB: 2}
    assert await world.look("SELECT count(*) FROM platform.job_places") == 0


async def test_a_kind_at_its_limit_does_not_hold_up_the_tenants_other_kinds(world: World) -> None:
    release = trio.Event()

    async def hold(_run: JobRun) -> None:
        await release.wait()

    async def quick(_run: JobRun) -> None:
        await trio.lowlevel.checkpoint()

    await world.enqueue_all([NewJob(group=GROUP, kind="slow", priority=9)] * 50)
    job = await world.enqueue(kind="quick")
    kinds = {"slow": kind(hold, concurrency=8, tenant_limit=1), "quick": kind(quick)}
    async with world.running(world.runner(kinds)):
        await world.becomes(job, JobState.DONE)
        running = "SELECT count(*) FROM platform.jobs WHERE state = 'running'"
        assert await world.look(running) == 1
        release.set()


async def _fail(_run: JobRun) -> None:
    await trio.lowlevel.checkpoint()
    raise OSError


async def _never(_run: JobRun) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize("way", ["failed", "cancelled", "timed out", "rescued", "released"])
async def test_a_place_is_given_back_however_an_attempt_ends(world: World, way: str) -> None:
    places = "SELECT count(*) FROM platform.job_places"
    later = Backoff(first=3600.0, limit=3600.0)
    handler = _fail if way == "failed" else _never
    options = {"limit": 1, "retry": later, "timeout": 0.2 if way == "timed out" else 60.0}
    job = await world.enqueue(max_attempts=1 if way == "rescued" else 5)
    runner = world.runner({"work": kind(handler, **options)}, drain=0.1)
    async with world.running(runner):
        if way in {"cancelled", "rescued", "released"}:
            await world.becomes(job, JobState.RUNNING)
            assert await world.look(places) == 1
        if way == "cancelled":
            await world.store.request_cancel(ADA, job.id)
        if way == "rescued":
            await world.change("UPDATE platform.processes SET dead_at = now()")

        async def given_back() -> bool:
            return bool(await world.look(places) == 0)

        if way != "released":
            await soon(given_back, "the place is given back")
    assert await given_back()
    assert await world.look("SELECT count(*) FROM platform.job_cancellations") == 0


async def test_a_kind_that_is_not_locked_gets_no_place(world: World) -> None:
    """A job that comes while a claim waits for another kind's lock is left to the next claim."""
    blocker = await world.connect()
    await blocker.execute("SELECT platform.register_kinds('data', '{a,b}')")
    await world.enqueue(kind="a")
    await blocker.execute("BEGIN")
    await blocker.execute("SELECT FROM platform.job_kinds WHERE kind = 'a' FOR UPDATE")
    claimed: list[str] = []

    async def claim() -> None:
        process = uuid.uuid4()
        register = "SELECT platform.register_process($1, $2, 'host', 1, 3600)"
        await world.database.execute(register, process, GROUP)
        rows = await world.database.fetch(
            "SELECT kind FROM platform.claim_jobs($1, $2, '{a,b}', '{5,5}', '{1,1}', '{NULL,NULL}',"
            " 5, $2, false)",
            GROUP,
            process,
        )
        claimed.extend(row["kind"] for row in rows)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(claim)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        with trio.fail_after(5):
            while await world.look(waiting) == 0:
                await trio.sleep(0.01)
        await world.enqueue_all([NewJob(group=GROUP, kind="b")] * 2)
        await blocker.execute("COMMIT")
    assert claimed == ["a"]


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="limits"):
        JobKind(handler=_fail, limit=0)
