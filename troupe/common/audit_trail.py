"""Writing to a tenant's audit log from outside the auth group.

The log is the auth group's (`troupe.actors.auth.audit` names every action); its door in PostgreSQL
is open to all, so that an entry commits with the change that it tells of, whoever makes it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

Who = tuple[Literal["user", "token", "operator", "system"], UUID | None]
"""Kind and identifier of who acts; the operator and the program itself have none."""

_QUERIES: Final = load(__package__, "audit_trail.sql")


async def append_entry(
    connection: "asyncpg.Connection[asyncpg.Record]",
    who: Who,
    action: str,
    target: str,
    detail: Mapping[str, Any],
) -> None:
    """Write an entry for the tenant of the transaction; it commits or vanishes with the change."""
    await connection.execute(_QUERIES["append"], *who, action, target, dict(detail))
