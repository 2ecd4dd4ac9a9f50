"""Troupe: a `JobRunner` under a supervisor, as a group has it; stock asyncio inside trio."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import trio

from ops.bench.jobs.worker import (
    POLL,
    Arrivals,
    Effort,
    Instants,
    Watch,
    check,
    now,
    obey,
    order,
    say,
    url_of,
    wait_for_end,
)
from troupe.common import logs
from troupe.common.bridge import aio, open_bridge
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId
from troupe.common.migrate import migrate_in_asyncio
from troupe.platform.jobs import JobKind, JobRun, JobRunner, NewJob, RunnerSettings, enqueue_many
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor

GROUP: Final = "bench"
KIND: Final = "noop"
_TENANTS: Final = (
    "INSERT INTO platform.tenants (tenant_id, name) SELECT t, t FROM unnest($1::uuid[]) t"
)
_UNFINISHED: Final = (
    "SELECT EXISTS (SELECT FROM platform.jobs WHERE state IN ('available', 'running'))"
)


def _tenant(number: int) -> TenantId:
    return TenantId(uuid.UUID(int=1 + number))


def _new(number: int) -> NewJob:
    return NewJob(group=GROUP, kind=KIND, arguments={"number": number})


@dataclass
class Troupe:
    """One process of a group.

    Attributes:
        slots: Of the group's task pool, and so jobs at a time.
        connections: Of the group's database pool, the producer's aside.
        tenants: Among whom the jobs are spread, evenly.
        runner: Other values for `RunnerSettings`.
    """

    slots: int = 1000
    connections: int = 4
    tenants: int = 1
    runner: dict[str, Any] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the schema."""

        async def prepare() -> None:
            async with open_bridge():
                await aio(migrate_in_asyncio(url_of("owner")))
                admin = await aio(asyncpg.connect(url_of("admin")))
                tenants = [_tenant(number) for number in range(self.tenants)]
                await aio(admin.execute(_TENANTS, tenants))
                await aio(admin.close())

        trio.run(prepare)

    def enqueue(self, count: int, chunk: int) -> Effort:
        """Enqueue in bulk."""

        async def enqueue() -> Effort:
            async with open_bridge(), open_database(url_of("runtime"), connections=1) as database:
                await database.fetch_value("SELECT 1")
                watch = Watch()
                for number, first in enumerate(range(0, count, chunk)):
                    news = [
                        NewJob(group=GROUP, kind=KIND) for _ in range(min(chunk, count - first))
                    ]
                    await _enqueue(database, number % self.tenants, news)
                return watch.stop()

        return trio.run(enqueue)

    def drain(self, count: int) -> Effort:
        """Drain what waits."""

        async def drain() -> Effort:
            done = 0
            all_ran = trio.Event()

            async def noop(_run: JobRun) -> None:
                nonlocal done
                done += 1
                if done == count:
                    all_ran.set()

            async with (
                open_bridge(),
                open_database(url_of("runtime"), connections=self.connections) as database,
            ):
                witness = await aio(asyncpg.connect(url_of("admin")))
                await database.fetch_value("SELECT 1")
                watch = Watch()
                async with self._running(database, noop):
                    await all_ran.wait()
                    while await aio(witness.fetchval(_UNFINISHED)):  # noqa: ASYNC110 - the database's
                        await trio.sleep(POLL)
                    effort = watch.stop()
                await aio(witness.close())
                check(done, count)
                return effort

        return trio.run(drain)

    def consume(self, started: Instants) -> None:
        """Run what comes."""

        async def consume() -> None:
            async def noop(run: JobRun) -> None:
                started.note(run.job.arguments["number"])

            async with (
                open_bridge(),
                open_database(url_of("runtime"), connections=self.connections) as database,
                self._running(database, noop),
            ):
                say(ready=True)
                await trio.to_thread.run_sync(wait_for_end)

        trio.run(consume)

    def produce(self, arrivals: Arrivals, committing: Instants, connections: int) -> None:
        """Enqueue on schedule."""

        async def produce() -> None:
            async with (
                open_bridge(),
                open_database(url_of("runtime"), connections=connections) as database,
            ):

                async def arrive(turn: int, numbers: range) -> None:
                    news = [_new(number) for number in numbers]
                    await _enqueue(database, turn % self.tenants, news, numbers, committing)

                beginning = now()
                async with trio.open_nursery() as nursery:
                    for turn, (offset, numbers) in enumerate(arrivals):
                        await trio.sleep(max(0, beginning + offset - now()))
                        nursery.start_soon(arrive, turn, numbers)

        trio.run(produce)

    @asynccontextmanager
    async def _running(
        self, database: Database, handler: Callable[[JobRun], Awaitable[None]]
    ) -> AsyncIterator[None]:
        runner = JobRunner(
            GROUP,
            {KIND: JobKind(handler=handler, concurrency=self.slots)},
            pool=Pool(GROUP, limit=self.slots),
            database=lambda: database,
            settings=RunnerSettings(**self.runner),
        )
        supervisor = Supervisor("bench", [runner.child_spec()])
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            yield
            supervisor.request_stop()


async def _enqueue(
    database: Database,
    tenant: int,
    news: Sequence[NewJob],
    numbers: range = range(0),
    committing: Instants | None = None,
) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        await enqueue_many(connection, news)
        if committing is not None:
            for number in numbers:
                committing.note(number)

    await database.run(unit, tenant=_tenant(tenant))


if __name__ == "__main__":
    logs.configure(level="warning")
    given = order()
    obey(Troupe(**given["settings"]), given)
