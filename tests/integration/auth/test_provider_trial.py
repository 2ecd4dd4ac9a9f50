"""Trying an identity provider before anybody logs in: each slip is named."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest
import trio

from tests.integration.auth.hostile import HostileProvider, Json, open_provider
from tests.integration.auth.site import LOOPBACK, Site
from tests.integration.auth.test_providers import as_role
from tests.integration.auth.test_relying_party import client_of
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.provider_trial import CODE_OF_NOBODY, ProviderTrial, try_provider
from troupe.common.outbound import OutboundGuard

CALLBACK = "https://troupe.example/api/v1/callback"


@pytest.fixture
async def hostile() -> AsyncIterator[HostileProvider]:
    async with open_provider() as one:
        one.status, one.answer = 400, {"error": "invalid_grant"}
        yield one


@pytest.fixture
async def http() -> AsyncIterator[PeerHttp]:
    async with PeerHttp(LOOPBACK) as one:
        yield one


async def test_a_provider_that_works(http: PeerHttp, hostile: HostileProvider) -> None:
    hostile.metadata = {
        "response_types_supported": ["code", "id_token"],
        "code_challenge_methods_supported": ["S256"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    }
    found = await try_provider(http, client_of(hostile), callback=CALLBACK)
    assert found.works, found
    assert [step.name for step in found.steps] == [
        "its document", "the way to log in", "signatures", "its keys", "client id and secret",
    ]  # fmt: skip
    assert found.message == "People can be sent there to log in."
    assert hostile.asked["code"] == CODE_OF_NOBODY
    assert hostile.asked["redirect_uri"] == CALLBACK


@pytest.mark.parametrize(
    ("metadata", "answer", "step", "told"),
    [
        ({"issuer": "https://other.example"}, {}, "its document", "another issuer"),
        ({"token_endpoint": None}, {}, "its document", "no usable token_endpoint"),
        ({"response_types_supported": ["token"]}, {}, "the way to log in", "with a code"),
        ({"code_challenge_methods_supported": ["plain"]}, {}, "the way to log in", "PKCE"),
        (
            {"id_token_signing_alg_values_supported": ["ES256", "HS256"]}, {}, "signatures",
            "It signs with ES256, but RS256 is accepted here.",
        ),
        ({"jwks_uri": "http://127.0.0.1:9/jwks"}, {}, "its keys", "cannot be reached"),
        ({}, {"error": "invalid_client"}, "client id and secret", "does not accept the client id"),
        (
            {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, {},
            "client id and secret", "no way to authenticate",
        ),
    ],
)  # fmt: skip
async def test_what_stands_in_the_way_is_named(
    http: PeerHttp, hostile: HostileProvider, metadata: Json, answer: Json, step: str, told: str
) -> None:
    hostile.metadata = metadata
    hostile.answer |= answer
    found = await try_provider(http, client_of(hostile), callback=CALLBACK)
    assert not found.works
    assert [one.ok for one in found.steps] == [True] * (len(found.steps) - 1) + [False]
    assert found.steps[-1].name == step
    assert told in found.message == found.steps[-1].message


async def test_keys_that_are_not_fit(http: PeerHttp, hostile: HostileProvider) -> None:
    client = replace(client_of(hostile), algorithms=frozenset({"ES256"}))
    found = await try_provider(http, client, callback=CALLBACK)
    assert found.message == "None of its keys fits the signatures that are accepted here."


async def test_a_public_client_and_one_that_is_told_nothing(
    http: PeerHttp, hostile: HostileProvider
) -> None:
    hostile.answer = {"error": "invalid_request"}
    found = await try_provider(http, client_of(hostile, None), callback=CALLBACK)
    assert found.works
    assert found.steps[-1].name == "client id"
    assert found.steps[-1].message.startswith("Not refused;")


async def test_a_host_inside_is_not_asked(hostile: HostileProvider) -> None:
    async with PeerHttp(OutboundGuard()) as strict:
        found: ProviderTrial = await try_provider(strict, client_of(hostile), callback=CALLBACK)
    assert [step.ok for step in found.steps] == [False]
    assert hostile.asked == {}


async def test_over_http(site: Site) -> None:
    admin, analyst = await as_role(site, "admin"), await as_role(site, "analyst")
    path = f"/{site.providers[site.harbor]}/test"
    tried = await admin("POST", path)
    assert tried.status_code == 200, tried.text
    assert tried.json()["works"], tried.text
    assert tried.json()["steps"][-1] == {
        "name": "client id and secret", "ok": True, "message": "Accepted.",
    }  # fmt: skip
    await site.put_provider(site.harbor, client_secret="wrong", enabled=False)
    refused = await admin("POST", path)
    assert refused.json()["message"] == (
        "The identity provider does not accept the client id and secret."
    )
    assert "wrong" not in refused.text
    assert (await analyst("POST", path)).status_code == 403
    assert (await admin("POST", f"/{site.providers[site.tools]}/test")).status_code == 404
    actions = await site.admin(
        "SELECT detail FROM auth.audit_log WHERE action = 'provider.tested' AND tenant_id = $1",
        site.harbor,
    )
    assert len(actions) == 2


async def test_one_at_a_time(site: Site) -> None:
    admin = await as_role(site, "admin")
    async with open_provider() as slow:
        slow.status, slow.answer = 400, {"error": "invalid_grant"}
        await site.put_provider(site.harbor, issuer=slow.issuer)
        path = f"/{site.providers[site.harbor]}/test"
        answers: list[httpx2.Response] = []

        async def ask() -> None:
            answers.append(await admin("POST", path))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert set(statuses) <= {200, 429}
    assert (await admin("POST", path)).status_code == 200  # the way is free again
