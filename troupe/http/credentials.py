"""From a cookie or a bearer token to a principal: the same for all three ports.

A credential is looked up in PostgreSQL by its hash, in one round trip, and remembered for a moment
so that a page which sends ten requests costs one look-up. The moment bounds how long a revoked
session or token keeps working: an entry is good for `REMEMBERED` seconds from before its look-up
began, in every process on every host, without any message between them. What is unknown is not
remembered, so guesses push nobody out, and requests that wait for the same look-up share it.
Nor does somebody who asks again and again wait for it at every end of the moment: what was used in
it is looked up again before (`Credentials.look_ahead`), and a new moment begins, or none.

A bearer token that is not one of ours may be the tenant's identity provider's
(`troupe.actors.auth.provider_tokens`); its outcome is remembered under the same rule, so while it
is, a request costs no round trip to PostgreSQL and none to the provider.

The cookie. Over https it is called ``__Host-troupe_session``: browsers accept that prefix only with
``Secure``, without ``Domain`` and for the path ``/``, so no neighbouring host can plant it. Plain
http on loopback, the development set-up, needs another name: not every browser, and no usual HTTP
library, stores or sends a ``Secure`` cookie over http. There it is ``troupe_session``. Plain http
beyond loopback is refused, since anyone on the way would read the cookie.

Cookies belong to a host, not to a port. On one host the three ports share the session by
themselves; behind a proxy they must be served under one public origin (or at least one host).
"""

import hashlib
import ipaddress
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Final, Literal, NoReturn
from urllib.parse import urlsplit
from uuid import UUID

import trio
from quart import Response

from troupe.actors.auth import access_tokens, sessions
from troupe.actors.auth.access_tokens import ResolvedToken
from troupe.actors.auth.provider_tokens import ProviderTokens, ResolvedSubject
from troupe.actors.auth.sessions import Membership, ResolvedSession
from troupe.common.audit_trail import Who
from troupe.common.database import Database
from troupe.common.errors import ConfigurationError, Forbidden, TroupeError
from troupe.common.units import MILLISECONDS
from troupe.http.principal import SESSION_COOKIE, Principal, Role

LOOPBACK_SESSION_COOKIE: Final = "troupe_session"
REMEMBERED: Final = 1.5
"""Seconds; with the time that an answer takes it stays below the promised 2."""
MAX_REMEMBERED: Final = 4096
AHEAD: Final = 500 * MILLISECONDS
"""Before its end, a credential in use is looked up again."""
MOST_AHEAD: Final = 128
"""Credentials that are looked up so at a time; those beyond are when somebody asks."""
AT_ONCE_AHEAD: Final = 2
"""Connections that this takes."""

Resolved = ResolvedSession | ResolvedToken | ResolvedSubject
Kind = Literal["session", "token", "subject"]


@dataclass(frozen=True, slots=True)
class CookiePolicy:
    """How cookies are named and marked under one public URL.

    Attributes:
        session: Name of the session's cookie.
        binding: Name of the cookie that ties a login to its browser.
        secure: Whether they travel over https only.
    """

    session: str
    binding: str
    secure: bool

    @property
    def logout(self) -> str:
        """Name of the cookie that ties the way back from a provider's logout to its browser."""
        return self.binding.removesuffix("login") + "logout"

    @classmethod
    def under(cls, public_url: str) -> "CookiePolicy":
        """The policy for the URL under which browsers reach us.

        Raises:
            ConfigurationError: Plain http to a host that is not this one.
        """
        parts = urlsplit(public_url)
        if parts.scheme == "https":
            return cls(SESSION_COOKIE, "__Host-troupe_login", secure=True)
        if parts.scheme != "http" or not _is_loopback(parts.hostname or ""):
            raise ConfigurationError(
                f"auth.public_url: {public_url!r} must be an https URL; "
                "plain http is for loopback only"
            )
        return cls(LOOPBACK_SESSION_COOKIE, "troupe_login", secure=False)

    def set(self, response: Response, name: str, value: str, seconds: float) -> None:
        """Give the browser a cookie that scripts cannot read and other sites cannot send."""
        response.set_cookie(
            name,
            value,
            max_age=int(seconds),
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="Lax",
        )

    def clear(self, response: Response, name: str) -> None:
        """Take a cookie away."""
        response.delete_cookie(name, path="/", secure=self.secure, httponly=True, samesite="Lax")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True, slots=True)
