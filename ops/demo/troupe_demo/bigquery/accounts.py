"""Service accounts: who may ask, and the tokens that say so.

Google's clients sign a short JWT with the account's private key and exchange it at the key file's
``token_uri`` for an access token. The stand-in does the other half: it keeps the public key of
every account it made, beside the project's data, and lets nobody in without a signature by the
private one. An account belongs to one project and sees that project alone. Removing its
registration file revokes the key; tokens already given live on for at most an hour, as they do at
Google.
"""

import base64
import hmac
import json
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from troupe.common.units import HOURS, MINUTES
from troupe_demo.bigquery.errors import BigQueryError

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_LIFETIME: Final = 1 * HOURS
# Google's library writes this whatever the key file's token_uri says.
_GOOGLES_AUDIENCE: Final = "https://oauth2.googleapis.com/token"
_SKEW: Final = 5 * MINUTES
_KEPT_TOKENS: Final = 10_000
_MAX_ASSERTION: Final = 16_384  # characters
_KEY_BITS: Final = 2048
_SCOPES: Final = frozenset(
    f"https://www.googleapis.com/auth/{name}"
    for name in ("bigquery", "bigquery.readonly", "cloud-platform", "cloud-platform.read-only")
)


def create_service_account(root: Path, project: str, token_uri: str) -> dict[str, Any]:
    """Make an account for ``project`` and register its public key.

    Args:
        root: The stand-in's directory; the project's is made if need be.
        project: The project that the account belongs to.
        token_uri: The stand-in's: its ``url`` and ``/token``.

    Returns:
        What Google's key file holds, private key included; it is kept nowhere else.
    """
    key = rsa.generate_private_key(public_exponent=65_537, key_size=_KEY_BITS)
    key_id = secrets.token_hex(20)
    email = f"troupe-{secrets.token_hex(4)}@{project}.iam.gserviceaccount.com"
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    directory = root / project
    directory.mkdir(parents=True, exist_ok=True)
    registration = {"client_email": email, "private_key_id": key_id, "public_key": public.decode()}
    path = directory / f"service_account.{key_id}.json"
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    unfinished.write_text(json.dumps(registration), encoding="utf-8")
    unfinished.rename(path)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificates = "https://www.googleapis.com"
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": key_id,
        "private_key": private.decode(),
        "client_email": email,
        "client_id": str(secrets.randbelow(10**21)),
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_uri,
        "auth_provider_x509_cert_url": f"{certificates}/oauth2/v1/certs",
        "client_x509_cert_url": f"{certificates}/robot/v1/metadata/x509/{email}",
        "universe_domain": "googleapis.com",
    }


@dataclass(eq=False)
class GrantRefused(Exception):
    """A token request that is turned down, in OAuth's words."""

    error: str
    description: str


@dataclass(frozen=True, slots=True)
class _Account:
    project: str
    email: str
    public_key: str


class Accounts:
    """The registered accounts and the tokens given to them."""

    def __init__(self, root: Path, now: Callable[[], float] = time.time) -> None:
        self._root = root
        self._now = now
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def grant(self, form: dict[str, str], token_uri: str) -> dict[str, Any]:
        """The answer to a token request.

        Args:
            form: The request's fields.
            token_uri: Where the request arrived; the assertion must be meant for it.

        Raises:
            GrantRefused: The assertion is not signed by a registered key, expired, or elsewhere's.
        """
        if form.get("grant_type") != GRANT:
            raise GrantRefused("unsupported_grant_type", "Invalid grant_type")
        assertion = form.get("assertion", "")
        if not assertion or len(assertion) > _MAX_ASSERTION:
            raise GrantRefused("invalid_request", "Missing or oversized parameter: assertion")
        account, claims = self._verified(assertion)
        if claims.get("aud") not in (token_uri, _GOOGLES_AUDIENCE):
            description = f"Invalid JWT: Failed audience check. The right audience is {token_uri}"
            raise GrantRefused("invalid_grant", description)
        self._check_times(claims)
        if not _SCOPES & set(str(claims.get("scope", "")).split()):
            raise GrantRefused(
                "invalid_scope", "Invalid OAuth scope or ID token audience provided."
            )
        token = f"ya29.{secrets.token_urlsafe(32)}"
        with self._lock:
            while len(self._tokens) >= _KEPT_TOKENS:
                self._tokens.pop(next(iter(self._tokens)))
            self._tokens[token] = (account.project, self._now() + TOKEN_LIFETIME)
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(TOKEN_LIFETIME)}

    def project_of(self, authorization: str | None) -> str:
        """The project of the account whose token an ``Authorization`` header carries.

        Raises:
            BigQueryError: 401.
        """
        if not authorization:
            message = (
                "Request is missing required authentication credential. Expected OAuth 2 access "
                "token, login cookie or other valid authentication credential."
            )
            raise BigQueryError(401, "required", message, "Authorization")
        scheme, _, token = authorization.partition(" ")
        with self._lock:
            known = self._tokens.get(token) if scheme.lower() == "bearer" else None
        if known is None or known[1] <= self._now():
            message = (
                "Request had invalid authentication credentials. Expected OAuth 2 access token, "
                "login cookie or other valid authentication credential."
            )
            raise BigQueryError(401, "authError", message, "Authorization")
        return known[0]

    def _verified(self, assertion: str) -> tuple[_Account, dict[str, Any]]:
        try:
            header = json.loads(_decoded(assertion.split(".", maxsplit=1)[0]))
            claims = json.loads(_decoded(assertion.split(".")[1]))
            key_id, issuer = str(header.get("kid", "")), str(claims.get("iss", ""))
        except (ValueError, IndexError, AttributeError):
            raise GrantRefused("invalid_grant", "Invalid JWT: it cannot be decoded") from None
        account = self._account(issuer, key_id)
        try:
            key = RSAKey.import_key(account.public_key)
            token = jwt.decode(assertion, key, algorithms=["RS256"])
        except (JoseError, ValueError):
            raise GrantRefused("invalid_grant", "Invalid JWT Signature.") from None
        return account, dict(token.claims)

    def _account(self, issuer: str, key_id: str) -> _Account:
        project = issuer.partition("@")[2].removesuffix(".iam.gserviceaccount.com")
        known = [
            (key, account)
            for key, account in self._registered(project)
            if hmac.compare_digest(account.email, issuer)
        ]
        if not known:
            raise GrantRefused("invalid_grant", "Invalid grant: account not found")
        for key, account in known:
            if key == key_id:
                return account
        raise GrantRefused("invalid_grant", "Invalid JWT Signature.")

    def _registered(self, project: str) -> list[tuple[str, _Account]]:
        if not project or "/" in project or project.startswith("."):
            return []
        accounts = []
        for path in (self._root / project).glob("service_account.*.json"):
            stored = json.loads(path.read_text(encoding="utf-8"))
            account = _Account(project, stored["client_email"], stored["public_key"])
            accounts.append((stored["private_key_id"], account))
        return accounts

    def _check_times(self, claims: dict[str, Any]) -> None:
        issued, expires, now = claims.get("iat"), claims.get("exp"), self._now()
        valid = (
            isinstance(issued, int | float)
            and isinstance(expires, int | float)
            and issued - _SKEW <= now <= expires + _SKEW
            and expires - issued <= TOKEN_LIFETIME + _SKEW
        )
        if not valid:
            description = (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
                "timeframe. Check your iat and exp values in the JWT claim."
            )
            raise GrantRefused("invalid_grant", description)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
