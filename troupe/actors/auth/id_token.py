"""Whether an ID token proves what a login needs: this person, from this issuer, for us, now.

OpenID Connect Core 3.1.3.7, RFC 8725 and RFC 7515, read strictly. Every check fails closed: a claim
that is missing, of another type or ambiguous is a refusal, never a default. The messages say which
check failed, without any value of the token.

The order matters: size before decoding, the header before the signature, the signature before the
claims. Of the header only ``alg`` and ``kid`` are believed, and ``alg`` must be one that is pinned
for the issuer. A further audience is refused: we trust none, and nobody else should hold a token
that is good for us.
"""

import base64
import binascii
import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from troupe.actors.auth.errors import IdTokenInvalid
from troupe.actors.auth.keys import IssuerKeys
from troupe.common.units import MINUTES, SECONDS, KiB

MAX_TOKEN_BYTES: Final = 16 * KiB
CLOCK_SKEW: Final = 60 * SECONDS
MAX_AGE: Final = 10 * MINUTES
"""Seconds since `iat` after which a token from a code that was just redeemed is too old."""
MAX_SUBJECT: Final = 255


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the token must say.

    Attributes:
        issuer: Exactly.
        client_id: The only audience.
        algorithms: Pinned for the issuer.
        nonce: Of this login.
        access_token: That came with it, for ``at_hash``.
        now: Seconds since 1970.
    """

    issuer: str
    client_id: str
    algorithms: frozenset[str]
    nonce: str
    access_token: str
    now: float


@dataclass(frozen=True, slots=True)
class Header:
    """What is believed of a token's header.

    Attributes:
        algorithm: One of the pinned ones.
        kid: Name of the key, if given.
    """

    algorithm: str
    kid: str | None


def read_header(token: str, algorithms: frozenset[str]) -> Header:
    """The header, before anything is verified.

    Raises:
        IdTokenInvalid: Not a signed JWT of acceptable size, form and algorithm.
    """
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise IdTokenInvalid("The ID token is too large or malformed.")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise IdTokenInvalid("The ID token is not signed as needed.")
    header = _json_object(parts[0], "header")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise IdTokenInvalid("The ID token is signed with another algorithm than agreed.")
    if kid is not None and not isinstance(kid, str):
        raise IdTokenInvalid("The ID token's key id is malformed.")
    for name in ("crit", "zip", "b64"):
        if name in header:
            raise IdTokenInvalid(f"The ID token's header asks for {name}, which is not supported.")
    if str(header.get("typ", "JWT")).upper() != "JWT":
        raise IdTokenInvalid("The ID token is of another type.")
    return Header(algorithm, kid)


def check(token: str, keys: IssuerKeys, expected: Expectations) -> dict[str, Any]:
    """The claims of a token that holds.

    Raises:
        UnknownKey: The keys at hand lack the one that signed it; newer ones may have it.
        IdTokenInvalid: It does not hold.
    """
    header = read_header(token, expected.algorithms)
    key = keys.find(header.kid, header.algorithm)
    registry = JWSRegistry(algorithms=[header.algorithm], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = MAX_TOKEN_BYTES
    try:
        jws.deserialize_compact(token, key, registry=registry)
    except (JoseError, ValueError):
        raise IdTokenInvalid("The ID token's signature does not hold.") from None
    claims = _json_object(token.split(".")[1], "claims")
    _check_parties(claims, expected)
    _check_times(claims, expected.now)
    if not _same(claims.get("nonce"), expected.nonce):
        raise IdTokenInvalid("The ID token belongs to another login (nonce).")
    _check_at_hash(claims, expected.access_token, header.algorithm)
    return claims


def _check_parties(claims: Mapping[str, Any], expected: Expectations) -> None:
    if not _same(claims.get("iss"), expected.issuer):
        raise IdTokenInvalid("The ID token is from another issuer.")
    audience = claims.get("aud")
    if audience not in (expected.client_id, [expected.client_id]):
        raise IdTokenInvalid("The ID token is not for this application alone (aud).")
    if "azp" in claims and not _same(claims["azp"], expected.client_id):
        raise IdTokenInvalid("The ID token was issued to another application (azp).")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
        raise IdTokenInvalid("The ID token does not say who it is about (sub).")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    expires, issued = _instant(claims, "exp"), _instant(claims, "iat")
    if expires is None or expires <= now - CLOCK_SKEW:
        raise IdTokenInvalid("The ID token has expired or has no expiry.")
    if issued is None or not now - MAX_AGE - CLOCK_SKEW <= issued <= now + CLOCK_SKEW:
        raise IdTokenInvalid("The ID token was not issued just now, or the clocks differ.")
    if "nbf" in claims:
        begins = _instant(claims, "nbf")
        if begins is None or begins > now + CLOCK_SKEW:
            raise IdTokenInvalid("The ID token is not valid yet.")


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _check_at_hash(claims: Mapping[str, Any], access_token: str, algorithm: str) -> None:
    if "at_hash" not in claims:
        return
    digest = hashlib.new(f"sha{algorithm[2:]}", access_token.encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if not _same(claims["at_hash"], half):
        raise IdTokenInvalid("The ID token does not belong to its access token (at_hash).")


def _same(given: object, expected: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode(), expected.encode())


def _json_object(part: str, what: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        value = json.loads(raw, object_pairs_hook=_no_duplicates)
    except (binascii.Error, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise IdTokenInvalid(f"The ID token's {what} cannot be read.")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a member twice")
    return value
