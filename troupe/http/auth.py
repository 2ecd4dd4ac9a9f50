"""The auth group's application, port 8003: login, tokens, tenants and their secrets.

A route under ``/api/v1/tenants/{id}`` acts in the tenant of the request (of the token, of the
session, or the one that ``X-Tenant-Id`` chooses), so the role that was checked is the role in that
very tenant; for any other id the answer is 404, whether there is such a tenant or not.

Secrets are write-only: a connection's secret is never answered, a token's is answered once.
``Idempotency-Key`` is not honoured for tokens, because a kept answer would keep the secret.
"""

from typing import cast
from uuid import UUID

from troupe.actors.auth import access_tokens, audit, connections, members, tenants
from troupe.actors.auth.backchannel import BackchannelLogouts
from troupe.actors.auth.login import Logins
from troupe.actors.auth.members import Role as RoleName
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.tenants import TenantChange
from troupe.common.connections import ConnectionKind, NotConnected
from troupe.common.database import Database
from troupe.common.errors import Forbidden
from troupe.common.ids import TenantId
from troupe.common.secrets import Vault
from troupe.common.units import DAYS
from troupe.http import auth_models as models
from troupe.http.application import Application
from troupe.http.auth_invitations import declare_invitations
from troupe.http.auth_login import Addresses, Desk, declare_login
from troupe.http.auth_providers import ProviderDesk, declare_providers
from troupe.http.auth_sessions import declare_sessions
from troupe.http.conventions import (
    ListAnswer,
    PageQuery,
    decode_cursor,
    encode_cursor,
    require_match,
)
from troupe.http.credentials import CookiePolicy, Credentials, ResolvedPrincipal
from troupe.http.declaration import Answer
from troupe.http.login_pages import LoginPages
from troupe.http.principal import Access, Principal, Role
from troupe.http.request import current_request
from troupe.http.routes import Api
from troupe.http.tenants import actor_of, change_if_unchanged, connection_tag, tag_of, within
from troupe.http.tenants import declare as declare_running

__all__ = ["Addresses", "declare"]


def declare(
    app: Application,
    *,
    database: Database,
    vault: Vault,
    logins: Logins,
    logouts: BackchannelLogouts,
    credentials: Credentials,
    addresses: Addresses,
    peers: PeerHttp,
) -> None:
    """Declare all routes of the group.

    Args:
        app: Made with `credentials` as its resolver.
        database: The group's pool.
        vault: Seals connections' secrets.
        logins: Logging in and out.
        logouts: What providers say about people who have logged out there.
        credentials: The resolver; told about what ends here.
        addresses: Where browsers reach us.
        peers: To try identity providers with.

    Raises:
        ConfigurationError: The public URL is plain http beyond loopback.
    """
    cookies = CookiePolicy.under(addresses.public_url)
    declare_login(app, Desk(logins, credentials, cookies, addresses, LoginPages()))
    declare_sessions(app.api, database, logouts, cookies)
    declare_providers(
        app.api, ProviderDesk(database, vault, within, actor_of, peers, addresses.callback)
    )
    _declare_identity(app.api)
    _declare_tokens(app.api, database)
    _declare_tenants(app.api, database)
    declare_invitations(app.api, database, addresses)
    _declare_connections(app.api, database, vault)
    _declare_audit(app.api, database)
    declare_running(app.api, database=database, vault=vault)


def _resolved(principal: Principal) -> ResolvedPrincipal:
    """The principal with what `Credentials` adds to it."""
    return cast("ResolvedPrincipal", principal)


def _declare_identity(api: Api) -> None:
    @api.get(
        "/api/v1/validate",
        requires=Access.SIGNED_IN,
        answers={200: models.ValidateAnswer},
        summary="Whether credentials are good, and for what",
        tag="identity",
    )
    async def validate(*, principal: Principal) -> models.ValidateAnswer:
        """401 when they are not."""
        return models.ValidateAnswer(
            kind=principal.kind,
            subject_id=principal.subject_id,
            tenant_id=principal.tenant_id,
            role=cast("RoleName", principal.role.label),
            scopes=["*"] if principal.kind == "session" else sorted(principal.scopes),
            expires_at=_resolved(principal).expires_at,
        )

    @api.get(
        "/api/v1/me",
        requires=Access.SIGNED_IN,
        answers={200: models.MeAnswer},
        summary="Who the caller is",
        tag="identity",
    )
    async def me(*, principal: Principal) -> models.MeAnswer:
        who = _resolved(principal)
        memberships = [models.MembershipAnswer.of(one) for one in who.memberships]
        return models.MeAnswer(
            kind=who.kind,
            subject_id=who.subject_id,
            name=who.name,
            email=who.email,
            tenant=next(one for one in memberships if one.tenant_id == who.tenant_id),
            tenants=memberships,
            csrf_token=who.csrf_token,
            expires_at=who.expires_at,
        )


