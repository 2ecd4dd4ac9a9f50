"""What protects every route, whichever group it belongs to.

Headers: every answer, also an error made before routing, carries the same set. The default content
policy allows nothing at all, because an API answer needs nothing; pages get `page_policy`, which
allows our own origin only and neither inline script nor inline style.

Cross-site requests: a cookie travels by itself, so an unsafe method under a session needs two
proofs: the session's CSRF token in a header, which another site cannot read, and an ``Origin`` that
is ours, which another site cannot forge. A bearer token does not travel by itself and needs none.

Cross-origin reading: from a fixed list of origins, never ``*``, never an echo of what was asked.

Rates: token buckets in the memory of this process. Authenticated callers are counted per subject
and per tenant; an address pays for its requests to public routes and for its failed
authentications, and when it has spent its rate on those nobody behind it is authenticated for a
moment. A request that its subject's rate refuses costs its tenant nothing, so one member who runs
wild does not lock out the others. With N processes a caller gets up to N times the rate: a bound,
not a bill. The least recently seen are forgotten beyond a fixed number, so a flood of addresses
costs no memory. The ``RateLimit`` headers name every policy that was looked at.
"""

import hmac
import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

import trio
from werkzeug.datastructures import Headers

from troupe.common.errors import Forbidden, InvalidInput, TooManyRequests, Unauthenticated
from troupe.common.logs import note_in_context
from troupe.common.units import MINUTES
from troupe.http.principal import (
    CSRF_HEADER,
    SESSION_COOKIE,
    TENANT_HEADER,
    Access,
    CredentialResolver,
    Principal,
    Role,
)
from troupe.http.request import Client, Request

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_TOKEN_CHARACTERS: Final = 8192

NOTHING_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The content policy of an answer that is not a page."""

RATE_HEADERS: Final = ("RateLimit-Policy", "RateLimit")

_FIXED_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def page_policy(*, connect: Sequence[str] = (), forms: Sequence[str] = ()) -> str:
    """A content policy for our own pages: our own files only, nothing inline.

    Args:
        connect: Further origins that scripts may call (the other two ports).
        forms: Further origins that forms may be sent to.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            "manifest-src 'self'",
            "frame-src 'self'",
            " ".join(("connect-src 'self'", *connect)),
            " ".join(("form-action 'self'", *forms)),
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def fixed_headers(policy: str) -> dict[str, str]:
    """What every answer carries, with the given content policy."""
    return {**_FIXED_HEADERS, "Content-Security-Policy": policy, "Cache-Control": "no-store"}


def apply_security_headers(headers: Headers, *, policy: str, secure: bool) -> None:
    """Complete an answer's headers; what the handler has set already stays.

    Args:
        headers: Of the answer; changed in place.
        policy: The content policy to use unless the answer brings its own.
        secure: Whether the browser reached us over TLS.
    """
    given = {name.lower() for name in headers.keys()}  # noqa: SIM118 - iterating gives pairs
    for name, value in fixed_headers(policy).items():
        if name.lower() not in given:
            headers.add(name, value)
    if secure and "strict-transport-security" not in given:
        headers.add("Strict-Transport-Security", "max-age=31536000")


