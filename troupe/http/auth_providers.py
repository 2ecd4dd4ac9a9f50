"""The routes with which a tenant sets up where its people log in.

Who may change them decides who gets in, so writing needs the owner. The client secret is
write-only. A provider is named by its issuer and our client id there; those two stay, because they
are what its people and sessions are known by: another issuer is another provider.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from troupe.actors.auth import audit, providers
from troupe.actors.auth.audit import Actor
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.provider_trial import ProviderTrial, try_provider
from troupe.actors.auth.providers import DEFAULT_SCOPES, ListedProvider
from troupe.common.database import Database
from troupe.common.errors import Conflict, InvalidInput, NotFound, TooManyRequests
from troupe.common.ids import TenantId
from troupe.common.secrets import Vault
from troupe.common.units import SECONDS
from troupe.http.conventions import (
    AnswerModel,
    BodyModel,
    ListAnswer,
    entity_tag,
    require_match,
)
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.request import current_request
from troupe.http.routes import Api
from troupe.http.tenant_models import TestStepAnswer

Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
JoiningRole = Literal["viewer", "analyst", "admin"]


class ProviderBody(BodyModel):
    """An OpenID Connect provider, and what we are there."""

    label: Name
    """What the login page calls it."""
    issuer: Annotated[str, StringConstraints(min_length=8, max_length=500)]
    """Exactly as the provider writes it, without a slash that it does not write."""
    client_id: Text
    """What we are registered as."""
    client_secret: Text | None = None
    """Write-only; left out, the present one stays. Without any we are a public client."""
    scopes: Annotated[list[Name], Field(min_length=1, max_length=20)] = Field(
        default_factory=lambda: list(DEFAULT_SCOPES)
    )
    """To ask for; `openid` among them. `offline_access` lets most providers give a refresh token,
    and only with one can sessions be confirmed again."""
    signing_algorithms: Annotated[list[Name], Field(min_length=1, max_length=9)] = Field(
        default_factory=lambda: ["RS256"]
    )
    """That its tokens may be signed with; no others are accepted."""
    allowed_email_domains: Annotated[list[Text], Field(max_length=100)] = Field(
        default_factory=list
    )
    """Who has a verified address in one of them may join by logging in."""
    allowed_claims: Annotated[dict[Name, list[Text]], Field(max_length=20)] = Field(
        default_factory=dict
    )
    """Claims of the ID token and their accepted values; who has them all may join by logging in."""
    joining_role: JoiningRole = "viewer"
    """As what they join."""
    listed: bool = False
    """Named on the public login page."""
    enabled: bool = True
    """Whether logins, sessions and tokens from there are good."""
    api_audience: Text | None = None
    """What its access tokens for our API name as audience; null: none are accepted."""
    introspection: bool = False
    """Whether access tokens that only the provider can read are sent to it."""


class ProviderAnswer(AnswerModel):
    """A provider, without its secret."""

    provider_id: UUID
    label: str
    issuer: str
    client_id: str
    has_secret: bool
    scopes: list[str]
    signing_algorithms: list[str]
    allowed_email_domains: list[str]
    allowed_claims: dict[str, list[str]]
    joining_role: JoiningRole
    listed: bool
    enabled: bool
    api_audience: str | None
    introspection: bool

    @classmethod
    def of(cls, provider: ListedProvider) -> "ProviderAnswer":
        """From the domain."""
        return cls.model_validate(provider, from_attributes=True)


@dataclass(frozen=True)
class ProviderDesk:
    """What the routes work with.

    Attributes:
        database: The group's pool.
        vault: Seals client secrets.
        within: The tenant of the path, if the request acts there.
        actor: Who is acting, for the audit log.
        peers: To try providers with.
        callback: Where they send browsers back.
        under_way: Tenants that try one at this moment, in this process.
    """

    database: Database
    vault: Vault
    within: Callable[[Principal, UUID], TenantId]
    actor: Callable[[Principal], Actor]
    peers: PeerHttp
    callback: str
    under_way: set[TenantId] = field(default_factory=set)

    async def one(self, tenant: TenantId, provider_id: UUID) -> ListedProvider:
        """A provider.

        Raises:
            NotFound: There is no such one.
        """
        found = await providers.list_providers(self.database, tenant, provider_id)
        if not found:
            raise NotFound("There is no such identity provider.")
        return found[0]

    async def try_one(
        self, principal: Principal, tenant: TenantId, provider_id: UUID
    ) -> ProviderTrial:
        """Try a provider as it is set up, switched on or not.

        Raises:
            NotFound: There is no such one.
            TooManyRequests: Another is being tried for the tenant.
        """
        if tenant in self.under_way:
            raise TooManyRequests("A test is under way already.", TEST_PAUSE)
        self.under_way.add(tenant)
        try:
            provider = await providers.load_provider(
                self.database, self.vault, tenant, provider_id, also_disabled=True
            )
            client = provider.client
            detail = {"issuer": client.issuer, "client_id": client.client_id}
            await audit.note(
                self.database,
                tenant,
                self.actor(principal),
                "provider.tested",
                str(provider_id),
                detail,
            )
            return await try_provider(self.peers, client, callback=self.callback)
        finally:
            self.under_way.discard(tenant)

    async def put(
        self, principal: Principal, tenant: TenantId, body: ProviderBody
    ) -> ListedProvider:
        """Set up or replace the provider that issuer and client id name."""
        fields: Mapping[str, Any] = body.model_dump()
        provider_id = await providers.put_identity_provider(
            self.database,
            self.vault,
            tenant,
            **fields,
            keep_secret=True,
            actor=self.actor(principal),
        )
        return await self.one(tenant, provider_id)


class ProviderTestAnswer(AnswerModel):
    """What a test of a provider has found."""

    works: bool
    """Whether nothing stands in the way of a login, as far as can be known without one."""
    message: str
    """In a sentence."""
    steps: list[TestStepAnswer]
    """In the order of a login; after one that failed nothing more is tried."""

    @classmethod
    def of(cls, trial: ProviderTrial) -> "ProviderTestAnswer":
        """From the domain."""
        return cls(
            works=trial.works,
            message=trial.message,
            steps=[
                TestStepAnswer(name=step.name, ok=step.ok, message=step.message)
                for step in trial.steps
            ],
        )


TEST_DEADLINE: Final = 25 * SECONDS
"""Longer than its requests together may take."""
TEST_PAUSE: Final = 5 * SECONDS
_ALL: Final = "/api/v1/tenants/<uuid:tenant_id>/providers"
_ONE: Final = f"{_ALL}/<uuid:provider_id>"


def declare_providers(api: Api, desk: ProviderDesk) -> None:
    """Declare the routes."""
    _declare_reading(api, desk)
    _declare_writing(api, desk)


def _declare_reading(api: Api, desk: ProviderDesk) -> None:
    @api.get(
        _ALL,
        requires=Role.ADMIN,
        answers={200: ListAnswer[ProviderAnswer]},
        summary="Where the tenant's people log in",
        tag="providers",
    )
    async def list_providers(
        *, principal: Principal, tenant_id: UUID
    ) -> ListAnswer[ProviderAnswer]:
        found = await providers.list_providers(desk.database, desk.within(principal, tenant_id))
        return ListAnswer[ProviderAnswer](
            data=[ProviderAnswer.of(provider) for provider in found], total=len(found)
        )

    @api.get(
        _ONE,
        requires=Role.ADMIN,
        answers={200: ProviderAnswer},
        etag=True,
        summary="One identity provider",
        tag="providers",
    )
    async def show_provider(*, principal: Principal, tenant_id: UUID, provider_id: UUID) -> Answer:
        return _answer(await desk.one(desk.within(principal, tenant_id), provider_id))


def _declare_writing(api: Api, desk: ProviderDesk) -> None:
    @api.post(
        _ALL,
        requires=Role.OWNER,
        body=ProviderBody,
        answers={201: ProviderAnswer},
        creates=True,
        etag=True,
        problems=(409,),
        summary="Set up an identity provider",
        tag="providers",
    )
    async def create_provider(
        *, principal: Principal, tenant_id: UUID, body: ProviderBody
    ) -> Answer:
        tenant = desk.within(principal, tenant_id)
        for provider in await providers.list_providers(desk.database, tenant):
            if (provider.issuer, provider.client_id) == (body.issuer, body.client_id):
                raise Conflict("This issuer is set up with this client id already.")
        return _answer(await desk.put(principal, tenant, body), 201)

    @api.put(
        _ONE,
        requires=Role.OWNER,
        body=ProviderBody,
        answers={200: ProviderAnswer},
        etag=True,
        problems=(412,),
        summary="Change an identity provider",
        tag="providers",
    )
    async def change_provider(
        *, principal: Principal, tenant_id: UUID, provider_id: UUID, body: ProviderBody
    ) -> Answer:
        """With ``If-Match``, only if nobody has changed it meanwhile."""
        tenant = desk.within(principal, tenant_id)
        present = await desk.one(tenant, provider_id)
        if "If-Match" in current_request().headers:
            require_match(provider_tag(present))
        fixed = [
            (f"/{name}", "stays as it is; another one is another provider")
            for name in ("issuer", "client_id")
            if getattr(body, name) != getattr(present, name)
        ]
        if fixed:
            raise InvalidInput("The identity provider is not valid.", fixed)
        return _answer(await desk.put(principal, tenant, body))

    @api.post(
        f"{_ONE}/test",
        requires=Role.ADMIN,
        answers={200: ProviderTestAnswer},
        problems=(429,),
        deadline=TEST_DEADLINE,
        summary="Try an identity provider",
        tag="providers",
    )
    async def try_provider_out(
        *, principal: Principal, tenant_id: UUID, provider_id: UUID
    ) -> ProviderTestAnswer:
        """Reads its document and keys, and asks whether it knows our client id and secret.

        Nobody is logged in. One at a time for a tenant.
        """
        tenant = desk.within(principal, tenant_id)
        return ProviderTestAnswer.of(await desk.try_one(principal, tenant, provider_id))

    @api.delete(
        _ONE,
        requires=Role.OWNER,
        answers={204: None},
        summary="Take an identity provider away",
        tag="providers",
    )
    async def delete_provider(
        *, principal: Principal, tenant_id: UUID, provider_id: UUID
    ) -> Answer:
        """Sessions from there end within two seconds; people stay members."""
        await providers.delete_provider(
            desk.database,
            desk.within(principal, tenant_id),
            provider_id,
            actor=desk.actor(principal),
        )
        return Answer(None, 204)


def provider_tag(provider: ListedProvider) -> str:
    """The entity tag of a provider."""
    return entity_tag("provider", provider.provider_id, provider.version)


def _answer(provider: ListedProvider, status: int = 200) -> Answer:
    return Answer(ProviderAnswer.of(provider), status, etag=provider_tag(provider))
