"""The routes with which administrators let in a single person, by their e-mail address.

What an invitation is and is not stands in `troupe.actors.auth.invitations`. The answer has the link
to pass on: it leads to the tenant's login page and holds no secret.
"""

from typing import Annotated, Final, Literal, cast
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from troupe.actors.auth import invitations
from troupe.actors.auth.addresses import MAX_ADDRESS
from troupe.actors.auth.invitations import MAX_LIFETIME, Invitation
from troupe.actors.auth.members import Role as RoleName
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.units import DAYS
from troupe.http.auth_login import Addresses
from troupe.http.conventions import (
    AnswerModel,
    BodyModel,
    ListAnswer,
    PageQuery,
    decode_cursor,
    encode_cursor,
)
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.http.tenants import actor_of, person_of, within

DEFAULT_DAYS: Final = 7
_ALL: Final = "/api/v1/tenants/<uuid:tenant_id>/invitations"


class AddressInvitationBody(BodyModel):
    """Who may come in, by their e-mail address."""

    email: Annotated[str, StringConstraints(min_length=3, max_length=MAX_ADDRESS)]
    """One address, as the identity provider knows it; upper and lower case are the same."""
    role: RoleName
    """What they become; at most the caller's own role."""
    provider_id: UUID | None = None
    """The tenant's identity provider that has to vouch for the address; may be left out when there
    is only one."""
    lifetime_days: Annotated[int, Field(ge=1, le=int(MAX_LIFETIME / DAYS))] = DEFAULT_DAYS
    """Days within which they have to log in."""


class AddressInvitationAnswer(AnswerModel):
    """An invitation that nobody has accepted or taken back."""

    invitation_id: UUID
    email: str
    role: RoleName
    provider_id: UUID
    state: Literal["waiting", "expired"]
    """An expired one lets nobody in, and is forgotten a month later."""
    invited_by: UUID | None
    """The member who made it; null for the operator."""
    created_at: AwareDatetime
    expires_at: AwareDatetime
    login_url: str
    """To pass on: the tenant's login page. It holds no secret."""

    @classmethod
    def of(
        cls, invitation: Invitation, tenant: TenantId, addresses: Addresses
    ) -> "AddressInvitationAnswer":
        """From the domain."""
        return cls(
            invitation_id=invitation.invitation_id,
            email=invitation.email,
            role=invitation.role,
            provider_id=invitation.provider_id,
            state="expired" if invitation.expired else "waiting",
            invited_by=invitation.invited_by,
            created_at=invitation.created_at,
            expires_at=invitation.expires_at,
            login_url=f"{addresses.home}?tenant={tenant}",
        )


def declare_invitations(api: Api, database: Database, addresses: Addresses) -> None:
    """Declare the routes.

    Args:
        api: Of the auth group's application.
        database: The group's pool.
        addresses: For the link to the login page.
    """

    @api.post(
        _ALL,
        requires=Role.ADMIN,
        body=AddressInvitationBody,
        answers={201: AddressInvitationAnswer},
        creates=True,
        problems=(409,),
        summary="Let in whoever logs in with an e-mail address, once",
        tag="tenants",
    )
    async def invite(
        *, principal: Principal, tenant_id: UUID, body: AddressInvitationBody
    ) -> Answer:
        """The identity provider must say that the address is verified. Nothing is sent."""
        tenant = within(principal, tenant_id)
        made = await invitations.invite(
            database,
            tenant,
            email=body.email,
            role=body.role,
            lifetime=body.lifetime_days * DAYS,
            provider=body.provider_id,
            by=_rank(principal),
            invited_by=person_of(principal),
            actor=actor_of(principal),
        )
        return Answer(AddressInvitationAnswer.of(made, tenant, addresses), 201)

    @api.get(
        _ALL,
        requires=Role.ADMIN,
        query=PageQuery,
        answers={200: ListAnswer[AddressInvitationAnswer]},
        summary="Invitations that nobody has accepted or taken back",
        tag="tenants",
    )
    async def list_invitations(
        *, principal: Principal, tenant_id: UUID, query: PageQuery
    ) -> ListAnswer[AddressInvitationAnswer]:
        tenant = within(principal, tenant_id)
        after = None
        if query.cursor is not None:
            after = cast("UUID", decode_cursor(query.cursor, "invitations", (UUID,))[0])
        page, total = await invitations.list_invitations(
            database, tenant, after=after, limit=query.limit + 1
        )
        rows = [AddressInvitationAnswer.of(one, tenant, addresses) for one in page[: query.limit]]
        more = len(page) > query.limit
        return ListAnswer[AddressInvitationAnswer](
            data=rows,
            next_cursor=encode_cursor("invitations", [rows[-1].invitation_id]) if more else None,
            total=total,
        )

    @api.delete(
        f"{_ALL}/<uuid:invitation_id>",
        requires=Role.ADMIN,
        answers={204: None},
        summary="Take an invitation back",
        tag="tenants",
    )
    async def take_back(*, principal: Principal, tenant_id: UUID, invitation_id: UUID) -> Answer:
        """Whoever has accepted it stays a member."""
        await invitations.take_back(
            database,
            within(principal, tenant_id),
            invitation_id,
            by=_rank(principal),
            actor=actor_of(principal),
        )
        return Answer(None, 204)


def _rank(principal: Principal) -> RoleName:
    return cast("RoleName", principal.role.label)
