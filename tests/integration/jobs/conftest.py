"""Two tenants on a fresh database, ways to enqueue, to run and to look behind the curtain."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import pytest
import trio

from tests.support.postgres import TestDatabase
from troupe.common.bridge import aio, open_bridge
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.errors import LeaseLost
from troupe.platform.jobs import (
    ClaimedJob,
    Job,
    JobKind,
    JobRun,
    JobRunner,
    JobState,
    JobStore,
    NewJob,
    RunnerSettings,
    enqueue,
    enqueue_many,
)
from troupe.platform.pool import Pool
from troupe.platform.supervision import Backoff, Intensity, Supervisor

ADA, BOB = TenantId(uuid.UUID(int=0xADA)), TenantId(uuid.UUID(int=0xB0B))
GROUP = "data"
PATIENCE = 60 * SECONDS
LEASE = 1.5 * SECONDS

PREPARE = """
    INSERT INTO platform.tenants (tenant_id, name)
    VALUES ('00000000-0000-0000-0000-000000000ada', 'Ada'),
           ('00000000-0000-0000-0000-000000000b0b', 'Bob');
    CREATE TABLE public.effects (
        position bigserial, tenant_id uuid, job_id uuid, fencing_token bigint, step integer);
    GRANT SELECT, INSERT ON public.effects TO troupe_runtime;
    GRANT USAGE ON SEQUENCE public.effects_position_seq TO troupe_runtime;
"""
EFFECT = (
    "INSERT INTO public.effects (tenant_id, job_id, fencing_token, step) VALUES ($1, $2, $3, $4)"
)


async def soon(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until a condition of the database holds."""
    with trio.move_on_after(PATIENCE):
        while not await condition():
            await trio.sleep(10 * MILLISECONDS)
        return
    pytest.fail(f"{what}: not within {PATIENCE:g} s")


async def effect_in(connection: asyncpg.Connection, run: JobRun, step: int) -> None:
    """Leave a mark of this attempt in the caller's transaction."""
    await connection.execute(EFFECT, run.job.tenant_id, run.job.id, run.job.fencing_token, step)


@dataclass
class Plain:
    """A bare connection, for transactions that stay open."""

    connection: asyncpg.Connection

    async def execute(self, sql: str) -> None:
        await aio(self.connection.execute(sql))


