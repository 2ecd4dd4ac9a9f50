"""The job ``derive``: days that are loaded, derived anew from their events.

What is derived depends on more than the events: on the tenant's reporting zone and currency, on
some of its settings, and on our own rules (`publication.DERIVATION`). Each day says how it was
derived (``source_days.derived_as``). When that is not how it would be derived now, this job derives
it from the events that are here; nothing is read from the source.

Days are derived one after the other, oldest first, each in a transaction that raises the data
version. Until the last one is done, figures near the boundary between new and old days are cut in
both ways; derive.sql rolls every day again that a derived day touches, so that the last one leaves
what a fresh load would have given. The tenant's settings are read in each of the transactions: a
change half-way is followed, and days done before it are taken up again.

`upkeep.py` starts it; nobody needs to.
"""

from datetime import date
from typing import Final

import asyncpg

from troupe.actors.data.digest import digest_day
from troupe.actors.data.job_requests import GROUP
from troupe.actors.data.patience import publish_patiently
from troupe.actors.data.publication import (
    DERIVE,
    Reporting,
    derive,
    open_workbench,
    settle,
    take_turn,
)
from troupe.actors.data.reporting import property_zone_of, reporting_in
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.secrets import Vault
from troupe.common.sql import load
from troupe.common.units import HOURS
from troupe.platform.jobs import JobKind, JobRun, JobValue, NewJob

DERIVE_AGAIN: Final = "derive"
"""The kind's name."""
JOB_TIMEOUT: Final = 12 * HOURS
CONCURRENT_DERIVATIONS: Final = 1

UPKEEP: Final = load(__package__, "upkeep.sql")


def derive_job(*, once_for: str | None = None) -> NewJob:
    """What to enqueue; while one waits or runs for a tenant, that one is given back.

    Args:
        once_for: Make it once for this word, however it ends.
    """
    return NewJob(
        group=GROUP, kind=DERIVE_AGAIN, unique_key="derive", idempotency_key=once_for, priority=-1
    )


async def derive_again(
    connection: asyncpg.Connection, reporting: Reporting, source_day: date
) -> int | None:
    """Derive a loaded day from its events, in the transaction that is open.

    Returns:
        The tenant's new data version; None: it is derived like this already.
    """
    tenant = reporting.tenant
    await take_turn(connection, tenant)
    noted = await connection.fetchval(
        UPKEEP["note_derived"], tenant, source_day, reporting.derived_as, reporting.cut
    )
    if not noted:
        return None
    await open_workbench(connection, tenant, [])
    await connection.execute(DERIVE["open_digest"], tenant, None)
    digest = await digest_day(connection, reporting, source_day, None)
    await derive(connection, reporting, source_day, digest)
    return await settle(connection, reporting)


class Rederiver:
    """Runs ``derive`` jobs of one group.

    Args:
        database: The group's pool.
        vault: Opens the connections' secrets.
    """

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def handle(self, run: JobRun) -> JobValue:
        """Do one attempt at a job; see the module's text."""
        tenant = run.job.tenant_id
        zone = await property_zone_of(self._database, self._vault, tenant)
        done = 0
        while days := await self._outdated(tenant, zone):
            for number, day in enumerate(days):
                if run.stopping.is_set():
                    raise run.leave()
                await run.progress(
                    done=done, total=done + len(days) - number, phase="deriving", message=f"{day}"
                )
                if await self._derive(run, zone, day) is not None:
                    done += 1
        await run.progress(done=done, total=done, message="All days are derived")
        return {"days": done}

    async def _outdated(self, tenant: TenantId, zone: str | None) -> list[date]:
        async def unit(connection: asyncpg.Connection) -> list[date]:
            reporting, _ = await reporting_in(connection, tenant, zone)
            rows = await connection.fetch(UPKEEP["outdated_days"], tenant, reporting.derived_as)
            return [row["source_day"] for row in rows]

        return await self._database.run(unit, tenant=tenant, read_only=True)

    async def _derive(self, run: JobRun, zone: str | None, day: date) -> int | None:
        tenant = run.job.tenant_id

        async def unit(connection: asyncpg.Connection) -> int | None:
            await run.fence(connection)
            reporting, _ = await reporting_in(connection, tenant, zone)
            return await derive_again(connection, reporting, day)

        return await publish_patiently(self._database, tenant, unit)


def derive_kind(database: Database, vault: Vault) -> JobKind:
    """The kind ``derive`` for a `JobRunner`; arguments as `Rederiver`'s."""
    handler = Rederiver(database, vault).handle
    return JobKind(handler=handler, concurrency=CONCURRENT_DERIVATIONS, timeout=JOB_TIMEOUT)
