"""Running a tenant: members, settings, trying connections, taking data along or away.

Beside `troupe.http.auth`, which has what every caller needs; here is what administrators and owners
do. The rules are the same: a route acts in the tenant of the request, and any other id is not
found.

An export is a stream of lines from one snapshot of the database. It has no length and no deadline;
an export that fails in the middle ends without its last line, and the connection with it.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self, cast
from uuid import UUID

import trio
from quart import Response
from quart.wrappers.response import ResponseBody

from troupe.actors.auth import audit, connections, erasure, members, tenants
from troupe.actors.auth.audit import Actor
from troupe.actors.auth.members import Role as RoleName
from troupe.actors.auth.tenants import TenantChange
from troupe.common.bridge import ToTrio
from troupe.common.connections import ConnectionKind
from troupe.common.database import Database
from troupe.common.errors import Forbidden, InvalidInput, NotFound
from troupe.common.export import export_rows
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.secrets import Vault
from troupe.common.tenant_settings import TenantSettings
from troupe.http import auth_models
from troupe.http import tenant_models as models
from troupe.http.conventions import entity_tag, require_match
from troupe.http.credentials import ResolvedPrincipal
from troupe.http.declaration import Answer, Media
from troupe.http.principal import Principal, Role
from troupe.http.request import current_request
from troupe.http.routes import Api
from troupe.platform.jobs import Job

LINES: Final = Media("application/x-ndjson", "One JSON object a line; the last one has `end`")

_logger = get_logger(__name__)


def within(principal: Principal, tenant_id: UUID) -> TenantId:
    """The tenant in the path, if the request acts there.

    Raises:
        NotFound: It does not.
    """
    if principal.tenant_id != tenant_id:
        raise NotFound(
            "There is no such tenant within this request's reach; X-Tenant-Id chooses another."
        )
    return principal.tenant_id


async def change_if_unchanged(
    database: Database, principal: Principal, tenant_id: UUID, change: TenantChange
) -> tenants.Tenant:
    """Change the tenant in the path, if it still is what the request says it has seen.

    Raises:
        NotFound: The request does not act there.
        PreconditionRequired: It has no ``If-Match``.
        PreconditionFailed: It names another version, or somebody changes the tenant at this moment.
        InvalidInput: A field is not valid.
    """
    tenant = within(principal, tenant_id)
    present = await tenants.load_tenant(database, tenant)
    require_match(tag_of(present))
    return await tenants.change_tenant(
        database, tenant, change, version=present.version, actor=actor_of(principal)
    )


def actor_of(principal: Principal) -> Actor:
    """Who is acting, for the audit log."""
    resolved = cast("ResolvedPrincipal", principal)
    if resolved.vouched:
        return Actor("user", principal.subject_id)
    return Actor("token", resolved.credential_id)


def person_of(principal: Principal) -> UUID | None:
    """The member who is acting, also by a token of theirs; None: a token of the operator's."""
    resolved = cast("ResolvedPrincipal", principal)
    stands_for_itself = not resolved.vouched and resolved.subject_id == resolved.credential_id
    return None if stands_for_itself else principal.subject_id


def tag_of(tenant: tenants.Tenant) -> str:
    """The entity tag of a tenant and its settings."""
    return entity_tag(tenant.tenant_id, tenant.version)


def connection_tag(tenant: UUID, kind: ConnectionKind, version: int) -> str:
    """The entity tag of a connection; of version 0 that of none."""
    return entity_tag("connection", tenant, kind, version)


def declare(api: Api, *, database: Database, vault: Vault) -> None:
    """Declare the routes.

    Args:
        api: Of the auth group's application.
        database: The group's pool.
        vault: Seals what an erasure is about.
    """
    _declare_members(api, database)
    _declare_settings(api, database)
    _declare_tests(api, database)
    _declare_audit(api, database)
    _declare_export(api, database)
    _declare_erasure(api, database, vault)