@dataclass
class World:
    """What a test has to work with."""

    where: TestDatabase
    database: Database
    admin: asyncpg.Connection
    store: JobStore
    runners: list[JobRunner] = field(default_factory=list)
    connections: list["Plain"] = field(default_factory=list)

    async def look(self, sql: str, *args: object) -> Any:
        """The value of a statement, as the superuser sees it."""
        return await aio(self.admin.fetchval(sql, *args))

    async def rows(self, sql: str, *args: object) -> list[asyncpg.Record]:
        return await aio(self.admin.fetch(sql, *args))

    async def change(self, sql: str, *args: object) -> None:
        await aio(self.admin.execute(sql, *args))

    async def connect(self) -> "Plain":
        """A connection of its own, as the superuser; closed when the test ends."""
        self.connections.append(Plain(await aio(asyncpg.connect(self.where.admin_url))))
        return self.connections[-1]

    async def enqueue(self, kind: str = "work", tenant: TenantId = ADA, **options: Any) -> Job:
        new = NewJob(group=GROUP, kind=kind, **options)
        return await self.database.run(lambda connection: enqueue(connection, new), tenant=tenant)

    async def enqueue_all(self, news: Sequence[NewJob], tenant: TenantId = ADA) -> list[Job]:
        made = await self.database.run(
            lambda connection: enqueue_many(connection, news), tenant=tenant
        )
        jobs = {
            row["job_id"]: Job.from_row(row)
            for row in await self.database.fetch(
                "SELECT * FROM platform.all_jobs WHERE job_id = ANY ($1)",
                [one.id for one in made],
                tenant=tenant,
            )
        }
        return [replace(jobs[one.id], deduplicated=one.deduplicated) for one in made]

    async def get(self, job: Job) -> Job:
        return await self.store.get(job.tenant_id, job.id)

    async def becomes(self, job: Job, state: JobState) -> Job:
        """Wait until a job has a state."""
        seen: list[Job] = []

        async def reached() -> bool:
            seen.append(await self.get(job))
            return seen[-1].state is state

        await soon(reached, f"{job.kind} job becomes {state.value}")
        return seen[-1]

    async def all_finished(self) -> None:
        async def reached() -> bool:
            left = "SELECT count(*) FROM platform.jobs WHERE state IN ('available', 'running')"
            return bool(await self.look(left) == 0)

        await soon(reached, "all jobs finish")

    async def all_finished_of(self, kind: str) -> None:
        async def reached() -> bool:
            left = "SELECT count(*) FROM platform.jobs WHERE kind = $1"
            return bool(await self.look(left, kind) == 0)

        await soon(reached, f"all {kind} jobs finish")

    def runner(
        self,
        kinds: Mapping[str, JobKind],
        *,
        slots: int = 8,
        database: Database | None = None,
        **settings: Any,
    ) -> JobRunner:
        used = database or self.database
        runner = JobRunner(
            GROUP,
            kinds,
            pool=Pool(GROUP, limit=slots),
            database=lambda: used,
            settings=RunnerSettings(
                **{"lease": LEASE, "poll": 0.2, "look": 0.2, "report": 0.1, "drain": 1.0} | settings
            ),
        )
        self.runners.append(runner)
        return runner

    @asynccontextmanager
    async def running(self, *runners: JobRunner) -> AsyncIterator[Supervisor]:
        """Run them under a supervisor, and stop that in order."""
        supervisor = Supervisor(
            "root",
            [runner.child_spec(f"runner-{number}") for number, runner in enumerate(runners)],
            intensity=Intensity(restarts=20, period=1),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            yield supervisor
            supervisor.request_stop()

    async def held(self, job: Job, lease: float = 3600) -> JobRun:
        """Claim a job for a process that does nothing but exist; its attempt."""
        process = uuid.uuid4()
        await self.database.execute(
            "SELECT platform.register_process($1, $2, 'host', 1, $3)", process, GROUP, lease
        )
        row = await self.database.fetch_row(
            "SELECT * FROM platform.claim_jobs($1, $2, $3, $4, $5, $5, 1, $6, false)",
            GROUP,
            process,
            [job.kind],
            [1],
            [None],
            uuid.UUID(int=job.tenant_id.int - 1),
        )
        assert row is not None
        claimed = ClaimedJob(row, GROUP)
        assert claimed.id == job.id
        return JobRun(self.database, claimed)

    async def rescue(self) -> list[asyncpg.Record]:
        """Declare every process dead, and rescue."""
        await self.change("UPDATE platform.processes SET dead_at = now()")
        return await self.database.fetch("SELECT * FROM platform.rescue_jobs(100)")

    async def commits(self, run: JobRun, step: int = 1) -> bool:
        """Whether an attempt can commit an effect under its fence."""

        async def unit(connection: asyncpg.Connection) -> None:
            await run.fence(connection)
            await effect_in(connection, run, step)

        try:
            await self.database.run(unit, tenant=run.job.tenant_id)
        except LeaseLost:
            return False
        return True


def kind(handler: Callable[[JobRun], Awaitable[Any]], **options: Any) -> JobKind:
    """A kind of job that is retried quickly."""
    return JobKind(
        handler=handler, **{"retry": Backoff(first=0.05, factor=1.0, jitter=0.0)} | options
    )


@pytest.fixture
async def world(fresh_database: TestDatabase) -> AsyncIterator[World]:
    async with open_bridge():
        admin = await aio(asyncpg.connect(fresh_database.admin_url))
        try:
            await aio(admin.execute(PREPARE))
            async with open_database(fresh_database.runtime_url, connections=6) as database:
                world = World(fresh_database, database, admin, JobStore(database))
                yield world
                for plain in world.connections:
                    plain.connection.terminate()
        finally:
            with trio.CancelScope(shield=True):
                await aio(admin.close(timeout=5 * SECONDS))
