"""Who is asking: the seam between the routes, which declare what they require, and the auth group.

A route says ``requires=Role.ANALYST``; `troupe.http.security` turns the request's credentials into
a `Principal` through a `CredentialResolver` and compares. The resolver over PostgreSQL lives in
`troupe.http.credentials`; tests bring their own.

Scopes narrow a token, never a session: a person at a browser has what the role gives. The scope of
a route is ``<group>:read`` for GET and HEAD and ``<group>:write`` for the rest, unless the route
declares another; `EVERY_SCOPE` in a token stands for all of them.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, Literal, Protocol
from uuid import UUID

from troupe.common.ids import TenantId

SESSION_COOKIE: Final = "__Host-troupe_session"
CSRF_HEADER: Final = "X-CSRF-Token"
TENANT_HEADER: Final = "X-Tenant-Id"
EVERY_SCOPE: Final = "*"


class Role(IntEnum):
    """What a person may do within one tenant; each role includes the ones before it."""

    VIEWER = 1
    ANALYST = 2
    ADMIN = 3
    OWNER = 4

    @classmethod
    def named(cls, name: str) -> "Role":
        """The role that the database and the API write in lower case (``"viewer"``).

        Raises:
            ValueError: There is no such role.
        """
        try:
            return cls[name.upper()]
        except KeyError:
            raise ValueError(f"{name!r} is not a role") from None

    @property
    def label(self) -> str:
        """The name in lower case."""
        return self.name.lower()


class Access(Enum):
    """What a route requires when it is not a role."""

    PUBLIC = "public"
    """Nobody is asked who they are."""
    SIGNED_IN = "signed_in"
    """Any valid credentials, whatever the role and the scopes."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom the credentials of one request belong to, and in which tenant they act.

    Attributes:
        kind: ``session`` for a browser's cookie (needs the CSRF token on unsafe methods), ``token``
            for a bearer token.
        subject_id: The person, or the person who made the token.
        tenant_id: The one tenant that this request acts in.
        role: The subject's role in that tenant.
        scopes: Of a token; ignored for a session.
        name: For people: logs, the audit trail, the corner of a page.
        csrf_token: Of a session; None for a token.
    """

    kind: Literal["session", "token"]
    subject_id: UUID
    tenant_id: TenantId
    role: Role
    scopes: frozenset[str]
    name: str
    csrf_token: str | None = None

    def has_scope(self, scope: str) -> bool:
        """Whether the credentials reach as far as `scope`."""
        return self.kind == "session" or scope in self.scopes or EVERY_SCOPE in self.scopes


class CredentialResolver(Protocol):
    """Turns credentials into a principal. One per group; called once per guarded request."""

    async def resolve(
        self, bearer: str | None, session_cookie: str | None, requested_tenant: UUID | None
    ) -> Principal | None:
        """Whom the credentials belong to, or None when they are missing, unknown or expired.

        Args:
            bearer: The token after ``Authorization: Bearer``. It wins: when it is given,
                `session_cookie` is None.
            session_cookie: The value of the cookie `SESSION_COOKIE`.
            requested_tenant: From ``X-Tenant-Id``: chooses among the tenants that the subject
                belongs to. None means the tenant of the session or token.

        Raises:
            Forbidden: The subject does not belong to `requested_tenant`.
            DatabaseError: The answer cannot be known now.
        """
        ...
