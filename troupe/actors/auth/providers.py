"""Where the people of a tenant log in, and who of them may join by doing so."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from troupe.actors.auth.addresses import domain_of
from troupe.actors.auth.audit import OPERATOR, QUERIES, Actor, append
from troupe.actors.auth.keys import ALGORITHMS
from troupe.actors.auth.members import Role
from troupe.actors.auth.relying_party import Client, Identity
from troupe.common.database import Database
from troupe.common.errors import InvalidInput, NotFound
from troupe.common.ids import TenantId, new_id
from troupe.common.secrets import Place, Vault

if TYPE_CHECKING:
    import asyncpg

JoiningRole = Literal["viewer", "analyst", "admin"]
DEFAULT_SCOPES: Final = ("openid", "email", "profile")
_DOMAIN: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,100}")


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """One provider of one tenant.

    Attributes:
        client: What we are there, secret included.
        allowed_email_domains: A verified address in one of them lets a person join.
        allowed_claims: Claim to accepted values, all of which must be met, lets a person join.
        joining_role: As what they join.
        listed: Named on the public login page.
        api_audience: What its access tokens for our API name as audience; None: none are accepted.
        introspection: Whether access tokens that only it can read are sent to it.
        enabled: Whether logins, sessions and tokens from there are good.
    """

    provider_id: UUID
    tenant_id: TenantId
    label: str
    client: Client
    allowed_email_domains: tuple[str, ...]
    allowed_claims: Mapping[str, Sequence[str]] = field(default_factory=dict)
    joining_role: JoiningRole = "viewer"
    listed: bool = False
    api_audience: str | None = None
    introspection: bool = False
    enabled: bool = True

    def role_for(self, identity: Identity) -> Role | None:
        """As what this person may join; None when they may not.

        Without any rule nobody may: the tenant then adds its people by hand. With both kinds of
        rules both must be met.
        """
        if not self.allowed_email_domains and not self.allowed_claims:
            return None
        if self.allowed_email_domains:
            domain = domain_of(identity.email)
            if not identity.email_verified or domain not in self.allowed_email_domains:
                return None
        for claim, accepted in self.allowed_claims.items():
            given = identity.claims.get(claim)
            values = given if isinstance(given, list) else [given]
            if not any(isinstance(value, str) and value in accepted for value in values):
                return None
        return self.joining_role


def provider_secret_place(provider: UUID) -> Place:
    """Where a provider's client secret is sealed for."""
    return Place("auth.identity_providers", "client_secret", str(provider))


def _check(
    label: str,
    client_id: str,
    issuer: str,
    scopes: Sequence[str],
    algorithms: Sequence[str],
    domains: Sequence[str],
    claims: Mapping[str, Sequence[str]],
    api_audience: str | None,
    *,
    introspection: bool,
) -> None:
    problems = []
    if not 1 <= len(label) <= 100:
        problems.append(("/label", "must have 1 to 100 characters"))
    if not 1 <= len(client_id) <= 500:
        problems.append(("/client_id", "must have 1 to 500 characters"))
    try:
        parts = urlsplit(issuer)
        odd = not parts.hostname or parts.query or parts.fragment or parts.username is not None
    except ValueError:
        odd = True
    if odd or not 8 <= len(issuer) <= 500 or not issuer.startswith(("https://", "http://")):
        problems.append(("/issuer", "must be an https URL without query and fragment"))
    if "openid" not in scopes or not all(map(_SCOPE.fullmatch, scopes)):
        problems.append(("/scopes", "must contain openid"))
    if not algorithms or not set(algorithms) <= ALGORITHMS:
        problems.append(("/signing_algorithms", f"must be of {', '.join(sorted(ALGORITHMS))}"))
    if not all(map(_DOMAIN.fullmatch, domains)):
        problems.append(("/allowed_email_domains", "must be domains in lower case"))
    if not all(accepted and not isinstance(accepted, str) for accepted in claims.values()):
        problems.append(("/allowed_claims", "must name the accepted values of each claim"))
    if api_audience is not None and not (1 <= len(api_audience) <= 500 and api_audience.isascii()):
        problems.append(("/api_audience", "must have 1 to 500 ASCII characters"))
    if introspection and api_audience is None:
        problems.append(("/introspection", "needs an api_audience"))
    if problems:
        raise InvalidInput("The identity provider is not valid.", problems)


