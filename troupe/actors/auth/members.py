"""Who belongs to a tenant, and as what.

Nobody gives away more than they have: an admin neither makes owners nor touches them. A tenant
keeps at least one owner as long as it has any; changes to its members happen one after the other,
so that two owners who remove each other at the same moment do not both succeed.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, get_args
from uuid import UUID

from troupe.actors.auth.audit import OPERATOR, QUERIES, Actor, append
from troupe.common.database import Database
from troupe.common.errors import Conflict, Forbidden, NotFound
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


async def invite_member(
    database: Database,
    tenant: TenantId,
    *,
    provider: UUID,
    subject: str,
    role: Role,
    by: Role,
    actor: Actor,
    email: str | None = None,
    name: str = "",
) -> Member:
    """Let a person in before they have logged in for the first time.

    Args:
        database: Where.
        tenant: Into which tenant.
        provider: The tenant's identity provider that knows them.
        subject: What it calls them (``sub``).
        role: What they may do.
        by: Role of whoever invites.
        actor: Who that is.
        email: For people to recognise them by, until they log in.
        name: Likewise.

    Raises:
        Forbidden: The role outranks whoever invites.
        NotFound: The tenant has no such provider.
        Conflict: They belong to the tenant already.
    """
    demand_rank(by, role)

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> Member:
        await connection.execute(QUERIES["lock_tenant"], tenant)
        issuer = await connection.fetchval(QUERIES["issuer_of_provider"], tenant, provider)
        if issuer is None:
            raise NotFound("The tenant has no such identity provider.")
        user = await connection.fetchval(
            QUERIES["put_user"], new_id(), issuer, subject, email, name
        )
        if await _find(connection, tenant, user) is not None:
            raise Conflict("This person belongs to the tenant already.")
        await connection.execute(QUERIES["put_member"], tenant, user, role)
        await append(connection, actor, "member.added", str(user), {"role": role})
        member, _ = await _demand(connection, tenant, user)
        return member

    return await database.run(unit, tenant=tenant)


async def change_role(
    database: Database, tenant: TenantId, user: UUID, role: Role, *, by: Role, actor: Actor
) -> Member:
    """Make a member something else; it holds within two seconds, everywhere.

    Raises:
        NotFound: There is no such member.
        Forbidden: The old or the new role outranks whoever does this.
        Conflict: It is the last owner.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> Member:
        await connection.execute(QUERIES["lock_tenant"], tenant)
        present, owners = await _demand(connection, tenant, user)
        demand_rank(by, role, present.role)
        if present.role == role:
            return present
        _demand_another_owner(present, owners)
        await connection.execute(QUERIES["change_role"], tenant, user, role)
        detail = {"role": role, "before": present.role}
        await append(connection, actor, "member.changed", str(user), detail)
        member, _ = await _demand(connection, tenant, user)
        return member

    return await database.run(unit, tenant=tenant)


async def remove_member(
    database: Database, tenant: TenantId, user: UUID, *, by: Role, actor: Actor
) -> None:
    """End a membership, and with it the person's tokens; their sessions lose the tenant.

    Raises:
        NotFound: There is no such member.
        Forbidden: The member outranks whoever does this.
        Conflict: It is the last owner.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        await connection.execute(QUERIES["lock_tenant"], tenant)
        present, owners = await _demand(connection, tenant, user)
        demand_rank(by, present.role)
        _demand_another_owner(present, owners)
        await connection.execute(QUERIES["remove_member"], tenant, user)
        await append(connection, actor, "member.removed", str(user), {"role": present.role})

    await database.run(unit, tenant=tenant)


async def erasable_member(
    connection: "asyncpg.Connection[asyncpg.Record]", tenant: TenantId, user: UUID, *, by: Role
) -> None:
    """Check, in a unit of work of the tenant, that this member may go for good.

    Raises:
        NotFound: There is no such member.
        Forbidden: The member outranks whoever does this.
        Conflict: It is the last owner.
    """
    await connection.execute(QUERIES["lock_tenant"], tenant)
    present, owners = await _demand(connection, tenant, user)
    demand_rank(by, present.role)
    _demand_another_owner(present, owners)


async def show_member(database: Database, tenant: TenantId, user: UUID) -> Member:
    """One member.

    Raises:
        NotFound: There is none.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> Member:
        member, _ = await _demand(connection, tenant, user)
        return member

    return await database.run(unit, tenant=tenant, read_only=True)


async def _find(
    connection: "asyncpg.Connection[asyncpg.Record]", tenant: TenantId, user: UUID
) -> tuple[Member, int] | None:
    row = await connection.fetchrow(QUERIES["member"], tenant, user)
    if row is None:
        return None
    fields = dict(row.items())
    owners: int = fields.pop("owners")
    return Member(**fields), owners


async def _demand(
    connection: "asyncpg.Connection[asyncpg.Record]", tenant: TenantId, user: UUID
) -> tuple[Member, int]:
    found = await _find(connection, tenant, user)
    if found is None:
        raise NotFound("There is no such member.")
    return found


def demand_rank(by: Role, *roles: Role) -> None:
    """Check that somebody may decide about roles.

    Raises:
        Forbidden: One of them outranks whoever this is.
    """
    for role in roles:
        if ROLES.index(role) > ROLES.index(by):
            raise Forbidden(f"You are {by}; only who is {role} may decide about that role.")


def _demand_another_owner(member: Member, owners: int) -> None:
    if member.role == "owner" and owners == 1:
        raise Conflict("This is the tenant's last owner; make somebody else an owner first.")


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