def _declare_tokens(api: Api, database: Database) -> None:
    def owner_of(principal: Principal) -> UUID | None:
        """Whose tokens the caller may see and end; None: everybody's."""
        return None if principal.role >= Role.ADMIN else principal.subject_id

    @api.get(
        "/api/v1/tokens",
        requires=Role.VIEWER,
        query=PageQuery,
        answers={200: ListAnswer[models.TokenAnswer]},
        summary="The caller's tokens; an administrator sees everybody's",
        tag="tokens",
    )
    async def list_tokens(
        *, principal: Principal, query: PageQuery
    ) -> ListAnswer[models.TokenAnswer]:
        page, total = await access_tokens.list_tokens(
            database,
            principal.tenant_id,
            created_by=owner_of(principal),
            after=_after(query, "tokens"),
            limit=query.limit + 1,
        )
        rows = [models.TokenAnswer.of(token) for token in page[: query.limit]]
        more = len(page) > query.limit
        return ListAnswer[models.TokenAnswer](
            data=rows,
            next_cursor=encode_cursor("tokens", [rows[-1].token_id]) if more else None,
            total=total,
        )

    @api.post(
        "/api/v1/tokens",
        requires=Role.VIEWER,
        body=models.TokenBody,
        answers={201: models.NewTokenAnswer},
        problems=(409,),
        summary="Make a token",
        tag="tokens",
    )
    async def create_token(*, principal: Principal, body: models.TokenBody) -> Answer:
        """Only under a session: a token that made others would outlive its own revocation."""
        if principal.kind != "session":
            raise Forbidden("A token cannot make tokens; sign in to make one.")
        role = cast("RoleName", body.role or principal.role.label)
        if Role.named(role) > principal.role:
            raise Forbidden(f"You are {principal.role.label}; the token cannot be {role}.")
        issued = await access_tokens.issue_token(
            database,
            principal.tenant_id,
            name=body.name,
            role=role,
            scopes=body.scopes,
            lifetime=None if body.lifetime_days is None else body.lifetime_days * DAYS,
            created_by=principal.subject_id,
            actor=actor_of(principal),
        )
        return Answer(models.NewTokenAnswer.of(issued), 201)

    @api.delete(
        "/api/v1/tokens/<uuid:token_id>",
        requires=Role.VIEWER,
        answers={204: None},
        summary="End a token",
        tag="tokens",
    )
    async def revoke_token(*, principal: Principal, token_id: UUID) -> Answer:
        """It stops working everywhere within two seconds."""
        await access_tokens.revoke_token(
            database,
            principal.tenant_id,
            token_id,
            created_by=owner_of(principal),
            actor=actor_of(principal),
        )
        return Answer(None, 204)