async def put_identity_provider(
    database: Database,
    vault: Vault,
    tenant: TenantId,
    *,
    label: str,
    issuer: str,
    client_id: str,
    client_secret: str | None,
    scopes: Sequence[str] = DEFAULT_SCOPES,
    signing_algorithms: Sequence[str] = ("RS256",),
    allowed_email_domains: Sequence[str] = (),
    allowed_claims: Mapping[str, Sequence[str]] | None = None,
    joining_role: JoiningRole = "viewer",
    listed: bool = False,
    enabled: bool = True,
    api_audience: str | None = None,
    introspection: bool = False,
    keep_secret: bool = False,
    actor: Actor = OPERATOR,
) -> UUID:
    """Set up a provider, or replace the one with the same issuer and client id.

    Args:
        database: Where.
        vault: Seals the secret.
        tenant: Whose people log in there.
        label: What the login page calls it.
        issuer: Exactly as the provider writes it. Plain http only reaches networks that the
            operator has allowed.
        client_id: What we are there.
        client_secret: None for a public client.
        scopes: To ask for; ``openid`` among them.
        signing_algorithms: That its ID tokens may be signed with.
        allowed_email_domains: See `IdentityProvider`.
        allowed_claims: See `IdentityProvider`.
        joining_role: See `IdentityProvider`.
        listed: See `IdentityProvider`.
        enabled: Whether logins and sessions from there are good.
        api_audience: See `IdentityProvider`.
        introspection: See `IdentityProvider`.
        keep_secret: Without a `client_secret` the present one stays, if there is one.
        actor: Who does this.

    Returns:
        The provider's identifier.

    Raises:
        InvalidInput: A field is not valid.
    """
    claims = {name: list(values) for name, values in (allowed_claims or {}).items()}
    _check(
        label,
        client_id,
        issuer,
        scopes,
        signing_algorithms,
        allowed_email_domains,
        allowed_claims or {},
        api_audience,
        introspection=introspection,
    )

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> UUID:
        present: UUID | None = await connection.fetchval(
            QUERIES["provider_id"], tenant, issuer, client_id
        )
        provider = present or new_id()
        sealed = (
            None
            if client_secret is None
            else await vault.seal(
                connection, tenant, provider_secret_place(provider), client_secret.encode()
            )
        )
        await connection.execute(
            QUERIES["put_provider"],
            tenant,
            provider,
            label,
            issuer,
            client_id,
            sealed,
            list(scopes),
            list(signing_algorithms),
            list(allowed_email_domains),
            claims,
            joining_role,
            listed,
            enabled,
            api_audience,
            introspection,
            keep_secret,
        )
        detail = {"issuer": issuer, "client_id": client_id, "enabled": enabled}
        await append(connection, actor, "provider.put", str(provider), detail)
        return provider

    return await database.run(unit, tenant=tenant)


@dataclass(frozen=True, slots=True)
class ListedProvider:
    """A provider as its tenant's administrators see it: everything but the secret."""

    provider_id: UUID
    label: str
    issuer: str
    client_id: str
    has_secret: bool
    scopes: tuple[str, ...]
    signing_algorithms: tuple[str, ...]
    allowed_email_domains: tuple[str, ...]
    allowed_claims: Mapping[str, Sequence[str]]
    joining_role: JoiningRole
    listed: bool
    enabled: bool
    api_audience: str | None
    introspection: bool
    version: int


async def list_providers(
    database: Database, tenant: TenantId, provider: UUID | None = None
) -> list[ListedProvider]:
    """All providers of a tenant, enabled or not, the oldest first; or the one that is asked for."""
    rows = await database.fetch(
        QUERIES["providers"], tenant, provider, tenant=tenant, read_only=True
    )
    return [_listed(dict(row.items())) for row in rows]


def _listed(row: dict[str, Any]) -> ListedProvider:
    lists = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
    return ListedProvider(**row | lists)


async def delete_provider(
    database: Database, tenant: TenantId, provider: UUID, *, actor: Actor
) -> None:
    """Take a provider away; the sessions from there end, the people stay members.

    Raises:
        NotFound: There is no such provider.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        row = await connection.fetchrow(QUERIES["delete_provider"], tenant, provider)
        if row is None:
            raise NotFound("There is no such identity provider.")
        detail = {"issuer": row["issuer"], "client_id": row["client_id"]}
        await append(connection, actor, "provider.deleted", str(provider), detail)

    await database.run(unit, tenant=tenant)


async def load_provider(
    database: Database,
    vault: Vault,
    tenant: TenantId,
    provider: UUID,
    *,
    also_disabled: bool = False,
) -> IdentityProvider:
    """A provider, its secret opened.

    Args:
        database: Where.
        vault: Opens the secret.
        tenant: Whose.
        provider: Which.
        also_disabled: One that is switched off is found too; no login may follow from that.

    Raises:
        NotFound: There is none.
        UnreadableSecret: The secret does not open; a matter for the operator.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> IdentityProvider:
        row = await connection.fetchrow(QUERIES["provider"], tenant, provider)
        if row is None or not (row["enabled"] or also_disabled):
            raise NotFound("There is no such identity provider.")
        secret = (
            None
            if row["client_secret"] is None
            else await vault.unseal(
                connection, tenant, provider_secret_place(provider), row["client_secret"]
            )
        )
        return _provider(tenant, dict(row.items()), None if secret is None else secret.decode())

    return await database.run(unit, tenant=tenant, read_only=True)


def _provider(tenant: TenantId, row: Mapping[str, Any], secret: str | None) -> IdentityProvider:
    client = Client(
        issuer=row["issuer"],
        client_id=row["client_id"],
        secret=secret,
        scopes=tuple(row["scopes"]),
        algorithms=frozenset(row["signing_algorithms"]),
    )
    return IdentityProvider(
        provider_id=row["provider_id"],
        tenant_id=tenant,
        label=row["label"],
        client=client,
        allowed_email_domains=tuple(row["allowed_email_domains"]),
        allowed_claims=row["allowed_claims"],
        joining_role=row["joining_role"],
        listed=row["listed"],
        api_audience=row["api_audience"],
        introspection=row["introspection"],
        enabled=row["enabled"],
    )
