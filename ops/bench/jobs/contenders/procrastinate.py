"""Procrastinate: psycopg (its compiled build) on uvloop, one worker process."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
import uvloop
from procrastinate import App, PsycopgConnector

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

TASK: Final = "noop"
UNFINISHED: Final = (
    "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))"
)


@dataclass
class ProcrastinateContender:
    """One worker process of Procrastinate.

    Attributes:
        concurrency: Jobs that run at a time.
        connections: Of its pool.
        delete: What happens to finished jobs: "never", "successful" or "always" are deleted.
    """

    concurrency: int = 10
    connections: int = 10
    delete: str = "never"

    @asynccontextmanager
    async def _app(self, connections: int) -> AsyncIterator[App]:
        app = App(
            connector=PsycopgConnector(
                conninfo=url_of("owner"), min_size=connections, max_size=connections
            )
        )
        async with app.open_async():
            yield app

    def prepare(self) -> None:
        """Make the schema."""

        async def prepare() -> None:
            async with self._app(1) as app:
                await app.schema_manager.apply_schema_async()

        uvloop.run(prepare())

    def enqueue(self, count: int, chunk: int) -> Effort:
        """Enqueue in bulk."""

        async def enqueue() -> Effort:
            async with self._app(1) as app:
                task = app.task(name=TASK)(_nothing)
                watch = Watch()
                for first in range(0, count, chunk):
                    await task.batch_defer_async(*[{}] * min(chunk, count - first))
                return watch.stop()

        effort: Effort = uvloop.run(enqueue())
        return effort

    def drain(self, count: int) -> Effort:
        """Drain what waits."""

        async def drain() -> Effort:
            done = 0
            all_ran = asyncio.Event()

            async def noop() -> None:
                nonlocal done
                done += 1
                if done == count:
                    all_ran.set()

            async with (
                self._app(self.connections) as app,
                await psycopg.AsyncConnection.connect(url_of("owner"), autocommit=True) as witness,
            ):
                app.task(name=TASK)(noop)
                watch = Watch()
                running = asyncio.create_task(
                    app.run_worker_async(
                        concurrency=self.concurrency,
                        wait=False,
                        delete_jobs=self.delete,
                        install_signal_handlers=False,
                    )
                )
                await all_ran.wait()
                while await (await witness.execute(UNFINISHED)).fetchone() == (True,):  # noqa: ASYNC110 - the database's
                    await asyncio.sleep(POLL)
                effort = watch.stop()
                await running
                check(done, count)
                return effort

        effort: Effort = uvloop.run(drain())
        return effort

    def consume(self, started: Instants) -> None:
        """Run what comes."""

        async def consume() -> None:
            async def noop(number: int) -> None:
                started.note(number)

            async with self._app(self.connections) as app:
                app.task(name=TASK)(noop)
                running = asyncio.create_task(
                    app.run_worker_async(
                        concurrency=self.concurrency,
                        delete_jobs=self.delete,
                        install_signal_handlers=False,
                    )
                )
                say(ready=True)
                await asyncio.to_thread(wait_for_end)
                running.cancel()
                await asyncio.wait([running])

        uvloop.run(consume())

    def produce(self, arrivals: Arrivals, committing: Instants, connections: int) -> None:
        """Enqueue on schedule."""

        async def produce() -> None:
            async with self._app(connections) as app:
                task = app.task(name=TASK)(_nothing)

                async def arrive(numbers: range) -> None:
                    async with app.connector.pool.connection() as connection:
                        await task.configure(connection=connection).batch_defer_async(
                            *({"number": number} for number in numbers)
                        )
                        for number in numbers:
                            committing.note(number)

                beginning = now()
                async with asyncio.TaskGroup() as tasks:
                    for offset, numbers in arrivals:
                        await asyncio.sleep(beginning + offset - now())
                        tasks.create_task(arrive(numbers))

        uvloop.run(produce())


async def _nothing(number: int) -> None:
    """What a producer registers: the name is what counts."""


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # it warns that this very program is the main module
    given = order()
    obey(ProcrastinateContender(**given["settings"]), given)