class ResolvedPrincipal(Principal):
    """A principal with what only the auth group's own routes need.

    Attributes:
        credential_id: Of the session or the token; of the person for a provider's token, which has
            no identifier that is ours.
        vouched: Whether an identity provider vouches for a person: a session, or its own token.
        expires_at: None for a token without expiry.
        memberships: Every tenant that accepts the credentials.
        email: Of the person; empty for a token.
    """

    credential_id: UUID = field(kw_only=True)
    expires_at: datetime | None = field(kw_only=True)
    memberships: tuple[Membership, ...] = field(kw_only=True)
    email: str = field(kw_only=True, default="")
    vouched: bool = field(kw_only=True, default=False)


@dataclass(slots=True)
class _LookUp:
    """One that is under way; whoever else needs it waits for `done`."""

    done: trio.Event = field(default_factory=trio.Event)
    answered: bool = False
    forgotten: bool = False
    found: Resolved | None = None


_Ask = Callable[[], Awaitable[Resolved | None]]


@dataclass(slots=True)
class _Known:
    """A credential that is remembered.

    Attributes:
        resolved: What it is.
        bearer: The principal of whoever has nothing but this token of ours; None: it is none.
        good_until: On trio's clock.
        ask: Looks it up again.
        used: Since it was looked up.
    """

    resolved: Resolved
    bearer: ResolvedPrincipal | None
    good_until: float
    ask: _Ask
    used: bool = False


def who_acts(principal: Principal) -> Who:
    """Who is acting, for the audit log: a person, also by their provider's token, or our token."""
    if isinstance(principal, ResolvedPrincipal) and not principal.vouched:
        return "token", principal.credential_id
    if isinstance(principal, ResolvedPrincipal) or principal.kind == "session":
        return "user", principal.subject_id
    return "token", principal.subject_id


class Credentials:
    """The `CredentialResolver` over PostgreSQL. One per group.

    Args:
        database: The group's pool.
        provider_tokens: Reads access tokens of identity providers; None: none is good.
        capacity: Credentials remembered; beyond it the least recently used is forgotten.
    """

    def __init__(
        self,
        database: Database,
        *,
        provider_tokens: ProviderTokens | None = None,
        capacity: int = MAX_REMEMBERED,
    ) -> None:
        self._database = database
        self._provider_tokens = provider_tokens
        self._capacity = capacity
        self._remembered: OrderedDict[bytes, _Known] = OrderedDict()
        self._under_way: dict[bytes, _LookUp] = {}

    async def resolve(
        self, bearer: str | None, session_cookie: str | None, requested_tenant: UUID | None
    ) -> Principal | None:
        """See `CredentialResolver.resolve`."""
        if bearer is not None and not bearer.startswith(access_tokens.PREFIX):
            return await self._resolve_provider_token(bearer, requested_tenant)
        if bearer is not None:
            token = await self._found(
                "token", bearer, lambda: access_tokens.resolve_token(self._database, bearer)
            )
            return _of_token(token, requested_tenant) if isinstance(token, ResolvedToken) else None
        if session_cookie is None:
            return None
        session = await self._found(
            "session",
            session_cookie,
            lambda: sessions.resolve_session(self._database, session_cookie),
        )
        if not isinstance(session, ResolvedSession):
            return None
        return _of_session(session, session_cookie, requested_tenant)

    def recall_token(self, bearer: str) -> Principal | None:
        """Whom a token belongs to, if that is remembered and still good; asks nobody."""
        known = self._recall(_key("token", bearer))
        return None if known is None else known.bearer

    async def _resolve_provider_token(
        self, bearer: str, requested: UUID | None
    ) -> Principal | None:
        tokens = self._provider_tokens
        if tokens is None:
            return None
        # Where an opaque token is asked for depends on the tenant, so what is remembered does too.
        subject = await self._found(
            "subject", f"{requested}:{bearer}", lambda: tokens.resolve(bearer, requested)
        )
        return _of_subject(subject, requested) if isinstance(subject, ResolvedSubject) else None

    def forget(self, kind: Kind, secret: str) -> None:
        """Stop accepting a credential that this process has just ended, at once."""
        key = _key(kind, secret)
        self._remembered.pop(key, None)
        if key in self._under_way:
            self._under_way[key].forgotten = True

    async def look_ahead(self) -> NoReturn:
        """Look up what is in use before it must not be used any more, until cancelled."""
        room = trio.Semaphore(AT_ONCE_AHEAD)

        async def again(key: bytes, ask: _Ask) -> None:
            async with room:
                if key in self._under_way:
                    return
                with suppress(TroupeError):  # whoever asks is told
                    await self._look_up(key, ask)

        while True:
            await trio.sleep(AHEAD / 2)
            now = trio.current_time()
            self._drop_lapsed(now)
            due = (
                (key, known.ask)
                for key, known in self._remembered.items()
                if known.used and now < known.good_until <= now + AHEAD
            )
            async with trio.open_nursery() as nursery:
                for key, ask in islice(due, MOST_AHEAD):
                    nursery.start_soon(again, key, ask)

    async def _found(self, kind: Kind, secret: str, ask: _Ask) -> Resolved | None:
        key = _key(kind, secret)
        while True:
            remembered = self._recall(key)
            if remembered is not None:
                return remembered.resolved
            waiting = self._under_way.get(key)
            if waiting is None:
                return await self._look_up(key, ask)
            await waiting.done.wait()
            if waiting.answered:
                return waiting.found

    async def _look_up(self, key: bytes, ask: _Ask) -> Resolved | None:
        good_until = trio.current_time() + REMEMBERED
        mine = self._under_way[key] = _LookUp()
        try:
            mine.found = await ask()
            mine.answered = True
        finally:
            # Failed or cancelled: one of those who wait tries for itself.
            del self._under_way[key]
            mine.done.set()
        if mine.found is None:
            self._remembered.pop(key, None)
        elif not mine.forgotten:
            token = mine.found if isinstance(mine.found, ResolvedToken) else None
            bearer = None if token is None else _of_token(token, None)
            self._remembered[key] = _Known(mine.found, bearer, good_until, ask)
            while len(self._remembered) > self._capacity:
                self._remembered.popitem(last=False)
        self._drop_lapsed(trio.current_time())
        return mine.found

    def _drop_lapsed(self, now: float) -> None:
        """Let go of what is not good any more, least recently used first: `ask` has a secret."""
        while self._remembered and next(iter(self._remembered.values())).good_until <= now:
            self._remembered.popitem(last=False)

    def _recall(self, key: bytes) -> _Known | None:
        known = self._remembered.get(key)
        if known is None:
            return None
        expires = known.resolved.expires_at
        if trio.current_time() >= known.good_until or (
            expires is not None and expires <= datetime.now(UTC)
        ):
            del self._remembered[key]
            return None
        known.used = True
        self._remembered.move_to_end(key)
        return known


