"""Who belongs to a tenant, and as what."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, get_args
from uuid import UUID

from troupe.actors.auth.audit import OPERATOR, QUERIES, Actor, append
from troupe.common.database import Database
from troupe.common.ids import TenantId, new_id

if TYPE_CHECKING:
    import asyncpg

Role = Literal["viewer", "analyst", "admin", "owner"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""From the least to the most; each includes the ones before it."""


@dataclass(frozen=True, slots=True)
class Member:
    """A person within a tenant.

    Attributes:
        email: As their provider said last; None before the first login, or when it does not say.
    """

    user_id: UUID
    name: str
    email: str | None
    role: Role
    created_at: datetime
    last_login_at: datetime | None


async def add_member(
    database: Database,
    tenant: TenantId,
    *,
    issuer: str,
    subject: str,
    role: Role,
    email: str | None = None,
    name: str = "",
    actor: Actor = OPERATOR,
) -> UUID:
    """Make a person a member, or change the role of one who is.

    Args:
        database: Where.
        tenant: Of which tenant.
        issuer: The provider that knows the person.
        subject: What it calls them (``sub``). An address would not do: addresses change hands.
        role: What they may do.
        email: For people to recognise them by, until they log in.
        name: Likewise.
        actor: Who does this.

    Returns:
        The user's identifier.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> UUID:
        user: UUID = await connection.fetchval(
            QUERIES["put_user"], new_id(), issuer, subject, email, name
        )
        await connection.execute(QUERIES["put_member"], tenant, user, role)
        await append(connection, actor, "member.added", str(user), {"role": role})
        return user

    return await database.run(unit, tenant=tenant)


async def list_members(
    database: Database, tenant: TenantId, *, after: UUID | None, limit: int
) -> tuple[list[Member], int]:
    """One page of members in the order in which they became known, and the number of all.

    Args:
        database: Where.
        tenant: Of which tenant.
        after: The last one of the page before; None for the first page.
        limit: How many at most.
    """

    async def unit(
        connection: "asyncpg.Connection[asyncpg.Record]",
    ) -> tuple[list[Member], int]:
        rows = await connection.fetch(QUERIES["members"], after, limit)
        total: int = await connection.fetchval(QUERIES["count_members"], tenant)
        return [Member(**dict(row.items())) for row in rows], total

    return await database.run(unit, tenant=tenant, read_only=True)