def _declare_members(api: Api, database: Database) -> None:
    @api.post(
        "/api/v1/tenants/<uuid:tenant_id>/members",
        requires=Role.ADMIN,
        body=models.InvitationBody,
        answers={201: auth_models.MemberAnswer},
        creates=True,
        problems=(409,),
        summary="Let a person in, by what their identity provider calls them",
        tag="tenants",
    )
    async def invite_member(
        *, principal: Principal, tenant_id: UUID, body: models.InvitationBody
    ) -> Answer:
        """Whole domains and groups come in by the rules of the identity provider."""
        member = await members.invite_member(
            database,
            within(principal, tenant_id),
            provider=body.provider_id,
            subject=body.subject,
            role=body.role,
            by=_rank(principal),
            actor=actor_of(principal),
            email=body.email,
            name=body.name,
        )
        return Answer(auth_models.MemberAnswer.of(member), 201)

    @api.get(
        "/api/v1/tenants/<uuid:tenant_id>/members/<uuid:user_id>",
        requires=Role.ANALYST,
        answers={200: auth_models.MemberAnswer},
        summary="One member",
        tag="tenants",
    )
    async def show_member(
        *, principal: Principal, tenant_id: UUID, user_id: UUID
    ) -> auth_models.MemberAnswer:
        member = await members.show_member(database, within(principal, tenant_id), user_id)
        return auth_models.MemberAnswer.of(member)

    @api.patch(
        "/api/v1/tenants/<uuid:tenant_id>/members/<uuid:user_id>",
        requires=Role.ADMIN,
        body=models.RoleBody,
        answers={200: auth_models.MemberAnswer},
        problems=(409,),
        summary="Change a member's role",
        tag="tenants",
    )
    async def change_member(
        *, principal: Principal, tenant_id: UUID, user_id: UUID, body: models.RoleBody
    ) -> auth_models.MemberAnswer:
        """It holds within two seconds. The last owner stays one."""
        member = await members.change_role(
            database,
            within(principal, tenant_id),
            user_id,
            body.role,
            by=_rank(principal),
            actor=actor_of(principal),
        )
        return auth_models.MemberAnswer.of(member)

    @api.delete(
        "/api/v1/tenants/<uuid:tenant_id>/members/<uuid:user_id>",
        requires=Role.ADMIN,
        answers={204: None},
        problems=(409,),
        summary="End a membership",
        tag="tenants",
    )
    async def remove_member(*, principal: Principal, tenant_id: UUID, user_id: UUID) -> Answer:
        """The person's tokens end with it. The last owner cannot be removed."""
        await members.remove_member(
            database,
            within(principal, tenant_id),
            user_id,
            by=_rank(principal),
            actor=actor_of(principal),
        )
        return Answer(None, 204)


def _rank(principal: Principal) -> RoleName:
    return cast("RoleName", principal.role.label)


def _declare_settings(api: Api, database: Database) -> None:
    rule = "/api/v1/tenants/<uuid:tenant_id>/settings"

    @api.get(
        rule,
        requires=Role.VIEWER,
        answers={200: TenantSettings},
        etag=True,
        summary="A tenant's settings, defaults included",
        tag="tenants",
    )
    async def show_settings(*, principal: Principal, tenant_id: UUID) -> Answer:
        tenant = await tenants.load_tenant(database, within(principal, tenant_id))
        return Answer(tenant.settings, etag=tag_of(tenant))

    @api.patch(
        rule,
        requires=Role.ADMIN,
        body=models.SettingsBody,
        answers={200: TenantSettings},
        etag=True,
        if_match=True,
        summary="Change some of a tenant's settings",
        tag="tenants",
    )
    async def change_settings(
        *, principal: Principal, tenant_id: UUID, body: models.SettingsBody
    ) -> Answer:
        change = TenantChange(settings=body.settings)
        changed = await change_if_unchanged(database, principal, tenant_id, change)
        return Answer(changed.settings, etag=tag_of(changed))

    @api.post(
        "/api/v1/tenants/<uuid:tenant_id>/deactivate",
        requires=Role.OWNER,
        answers={200: auth_models.TenantAnswer},
        etag=True,
        if_match=True,
        summary="Close a tenant to everybody; only the operator opens it again",
        tag="tenants",
    )
    async def deactivate(*, principal: Principal, tenant_id: UUID) -> Answer:
        """Everything is kept; nobody gets in and nothing runs."""
        tenant = within(principal, tenant_id)
        require_match(tag_of(await tenants.load_tenant(database, tenant)))
        closed = await tenants.set_tenant_state(
            database, tenant, "deactivated", actor=actor_of(principal)
        )
        return Answer(auth_models.TenantAnswer.of(closed), etag=tag_of(closed))


def _declare_tests(api: Api, database: Database) -> None:
    rule = "/api/v1/tenants/<uuid:tenant_id>/connections/<any(bigquery, sftp, smtp):kind>"

    @api.delete(
        rule,
        requires=Role.ADMIN,
        answers={204: None},
        summary="Forget a connection and its secret",
        tag="connections",
    )
    async def drop_connection(
        *, principal: Principal, tenant_id: UUID, kind: ConnectionKind
    ) -> Answer:
        await connections.drop_connection(
            database, within(principal, tenant_id), kind, actor=actor_of(principal)
        )
        return Answer(None, 204)

    @api.post(
        f"{rule}/test",
        requires=Role.ADMIN,
        answers={202: models.ConnectionTestAnswer},
        summary="Try a connection",
        tag="connections",
    )
    async def start_test(*, principal: Principal, tenant_id: UUID, kind: ConnectionKind) -> Answer:
        """It connects for real, within a minute; while a test runs, that one is answered."""
        tenant = within(principal, tenant_id)
        job = await connections.start_test(database, tenant, kind, actor=actor_of(principal))
        where = f"/api/v1/tenants/{tenant}/connections/{kind}/test"
        return Answer(models.ConnectionTestAnswer.of(job, kind), 202, {"Location": where})

    @api.get(
        f"{rule}/test",
        requires=Role.ADMIN,
        answers={200: models.ConnectionTestAnswer},
        summary="What the last test of a connection found",
        tag="connections",
    )
    async def show_test(
        *, principal: Principal, tenant_id: UUID, kind: ConnectionKind
    ) -> models.ConnectionTestAnswer:
        job = await connections.last_test(database, within(principal, tenant_id), kind)
        return models.ConnectionTestAnswer.of(job, kind)


