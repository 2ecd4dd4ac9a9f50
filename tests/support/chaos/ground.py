"""A database to make trouble on: tenants, a table of effects, ways to enqueue and to look.

Every effect notes, as the last thing before its transaction commits, whether its attempt held the
job then (``held``). An attempt under the fence cannot lose the job between that and the commit; one
without it can, and is then caught by the order of the tokens.
"""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import asyncpg
import pytest
import trio

from tests.support.chaos.worker import GROUP
from tests.support.postgres import TestDatabase
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId
from troupe.common.units import MILLISECONDS, MINUTES, SECONDS
from troupe.platform.jobs import JobKind, JobRunner, NewJob, RunnerSettings, enqueue_many
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor

TENANTS = tuple(TenantId(uuid.UUID(int=0xC0DE_0000 + number)) for number in range(10))
BATCH = 1000
MAX_ATTEMPTS = 1000
"""So many that trouble never uses them up: a job that is dead at the end was lost."""

PREPARE = """
    INSERT INTO platform.tenants (tenant_id, name)
    SELECT t, 'Tenant ' || n FROM unnest($1::uuid[]) WITH ORDINALITY AS u (t, n)
"""
EFFECTS = """
    CREATE TABLE public.effects (
        position bigserial PRIMARY KEY, tenant_id uuid NOT NULL, job_id uuid NOT NULL,
        fencing_token bigint NOT NULL, step integer NOT NULL,
        done_at timestamptz NOT NULL DEFAULT clock_timestamp(), held boolean);
    CREATE INDEX ON public.effects (job_id);
    GRANT SELECT, INSERT ON public.effects TO troupe_runtime;
    GRANT USAGE ON SEQUENCE public.effects_position_seq TO troupe_runtime;
    CREATE FUNCTION public.note_whether_held() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$
    BEGIN
        UPDATE public.effects SET held = EXISTS (
            SELECT FROM platform.all_jobs j
            WHERE j.tenant_id = NEW.tenant_id AND j.job_id = NEW.job_id
              AND j.fencing_token = NEW.fencing_token AND j.state <> 'available')
        WHERE position = NEW.position;
        RETURN NULL;
    END
    $$;
    CREATE CONSTRAINT TRIGGER held AFTER INSERT ON public.effects DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.note_whether_held();
"""


@dataclass
class Ground:
    """The database and two ways to it: as the program and as its superuser.

    Both are pools that connect anew, so that they outlive what is done to the server.
    """

    where: TestDatabase
    database: Database
    admin: Database

    async def look(self, sql: str, *args: object) -> Any:
        """The value of a statement, as the superuser sees it."""
        return await self.admin.fetch_value(sql, *args)

    async def rows(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """The rows of a statement, likewise."""
        return await self.admin.fetch(sql, *args)

    async def change(self, sql: str, *args: object) -> None:
        """Carry a statement out, likewise."""
        await self.admin.execute(sql, *args)

    async def enqueue(
        self,
        kind: str,
        count: int,
        arguments: Callable[[], Mapping[str, Any]] = dict,
        tenants: Sequence[TenantId] = TENANTS[:1],
    ) -> None:
        """Enqueue jobs, so many for each tenant."""
        for tenant in tenants:
            left = iter(range(count))
            while numbers := list(islice(left, BATCH)):
                news = [
                    NewJob(group=GROUP, kind=kind, arguments=arguments(), max_attempts=MAX_ATTEMPTS)
                    for _ in numbers
                ]
                await self.database.run(
                    lambda connection, news=news: enqueue_many(connection, news),  # type: ignore[misc]
                    tenant=tenant,
                )

    async def soon(
        self,
        condition: Callable[[], Awaitable[bool]],
        what: str,
        *,
        patience: float = 30 * SECONDS,
    ) -> None:
        """Wait until a condition holds."""
        with trio.move_on_after(patience):
            while not await condition():
                await trio.sleep(20 * MILLISECONDS)
            return
        pytest.fail(f"{what}: not within {patience:g} s")

    async def all_finish(self, *, patience: float = 2 * MINUTES) -> None:
        """Wait until no job waits or runs; fails with those that still do."""

        async def finished() -> bool:
            return not await self.look("SELECT EXISTS (SELECT FROM platform.jobs)")

        try:
            await self.soon(finished, "all jobs finish", patience=patience)
        except pytest.fail.Exception as failure:
            left = await self.look(
                "SELECT string_agg(concat_ws(' ', jobs, kind, state), ', ') FROM"
                " (SELECT kind, state, count(*) AS jobs FROM platform.jobs GROUP BY 1, 2) AS jobs"
            )
            pytest.fail(f"{failure}; left: {left}")

    @asynccontextmanager
    async def running(
        self,
        kinds: Mapping[str, JobKind],
        *,
        slots: int = 8,
        database: Database | None = None,
        **settings: Any,
    ) -> AsyncIterator[Supervisor]:
        """Run jobs in this process."""
        used = database or self.database
        runner = JobRunner(
            GROUP,
            kinds,
            pool=Pool(GROUP, limit=slots),
            database=lambda: used,
            settings=RunnerSettings(**{"drain": 2.0} | settings),
        )
        supervisor = Supervisor("ground", [runner.child_spec()])
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            yield supervisor
            supervisor.request_stop()


@asynccontextmanager
async def open_ground(where: TestDatabase) -> AsyncIterator[Ground]:
    """Prepare a migrated database; needs the bridge to be open."""
    async with (
        open_database(where.runtime_url, connections=6, application_name="ground") as database,
        open_database(where.admin_url, connections=4, application_name="onlooker") as admin,
    ):
        await admin.execute(PREPARE, list(TENANTS))
        await admin.run(lambda connection: connection.execute(EFFECTS))
        yield Ground(where, database, admin)
