"""The jobs ``erase_person`` and ``erase_tenant``: what `troupe.common.erasure` describes.

They are the data group's because its tables are by far the largest part of what is to be looked
through. Both may be repeated at any point: a person who was erased has no identifier left to be
found, and a tenant that is gone takes its jobs along.
"""

import base64
import json
from typing import TYPE_CHECKING, Final
from uuid import UUID

from troupe.common.database import Database
from troupe.common.erasure import DEADLINE, ERASE_PERSON, ERASE_TENANT, QUERIES, request_place
from troupe.common.erasure import erase_tenant as erase_everything
from troupe.common.logs import get_logger
from troupe.common.secrets import Vault
from troupe.common.units import MINUTES
from troupe.platform.jobs import JobKind, JobRun

if TYPE_CHECKING:
    import asyncpg

TIMEOUT: Final = DEADLINE + 5 * MINUTES

_log = get_logger(__name__)


def erasure_kinds(database: Database, vault: Vault) -> dict[str, JobKind]:
    """Both kinds, for a `JobRunner`.

    Args:
        database: The group's pool.
        vault: Opens the identifiers of a request.
    """

    async def erase_person(run: JobRun) -> None:
        tenant = run.job.tenant_id
        await run.progress(phase="erasing", message="Looking for the person in every table")

        async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
            await run.fence(connection)
            request = UUID(run.arguments["request"])
            sealed = base64.b64decode(run.arguments["sealed"])
            opened = await vault.unseal(connection, tenant, request_place(request), sealed)
            found: set[str] = set()
            for identifier in json.loads(opened):
                found |= set(await connection.fetchval(QUERIES["identifiers"], tenant, identifier))
            await connection.execute(QUERIES["erase_invitations"], tenant, sorted(found))
            counts = await connection.fetchval(
                QUERIES["erase_person"], tenant, sorted(found), run.job.id
            )
            await run.complete_in(connection, {"rows": counts})

        await database.run(unit, tenant=tenant, deadline=DEADLINE)
        _log.info("person_erased", request=run.arguments["request"])

    async def erase_tenant(run: JobRun) -> None:
        await run.progress(phase="erasing", message="Deleting everything")
        await erase_everything(database, run.job.tenant_id, fence=run.fence)
        _log.info("tenant_erased", tenant_id=str(run.job.tenant_id))

    return {
        ERASE_PERSON: JobKind(handler=erase_person, concurrency=1, tenant_limit=1, timeout=TIMEOUT),
        ERASE_TENANT: JobKind(handler=erase_tenant, concurrency=1, timeout=TIMEOUT),
    }
