"""Whether a logout token says that sessions of ours are over (OpenID Back-Channel Logout, 2.6).

It arrives from outside without any browser, and anybody may send one: what ends sessions is the
provider's signature alone. So it is read as strictly as an ID token, and it must be none: it holds
an event and no nonce.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from troupe.actors.auth.errors import TokenInvalid
from troupe.actors.auth.signed_token import (
    CLOCK_SKEW,
    LOGOUT_TOKEN,
    audiences_of,
    claims_of,
    require_issuer,
    require_times,
    storable,
    subject_of,
)
from troupe.common.units import MINUTES

EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
MAX_AGE: Final = 5 * MINUTES
MAX_ISSUER: Final = 500
MAX_NAME: Final = 255
REMEMBERED: Final = MAX_AGE + 2 * CLOCK_SKEW
"""Seconds for which an obeyed token must be remembered: longer than it can be good."""


@dataclass(frozen=True, slots=True)
class Logout:
    """Which sessions are over.

    Attributes:
        subject: Of this person; None: of whoever has the session `sid`.
        sid: This one of the provider's; None: all of the person's.
        token_hash: Names the token, so that it is obeyed once.
    """

    subject: str | None
    sid: str | None
    token_hash: bytes


def sender_of(token: str) -> tuple[str, str]:
    """Issuer and audience that a token claims, before anything is verified.

    Raises:
        TokenInvalid: It does not name one of each.
    """
    claims = claims_of(token, LOGOUT_TOKEN)
    issuer, audiences = claims.get("iss"), audiences_of(claims)
    if not isinstance(issuer, str) or not 0 < len(issuer) <= MAX_ISSUER or not storable(issuer):
        raise TokenInvalid("The logout token does not say who sent it (iss).")
    if len(audiences) != 1 or len(audiences[0]) > MAX_ISSUER:
        raise TokenInvalid("The logout token is not for this application alone (aud).")
    return issuer, audiences[0]


def read(claims: Mapping[str, Any], issuer: str, client_id: str, now: float) -> Logout:
    """What verified claims ask for.

    Args:
        claims: Their signature holds.
        issuer: Whose keys it holds under.
        client_id: What we are there.
        now: Seconds since 1970.

    Raises:
        TokenInvalid: They are not a logout token's.
    """
    require_issuer(claims, issuer, LOGOUT_TOKEN)
    if audiences_of(claims) != (client_id,):
        raise TokenInvalid("The logout token is not for this application alone (aud).")
    require_times(claims, now, MAX_AGE, LOGOUT_TOKEN)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise TokenInvalid("The logout token does not tell of a logout (events).")
    if "nonce" in claims:
        raise TokenInvalid("The logout token holds a nonce, as only ID tokens do.")
    name = _name(claims, "jti")
    if name is None:
        raise TokenInvalid("The logout token has no name (jti).")
    sid = _name(claims, "sid")
    subject = subject_of(claims, LOGOUT_TOKEN) if "sub" in claims else None
    if subject is None and sid is None:
        raise TokenInvalid("The logout token names neither a person nor a session.")
    digest = hashlib.sha256(f"{len(issuer)} {issuer} {name}".encode()).digest()
    return Logout(subject, sid, digest)


def _name(claims: Mapping[str, Any], claim: str) -> str | None:
    if claim not in claims:
        return None
    value = claims[claim]
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise TokenInvalid(f"The logout token's {claim} is malformed.")
    return value
