"""Browsers that are logged in: an opaque cookie, a row under its hash, and what follows from both.

The CSRF token is derived from the cookie's value instead of stored: whoever can compute it has the
cookie anyway, another site has neither, and a copy of the database has neither.
"""

import base64
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from troupe.actors.auth.audit import QUERIES
from troupe.actors.auth.login_secrets import hash_of, is_handle
from troupe.actors.auth.members import Role
from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.sql import load

SESSION_QUERIES: Final = load("troupe.actors.auth", "sessions.sql")
"""Every statement about sessions and what keeps them alive."""

_CSRF_PURPOSE: Final = b"troupe csrf token"


@dataclass(frozen=True, slots=True)
class Membership:
    """One tenant that accepts a session, and the role of its person there."""

    tenant_id: TenantId
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class ResolvedSession:
    """Whom a presented cookie stands for, now.

    Attributes:
        tenant_id: The one that the session acts in when none is asked for.
        expires_at: At the latest; earlier requests move it, up to the absolute limit.
        memberships: Tenants that accept the session; empty when the person was removed from all.
    """

    session_id: UUID
    user_id: UUID
    name: str
    email: str
    tenant_id: TenantId
    expires_at: datetime
    memberships: tuple[Membership, ...] = field(default=())

    def membership(self, tenant: UUID) -> Membership | None:
        """The membership in a tenant, if there is one."""
        return next((one for one in self.memberships if one.tenant_id == tenant), None)

    @property
    def active(self) -> Membership | None:
        """Where the session acts: the tenant it was made for, else any other that accepts it."""
        return self.membership(self.tenant_id) or next(iter(self.memberships), None)


def csrf_token(session: str) -> str:
    """The CSRF token of the session whose cookie has this value."""
    digest = hmac.digest(session.encode(), _CSRF_PURPOSE, "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_csrf_token(given: str, session: str) -> bool:
    """Whether `given` is that token."""
    return hmac.compare_digest(given.encode(), csrf_token(session).encode())


async def resolve_session(database: Database, session: str) -> ResolvedSession | None:
    """Whom a cookie stands for; None when it is unknown, expired or ended.

    One round trip, none at all for what is no session.
    """
    if not is_handle(session):
        return None
    row = await database.fetch_row(QUERIES["resolve_session"], hash_of(session), durable=False)
    if row is None:
        return None
    return ResolvedSession(
        session_id=row["session_id"],
        user_id=row["user_id"],
        name=row["name"] or row["email"] or "",
        email=row["email"] or "",
        tenant_id=row["tenant_id"],
        expires_at=row["expires_at"],
        memberships=memberships_of(row["memberships"]),
    )


def memberships_of(listed: Iterable[Mapping[str, Any]]) -> tuple[Membership, ...]:
    """Memberships as the doors list them."""
    return tuple(
        Membership(TenantId(UUID(one["tenant_id"])), one["name"], one["role"]) for one in listed
    )


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session as its person sees it.

    Attributes:
        is_current: The one that asks.
        last_seen_at: To the minute.
        expires_at: If it is not used any more.
        user_agent: What the browser called itself when it logged in.
        address: Where it was then.
    """

    session_id: UUID
    is_current: bool
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    user_agent: str
    address: str


async def list_sessions(
    database: Database, session: str, *, before: UUID | None, limit: int
) -> tuple[list[ListedSession], int]:
    """One page of the good sessions of a session's person, newest first, and the number of all.

    Args:
        database: Where.
        session: Value of the asker's cookie.
        before: The last one of the page before; None for the first page.
        limit: How many at most.
    """
    rows = await database.fetch(
        SESSION_QUERIES["list_sessions"], hash_of(session), before, limit, read_only=True
    )
    listed = [dict(row.items()) for row in rows]
    total = listed[0]["total"] if listed else 0
    for row in listed:
        del row["total"]
    return [ListedSession(**row) for row in listed], total


async def end_session_of_own(database: Database, session: str, which: UUID) -> None:
    """End one of the sessions of a session's person.

    Raises:
        NotFound: It is none of theirs, or over.
    """
    if not await database.fetch_value(SESSION_QUERIES["end_own_sessions"], hash_of(session), which):
        raise NotFound("There is no such session of yours.")


async def end_other_sessions(database: Database, session: str) -> int:
    """End all sessions of a session's person but this one; how many there were."""
    ended: int = await database.fetch_value(
        SESSION_QUERIES["end_own_sessions"], hash_of(session), None
    )
    return ended