@dataclass(frozen=True, slots=True)
class Cors:
    """Which other origins may read our answers.

    Attributes:
        origins: Exact origins (``https://dashboard.example``), scheme and port included.
    """

    origins: frozenset[str] = frozenset()

    _METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
    _REQUEST_HEADERS = (
        "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
        f"Last-Event-ID, X-Request-Id, {CSRF_HEADER}, {TENANT_HEADER}"
    )
    _ANSWER_HEADERS = "ETag, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"

    def is_preflight(self, request: Request) -> bool:
        """Whether a browser is asking for permission before the real request."""
        return (
            request.method == "OPTIONS"
            and "Origin" in request.headers
            and "Access-Control-Request-Method" in request.headers
        )

    def apply(self, request: Request, headers: Headers, *, preflight: bool) -> None:
        """Add the permission to an answer when the asking origin is on the list."""
        headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is None or origin not in self.origins:
            return
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Allow-Credentials"] = "true"
        if preflight:
            headers["Access-Control-Allow-Methods"] = self._METHODS
            headers["Access-Control-Allow-Headers"] = self._REQUEST_HEADERS
            headers["Access-Control-Max-Age"] = "600"
        else:
            headers["Access-Control-Expose-Headers"] = self._ANSWER_HEADERS


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests per window, of which `burst` may come at once.

    Attributes:
        requests: Per window, on average.
        window: Seconds.
        burst: Size of the bucket.
    """

    requests: int
    window: float = 1 * MINUTES
    burst: int = 0

    @property
    def size(self) -> int:
        """Tokens in a full bucket."""
        return self.burst or self.requests

    @property
    def per_second(self) -> float:
        """Tokens that flow in."""
        return self.requests / self.window


class Verdict(NamedTuple):
    """What one look at a bucket said.

    Attributes:
        allowed: Whether there was a token.
        remaining: Whole tokens left.
        reset: Seconds until the bucket is full again.
        retry_after: Seconds until the next token; 0 when there is one.
    """

    allowed: bool
    remaining: int
    reset: float
    retry_after: float


class TokenBuckets:
    """One bucket per key, in bounded memory.

    Args:
        name: Of the policy, as the ``RateLimit`` headers call it.
        rate: How fast buckets fill.
        capacity: Keys remembered; beyond it the least recently seen is forgotten.
    """

    def __init__(self, name: str, rate: Rate, *, capacity: int = 10_000) -> None:
        self.name = name
        self.rate = rate
        self._policy = f'"{name}";q={rate.requests};w={math.ceil(rate.window)}'
        self._capacity = capacity
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def has(self, key: Hashable, now: float) -> bool:
        """Whether there is a token in the key's bucket; nothing is taken."""
        return key not in self._levels or self._level(key, now) >= 1

    def take(self, key: Hashable, now: float, tokens: int = 1) -> Verdict:
        """Take `tokens` from the key's bucket if they are there; 0 only looks.

        Args:
            key: Whose bucket.
            now: Seconds on any monotonic clock.
            tokens: How many.
        """
        level = self._level(key, now)
        allowed = level >= max(tokens, 1)
        if allowed:
            level -= tokens
        self._levels[key] = (level, now)
        self._levels.move_to_end(key)
        while len(self._levels) > self._capacity:
            self._levels.popitem(last=False)
        return Verdict(
            allowed=allowed,
            remaining=int(level),
            reset=(self.rate.size - level) / self.rate.per_second,
            retry_after=0.0 if allowed else (max(tokens, 1) - level) / self.rate.per_second,
        )

    def _level(self, key: Hashable, now: float) -> float:
        level, seen = self._levels.get(key, (float(self.rate.size), now))
        return min(self.rate.size, level + (now - seen) * self.rate.per_second)

    def headers(self, verdict: Verdict) -> tuple[str, str]:
        """``RateLimit-Policy`` and ``RateLimit`` for an answer."""
        left = f'"{self.name}";r={verdict.remaining};t={math.ceil(verdict.reset)}'
        return self._policy, left


