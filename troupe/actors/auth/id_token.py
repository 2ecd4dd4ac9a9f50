"""Whether an ID token proves what a login needs: this person, from this issuer, for us, now.

OpenID Connect Core 3.1.3.7, read strictly. Every check fails closed: a claim that is missing, of
another type or ambiguous is a refusal, never a default. A further audience is refused: we trust
none, and nobody else should hold a token that is good for us.

One that comes with a refresh (Core 12.2) belongs to no login any more, so it needs no nonce, but it
must be about the person whose session is refreshed.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from troupe.actors.auth.errors import TokenInvalid
from troupe.actors.auth.keys import IssuerKeys
from troupe.actors.auth.signed_token import (
    CLOCK_SKEW,
    ID_TOKEN,
    MAX_TOKEN_BYTES,
    read_header,
    require_issuer,
    require_times,
    same,
    subject_of,
    verified,
)
from troupe.common.units import MINUTES

__all__ = ["CLOCK_SKEW", "MAX_AGE", "MAX_TOKEN_BYTES", "Expectations", "check"]

MAX_AGE: Final = 10 * MINUTES
"""Seconds since `iat` after which a token that was just handed out is too old."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the token must say.

    Attributes:
        issuer: Exactly.
        client_id: The only audience.
        algorithms: Pinned for the issuer.
        nonce: Of this login; None after a refresh, when `subject` takes its place.
        access_token: That came with it, for ``at_hash``.
        now: Seconds since 1970.
        subject: Whom it must be about; None when that is what we want to know.
    """

    issuer: str
    client_id: str
    algorithms: frozenset[str]
    nonce: str | None
    access_token: str
    now: float
    subject: str | None = None


def check(token: str, keys: IssuerKeys, expected: Expectations) -> dict[str, Any]:
    """The claims of a token that holds.

    Raises:
        UnknownKey: The keys at hand lack the one that signed it; newer ones may have it.
        TokenInvalid: It does not hold.
    """
    claims = verified(token, ID_TOKEN, keys, expected.algorithms)
    judge(token, claims, expected)
    return claims


def judge(token: str, claims: Mapping[str, Any], expected: Expectations) -> None:
    """Refuse verified claims that do not say what they must.

    Args:
        token: Whose they are.
        claims: Its signature holds.
        expected: What they must say.

    Raises:
        TokenInvalid: They do not.
    """
    _check_parties(claims, expected)
    require_times(claims, expected.now, MAX_AGE, ID_TOKEN)
    if expected.nonce is not None and not same(claims.get("nonce"), expected.nonce):
        raise TokenInvalid("The ID token belongs to another login (nonce).")
    _check_at_hash(claims, expected.access_token, read_header(token, ID_TOKEN).algorithm)


def _check_parties(claims: Mapping[str, Any], expected: Expectations) -> None:
    require_issuer(claims, expected.issuer, ID_TOKEN)
    audience = claims.get("aud")
    if audience not in (expected.client_id, [expected.client_id]):
        raise TokenInvalid("The ID token is not for this application alone (aud).")
    if "azp" in claims and not same(claims["azp"], expected.client_id):
        raise TokenInvalid("The ID token was issued to another application (azp).")
    subject = subject_of(claims, ID_TOKEN)
    if expected.subject is not None and not same(subject, expected.subject):
        raise TokenInvalid("The ID token is about somebody else (sub).")


def _check_at_hash(claims: Mapping[str, Any], access_token: str, algorithm: str) -> None:
    if "at_hash" not in claims:
        return
    digest = hashlib.new(f"sha{algorithm[2:]}", access_token.encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if not same(claims["at_hash"], half):
        raise TokenInvalid("The ID token does not belong to its access token (at_hash).")