def _declare_tenants(api: Api, database: Database) -> None:
    @api.get(
        "/api/v1/tenants",
        requires=Access.SIGNED_IN,
        answers={200: models.MembershipsAnswer},
        summary="The caller's tenants",
        tag="tenants",
    )
    async def list_tenants(*, principal: Principal) -> models.MembershipsAnswer:
        memberships = _resolved(principal).memberships
        return models.MembershipsAnswer(
            data=[models.MembershipAnswer.of(one) for one in memberships]
        )

    @api.get(
        "/api/v1/tenants/<uuid:tenant_id>",
        requires=Role.VIEWER,
        answers={200: models.TenantAnswer},
        etag=True,
        summary="A tenant and its settings",
        tag="tenants",
    )
    async def show_tenant(*, principal: Principal, tenant_id: UUID) -> Answer:
        tenant = await tenants.load_tenant(database, within(principal, tenant_id))
        return Answer(models.TenantAnswer.of(tenant), etag=tag_of(tenant))

    @api.patch(
        "/api/v1/tenants/<uuid:tenant_id>",
        requires=Role.ADMIN,
        body=models.TenantBody,
        answers={200: models.TenantAnswer},
        etag=True,
        if_match=True,
        summary="Change a tenant's name or settings",
        tag="tenants",
    )
    async def change_tenant(
        *, principal: Principal, tenant_id: UUID, body: models.TenantBody
    ) -> Answer:
        change = TenantChange(**body.model_dump())
        changed = await change_if_unchanged(database, principal, tenant_id, change)
        return Answer(models.TenantAnswer.of(changed), etag=tag_of(changed))

    @api.get(
        "/api/v1/tenants/<uuid:tenant_id>/members",
        requires=Role.ANALYST,
        query=PageQuery,
        answers={200: ListAnswer[models.MemberAnswer]},
        summary="Who belongs to a tenant, and as what",
        tag="tenants",
    )
    async def list_members(
        *, principal: Principal, tenant_id: UUID, query: PageQuery
    ) -> ListAnswer[models.MemberAnswer]:
        page, total = await members.list_members(
            database,
            within(principal, tenant_id),
            after=_after(query, "members"),
            limit=query.limit + 1,
        )
        rows = [models.MemberAnswer.of(member) for member in page[: query.limit]]
        more = len(page) > query.limit
        return ListAnswer[models.MemberAnswer](
            data=rows,
            next_cursor=encode_cursor("members", [rows[-1].user_id]) if more else None,
            total=total,
        )


def _declare_connections(api: Api, database: Database, vault: Vault) -> None:
    rule = "/api/v1/tenants/<uuid:tenant_id>/connections/<any(bigquery, sftp, smtp):kind>"

    async def answer(tenant: TenantId, kind: ConnectionKind) -> Answer:
        stored = await connections.show_connection(database, tenant, kind)
        tag = connection_tag(tenant, kind, stored.version)
        return Answer(models.ConnectionAnswer.of(stored), etag=tag)

    @api.get(
        rule,
        requires=Role.ADMIN,
        answers={200: models.ConnectionAnswer},
        etag=True,
        summary="How one of the tenant's systems is reached, without the secret",
        tag="connections",
    )
    async def show_connection(
        *, principal: Principal, tenant_id: UUID, kind: ConnectionKind
    ) -> Answer:
        return await answer(within(principal, tenant_id), kind)

    @api.put(
        rule,
        requires=Role.ADMIN,
        body=models.ConnectionBody,
        answers={200: models.ConnectionAnswer},
        etag=True,
        problems=(412,),
        summary="Set up or replace a connection",
        tag="connections",
    )
    async def put_connection(
        *,
        principal: Principal,
        tenant_id: UUID,
        kind: ConnectionKind,
        body: models.ConnectionBody,
    ) -> Answer:
        """With ``If-Match``, only if nobody has changed it meanwhile."""
        tenant = within(principal, tenant_id)
        version = None
        if "If-Match" in current_request().headers:
            try:
                version = (await connections.show_connection(database, tenant, kind)).version
            except NotConnected:
                version = 0
            require_match(connection_tag(tenant, kind, version))
        await connections.put_connection(
            database,
            vault,
            tenant,
            kind,
            body.config,
            None if body.secret is None else body.secret.encode(),
            version=version,
            actor=actor_of(principal),
        )
        return await answer(tenant, kind)


def _declare_audit(api: Api, database: Database) -> None:
    @api.get(
        "/api/v1/tenants/<uuid:tenant_id>/audit",
        requires=Role.ADMIN,
        query=PageQuery,
        answers={200: ListAnswer[models.AuditAnswer]},
        summary="Who did what, newest first",
        tag="tenants",
    )
    async def list_audit(
        *, principal: Principal, tenant_id: UUID, query: PageQuery
    ) -> ListAnswer[models.AuditAnswer]:
        before = decode_cursor(query.cursor, "audit", (int,))[0] if query.cursor else None
        page = await audit.entries(
            database,
            within(principal, tenant_id),
            before=cast("int | None", before),
            limit=query.limit + 1,
        )
        rows = [models.AuditAnswer.of(entry) for entry in page[: query.limit]]
        more = len(page) > query.limit
        return ListAnswer[models.AuditAnswer](
            data=rows,
            next_cursor=encode_cursor("audit", [rows[-1].sequence]) if more else None,
        )


def _after(query: PageQuery, order: str) -> UUID | None:
    """The identifier that a cursor continues after."""
    if query.cursor is None:
        return None
    return cast("UUID", decode_cursor(query.cursor, order, (UUID,))[0])
