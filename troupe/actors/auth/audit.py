"""The audit log of a tenant: append-only, chained by hashes, in the transaction of the change.

=========================  =========================================================
action                     target; detail
=========================  =========================================================
``tenant.created``         the tenant; its name
``tenant.changed``         the tenant; names of the fields
``tenant.deactivated``     the tenant
``tenant.activated``       the tenant
``tenant.erased``          the tenant; gone with everything else once it is done
``tenant.exported``        the tenant
``person.erased``          the request; its job. Never who it was
``person.exported``        nothing
``keys.rotated``           the new data key
``member.added``           the user; the role
``member.changed``         the user; the role and the one before
``member.removed``         the user; the role
``member.erased``          the user, whose identifier leads to nobody from then on
``member.joined``          the user; the role and the provider that vouched
``invitation.made``        the invitation; role, provider and expiry. Never the address
``invitation.taken_back``  the invitation; the role
``invitation.accepted``    the invitation; the role
``provider.put``           the provider; issuer and client id
``provider.tested``        the provider; issuer and client id
``provider.deleted``       the provider; issuer and client id
``session.started``        the session; the provider
``session.refused``        a pseudonym of the subject; why
``session.ended``          the session; the reason unless its person logged out
``token.created``          the token; name, role, scopes
``token.revoked``          the token
``connection.put``         the kind; the version and whether the secret changed
``connection.dropped``     the kind
``connection.tested``      the kind; the job
``connection.host_key_pinned``  the kind; the fingerprint and whether there was another
``schedule.created``       the schedule; kind of job, line, zone, whether it is on
``schedule.changed``       likewise, and the names of the fields
``schedule.deleted``       the schedule; likewise, as it was
``alert.created``          the alert; its kind, whether it is on
``alert.changed``          likewise, and the names of the fields
``alert.deleted``          the alert; its kind
``alert.tested``           the alert; how many messages
``report.settings_put``    nothing; the version
``report.recipient_added``, ``…_changed``, ``…_removed``  the recipient; the branch
``report.schedule_made``, ``…_changed``, ``…_removed``  the schedule; its name and line
``report.suppressed``, ``report.suppression_lifted``  a pseudonym of the address
``report.sent_now``, ``report.run_cancelled``  the run; how many mails
``report.sent_again``, ``report.taken_as_sent``  the delivery, about which a person has decided
=========================  =========================================================

The database writes the chain (see 0002_auth.sql); a detail never holds a secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

QUERIES: Final = load("troupe.actors.auth", "auth.sql")
"""Every statement of the auth group."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something.

    Attributes:
        kind: A person, a token, the operator at the command line, or the program itself.
        actor_id: The user or the token.
    """

    kind: Literal["user", "token", "operator", "system"]
    actor_id: UUID | None = None


OPERATOR: Final = Actor("operator")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the log."""

    sequence: int
    at: datetime
    actor_kind: str
    actor_id: UUID | None
    action: str
    target: str
    detail: Mapping[str, Any]
    hash: bytes


async def append(
    connection: "asyncpg.Connection[asyncpg.Record]",
    actor: Actor,
    action: str,
    target: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry for the tenant of the transaction; it commits or vanishes with the change."""
    await connection.execute(
        QUERIES["append_audit"], actor.kind, actor.actor_id, action, target, dict(detail or {})
    )


async def note(
    database: Database,
    tenant: TenantId,
    actor: Actor,
    action: str,
    target: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry by itself: about something that was read or tried, not changed."""
    await database.run(
        lambda connection: append(connection, actor, action, target, detail), tenant=tenant
    )


async def entries(
    database: Database, tenant: TenantId, *, before: int | None, limit: int
) -> list[AuditEntry]:
    """One page, newest first.

    Args:
        database: Where.
        tenant: Whose log.
        before: Sequence of the last entry of the page before; None for the first page.
        limit: How many at most.
    """
    rows = await database.fetch(QUERIES["audit"], tenant, before, limit, tenant=tenant)
    return [AuditEntry(**dict(row.items())) for row in rows]


async def broken_entry(database: Database, tenant: TenantId) -> int | None:
    """The first sequence at which a tenant's chain is broken; None when it is whole."""
    found: int | None = await database.fetch_value(QUERIES["broken_audit_entry"], tenant=tenant)
    return found
