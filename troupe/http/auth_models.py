"""What the auth group's routes take and answer."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from troupe.actors.auth.access_tokens import EVERY_SCOPE, AccessToken, IssuedToken
from troupe.actors.auth.audit import AuditEntry
from troupe.actors.auth.connections import StoredConnection
from troupe.actors.auth.members import Member, Role
from troupe.actors.auth.sessions import Membership
from troupe.actors.auth.tenants import Tenant
from troupe.common.connections import ConnectionKind
from troupe.common.tenant_settings import TenantSettings
from troupe.http.conventions import AnswerModel, BodyModel, QueryModel

DEFAULT_TOKEN_DAYS = 90
MAX_TOKEN_DAYS = 3660

Short = Annotated[str, StringConstraints(max_length=200)]
Address = Annotated[str, StringConstraints(max_length=2000)]
Opaque = Annotated[str, StringConstraints(max_length=8192)]


class LoginQuery(QueryModel):
    """Where to log in, and where to go afterwards."""

    tenant: UUID | None = None
    """Only providers of this tenant."""
    provider: UUID | None = None
    """This provider, without asking."""
    next: Address | None = None
    """A path of the dashboard, or an address of the dashboard or of this port; anything else is
    ignored."""


class HomeQuery(QueryModel):
    """The login page."""

    tenant: UUID | None = None
    """Only providers of this tenant, listed or not."""
    next: Address | None = None
    """As for the login."""
    state: Opaque | None = None
    """Comes back from a logout at the provider."""


class CallbackQuery(QueryModel):
    """What an identity provider sends back; parameters of its own are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    state: Opaque | None = None
    """Of the login."""
    code: Opaque | None = None
    """Redeems the login."""
    iss: Address | None = None
    """The provider itself (RFC 9207)."""
    error: Opaque | None = None
    """Instead of a code: why not."""


class LogoutForm(BodyModel):
    """A form, so that it works without JavaScript and from the dashboard."""

    csrf_token: Short = ""
    """Of the session; needed while there is one."""


class MembershipAnswer(AnswerModel):
    """A tenant of the caller."""

    tenant_id: UUID
    name: str
    role: Role
    """The caller's role there."""

    @classmethod
    def of(cls, membership: Membership) -> "MembershipAnswer":
        """From the domain."""
        return cls(tenant_id=membership.tenant_id, name=membership.name, role=membership.role)


class MembershipsAnswer(AnswerModel):
    """Every tenant of the caller."""

    data: list[MembershipAnswer]


class ValidateAnswer(AnswerModel):
    """What the credentials are good for, now."""

    active: Literal[True] = True
    kind: Literal["session", "token"]
    subject_id: UUID
    """The person; the token itself if the operator made it."""
    tenant_id: UUID
    role: Role
    scopes: list[str]
    """`*` is all; a session always has all that its role gives."""
    expires_at: AwareDatetime | None


class MeAnswer(AnswerModel):
    """Who the caller is."""

    kind: Literal["session", "token"]
    subject_id: UUID
    name: str
    email: str
    """Empty when the identity provider does not say, and for a token."""
    tenant: MembershipAnswer
    """Where this request acts."""
    tenants: list[MembershipAnswer]
    """Every one that `X-Tenant-Id` may name."""
    csrf_token: str | None
    """To send as `X-CSRF-Token` with unsafe requests of this session; null for a token."""
    expires_at: AwareDatetime | None


class TokenBody(BodyModel):
    """A token to be made."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    """What it is for."""
    role: Role | None = None
    """The most that it may do; at most, and by default, the caller's own role."""
    scopes: Annotated[list[str], Field(min_length=1, max_length=20)] = Field(
        default_factory=lambda: [EVERY_SCOPE]
    )
    """`<group>:read`, `<group>:write`, or `*`."""
    lifetime_days: Annotated[int, Field(ge=1, le=MAX_TOKEN_DAYS)] | None = DEFAULT_TOKEN_DAYS
    """Days until it expires; null: never."""


