"""What reports need from time to time and nobody asks for."""

from typing import TYPE_CHECKING, Final

import trio

from troupe.actors.analytics.reports.planning import job_of
from troupe.actors.analytics.reports.statements import COLLECT, GROUP, QUERIES
from troupe.common.connections import NotConnected, SmtpConfig, read_connection
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.tenants import active_tenants
from troupe.common.units import MINUTES
from troupe.platform.jobs import NewJob, enqueue

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

LOOK_EVERY: Final = 10 * MINUTES
KEPT_DAYS: Final = 400
"""For which ended runs are remembered, and what became of their mails."""
_COLLECT: Final = NewJob(group=GROUP, kind=COLLECT, unique_key="bounces", max_attempts=3)


async def look_after_reports(database: Database, stopping: trio.Event) -> None:
    """Do from time to time what nobody asks for, until `stopping` is set.

    Bounce mailboxes are read. A run that has not ended has a job, even if somebody has cancelled
    the one that it had (`enqueue` makes no second one). Runs of long ago are forgotten.

    Raises:
        DatabaseError: PostgreSQL is away; whoever supervises this starts it again.
    """
    while not stopping.is_set():
        for tenant in await active_tenants(database):
            await _look_after(database, tenant)
        with trio.move_on_after(LOOK_EVERY):
            await stopping.wait()


async def _look_after(database: Database, tenant: TenantId) -> None:
    collects = False
    try:
        config = (await read_connection(database, tenant, "smtp")).config
        collects = isinstance(config, SmtpConfig) and bool(config.bounce_host)
    except NotConnected:
        pass  # its mails wait for one

    async def unit(connection: "Connection") -> None:
        jobs = [
            job_of(row["run_id"]) for row in await connection.fetch(QUERIES["open_runs"], tenant)
        ]
        if collects:
            jobs.append(_COLLECT)
        for job in jobs:
            await enqueue(connection, job)
        await connection.execute(QUERIES["forget_runs"], tenant, KEPT_DAYS)

    await database.run(unit, tenant=tenant)
