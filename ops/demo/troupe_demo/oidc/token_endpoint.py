"""The token endpoint: who is asking, and what their code or refresh token is still good for."""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

from troupe_demo.oidc.memory import Grant, Memory
from troupe_demo.oidc.settings import Client, Settings
from troupe_demo.oidc.tokens import Signer, challenge_of

_VERIFIER: Final = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


class TokenError(Exception):
    """The request is refused (RFC 6749, section 5.2).

    Args:
        error: The code.
        description: For the client's developer.
        status: 401 when the client is not who it says, else 400.
    """

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.status = status


def _basic_credentials(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    name, separator, password = text.partition(":")
    if scheme.lower() != "basic" or not separator:
        raise TokenError("invalid_client", "the Authorization header is not understood", 401)
    return unquote_plus(name), unquote_plus(password)


def authenticate(authorization: str | None, form: Mapping[str, str], settings: Settings) -> Client:
    """The client that the request comes from: client_secret_basic, client_secret_post, or none.

    Raises:
        TokenError: Unknown, wrong, or two ways at once.
    """
    if authorization is not None:
        if "client_secret" in form:
            raise TokenError("invalid_request", "the client authenticates in two ways")
        client_id, secret = _basic_credentials(authorization)
        if form.get("client_id", client_id) != client_id:
            raise TokenError("invalid_request", "two different clients are named")
    else:
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    client = settings.client(client_id)
    expected = "" if client is None else client.client_secret or ""
    if client is None or not hmac.compare_digest(secret.encode(), expected.encode()):
        raise TokenError("invalid_client", "the client is unknown or its secret is wrong", 401)
    return client


class TokenEndpoint:
    """Trades codes and refresh tokens for tokens.

    Args:
        memory: Where codes and tokens are.
        signer: Makes ID tokens.
    """

    def __init__(self, memory: Memory, signer: Signer) -> None:
        self._memory = memory
        self._signer = signer

    def answer(
        self, authorization: str | None, parameters: Mapping[str, Sequence[str]], settings: Settings
    ) -> dict[str, Any]:
        """The token response.

        Raises:
            TokenError: The request is refused.
        """
        form = {name: values[0] for name, values in parameters.items()}
        if any(len(values) > 1 for values in parameters.values()):
            raise TokenError("invalid_request", "a parameter is given twice")
        client = authenticate(authorization, form, settings)
        grant_type = form.get("grant_type")
        if grant_type == "authorization_code":
            grant = self._grant_of_code(client, form)
        elif grant_type == "refresh_token":
            grant = self._grant_of_refresh_token(client, form)
        else:
            raise TokenError("unsupported_grant_type", "authorization_code or refresh_token")
        return self._issue(grant, settings)

    def _grant_of_code(self, client: Client, form: Mapping[str, str]) -> Grant:
        grant = self._memory.codes.get(form.get("code"))
        if grant is None or grant.request.client_id != client.client_id:
            raise TokenError("invalid_grant", "the code is unknown or expired")
        if grant.code_used:
            grant.ended = True
            raise TokenError("invalid_grant", "the code was used before")
        grant.code_used = True
        if form.get("redirect_uri") != grant.request.redirect_uri:
            raise TokenError("invalid_grant", "redirect_uri is not the one of the request")
        verifier = form.get("code_verifier", "")
        if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(
            challenge_of(verifier), grant.request.code_challenge
        ):
            raise TokenError("invalid_grant", "code_verifier does not match the challenge")
        return grant

    def _grant_of_refresh_token(self, client: Client, form: Mapping[str, str]) -> Grant:
        token = form.get("refresh_token")
        grant = self._memory.refresh_tokens.get(token)
        if grant is None or grant.ended or grant.request.client_id != client.client_id:
            raise TokenError("invalid_grant", "the refresh token is unknown or expired")
        if grant.refresh_token != token:
            # An old one comes back: either side may be a thief, so nobody keeps anything.
            grant.ended = True
            raise TokenError("invalid_grant", "the refresh token was used before")
        return grant

    def _issue(self, grant: Grant, settings: Settings) -> dict[str, Any]:
        user = settings.user(grant.login.sub)
        if user is None:
            raise TokenError("invalid_grant", "the person no longer exists")
        access_token = self._memory.access_tokens.put(grant)
        answer: dict[str, Any] = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": int(self._memory.access_tokens.lifetime),
            "scope": " ".join(sorted(grant.request.scopes)),
            "id_token": self._signer.id_token(grant, user, access_token),
        }
        if "offline_access" in grant.request.scopes:
            grant.refresh_token = self._memory.refresh_tokens.put(grant)
            answer["refresh_token"] = grant.refresh_token
        return answer