class Guard:
    """Decides whether a request may reach its handler, and as whom.

    Args:
        resolver: Turns credentials into principals; None for an application whose routes are all
            public.
        own_origins: Where browsers reach this application; empty: the request's own host.
        cors: Other origins that may send unsafe requests with a cookie.
        principal_rate: Of one authenticated subject.
        tenant_rate: Of all subjects of one tenant together.
        address_rate: Of one address, for public routes and failed authentication.
        session_cookie: Name of the cookie that carries a session.
    """

    def __init__(
        self,
        resolver: CredentialResolver | None,
        *,
        own_origins: frozenset[str],
        cors: Cors,
        principal_rate: Rate,
        tenant_rate: Rate,
        address_rate: Rate,
        session_cookie: str = SESSION_COOKIE,
    ) -> None:
        self._resolver = resolver
        self.session_cookie = session_cookie
        self._own_origins = own_origins
        self._cors = cors
        self._subjects = TokenBuckets("subject", principal_rate)
        self._tenants = TokenBuckets("tenant", tenant_rate)
        self._addresses = TokenBuckets("address", address_rate)

    @property
    def can_authenticate(self) -> bool:
        """Whether routes may require credentials."""
        return self._resolver is not None

    def admit_anyone(self, request: Request) -> None:
        """Count a request to a public route.

        Raises:
            TooManyRequests: The address has used up its rate.
        """
        self._count(self._addresses, request.client.key, request)

    async def admit(self, request: Request, requires: Role | Access, scope: str) -> Principal:
        """Authenticate and authorise.

        Raises:
            Unauthenticated: No valid credentials.
            Forbidden: Valid ones, but not for this tenant, role, scope, or without CSRF proof.
            TooManyRequests: The subject, its tenant, or an address that keeps failing, is over its
                rate.
        """
        address = request.client.key
        self._count(self._addresses, address, request, tokens=0, told=False)
        principal = await self._authenticate(request)
        if principal is None:
            self._count(self._addresses, address, request)
            raise Unauthenticated(
                "The request carries no valid credentials.",
                presented="Authorization" in request.headers,
            )
        request.principal = principal
        note_in_context(tenant_id=principal.tenant_id)
        self._count(self._subjects, principal.subject_id.int, request)
        self._count(self._tenants, principal.tenant_id.int, request)
        if principal.kind == "session" and request.method not in SAFE_METHODS:
            self._check_csrf(request, principal)
        if requires is Access.SIGNED_IN:
            return principal
        if isinstance(requires, Role) and principal.role < requires:
            raise Forbidden(
                f"This needs the role {requires.label}; you are {principal.role.label}."
            )
        if not principal.has_scope(scope):
            raise Forbidden(f"The token lacks the scope {scope}.")
        return principal

    def admit_known(
        self, principal: Principal, client: Client, requires: Role | Access, scope: str
    ) -> tuple[str, str] | None:
        """Admit the bearer of a token that is known already, exactly where `admit` would.

        Returns:
            ``RateLimit-Policy`` and ``RateLimit``; None, without having counted anything, where
            `admit` has to decide.
        """
        now = trio.current_time()
        if principal.kind != "token" or not self._addresses.has(client.key, now):
            return None
        if isinstance(requires, Role):
            if principal.role < requires or not principal.has_scope(scope):
                return None
        elif requires is not Access.SIGNED_IN:
            return None
        subject, tenant = principal.subject_id.int, principal.tenant_id.int
        if not self._tenants.has(tenant, now):
            return None
        taken = self._subjects.take(subject, now)
        if not taken.allowed:
            return None
        policy, left = self._subjects.headers(taken)
        more_policy, more_left = self._tenants.headers(self._tenants.take(tenant, now))
        return f"{policy}, {more_policy}", f"{left}, {more_left}"

    async def _authenticate(self, request: Request) -> Principal | None:
        if self._resolver is None:
            return None
        bearer = bearer_of(request.headers.get("Authorization"))
        cookie = None if bearer is not None else request.cookies.get(self.session_cookie)
        if bearer is None and not cookie:
            return None
        if len(bearer or cookie or "") > MAX_TOKEN_CHARACTERS:
            return None
        requested = requested_tenant_of(request.headers.get(TENANT_HEADER))
        principal = await self._resolver.resolve(bearer, cookie or None, requested)
        if principal is not None and requested not in {None, principal.tenant_id}:
            raise Forbidden("You do not belong to the tenant that X-Tenant-Id names.")
        return principal

    def _check_csrf(self, request: Request, principal: Principal) -> None:
        given = request.headers.get(CSRF_HEADER, "")
        expected = principal.csrf_token or ""
        if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
            raise Forbidden(f"The session's CSRF token is missing or wrong ({CSRF_HEADER}).")
        origin = request.headers.get("Origin")
        if origin is None:
            same_origin = request.headers.get("Sec-Fetch-Site") == "same-origin"
        else:
            ours = self._own_origins or {f"{request.client.scheme}://{request.host}"}
            same_origin = origin in ours or origin in self._cors.origins
        if not same_origin:
            raise Forbidden("The request comes from another site.")

    @staticmethod
    def _count(
        buckets: TokenBuckets,
        key: Hashable,
        request: Request,
        tokens: int = 1,
        *,
        told: bool = True,
    ) -> None:
        verdict = buckets.take(key, trio.current_time(), tokens)
        if told or not verdict.allowed:
            told_as = zip(RATE_HEADERS, buckets.headers(verdict), strict=True)
            for name, value in told_as:
                before = request.after_answer.get(name)
                request.after_answer[name] = f"{before}, {value}" if before else value
        if not verdict.allowed:
            raise TooManyRequests(
                "Too many requests; slow down.", retry_after=max(1.0, verdict.retry_after)
            )


def bearer_of(header: str | None) -> str | None:
    """The token of an ``Authorization`` header; None without the header.

    Raises:
        Unauthenticated: The header is there but is not ``Bearer <token>``.
    """
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or not token.isascii():
        raise Unauthenticated("Authorization must read: Bearer <token>.")
    return token


def requested_tenant_of(header: str | None) -> UUID | None:
    """The tenant that ``X-Tenant-Id`` names, if any.

    Raises:
        InvalidInput: It is not a UUID.
    """
    if header is None:
        return None
    try:
        return UUID(header)
    except ValueError:
        raise InvalidInput(
            "X-Tenant-Id is not a tenant's identifier.",
            [(f"header:{TENANT_HEADER}", "must be a UUID")],
        ) from None
