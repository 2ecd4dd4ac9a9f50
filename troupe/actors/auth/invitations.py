"""Letting in a single person of whom only the e-mail address is known.

Rules let in whole domains and groups; `members.invite_member` needs what the provider calls the
person, which an administrator seldom knows. An address they know. But addresses change hands, so an
invitation is not membership: it waits at one provider of the tenant, for a bounded time, for the
first login with that address verified, and is over with it. The member is whoever logged in, known
by issuer and subject from then on; the address is emptied.

Two logins may come at once, and an administrator may take the invitation back meanwhile: whoever
locks its row first decides. An invitation never gives more than whoever made it may give now, and
ends with their membership, as their tokens do; otherwise somebody who is about to be dismissed
could leave a door ajar.

Nothing is sent. Whoever invites passes the login link on, in their own words.

Rejected: a secret in the link (it would make whoever reads the mail a member, under whatever
identity); rows that stay with the address for a history (the audit log has it, without the
address).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from troupe.actors.auth.addresses import is_address, lowered
from troupe.actors.auth.audit import QUERIES, Actor, append
from troupe.actors.auth.members import Role, demand_rank
from troupe.actors.auth.relying_party import Identity
from troupe.common.database import Database
from troupe.common.errors import Conflict, InvalidInput, NotFound, TooManyRequests
from troupe.common.ids import TenantId, new_id
from troupe.common.sql import load
from troupe.common.units import DAYS, HOURS

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

MIN_LIFETIME: Final = 1 * HOURS
MAX_LIFETIME: Final = 30 * DAYS
MAX_WAITING: Final = 500
"""Invitations of one tenant that may wait at a time."""
MAX_AN_HOUR: Final = 100
"""Invitations that may be made in one tenant within an hour."""

_QUERIES: Final = load(__package__, "invitations.sql")


@dataclass(frozen=True, slots=True)
class Invitation:
    """One that is not over.

    Attributes:
        provider_id: Where the person has to log in.
        email: In lower case.
        invited_by: The person who made it; None for the operator.
        expired: It lets nobody in any more; it is forgotten a month later.
    """

    invitation_id: UUID
    provider_id: UUID
    email: str
    role: Role
    invited_by: UUID | None
    created_at: datetime
    expires_at: datetime
    expired: bool


async def invite(
    database: Database,
    tenant: TenantId,
    *,
    email: str,
    role: Role,
    lifetime: float,
    provider: UUID | None = None,
    by: Role,
    invited_by: UUID | None,
    actor: Actor,
) -> Invitation:
    """Let in whoever logs in with this address, once.

    Args:
        database: Where.
        tenant: Into which tenant.
        email: The address; its provider has to say that it is verified.
        role: What the person may do.
        lifetime: Seconds until it is too late.
        provider: The tenant's provider that has to vouch; None: the only one there is.
        by: Role of whoever invites.
        invited_by: The person who invites; None: the operator.
        actor: Who that is, for the audit log.

    Raises:
        InvalidInput: That is no address, no lifetime, or no provider is named where there are
            several.
        Forbidden: The role outranks whoever invites.
        NotFound: The tenant has no such provider, or it is switched off.
        Conflict: The address is invited already, or a member's; or too many invitations wait.
        TooManyRequests: Too many were made within the hour.
    """
    problems = []
    if not is_address(email):
        problems.append(("/email", "must be one e-mail address"))
    if not MIN_LIFETIME <= lifetime <= MAX_LIFETIME:
        most = MAX_LIFETIME / DAYS
        problems.append(("/lifetime_days", f"must be at most {most:g} days, and an hour at least"))
    if problems:
        raise InvalidInput("The invitation is not valid.", problems)
    demand_rank(by, role)
    address = lowered(email)

    async def unit(connection: "Connection") -> Invitation:
        await connection.execute(QUERIES["lock_tenant"], tenant)
        vouching = await _provider(connection, tenant, provider)
        await _demand_room(connection, tenant)
        if await connection.fetchval(_QUERIES["member_has_address"], address):
            raise Conflict("A member has this address already.")
        await connection.execute(_QUERIES["drop_expired_invitation"], tenant, vouching, address)
        row = await connection.fetchrow(
            _QUERIES["invite"],
            tenant,
            new_id(),
            vouching,
            address,
            role,
            invited_by,
            timedelta(seconds=lifetime),
        )
        if row is None:
            raise Conflict("This address is invited already; take that invitation back first.")
        made = Invitation(**dict(row.items()))
        detail = {
            "role": role,
            "provider_id": str(vouching),
            "expires_at": made.expires_at.isoformat(timespec="seconds"),
        }
        await append(connection, actor, "invitation.made", str(made.invitation_id), detail)
        return made

    return await database.run(unit, tenant=tenant)


async def list_invitations(
    database: Database, tenant: TenantId, *, after: UUID | None, limit: int
) -> tuple[list[Invitation], int]:
    """One page of those that are not over, oldest first, and the number of all.

    Args:
        database: Where.
        tenant: Of which tenant.
        after: The last one of the page before; None for the first page.
        limit: How many at most.
    """

    async def unit(connection: "Connection") -> tuple[list[Invitation], int]:
        rows = await connection.fetch(_QUERIES["invitations"], tenant, after, limit)
        total: int = await connection.fetchval(_QUERIES["count_invitations"], tenant)
        return [Invitation(**dict(row.items())) for row in rows], total

    return await database.run(unit, tenant=tenant, read_only=True)


async def take_back(
    database: Database, tenant: TenantId, invitation: UUID, *, by: Role, actor: Actor
) -> None:
    """End an invitation; whoever has accepted it stays a member.

    Raises:
        NotFound: There is none, or it is over.
        Forbidden: Its role outranks whoever does this.
    """

    async def unit(connection: "Connection") -> None:
        role = await connection.fetchval(_QUERIES["lock_invitation"], tenant, invitation)
        if role is None:
            raise NotFound("There is no such invitation.")
        demand_rank(by, role)
        await connection.execute(_QUERIES["end_invitation"], tenant, invitation)
        await append(connection, actor, "invitation.taken_back", str(invitation), {"role": role})

    await database.run(unit, tenant=tenant)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An invitation that a login may accept; its row is locked until the transaction ends."""

    invitation_id: UUID
    role: Role


