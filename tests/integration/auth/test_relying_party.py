"""The relying party against a provider that answers what a test tells it to."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.integration.auth.site import LOOPBACK
from troupe.actors.auth.errors import (
    ClientRejected,
    LoginExpired,
    ProviderMisbehaved,
    TokenInvalid,
)
from troupe.actors.auth.login_secrets import LoginSecrets
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.relying_party import Client, Identity, RelyingParty

LOGIN: Final = LoginSecrets.derive("b" * 43, b"s" * 32)
Json = dict[str, Any]


@dataclass
class HostileProvider:
    """Its answers are attributes, and it remembers what it was asked."""

    issuer: str
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    metadata: Json = field(default_factory=dict)
    claims: Json = field(default_factory=dict)
    answer: Json = field(default_factory=dict)
    userinfo: Json = field(default_factory=dict)
    status: int = 200
    key_fetches: int = 0
    asked: Json = field(default_factory=dict)
    authorization: str = ""

    def reply(self, path: str, body: str, headers: dict[str, str]) -> tuple[int, Json]:
        match path:
            case "/.well-known/openid-configuration":
                return 200, {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/jwks",
                    "userinfo_endpoint": f"{self.issuer}/userinfo",
                } | self.metadata
            case "/jwks":
                self.key_fetches += 1
                return 200, {"keys": [self.key.as_dict(private=False)]}
            case "/userinfo":
                return 200, self.userinfo
            case _:
                self.asked = {name: values[0] for name, values in parse_qs(body).items()}
                self.authorization = headers.get("authorization", "")
                return self.status, {
                    "access_token": "at",
                    "token_type": "Bearer",
                    "id_token": self.id_token(),
                } | self.answer

    def id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "person",
            "aud": "troupe",
            "iat": now,
            "exp": now + 60,
            "nonce": LOGIN.nonce,
            "email": "p@harbor.example",
            "email_verified": True,
            "name": "Person",
        } | self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)

    async def serve(self, stream: trio.SocketStream) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += await stream.receive_some(65536)
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        while len(body) < int(headers.get("content-length", 0)):
            body += await stream.receive_some(65536)
        path = urlsplit(lines[0].split(" ")[1]).path
        status, document = self.reply(path, body.decode(), headers)
        content = json.dumps(document).encode()
        await stream.send_all(
            f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
        )


@asynccontextmanager
async def open_provider() -> AsyncIterator[HostileProvider]:
    async with trio.open_nursery() as nursery:
        provider = HostileProvider("")
        listeners = await nursery.start(trio.serve_tcp, provider.serve, 0)
        provider.issuer = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield provider
        nursery.cancel_scope.cancel()


@pytest.fixture
async def provider() -> AsyncIterator[HostileProvider]:
    async with open_provider() as one:
        yield one


@pytest.fixture
async def party() -> AsyncIterator[RelyingParty]:
    async with PeerHttp(LOOPBACK) as http:
        yield RelyingParty(http)


def client_of(provider: HostileProvider, secret: str | None = "se cret+%") -> Client:
    return Client(
        issuer=provider.issuer,
        client_id="troupe",
        secret=secret,
        scopes=("openid", "email"),
        algorithms=frozenset({"RS256"}),
    )


async def redeem(
    party: RelyingParty, provider: HostileProvider, secret: str | None = "se cret+%"
) -> Identity:
    return await party.redeem(
        client_of(provider, secret), code="the-code", redirect_uri="http://us/cb", login=LOGIN
    )


async def test_a_code_becomes_a_person(party: RelyingParty, provider: HostileProvider) -> None:
    identity = await redeem(party, provider)
    assert identity.subject == "person"
    assert identity.email == "p@harbor.example"
    assert identity.email_verified
    assert identity.refresh_token is None
    assert provider.asked == {
        "grant_type": "authorization_code",
        "code": "the-code",
        "redirect_uri": "http://us/cb",
        "code_verifier": LOGIN.verifier,
    }
    # RFC 6749, 2.3.1: both parts are form-encoded first.
    assert provider.authorization == "Basic dHJvdXBlOnNlK2NyZXQlMkIlMjU="


async def test_the_address_of_a_login(party: RelyingParty, provider: HostileProvider) -> None:
    provider.metadata = {"authorization_endpoint": f"{provider.issuer}/authorize?realm=a%26b"}
    url = await party.authorization_url(
        client_of(provider), redirect_uri="http://us/cb", state="the-state", login=LOGIN
    )
    assert {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()} == {
        "realm": "a&b",
        "response_type": "code",
        "client_id": "troupe",
        "redirect_uri": "http://us/cb",
        "scope": "openid email",
        "state": "the-state",
        "nonce": LOGIN.nonce,
        "code_challenge": LOGIN.challenge,
        "code_challenge_method": "S256",
    }
    assert LOGIN.verifier not in url


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "http://127.0.0.1:1"},
        {"aud": "other"},
        {"nonce": "other"},
        {"nonce": None},
        {"iat": None},
        {"exp": 1},
        {"sub": None},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    ],
)
async def test_an_id_token_that_does_not_hold(
    party: RelyingParty, provider: HostileProvider, claims: Json
) -> None:
    provider.claims = claims
    with pytest.raises(TokenInvalid):
        await redeem(party, provider)


@pytest.mark.parametrize(
    "answer",
    [
        {"id_token": None},
        {"id_token": 7},
        {"access_token": None},
        {"token_type": "mac"},
        {"token_type": None},
        {"id_token": "e30.e30."},
    ],
)
async def test_an_answer_that_lacks_something(
    party: RelyingParty, provider: HostileProvider, answer: Json
) -> None:
    provider.answer = answer
    with pytest.raises(ProviderMisbehaved):
        await redeem(party, provider)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, "invalid_client", ClientRejected),
        (400, "invalid_client", ClientRejected),
        (400, "invalid_grant", LoginExpired),
        (400, "invalid_request", ProviderMisbehaved),
        (200, "invalid_grant", LoginExpired),
        (403, None, ProviderMisbehaved),
    ],
)
async def test_a_refusal(
    party: RelyingParty,
    provider: HostileProvider,
    status: int,
    error: str | None,
    kind: type[Exception],
) -> None:
    provider.status, provider.answer = status, {"error": error} if error else {}
    with pytest.raises(kind):
        await redeem(party, provider)


async def test_ways_to_authenticate(party: RelyingParty, provider: HostileProvider) -> None:
    await redeem(party, provider, secret=None)
    assert provider.asked["client_id"] == "troupe"
    assert not provider.authorization


async def test_authenticating_in_the_form(party: RelyingParty, provider: HostileProvider) -> None:
    provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    await redeem(party, provider)
    assert provider.asked["client_secret"] == "se cret+%"
    assert not provider.authorization


async def test_no_known_way_to_authenticate(party: RelyingParty, provider: HostileProvider) -> None:
    provider.metadata = {"token_endpoint_auth_methods_supported": ["tls_client_auth"]}
    with pytest.raises(ProviderMisbehaved):
        await redeem(party, provider)


async def test_keys_rotate_without_a_failed_login(
    party: RelyingParty, provider: HostileProvider
) -> None:
    await redeem(party, provider)
    await redeem(party, provider)
    assert provider.key_fetches == 1
    provider.key = RSAKey.generate_key(2048, {"kid": "two"})
    await redeem(party, provider)
    assert provider.key_fetches == 2


async def test_the_address_may_come_from_userinfo(
    party: RelyingParty, provider: HostileProvider
) -> None:
    provider.claims = {"email": None, "email_verified": None, "name": None}
    provider.userinfo = {"sub": "person", "email": "u@x.example", "email_verified": True}
    assert (await redeem(party, provider)).email == "u@x.example"
    provider.userinfo = {"sub": "somebody else", "email": "u@x.example"}
    with pytest.raises(TokenInvalid):
        await redeem(party, provider)


@pytest.mark.parametrize("verified", ["true", 1, None])
async def test_only_true_means_verified(
    party: RelyingParty, provider: HostileProvider, verified: object
) -> None:
    provider.claims = {"email_verified": verified}
    assert not (await redeem(party, provider)).email_verified


async def test_names_for_people_are_cleaned(party: RelyingParty, provider: HostileProvider) -> None:
    provider.claims = {"name": " A\u202e\nB ", "email": ["x@y.example"]}
    identity = await redeem(party, provider)
    assert identity.name == "AB"
    assert identity.email == ""


async def test_an_answer_of_another_issuer(party: RelyingParty, provider: HostileProvider) -> None:
    client = client_of(provider)
    await party.check_answer(client, None)
    await party.check_answer(client, provider.issuer)
    with pytest.raises(ProviderMisbehaved):
        await party.check_answer(client, "http://127.0.0.1:1")


async def test_an_identity_does_not_show_its_tokens(
    party: RelyingParty, provider: HostileProvider
) -> None:
    identity = await redeem(party, provider)
    assert identity.id_token not in repr(identity)
    assert "se cret" not in repr(client_of(provider))
