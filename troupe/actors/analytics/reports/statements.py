"""The statements of reports, and what every transaction about them needs."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import asyncpg

from troupe.common.database import Database
from troupe.common.errors import Conflict, NotFound, PreconditionFailed
from troupe.common.ids import TenantId
from troupe.common.sql import load

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")

QUERIES: Final = load(__package__, "reports.sql")
GROUP: Final = "analytics"
PLAN: Final = "report_plan"
DELIVER: Final = "report_deliver"
COLLECT: Final = "report_bounces"
"""Kinds of jobs, of the group."""

Actor = tuple[str, UUID | None]
"""Kind and identifier of who acts, as the audit log has them."""


def found_or(row: asyncpg.Record | None, what: str) -> asyncpg.Record:
    """The row.

    Raises:
        NotFound: There is none.
    """
    if row is None:
        raise NotFound(f"There is no such {what}.")
    return row


def outdated() -> PreconditionFailed:
    """What is raised when another version is there than the one that was read."""
    return PreconditionFailed("It was changed since you have read it. Read it again.")


async def audit(
    connection: "Connection", actor: Actor, action: str, target: str, detail: Mapping[str, Any]
) -> None:
    """Write into the audit log of the transaction's tenant."""
    kind, identifier = actor
    await connection.execute(
        QUERIES["append_audit"], kind, identifier, action, target, dict(detail)
    )


async def once(
    database: Database,
    unit: Callable[["Connection"], Awaitable[T]],
    tenant: TenantId,
    message: str,
) -> T:
    """Run a transaction that may meet what is there already.

    Raises:
        Conflict: It does; with the message.
    """
    try:
        return await database.run(unit, tenant=tenant)
    except asyncpg.UniqueViolationError:
        raise Conflict(message) from None