async def waiting_for(
    connection: "Connection", tenant: TenantId, provider: UUID, identity: Identity
) -> Waiting | None:
    """The invitation that this person may accept, in the unit of work of their login."""
    if not identity.email_verified or not identity.email:
        return None
    row = await connection.fetchrow(
        _QUERIES["waiting_invitation"], tenant, provider, lowered(identity.email)
    )
    return None if row is None else Waiting(**dict(row.items()))


async def accept(
    connection: "Connection", tenant: TenantId, waiting: Waiting, user: UUID, role: Role
) -> None:
    """Note that a person has come in by an invitation, in the unit of work of their login.

    Args:
        connection: Of that unit of work.
        tenant: Into which tenant.
        waiting: The invitation.
        user: Who.
        role: What they are now; who was a member already stays what they were.
    """
    await connection.execute(_QUERIES["end_invitation"], tenant, waiting.invitation_id)
    await append(
        connection,
        Actor("user", user),
        "invitation.accepted",
        str(waiting.invitation_id),
        {"role": role},
    )


async def _provider(connection: "Connection", tenant: TenantId, named: UUID | None) -> UUID:
    rows = await connection.fetch(_QUERIES["only_provider"], tenant, named)
    if not rows:
        raise NotFound("The tenant has no such identity provider that people can log in at.")
    if len(rows) > 1:
        raise InvalidInput(
            "The tenant has several identity providers.", [("/provider_id", "must name one")]
        )
    found: UUID = rows[0]["provider_id"]
    return found


async def _demand_room(connection: "Connection", tenant: TenantId) -> None:
    counts = await connection.fetchrow(_QUERIES["invitation_counts"], tenant)
    assert counts is not None  # noqa: S101  # an aggregate has a row
    if counts["waiting"] >= MAX_WAITING:
        raise Conflict(f"{MAX_WAITING} invitations wait already; take some back.")
    if counts["recent"] >= MAX_AN_HOUR:
        raise TooManyRequests(
            f"{MAX_AN_HOUR} people were invited within the hour; a rule of the identity provider "
            "lets in whole domains and groups.",
            retry_after=1 * HOURS - counts["oldest"],
        )