def _declare_audit(api: Api, database: Database) -> None:
    @api.get(
        "/api/v1/tenants/<uuid:tenant_id>/audit/verdict",
        requires=Role.ADMIN,
        answers={200: models.AuditVerdictAnswer},
        summary="Whether the audit log is as it was written",
        tag="tenants",
    )
    async def verify_audit(*, principal: Principal, tenant_id: UUID) -> models.AuditVerdictAnswer:
        broken = await audit.broken_entry(database, within(principal, tenant_id))
        return models.AuditVerdictAnswer(whole=broken is None, broken_at=broken)


def _declare_export(api: Api, database: Database) -> None:
    @api.post(
        "/api/v1/tenants/<uuid:tenant_id>/export",
        requires=Role.OWNER,
        body=models.ExportBody,
        answers={200: LINES},
        deadline=None,
        summary="Everything that is stored of the tenant, or of one person there",
        tag="tenants",
    )
    async def export(*, principal: Principal, tenant_id: UUID, body: models.ExportBody) -> Response:
        """Without secrets. An export without its last line was cut short."""
        tenant = within(principal, tenant_id)
        action, target = (
            ("tenant.exported", str(tenant)) if body.person is None else ("person.exported", "")
        )
        await audit.note(database, tenant, actor_of(principal), action, target)
        response = Response(
            _Lines(database, tenant, body.person, current_request().draining),
            200,
            {"Cache-Control": "no-store", "Content-Disposition": "attachment"},
            content_type=LINES.content_type,
        )
        response.timeout = None
        return response


class _Lines(ResponseBody):
    """The body of an export: what the database hands over, as fast as the client takes it."""

    def __init__(
        self, database: Database, tenant: TenantId, person: str | None, draining: trio.Event
    ) -> None:
        self._database = database
        self._tenant = tenant
        self._person = person
        self._draining = draining
        self._stack = AsyncExitStack()
        self._send, self._receive = trio.open_memory_channel[bytes](2)
        self._whole = False

    async def __aenter__(self) -> Self:
        nursery = await self._stack.enter_async_context(trio.open_nursery())
        self._stack.callback(nursery.cancel_scope.cancel)
        nursery.start_soon(self._read)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(exc_type, exc_value, traceback)

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for lines in self._receive:
            yield lines
        if not self._whole:
            # The answer has begun, so all that can be done is not to end it as if it were whole.
            raise ConnectionAbortedError("the export was cut short")

    async def _read(self) -> None:
        with self._send:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_when_draining, nursery.cancel_scope)
                out = ToTrio(self._send)
                try:
                    await export_rows(self._database, self._tenant, out.send, person=self._person)
                    self._whole = True
                except Exception:
                    _logger.exception("export_failed", tenant_id=str(self._tenant))
                nursery.cancel_scope.cancel()

    async def _cancel_when_draining(self, scope: trio.CancelScope) -> None:
        await self._draining.wait()
        scope.cancel()


def _declare_erasure(api: Api, database: Database, vault: Vault) -> None:
    @api.post(
        "/api/v1/tenants/<uuid:tenant_id>/erase",
        requires=Role.ADMIN,
        body=models.ErasureBody,
        answers={202: models.ErasureAnswer},
        problems=(409,),
        summary="Forget a person; or (owners) delete the tenant",
        tag="tenants",
    )
    async def erase(*, principal: Principal, tenant_id: UUID, body: models.ErasureBody) -> Answer:
        """A tenant is closed at once; what follows cannot be undone."""
        tenant = within(principal, tenant_id)
        if body.what == "tenant":
            job = await _erase_tenant(database, tenant, principal, body)
        else:
            if body.tenant_name is not None:
                raise InvalidInput(
                    "This erases a person.", [("/tenant_name", "belongs to what = tenant")]
                )
            job = await erasure.erase_person(
                database,
                vault,
                tenant,
                identifiers=body.identifiers,
                user=body.user_id,
                by=_rank(principal),
                actor=actor_of(principal),
            )
        return Answer(models.ErasureAnswer(job_id=job.id, state=job.state), 202)


async def _erase_tenant(
    database: Database, tenant: TenantId, principal: Principal, body: models.ErasureBody
) -> Job:
    if principal.role < Role.OWNER:
        raise Forbidden("Only an owner may delete the tenant.")
    if body.identifiers or body.user_id is not None:
        raise InvalidInput("This erases the tenant.", [("/what", "must be person to erase one")])
    return await erasure.erase_tenant(
        database, tenant, name=body.tenant_name or "", actor=actor_of(principal)
    )
