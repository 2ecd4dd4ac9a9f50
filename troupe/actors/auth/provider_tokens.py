"""Access tokens that a tenant's identity provider issued for our API.

A tenant says for each provider which audience stands for us (`api_audience`); without it none of
that provider's tokens is accepted. Two kinds:

**Signed ones** (RFC 9068) are read here, after the rules of RFC 8725 in `signed_token` and `keys`.
Before a signature is looked at, PostgreSQL is asked who the subject is and where: a token about
nobody we know costs one statement and no request to anybody, so nobody makes us fetch the documents
of an issuer of his choice.

**Opaque ones** are sent to the provider (RFC 7662). Nothing in such a token says whose it is, so
the caller must name the tenant (``X-Tenant-Id``); it is asked at that tenant's providers only, and
only they can vouch for it. What a provider calls void is remembered for a moment, so that a program
with an expired token does not become a stream of requests. At one provider no more than
`MAX_AT_ONCE` are asked about at the same time, and one that has just not answered is left alone for
a moment: a provider that hangs costs its own tenant 503s, and nobody else a connection.

Either way a token is good for one person or program that is a member of the tenant, does what the
role there allows, and is narrowed further by the scopes of ours that it lists. ``*`` is never read
from it. A token that is bound to a key or certificate (``cnf``) is refused: whoever accepted it as
a plain bearer token would take the binding away.

How long the outcome may be remembered is for `troupe.http.credentials` to say. It bounds how long a
removed member, or an opaque token that was revoked at the provider, keeps working. A signed token
cannot be revoked at the provider for anybody who reads it locally: it is good until ``exp``.
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import trio

from troupe.actors.auth.access_tokens import EVERY_SCOPE, SCOPES
from troupe.actors.auth.errors import ProviderUnavailable, TokenInvalid
from troupe.actors.auth.providers import IdentityProvider, load_provider
from troupe.actors.auth.relying_party import RelyingParty
from troupe.actors.auth.sessions import SESSION_QUERIES, Membership, memberships_of
from troupe.actors.auth.signed_token import (
    ACCESS_TOKEN,
    CLOCK_SKEW,
    audiences_of,
    claims_of,
    instant,
    looks_signed,
    read_header,
    require_issuer,
    require_times,
    same,
    storable,
    subject_of,
)
from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.secrets import Vault
from troupe.common.units import HOURS, SECONDS

MAX_AGE: Final = 24 * HOURS
"""Seconds since it was issued after which an access token is refused, whatever its ``exp``."""
MAX_AUDIENCES: Final = 20
VOID_REMEMBERED: Final = 10 * SECONDS
MAX_VOID: Final = 4096
MAX_AT_ONCE: Final = 8
LEFT_ALONE: Final = 2 * SECONDS
MAX_PROVIDERS: Final = 1024
_LAST_INSTANT: Final = 253402300799.0  # the end of the year 9999

_GRANTABLE: Final = frozenset(SCOPES) - {EVERY_SCOPE}
_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ResolvedSubject:
    """Whom a provider's access token stands for, now.

    Attributes:
        memberships: Tenants that accept the token; at least one.
        scopes: Ours that it lists; empty: it opens nothing that needs one.
        expires_at: When the token does.
    """

    user_id: UUID
    name: str
    email: str
    memberships: tuple[Membership, ...]
    scopes: frozenset[str]
    expires_at: datetime

    def membership(self, tenant: UUID) -> Membership | None:
        """The membership in a tenant, if there is one."""
        return next((one for one in self.memberships if one.tenant_id == tenant), None)


@dataclass(slots=True)
class _Asking:
    """What is going on with one introspecting provider.

    Attributes:
        under_way: Requests to it.
        left_alone: Until when it is not asked, by trio's clock.
    """

    under_way: int = 0
    left_alone: float = -math.inf


class ProviderTokens:
    """Reads them.

    Args:
        database: The group's pool.
        vault: Opens client secrets, for introspection.
        relying_party: Talks to providers.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        relying_party: RelyingParty,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._vault = vault
        self._relying_party = relying_party
        self._now = now
        self._void: OrderedDict[bytes, float] = OrderedDict()
        self._asking: OrderedDict[UUID, _Asking] = OrderedDict()

    async def resolve(self, token: str, tenant: UUID | None) -> ResolvedSubject | None:
        """Whom a token stands for; None when it is not good.

        Args:
            token: As it came.
            tenant: That the caller named; only an opaque token needs it.

        Raises:
            PeerError: The provider does not answer, so nobody can say.
            DatabaseError: Likewise, PostgreSQL.
        """
        if looks_signed(token):
            try:
                return await self._read(token)
            except TokenInvalid as error:
                _logger.info("access_token_refused", reason=str(error))
                return None
        if tenant is None or not token.isascii() or not token.isprintable():
            return None
        return await self._introspected(token, TenantId(tenant))

    async def _read(self, token: str) -> ResolvedSubject | None:
        header = read_header(token, ACCESS_TOKEN)
        claimed = claims_of(token, ACCESS_TOKEN)
        issuer, audiences = claimed.get("iss"), audiences_of(claimed)
        if not isinstance(issuer, str) or not storable(issuer):
            raise TokenInvalid("The access token does not say who issued it.")
        if not 0 < len(audiences) <= MAX_AUDIENCES:
            raise TokenInvalid("The access token does not say for whom it is (aud).")
        subject = subject_of(claimed, ACCESS_TOKEN)
        person = await self._person(issuer, subject, audiences, header.algorithm, None)
        if person is None:
            return None
        # PostgreSQL has said that this algorithm is pinned for the issuer in each of the tenants.
        claims = await self._relying_party.verified(
            token, ACCESS_TOKEN, issuer=issuer, algorithms=frozenset({header.algorithm})
        )
        require_issuer(claims, issuer, ACCESS_TOKEN)
        expires = require_times(claims, self._now(), MAX_AGE, ACCESS_TOKEN)
        for claim in ("client_id", "jti"):
            if not isinstance(claims.get(claim), str) or not claims[claim]:
                raise TokenInvalid(f"The access token lacks {claim}.")
        if "cnf" in claims:
            raise TokenInvalid("The access token is bound to a key, which is not supported.")
        return _resolved(person, claims, expires)

    async def _introspected(self, token: str, tenant: TenantId) -> ResolvedSubject | None:
        key = hashlib.sha256(tenant.bytes + token.encode()).digest()
        if trio.current_time() < self._void.get(key, 0.0):
            return None
        rows = await self._database.fetch(
            SESSION_QUERIES["introspecting_providers"], tenant, tenant=tenant, read_only=True
        )
        for row in rows:
            found = await self._asked(token, tenant, row["provider_id"])
            if found is not None:
                return found
        self._void[key] = trio.current_time() + VOID_REMEMBERED
        self._void.move_to_end(key)
        while len(self._void) > MAX_VOID:
            self._void.popitem(last=False)
        return None

    async def _asked(self, token: str, tenant: TenantId, provider: UUID) -> ResolvedSubject | None:
        try:
            there = await load_provider(self._database, self._vault, tenant, provider)
        except NotFound:
            return None
        said = await self._introspect(there, token)
        if said is None:
            return None
        try:
            subject = subject_of(said, ACCESS_TOKEN)
            expires = _introspected_times(said, there.client.issuer, self._now())
        except TokenInvalid as error:
            _logger.info("access_token_refused", reason=str(error))
            return None
        audiences = audiences_of(said)[:MAX_AUDIENCES]
        person = await self._person(there.client.issuer, subject, audiences, None, provider)
        return None if person is None else _resolved(person, said, expires)

    async def _introspect(self, there: IdentityProvider, token: str) -> Mapping[str, Any] | None:
        asking = self._asking.setdefault(there.provider_id, _Asking())
        self._asking.move_to_end(there.provider_id)
        while len(self._asking) > MAX_PROVIDERS:
            self._asking.popitem(last=False)
        if asking.under_way >= MAX_AT_ONCE or trio.current_time() < asking.left_alone:
            raise ProviderUnavailable("The identity provider is not asked again yet.")
        asking.under_way += 1
        try:
            return await self._relying_party.introspect(there.client, token)
        except ProviderUnavailable:
            asking.left_alone = trio.current_time() + LEFT_ALONE
            raise
        finally:
            asking.under_way -= 1

    async def _person(
        self,
        issuer: str,
        subject: str,
        audiences: Sequence[str],
        algorithm: str | None,
        provider: UUID | None,
    ) -> Mapping[str, Any] | None:
        row = await self._database.fetch_row(
            SESSION_QUERIES["resolve_subject"],
            issuer,
            subject,
            list(audiences),
            algorithm,
            provider,
            read_only=True,
        )
        return None if row is None else dict(row.items())


