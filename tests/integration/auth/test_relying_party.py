"""The relying party against a provider that answers what a test tells it to."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import RSAKey

from tests.integration.auth.hostile import LOGIN, HostileProvider, Json, open_provider
from tests.integration.auth.site import LOOPBACK
from troupe.actors.auth.errors import (
    ClientRejected,
    LoginExpired,
    ProviderMisbehaved,
    TokenInvalid,
)
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.relying_party import Client, Identity, RelyingParty


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
