"""Signing: one RSA key per run of the provider, and the ID tokens made with it."""

import base64
import hashlib
import time
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from troupe.common.units import MINUTES
from troupe_demo.oidc.memory import Grant
from troupe_demo.oidc.settings import User

ALGORITHM: Final = "RS256"
_KEY_BITS: Final = 2048
_ID_TOKEN_LIFETIME: Final = int(5 * MINUTES)


def half_hash(value: str) -> str:
    """OpenID's ``at_hash``: the left half of the SHA-256, in base64url."""
    digest = hashlib.sha256(value.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def challenge_of(verifier: str) -> str:
    """PKCE's S256: base64url of the SHA-256."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Signer:
    """The provider's key.

    Args:
        issuer: URL without a trailing slash.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self._key = RSAKey.generate_key(
            _KEY_BITS, {"use": "sig", "alg": ALGORITHM}, private=True, auto_kid=True
        )

    def key_set(self) -> dict[str, list[dict[str, Any]]]:
        """The public part, as a JWK set."""
        return {"keys": [dict(self._key.as_dict(private=False))]}

    def id_token(self, grant: Grant, user: User, access_token: str) -> str:
        """An ID token for the grant's client."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": user.sub,
            "aud": grant.request.client_id,
            "iat": now,
            "exp": now + _ID_TOKEN_LIFETIME,
            "auth_time": grant.login.authenticated_at,
            "sid": grant.login.sid,
            "at_hash": half_hash(access_token),
            **user.claims(grant.request.scopes),
        }
        if grant.request.nonce is not None:
            claims["nonce"] = grant.request.nonce
        return jwt.encode(
            {"alg": ALGORITHM, "kid": self._key.kid}, claims, self._key, algorithms=[ALGORITHM]
        )

    def read_hint(self, token: str) -> dict[str, Any] | None:
        """Claims of an ID token that this provider has signed, expired or not; None otherwise."""
        try:
            claims = jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError):
            return None
        return dict(claims) if claims.get("iss") == self.issuer else None