class TokenAnswer(AnswerModel):
    """A token as it is listed."""

    token_id: UUID
    hint: str
    """Its first characters."""
    name: str
    role: Role
    scopes: list[str]
    created_by: UUID | None
    """Null for one that the operator made."""
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    """To the minute."""

    @classmethod
    def of(cls, token: AccessToken) -> "TokenAnswer":
        """From the domain."""
        return cls(
            token_id=token.token_id,
            hint=token.hint,
            name=token.name,
            role=token.role,
            scopes=list(token.scopes),
            created_by=token.created_by,
            created_at=token.created_at,
            expires_at=token.expires_at,
            last_used_at=token.last_used_at,
        )


class NewTokenAnswer(AnswerModel):
    """A token at the one moment at which it can be seen."""

    token_id: UUID
    token: str
    """The secret. It is not stored and cannot be shown again."""
    name: str
    role: Role
    scopes: list[str]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None

    @classmethod
    def of(cls, token: IssuedToken) -> "NewTokenAnswer":
        """From the domain."""
        return cls(
            token_id=token.token_id,
            token=token.token,
            name=token.name,
            role=token.role,
            scopes=list(token.scopes),
            created_at=token.created_at,
            expires_at=token.expires_at,
        )


class TenantBody(BodyModel):
    """What to change; what is left out stays."""

    name: Annotated[str, StringConstraints(max_length=200)] | None = None
    """Of the company."""
    reporting_time_zone: Short | None = None
    """Days of a report are days there."""
    reporting_currency: Annotated[str, StringConstraints(max_length=3)] | None = None
    """ISO 4217."""
    week_start: Annotated[int, Field(ge=1, le=7)] | None = None
    """1 is Monday, 7 is Sunday."""
    settings: Annotated[dict[str, Any], Field(max_length=100)] | None = None
    """Only those that change."""


class TenantAnswer(AnswerModel):
    """A customer company."""

    tenant_id: UUID
    name: str
    state: Literal["active", "deactivated"]
    reporting_time_zone: str
    reporting_currency: str
    week_start: int
    settings: TenantSettings
    created_at: AwareDatetime

    @classmethod
    def of(cls, tenant: Tenant) -> "TenantAnswer":
        """From the domain."""
        return cls(
            tenant_id=tenant.tenant_id,
            name=tenant.name,
            state=tenant.state,
            reporting_time_zone=tenant.reporting_time_zone,
            reporting_currency=tenant.reporting_currency,
            week_start=tenant.week_start,
            settings=tenant.settings,
            created_at=tenant.created_at,
        )


class MemberAnswer(AnswerModel):
    """A person within the tenant."""

    user_id: UUID
    name: str
    email: str | None
    role: Role
    created_at: AwareDatetime
    last_login_at: AwareDatetime | None

    @classmethod
    def of(cls, member: Member) -> "MemberAnswer":
        """From the domain."""
        return cls(
            user_id=member.user_id,
            name=member.name,
            email=member.email,
            role=member.role,
            created_at=member.created_at,
            last_login_at=member.last_login_at,
        )


class ConnectionBody(BodyModel):
    """How to reach one of the tenant's systems."""

    config: Annotated[dict[str, Any], Field(max_length=50)]
    """By kind, see the guide; never a secret."""
    secret: Annotated[str, Field(min_length=1, max_length=65536)] | None = None
    """Password, private key or service-account file. Write-only; left out, the present one
    stays."""


class ConnectionAnswer(AnswerModel):
    """A connection, without its secret."""

    kind: ConnectionKind
    config: dict[str, Any]
    has_secret: bool
    updated_at: AwareDatetime

    @classmethod
    def of(cls, connection: StoredConnection) -> "ConnectionAnswer":
        """From the domain."""
        return cls(
            kind=connection.kind,
            config=dict(connection.config),
            has_secret=connection.has_secret,
            updated_at=connection.updated_at,
        )


class AuditAnswer(AnswerModel):
    """One entry of the log."""

    sequence: int
    at: AwareDatetime
    actor_kind: Literal["user", "token", "operator", "system"]
    actor_id: UUID | None
    action: str
    target: str
    detail: dict[str, Any]
    hash: str
    """Over this entry and the hash of the one before, in hexadecimal."""

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditAnswer":
        """From the domain."""
        return cls.model_validate(
            {
                "sequence": entry.sequence,
                "at": entry.at,
                "actor_kind": entry.actor_kind,
                "actor_id": entry.actor_id,
                "action": entry.action,
                "target": entry.target,
                "detail": dict(entry.detail),
                "hash": entry.hash.hex(),
            }
        )
