"""PgQueuer: its asyncpg drivers, and uvloop, as its own command line runs it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver, Driver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

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

ENTRYPOINT: Final = "noop"
UNFINISHED: Final = "SELECT EXISTS (SELECT FROM pgqueuer)"


@asynccontextmanager
async def _connected(count: int) -> AsyncIterator[list[asyncpg.Connection]]:
    async with AsyncExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = await asyncpg.connect(url_of("owner"))
            stack.push_async_callback(connection.close)
            connections.append(connection)
        yield connections


@dataclass
class PgQueuerContender:
    """One process of PgQueuer.

    Attributes:
        batch: Jobs per dequeue, and per completion.
        managers: Queue managers in the process, each with a connection of its own.
        pool: Whether they share one pool of connections instead.
    """

    batch: int = 100
    managers: int = 1
    pool: bool = False

    @asynccontextmanager
    async def _queuers(self) -> AsyncIterator[list[PgQueuer]]:
        async with AsyncExitStack() as stack:
            drivers: list[Driver]
            if self.pool:
                pool = await stack.enter_async_context(
                    asyncpg.create_pool(url_of("owner"), min_size=10, max_size=10)
                )
                drivers = [AsyncpgPoolDriver(pool) for _ in range(self.managers)]
            else:
                connections = await stack.enter_async_context(_connected(self.managers))
                drivers = [AsyncpgDriver(connection) for connection in connections]
            yield [PgQueuer(driver) for driver in drivers]

    def prepare(self) -> None:
        """Make the schema."""

        async def prepare() -> None:
            async with _connected(1) as (connection,):
                await Queries(AsyncpgDriver(connection)).install()
                await Queries(AsyncpgDriver(connection)).optimize_autovacuum()

        uvloop.run(prepare())

    def enqueue(self, count: int, chunk: int) -> Effort:
        """Enqueue in bulk."""

        async def enqueue() -> Effort:
            async with _connected(1) as (connection,):
                queries = Queries(AsyncpgDriver(connection))
                await connection.fetchval("SELECT 1")
                watch = Watch()
                for first in range(0, count, chunk):
                    size = min(chunk, count - first)
                    await queries.enqueue([ENTRYPOINT] * size, [None] * size, [0] * size)
                return watch.stop()

        effort: Effort = uvloop.run(enqueue())
        return effort

    def drain(self, count: int) -> Effort:
        """Drain what waits."""

        async def drain() -> Effort:
            done = 0
            all_ran = asyncio.Event()

            async def noop(_job: Job) -> None:
                nonlocal done
                done += 1
                if done == count:
                    all_ran.set()

            async with self._queuers() as queuers, _connected(1) as (witness,):
                for queuer in queuers:
                    queuer.entrypoint(ENTRYPOINT)(noop)
                watch = Watch()
                running = [
                    asyncio.create_task(
                        queuer.run(batch_size=self.batch, mode=QueueExecutionMode.drain)
                    )
                    for queuer in queuers
                ]
                await all_ran.wait()
                while await witness.fetchval(UNFINISHED):  # noqa: ASYNC110 - the database's
                    await asyncio.sleep(POLL)
                effort = watch.stop()
                await asyncio.gather(*running)
                check(done, count)
                return effort

        effort: Effort = uvloop.run(drain())
        return effort

    def consume(self, started: Instants) -> None:
        """Run what comes."""

        async def consume() -> None:
            async def noop(job: Job) -> None:
                started.note(int(job.payload or b"0"))

            async with self._queuers() as queuers:
                for queuer in queuers:
                    queuer.entrypoint(ENTRYPOINT)(noop)
                running = [
                    asyncio.create_task(queuer.run(batch_size=self.batch)) for queuer in queuers
                ]
                say(ready=True)
                await asyncio.to_thread(wait_for_end)
                for queuer in queuers:
                    queuer.shutdown.set()
                await asyncio.gather(*running)

        uvloop.run(consume())

    def produce(self, arrivals: Arrivals, committing: Instants, connections: int) -> None:
        """Enqueue on schedule."""

        async def produce() -> None:
            idle: asyncio.Queue[asyncpg.Connection] = asyncio.Queue()

            async def arrive(numbers: range) -> None:
                connection = await idle.get()
                queries = Queries(AsyncpgDriver(connection))
                size = len(numbers)
                transaction = connection.transaction()
                await transaction.start()
                payloads: list[bytes | None] = [b"%d" % number for number in numbers]
                await queries.enqueue([ENTRYPOINT] * size, payloads, [0] * size)
                for number in numbers:
                    committing.note(number)
                await transaction.commit()
                idle.put_nowait(connection)

            async with _connected(connections) as all_connections:
                for connection in all_connections:
                    idle.put_nowait(connection)
                beginning = now()
                async with asyncio.TaskGroup() as tasks:
                    for offset, numbers in arrivals:
                        await asyncio.sleep(beginning + offset - now())
                        tasks.create_task(arrive(numbers))

        uvloop.run(produce())


if __name__ == "__main__":
    logging.disable(logging.INFO)
    given = order()
    obey(PgQueuerContender(**given["settings"]), given)