@asynccontextmanager
async def looking_ahead(credentials: Credentials) -> AsyncGenerator[Credentials]:
    """The same, which look ahead while the context is open."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(credentials.look_ahead)
        yield credentials
        nursery.cancel_scope.cancel()


def _key(kind: str, secret: str) -> bytes:
    return hashlib.sha256(f"{kind}:{secret}".encode()).digest()


def _of_token(token: ResolvedToken, requested: UUID | None) -> ResolvedPrincipal:
    if requested is not None and requested != token.tenant_id:
        raise Forbidden("The token does not reach the tenant that X-Tenant-Id names.")
    return ResolvedPrincipal(
        kind="token",
        subject_id=token.created_by or token.token_id,
        tenant_id=token.tenant_id,
        role=Role.named(token.role),
        scopes=token.scopes,
        name=token.name,
        credential_id=token.token_id,
        expires_at=token.expires_at,
        memberships=(Membership(token.tenant_id, token.tenant_name, token.role),),
    )


def _of_subject(subject: ResolvedSubject, requested: UUID | None) -> ResolvedPrincipal:
    if requested is None and len(subject.memberships) > 1:
        raise Forbidden("The token is good in several tenants; X-Tenant-Id must name one.")
    membership = subject.memberships[0] if requested is None else subject.membership(requested)
    if membership is None:
        raise Forbidden("The token does not reach the tenant that X-Tenant-Id names.")
    return ResolvedPrincipal(
        kind="token",
        subject_id=subject.user_id,
        tenant_id=membership.tenant_id,
        role=Role.named(membership.role),
        scopes=subject.scopes,
        name=subject.name,
        credential_id=subject.user_id,
        expires_at=subject.expires_at,
        memberships=subject.memberships,
        email=subject.email,
        vouched=True,
    )


def _of_session(
    session: ResolvedSession, cookie: str, requested: UUID | None
) -> ResolvedPrincipal | None:
    if requested is not None:
        membership = session.membership(requested)
        if membership is None:
            raise Forbidden("You do not belong to the tenant that X-Tenant-Id names.")
    else:
        membership = session.active
    if membership is None:
        return None
    return ResolvedPrincipal(
        kind="session",
        subject_id=session.user_id,
        tenant_id=membership.tenant_id,
        role=Role.named(membership.role),
        scopes=frozenset(),
        name=session.name,
        csrf_token=sessions.csrf_token(cookie),
        credential_id=session.session_id,
        expires_at=session.expires_at,
        memberships=session.memberships,
        email=session.email,
        vouched=True,
    )
