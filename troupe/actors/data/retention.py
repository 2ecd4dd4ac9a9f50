"""The job ``retention``: days older than a tenant keeps are taken away.

A day is taken away as it is replaced: by nothing. An empty table is staged in its place and
everything that the day touches is derived without it, so that what is left is what the other days
give, to the last row: a session that ran into the next day begins there now, and of two purchases
with one transaction id the later one counts once the earlier is gone. Then the partition is
dropped, and the day's record says ``removed``. One transaction per day, which raises the data
version; a failure leaves the day whole.

Master data belongs to no day and stays. What is kept is counted in days of the reporting zone,
today included, and never less than ``MIN_RETENTION_DAYS``, whatever is stored.

`upkeep.py` starts it.
"""

from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg

from troupe.actors.data.digest import digest_day
from troupe.actors.data.job_requests import GROUP
from troupe.actors.data.patience import publish_patiently
from troupe.actors.data.publication import (
    DAYS,
    DERIVE,
    Reporting,
    derive,
    open_workbench,
    seal,
    settle,
    stage,
    take_turn,
)
from troupe.actors.data.rederivation import UPKEEP
from troupe.actors.data.reporting import property_zone_of, reporting_in
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.secrets import Vault
from troupe.common.tenant_settings import TenantSettings
from troupe.common.units import HOURS
from troupe.platform.jobs import JobKind, JobRun, JobValue, NewJob

RETENTION: Final = "retention"
"""The kind's name."""
JOB_TIMEOUT: Final = 12 * HOURS
CONCURRENT_REMOVALS: Final = 1

_NOW: Final = "SELECT now()"
_log = get_logger(__name__)


def retention_job(*, once_for: str | None = None) -> NewJob:
    """What to enqueue; while one waits or runs for a tenant, that one is given back.

    Args:
        once_for: Make it once for this word, however it ends.
    """
    return NewJob(
        group=GROUP, kind=RETENTION, unique_key="retention", idempotency_key=once_for, priority=-1
    )


def first_kept(settings: TenantSettings, zone: str, now: datetime) -> date:
    """The first source day that a tenant keeps.

    Args:
        settings: The tenant's.
        zone: Its reporting zone.
        now: The present instant.
    """
    return settings.first_kept(now.astimezone(ZoneInfo(zone)).date())


async def remove_day(
    connection: asyncpg.Connection, reporting: Reporting, source_day: date, run: JobRun | None
) -> int | None:
    """Take a day away, in the transaction that is open.

    Args:
        connection: In a transaction of the tenant's.
        reporting: How what is left is derived.
        source_day: Which.
        run: The attempt on whose behalf.

    Returns:
        The tenant's new data version; None: the day is not there.

    Raises:
        asyncpg.LockNotAvailableError: A long reader held the day; try again.
    """
    tenant = reporting.tenant
    await take_turn(connection, tenant)
    if not await connection.fetchval(UPKEEP["note_removed"], tenant, source_day):
        return None
    job = run.job.id if run is not None else tenant
    table = await stage(connection, tenant, source_day, job)
    await seal(connection, tenant, table)
    await open_workbench(connection, tenant, [table])
    await connection.execute(DERIVE["open_digest"], tenant, table)
    digest = await digest_day(connection, reporting, source_day, table)
    await derive(connection, reporting, source_day, digest)
    version = await settle(connection, reporting)
    await connection.execute(DAYS["publish_day"], tenant, table)
    await connection.execute(UPKEEP["drop_empty_day"], tenant, source_day)
    return version


class Retention:
    """Runs ``retention`` jobs of one group.

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
        kept, days = await self._expired(tenant, zone)
        for number, day in enumerate(days):
            if run.stopping.is_set():
                raise run.leave()
            await run.progress(
                done=number, total=len(days), phase="removing", message=f"Removing {day}"
            )
            await self._remove(run, zone, day)
        await run.progress(
            done=len(days), total=len(days), phase="removing", message=f"Kept from {kept} on"
        )
        return {"removed": len(days), "kept_from": kept.isoformat()}

    async def _expired(self, tenant: TenantId, zone: str | None) -> tuple[date, list[date]]:
        async def unit(connection: asyncpg.Connection) -> tuple[date, list[date]]:
            reporting, settings = await reporting_in(connection, tenant, zone)
            kept = first_kept(settings, reporting.zone, await connection.fetchval(_NOW))
            rows = await connection.fetch(UPKEEP["expired_days"], tenant, kept)
            return kept, [row["source_day"] for row in rows]

        return await self._database.run(unit, tenant=tenant, read_only=True)

    async def _remove(self, run: JobRun, zone: str | None, day: date) -> None:
        tenant = run.job.tenant_id

        async def unit(connection: asyncpg.Connection) -> int | None:
            await run.fence(connection)
            reporting, settings = await reporting_in(connection, tenant, zone)
            now = await connection.fetchval(_NOW)
            if day >= first_kept(settings, reporting.zone, now):
                return None  # somebody has decided meanwhile to keep it
            return await remove_day(connection, reporting, day, run)

        version = await publish_patiently(self._database, tenant, unit)
        _log.info("day_removed", tenant_id=str(tenant), day=str(day), data_version=version)


def retention_kind(database: Database, vault: Vault) -> JobKind:
    """The kind ``retention`` for a `JobRunner`; arguments as `Retention`'s."""
    handler = Retention(database, vault).handle
    return JobKind(handler=handler, concurrency=CONCURRENT_REMOVALS, timeout=JOB_TIMEOUT)
