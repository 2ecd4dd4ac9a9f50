"""Looks at every tenant once a minute, and starts what its loaded days need.

A tenant's zone, currency and settings are changed in the auth group, our own rules by a new
version, and time passes by itself; none of them knows which days that concerns. So the data group
looks: two statements per tenant that read its list of days, and a job where one is needed. The jobs
carry keys: any number of instances may look, and a job that failed for good is made again once an
hour, not once a minute.
"""

from datetime import datetime
from typing import Final

import asyncpg
import trio
from pydantic import ValidationError

from troupe.actors.data.rederivation import UPKEEP, derive_job
from troupe.actors.data.reporting import reporting_in
from troupe.actors.data.retention import first_kept
from troupe.actors.data.retention import retention_job as removal
from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.tenants import active_tenants
from troupe.common.units import MINUTES
from troupe.platform.jobs import NewJob, enqueue

LOOK_PAUSE: Final = 1 * MINUTES

_log = get_logger(__name__)


async def needed_jobs(connection: asyncpg.Connection, tenant: TenantId) -> list[NewJob]:
    """The jobs that a tenant's loaded days need now.

    Raises:
        NotFound: The tenant is not active.
    """
    reporting, settings = await reporting_in(connection, tenant, None)
    now: datetime = await connection.fetchval("SELECT now()")
    kept = first_kept(settings, reporting.zone, now)
    [needs] = await connection.fetch(UPKEEP["needs"], tenant, reporting.derived_as, kept)
    hour = f"{now:%Y-%m-%dT%H}"
    found = []
    if needs["expired"]:
        found.append(removal(once_for=f"{kept} {hour}"))
    if needs["outdated"]:
        found.append(derive_job(once_for=f"{reporting.derived_as} {hour}"))
    return found


async def look_after(database: Database, tenant: TenantId) -> list[NewJob]:
    """Enqueue what a tenant's loaded days need; returns it."""

    async def unit(connection: asyncpg.Connection) -> list[NewJob]:
        jobs = await needed_jobs(connection, tenant)
        for job in jobs:
            await enqueue(connection, job)
        return jobs

    try:
        return await database.run(unit, tenant=tenant)
    except NotFound:
        return []  # it was deactivated a moment ago
    except ValidationError as error:
        # Stored before a rule was made stricter. The other tenants must not wait for its people.
        wrong = "; ".join(finding["msg"] for finding in error.errors(include_input=False))
        _log.warning("tenant_settings_unusable", tenant_id=str(tenant), problem=wrong)
        return []


async def look_after_days(database: Database, stopping: trio.Event) -> None:
    """Look at every tenant, once a minute, until `stopping` is set.

    Raises:
        DatabaseError: PostgreSQL is away; whoever supervises this starts it again.
    """
    while not stopping.is_set():
        for tenant in await active_tenants(database):
            await look_after(database, tenant)
        with trio.move_on_after(LOOK_PAUSE):
            await stopping.wait()
