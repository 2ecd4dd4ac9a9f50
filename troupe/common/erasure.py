"""Making a tenant or a person disappear: what the auth group asks for and the data group does.

A tenant's rows are deleted, all of them, and its data keys with them, so that its secrets are noise
in every backup as well. A person is not deleted but loses their names: rows of events are figures
of the shop, and a visitor who vanished would change last year's revenue. Every identifier is
replaced by a pseudonym that nobody can lead back, what describes the person is wiped, and the
digest that is kept sees to it that loading an old day again does not bring them back.
docs/adr/0013-erasure.md has the reasons, the migration 0013_tenants.sql the statements.

The request waits as a job, and a job's arguments are there for everybody of the tenant to read; so
the identifiers wait sealed, and are gone when the job is done.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from uuid import UUID

from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.secrets import Place
from troupe.common.sql import load
from troupe.common.units import MINUTES

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

QUERIES: Final = load(__package__, "erasure.sql")

ERASE_PERSON: Final = "erase_person"
ERASE_TENANT: Final = "erase_tenant"
"""Kinds of jobs, of the group ``data``."""

DEADLINE: Final = 30 * MINUTES
"""Of one transaction: a person is looked for in every row of the tenant."""
DAYS_AT_ONCE: Final = 100
"""Partitions dropped in one transaction; each takes locks until it ends."""


def request_place(request: UUID) -> Place:
    """Where the identifiers of one request are sealed for."""
    return Place("platform.jobs", "arguments", str(request))


async def erase_tenant(
    database: Database,
    tenant: TenantId,
    *,
    fence: "Callable[[Connection], Awaitable[None]] | None" = None,
) -> None:
    """Delete everything of a tenant.

    Days of events go first, some in each transaction, because they are many; the rest goes in one,
    so that a failure leaves a tenant that can be erased again. Nobody else is locked out for longer
    than the last commit takes.

    Args:
        database: Where.
        tenant: Whose; deactivate it first, or its people see it vanish.
        fence: Called (an asyncio coroutine function) in the last transaction before anything is
            deleted there.

    Raises:
        DatabaseError: Something is left; call it again.
    """
    while await database.fetch_value(
        QUERIES["drop_events"], tenant, DAYS_AT_ONCE, tenant=tenant, deadline=DEADLINE
    ):
        pass

    async def unit(connection: "Connection") -> None:
        if fence is not None:
            await fence(connection)
        await connection.fetchval(QUERIES["forget_people"])
        await connection.fetchval(QUERIES["erase_tenant"], tenant)

    await database.run(unit, tenant=tenant, deadline=DEADLINE)