def _introspected_times(said: Mapping[str, Any], issuer: str, now: float) -> float:
    """When an introspected token expires; `active` alone is not enough, an end must be named."""
    expires = instant(said, "exp")
    if expires is None or expires <= now - CLOCK_SKEW:
        raise TokenInvalid("The access token has expired or has no expiry.")
    if "iss" in said and not same(said["iss"], issuer):
        raise TokenInvalid("The access token is from another issuer.")
    if "nbf" in said:
        begins = instant(said, "nbf")
        if begins is None or begins > now + CLOCK_SKEW:
            raise TokenInvalid("The access token is not valid yet.")
    if said.get("cnf") is not None:
        raise TokenInvalid("The access token is bound to a key, which is not supported.")
    # RFC 7662 gives the type of the token "as defined in RFC 6749"; a refresh token has none.
    if str(said.get("token_type", "Bearer")).lower() != "bearer":
        raise TokenInvalid("The access token is of an unknown type.")
    return expires


def _resolved(
    person: Mapping[str, Any], claims: Mapping[str, Any], expires: float
) -> ResolvedSubject:
    scope = claims.get("scope")
    listed = scope.split() if isinstance(scope, str) else []
    return ResolvedSubject(
        user_id=person["user_id"],
        name=person["name"] or person["email"] or "",
        email=person["email"] or "",
        memberships=memberships_of(person["memberships"]),
        scopes=_GRANTABLE & frozenset(listed),
        expires_at=datetime.fromtimestamp(min(expires, _LAST_INSTANT), UTC),
    )
