"""A tenant sets up where its people log in."""

from typing import Any

import httpx2
import pytest

from tests.integration.auth.site import CLIENT_SECRET, Browser, Site
from troupe.actors.auth.access_tokens import issue_token
from troupe.actors.auth.members import Role
from troupe.actors.auth.providers import load_provider

BODY: dict[str, Any] = {
    "label": "Company login",
    "issuer": "https://login.harbor.example",
    "client_id": "troupe-at-harbor",
    "client_secret": "canary-secret",
}


class Api:
    """The tenant's providers, as a program sees them."""

    def __init__(self, site: Site, token: str) -> None:
        self.url = f"{site.url}/api/v1/tenants/{site.harbor}/providers"
        self.headers = {"Authorization": f"Bearer {token}"}

    async def __call__(
        self, method: str, path: str = "", body: Any = None, **headers: str
    ) -> httpx2.Response:
        async with httpx2.AsyncClient() as client:
            return await client.request(
                method, self.url + path, json=body, headers={**self.headers, **headers}
            )


async def as_role(site: Site, role: Role) -> Api:
    issued = await issue_token(site.database, site.harbor, name="tests", role=role)
    return Api(site, issued.token)


@pytest.fixture
async def api(site: Site) -> Api:
    return await as_role(site, "owner")


async def test_setting_up_changing_and_taking_away(site: Site, api: Api) -> None:
    made = await api("POST", body=BODY)
    assert made.status_code == 201, made.text
    said = made.json()
    assert said["has_secret"]
    assert said["enabled"]
    assert "canary" not in made.text
    path = f"/{said['provider_id']}"

    listed = (await api("GET")).json()
    assert listed["total"] == 2  # and the development provider
    assert said in listed["data"]

    changed = await api(
        "PUT",
        path,
        {key: value for key, value in BODY.items() if key != "client_secret"}
        | {"label": "Login", "allowed_email_domains": ["harbor.example"], "listed": True},
    )
    assert changed.status_code == 200, changed.text
    assert changed.json()["label"] == "Login"
    there = await load_provider(site.database, site.vault, site.harbor, said["provider_id"])
    assert there.client.secret == "canary-secret", "left out, it stays"

    assert (await api("DELETE", path)).status_code == 204
    assert (await api("GET", path)).status_code == 404
    assert (await api("DELETE", path)).status_code == 404
    actions = await site.admin(
        "SELECT action FROM auth.audit_log WHERE action LIKE 'provider.%' AND target = $1"
        " ORDER BY sequence",
        said["provider_id"],
    )
    assert [row["action"] for row in actions] == [
        "provider.put",
        "provider.put",
        "provider.deleted",
    ]


async def test_taking_a_provider_away_ends_its_sessions(
    site: Site, api: Api, browser: Browser
) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    assert (await api("DELETE", f"/{site.providers[site.harbor]}")).status_code == 204
    assert not await site.admin("SELECT FROM auth.login_sessions")
    assert await site.admin("SELECT FROM auth.members")


async def test_the_same_client_twice(api: Api) -> None:
    assert (await api("POST", body=BODY)).status_code == 201
    assert (await api("POST", body=BODY)).status_code == 409


async def test_a_repeated_request_makes_one(api: Api) -> None:
    first = await api("POST", body=BODY, **{"Idempotency-Key": "one"})
    again = await api("POST", body=BODY, **{"Idempotency-Key": "one"})
    assert first.json() == again.json()
    assert again.status_code == 201


async def test_changing_an_outdated_copy(api: Api) -> None:
    made = await api("POST", body=BODY)
    path, tag = f"/{made.json()['provider_id']}", made.headers["ETag"]
    assert (await api("PUT", path, BODY, **{"If-Match": tag})).status_code == 200
    assert (await api("PUT", path, BODY, **{"If-Match": tag})).status_code == 412
    assert (await api("GET", path, **{"If-None-Match": tag})).status_code == 200


@pytest.mark.parametrize("name", ["issuer", "client_id"])
async def test_what_a_provider_is_known_by_stays(api: Api, name: str) -> None:
    made = await api("POST", body=BODY)
    changed = BODY | {name: BODY[name] + "x"}
    refused = await api("PUT", f"/{made.json()['provider_id']}", changed)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == f"/{name}"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"issuer": "ftp://x.example"}, "/issuer"),
        ({"issuer": "https://x.example/?a=1"}, "/issuer"),
        ({"issuer": "https://user@x.example"}, "/issuer"),
        ({"scopes": ["email"]}, "/scopes"),
        ({"scopes": ["openid", "two words"]}, "/scopes"),
        ({"signing_algorithms": ["HS256"]}, "/signing_algorithms"),
        ({"signing_algorithms": ["none"]}, "/signing_algorithms"),
        ({"allowed_email_domains": ["Harbor Example"]}, "/allowed_email_domains"),
        ({"joining_role": "owner"}, "/joining_role"),
        ({"introspection": True}, "/introspection"),
        ({"api_audience": ""}, "/api_audience"),
        ({"unknown": 1}, "/unknown"),
        ({"label": "x" * 101}, "/label"),
    ],
)
async def test_what_is_no_provider(api: Api, change: dict[str, Any], pointer: str) -> None:
    refused = await api("POST", body=BODY | change)
    assert refused.status_code == 422, refused.text
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert "canary" not in refused.text


async def test_who_may(site: Site) -> None:
    admin, analyst = await as_role(site, "admin"), await as_role(site, "analyst")
    path = f"/{site.providers[site.harbor]}"
    assert (await admin("GET")).status_code == 200
    shown = await admin("GET", path)
    assert shown.json()["has_secret"]
    assert CLIENT_SECRET not in shown.text
    assert (await admin("POST", body=BODY)).status_code == 403
    assert (await admin("PUT", path, BODY)).status_code == 403
    assert (await admin("DELETE", path)).status_code == 403
    assert (await analyst("GET")).status_code == 403


async def test_another_tenants_provider_is_not_there(site: Site, api: Api) -> None:
    path = f"/{site.providers[site.tools]}"
    assert (await api("GET", path)).status_code == 404
    assert (await api("PUT", path, BODY)).status_code == 404
    assert (await api("DELETE", path)).status_code == 404
    assert await site.admin(
        "SELECT FROM auth.identity_providers WHERE provider_id = $1", site.providers[site.tools]
    )
