"""Two tenants on a fresh database, schedules, and outages without waiting for them."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import trio

from tests.support.postgres import TestDatabase
from troupe.common.bridge import aio, open_bridge
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.schedules import (
    NewSchedule,
    Policy,
    Schedule,
    Scheduler,
    SchedulerSettings,
    ScheduleStore,
    Timetable,
)
from troupe.platform.supervision import Intensity, Supervisor

ADA, BOB = TenantId(uuid.UUID(int=0xADA)), TenantId(uuid.UUID(int=0xB0B))
PATIENCE = 60 * SECONDS
LEASE = 1.5 * SECONDS

PREPARE = """
    INSERT INTO platform.tenants (tenant_id, name)
    VALUES ('00000000-0000-0000-0000-000000000ada', 'Ada'),
           ('00000000-0000-0000-0000-000000000b0b', 'Bob');
    -- Every slot in the order in which it was written.
    CREATE TABLE public.written (
        position bigserial, schedule_id uuid, slot timestamptz, term bigint, outcome text);
    CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO public.written (schedule_id, slot, term, outcome)
        VALUES (NEW.schedule_id, NEW.slot, NEW.term, NEW.outcome);
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER note AFTER INSERT ON platform.schedule_slots
        FOR EACH ROW EXECUTE FUNCTION public.note();
"""


@dataclass(frozen=True)
class Beat:
    """A timetable that is due every so many milliseconds."""

    step: timedelta

    def after(self, instant: datetime) -> Iterator[datetime]:
        epoch = datetime(2000, 1, 1, tzinfo=UTC)
        number = (instant - epoch) // self.step
        while True:
            number += 1
            yield epoch + number * self.step


def read_beat(cron: str, _zone: str) -> Timetable:
    """Instead of `read_timetable`: the line's minutes count hundredths of a second."""
    return Beat(timedelta(milliseconds=10 * int(cron.split(maxsplit=1)[0])))


async def soon(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until a condition of the database holds."""
    with trio.move_on_after(PATIENCE):
        while not await condition():
            await trio.sleep(10 * MILLISECONDS)
        return
    pytest.fail(f"{what}: not within {PATIENCE:g} s")


@dataclass
class World:
    """What a test has to work with."""

    where: TestDatabase
    database: Database
    admin: asyncpg.Connection
    store: ScheduleStore
    made: int = field(default=0)

    async def look(self, sql: str, *args: object) -> Any:
        """The value of a statement, as the superuser sees it."""
        return await aio(self.admin.fetchval(sql, *args))

    async def rows(self, sql: str, *args: object) -> list[asyncpg.Record]:
        return await aio(self.admin.fetch(sql, *args))

    async def change(self, sql: str, *args: object) -> None:
        await aio(self.admin.execute(sql, *args))

    async def make(
        self,
        cron: str = "0 * * * *",
        zone: str = "UTC",
        policy: Policy = Policy.CATCH_UP,
        tenant: TenantId = ADA,
        **fields: Any,
    ) -> Schedule:
        self.made += 1
        values = {"name": f"schedule {self.made}", "group": "data", "kind": "work"} | fields
        new = NewSchedule(cron=cron, zone=zone, policy=policy, **values)
        return await self.store.create(tenant, new)

    async def outage(self, schedule: Schedule, length: timedelta) -> datetime:
        """Let nobody have looked at a schedule for so long; when that began."""
        until: datetime = await self.look(
            "UPDATE platform.schedules SET settled_until = now() - $2::interval, due_at = now()"
            " WHERE schedule_id = $1 RETURNING settled_until",
            schedule.id,
            length,
        )
        return until

    async def slots(self, schedule: Schedule) -> list[tuple[datetime, str]]:
        """All slots of a schedule, in their order."""
        sql = "SELECT slot, outcome FROM platform.schedule_slots WHERE schedule_id = $1 ORDER BY 1"
        return [(row["slot"], row["outcome"]) for row in await self.rows(sql, schedule.id)]

    async def jobs(self, schedule: Schedule) -> list[str]:
        """The slots of all jobs of a schedule, in their order."""
        sql = (
            "SELECT arguments ->> 'slot' FROM platform.all_jobs"
            " WHERE idempotency_key LIKE 'schedule/' || $1 || '/%' ORDER BY run_at"
        )
        return [row[0] for row in await self.rows(sql, str(schedule.id))]

    async def settled(self, *schedules: Schedule) -> None:
        """Wait until nothing is due of these."""

        async def reached() -> bool:
            sql = (
                "SELECT bool_and(due_at > now()) FROM platform.schedules"
                " WHERE schedule_id = ANY ($1)"
            )
            return bool(await self.look(sql, [schedule.id for schedule in schedules]))

        await soon(reached, "nothing is due")

    def scheduler(self, *, database: Database | None = None, **options: Any) -> Scheduler:
        used = database or self.database
        read = {"read": options.pop("read")} if "read" in options else {}
        settings = {"lease": LEASE, "poll": 0.5} | options
        return Scheduler(database=lambda: used, settings=SchedulerSettings(**settings), **read)

    @asynccontextmanager
    async def running(self, *schedulers: Scheduler) -> AsyncIterator[Supervisor]:
        """Run them under a supervisor, and stop that in order."""
        supervisor = Supervisor(
            "root",
            [each.child_spec(f"scheduler-{number}") for number, each in enumerate(schedulers)],
            intensity=Intensity(restarts=20, period=1),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            yield supervisor
            supervisor.request_stop()


@asynccontextmanager
async def open_world(where: TestDatabase) -> AsyncIterator[World]:
    """A world on a fresh database."""
    async with open_bridge():
        admin = await aio(asyncpg.connect(where.admin_url))
        try:
            await aio(admin.execute(PREPARE))
            async with open_database(where.runtime_url, connections=6) as database:
                yield World(where, database, admin, ScheduleStore(database))
        finally:
            with trio.CancelScope(shield=True):
                await aio(admin.close(timeout=5 * SECONDS))


@pytest.fixture
async def world(fresh_database: TestDatabase) -> AsyncIterator[World]:
    async with open_world(fresh_database) as made:
        yield made
