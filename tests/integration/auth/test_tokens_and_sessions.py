"""What tokens and sessions reach, and when they stop."""

from datetime import timedelta
from uuid import UUID

import httpx2
import pytest
import trio
import trio.testing

from tests.integration.auth.site import Browser, Site
from troupe.actors.auth.access_tokens import issue_token, new_token
from troupe.actors.auth.members import Role
from troupe.common.ids import TenantId
from troupe.http.credentials import (
    LOOPBACK_SESSION_COOKIE,
    REMEMBERED,
    Credentials,
    looking_ahead,
)

PROMISE = 2.0
"""Seconds within which a revocation must hold."""


async def as_token(
    site: Site, token: str, path: str = "validate", **headers: str
) -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.get(
            f"{site.url}/api/v1/{path}", headers={"Authorization": f"Bearer {token}", **headers}
        )


async def operators_token(site: Site, tenant: TenantId, role: Role = "owner") -> str:
    issued = await issue_token(site.database, tenant, name="tests", role=role)
    return issued.token


async def until_refused(site: Site, token: str) -> float:
    began = trio.current_time()
    with trio.fail_after(10 * PROMISE):
        while (await as_token(site, token)).status_code == 200:
            await trio.sleep(0.05)
    return trio.current_time() - began


async def test_a_token_made_by_a_person(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "analyst")
    await browser.log_in(site.harbor, "ada")
    made = await browser.send("POST", "/api/v1/tokens", json={"name": "Nightly export"})
    assert made.status_code == 201, made.text
    token = made.json()["token"]
    assert token.startswith("trp_")
    valid = (await as_token(site, token)).json()
    assert valid["role"] == "analyst"
    assert valid["tenant_id"] == str(site.harbor)
    listed = (await browser.api("/api/v1/tokens")).json()
    assert listed["total"] == 1
    assert listed["data"][0]["hint"] == token[:9]
    assert token not in (await browser.api("/api/v1/tokens")).text


async def test_a_token_cannot_outrank_its_maker(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "analyst")
    await browser.log_in(site.harbor, "ada")
    refused = await browser.send("POST", "/api/v1/tokens", json={"name": "x", "role": "admin"})
    assert refused.status_code == 403
    made = await browser.send("POST", "/api/v1/tokens", json={"name": "x", "role": "analyst"})
    token = made.json()["token"]
    await site.add(site.harbor, "ada", "viewer")
    fresh = Credentials(site.database)
    principal = await fresh.resolve(token, None, None)
    assert principal is not None
    assert principal.role.label == "viewer"
    await site.admin("DELETE FROM auth.members WHERE tenant_id = $1", site.harbor)
    assert await Credentials(site.database).resolve(token, None, None) is None


async def test_a_token_makes_no_tokens(site: Site) -> None:
    token = await operators_token(site, site.harbor)
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{site.url}/api/v1/tokens",
            json={"name": "child"},
            headers={"Authorization": f"Bearer {token}"},
        )
    assert answer.status_code == 403


async def test_a_token_reaches_its_tenant_only(site: Site) -> None:
    token = await operators_token(site, site.harbor)
    assert (await as_token(site, token, f"tenants/{site.harbor}")).status_code == 200
    assert (await as_token(site, token, f"tenants/{site.tools}")).status_code == 404
    for route in ("members", "connections/bigquery", "audit"):
        answer = await as_token(site, token, f"tenants/{site.tools}/{route}")
        assert answer.status_code == 404, route
    chosen = await as_token(site, token, **{"X-Tenant-Id": str(site.tools)})
    assert chosen.status_code == 403


async def test_scopes_narrow_a_token(site: Site) -> None:
    issued = await issue_token(
        site.database, site.harbor, name="figures", role="owner", scopes=["analytics:read"]
    )
    assert (await as_token(site, issued.token, "validate")).status_code == 200
    assert (await as_token(site, issued.token, f"tenants/{site.harbor}")).status_code == 403


async def test_a_revoked_token_stops_within_two_seconds(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "admin")
    await browser.log_in(site.harbor, "ada")
    token = await operators_token(site, site.harbor)
    assert (await as_token(site, token)).status_code == 200
    mine = (await browser.api("/api/v1/tokens")).json()["data"][0]["token_id"]
    revoked = await browser.send("DELETE", f"/api/v1/tokens/{mine}")
    assert revoked.status_code == 204
    assert await until_refused(site, token) < PROMISE
    again = await browser.send("DELETE", f"/api/v1/tokens/{mine}")
    assert again.status_code == 404


async def test_nobody_ends_the_tokens_of_others(
    site: Site, browser: Browser, other_browser: Browser
) -> None:
    await site.add(site.harbor, "ada", "analyst")
    await site.add(site.harbor, "grace", "analyst")
    await browser.log_in(site.harbor, "ada")
    await other_browser.log_in(site.harbor, "grace")
    made = await browser.send("POST", "/api/v1/tokens", json={"name": "mine"})
    path = f"/api/v1/tokens/{made.json()['token_id']}"
    assert (await other_browser.api("/api/v1/tokens")).json()["total"] == 0
    assert (await other_browser.send("DELETE", path)).status_code == 404
    assert (await browser.send("DELETE", path)).status_code == 204


@pytest.mark.parametrize(
    "bearer",
    [
        new_token(),
        "trp_" + "0" * 49,
        "trp_",
        "eyJhbGciOiJub25lIn0.e30.",
        "x" * 5000,
    ],
    ids=["unknown", "wrong checksum", "empty", "JWT", "long"],
)
async def test_what_is_no_token(site: Site, bearer: str) -> None:
    assert (await as_token(site, bearer)).status_code == 401


async def test_an_expired_token(site: Site) -> None:
    issued = await issue_token(
        site.database, site.harbor, name="short", role="viewer", lifetime=3600
    )
    assert (await as_token(site, issued.token)).status_code == 200
    await site.admin("UPDATE auth.access_tokens SET expires_at = now()")
    assert await Credentials(site.database).resolve(issued.token, None, None) is None


async def test_a_deactivated_tenant_lets_nobody_in(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "owner")
    await browser.log_in(site.harbor, "ada")
    session = browser.client.cookies[LOOPBACK_SESSION_COOKIE]
    token = await operators_token(site, site.harbor)
    await site.admin("UPDATE platform.tenants SET state = 'deactivated' WHERE name = 'Harbor'")
    fresh = Credentials(site.database)
    assert await fresh.resolve(token, None, None) is None
    assert await fresh.resolve(None, session, None) is None
    assert "Harbor" not in (await browser.get("/", headers={"Cookie": "troupe_session="})).text


@pytest.mark.parametrize(
    "change",
    [
        "expires_at = now()",
        "last_seen_at = now() - idle_limit",
    ],
)
async def test_a_session_ends_by_itself(site: Site, browser: Browser, change: str) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    session = browser.client.cookies[LOOPBACK_SESSION_COOKIE]
    assert await Credentials(site.database).resolve(None, session, None) is not None
    await site.admin(f"UPDATE auth.login_sessions SET {change}")
    assert await Credentials(site.database).resolve(None, session, None) is None


async def test_a_session_that_is_used_stays(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    session = browser.client.cookies[LOOPBACK_SESSION_COOKIE]
    await site.admin(
        "UPDATE auth.login_sessions SET last_seen_at = now() - idle_limit + interval '1 minute'"
    )
    assert await Credentials(site.database).resolve(None, session, None) is not None
    rows = await site.admin("SELECT now() - last_seen_at AS unseen FROM auth.login_sessions")
    assert rows[0]["unseen"] < timedelta(seconds=30)


async def test_a_session_in_several_tenants(site: Site, browser: Browser) -> None:
    """It is good where the person is a member and the same client of the same issuer is trusted."""
    await site.add(site.harbor, "ada", "viewer")
    await site.add(site.tools, "ada", "admin")
    await browser.log_in(site.harbor, "ada")
    me = (await browser.api("/api/v1/me")).json()
    assert me["tenant"]["name"] == "Harbor"
    assert [one["name"] for one in me["tenants"]] == ["Harbor", "Tools"]
    tools = {"X-Tenant-Id": str(site.tools), "Accept": "application/json"}
    chosen = (await browser.get("/api/v1/me", headers=tools)).json()
    assert chosen["tenant"] == {"tenant_id": str(site.tools), "name": "Tools", "role": "admin"}
    own = await browser.get(f"/api/v1/tenants/{site.tools}", headers=tools)
    assert own.status_code == 200
    assert (await browser.api(f"/api/v1/tenants/{site.tools}")).status_code == 404

    # Tools moves to a provider of its own: sessions from the old one are not good there any more.
    await site.put_provider(site.tools, enabled=False)
    session = browser.client.cookies[LOOPBACK_SESSION_COOKIE]
    principal = await Credentials(site.database).resolve(None, session, None)
    assert principal is not None
    assert principal.tenant_id == site.harbor
    refused = None
    with trio.fail_after(10 * PROMISE):
        while refused is None or refused.status_code == 200:
            refused = await browser.get("/api/v1/me", headers=tools)
            await trio.sleep(0.05)
    assert refused.status_code == 403


async def test_unsafe_requests_of_a_session_need_proof(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    bare = await browser.client.post(f"{site.url}/api/v1/tokens", json={"name": "x"})
    assert bare.status_code == 403
    wrong = await browser.send(
        "POST", "/api/v1/tokens", {"X-CSRF-Token": "x" * 43}, json={"name": "x"}
    )
    assert wrong.status_code == 403
    foreign = await browser.send(
        "POST", "/api/v1/tokens", {"Origin": "https://evil.example"}, json={"name": "x"}
    )
    assert foreign.status_code == 403
    ours = await browser.send("POST", "/api/v1/tokens", json={"name": "x"})
    assert ours.status_code == 201


async def test_many_requests_at_once_cost_one_look_up(site: Site) -> None:
    token = await operators_token(site, site.harbor)
    calls = 0
    original = site.database.fetch_row

    async def counted(*arguments: object, **keywords: object) -> object:
        nonlocal calls
        calls += 1
        return await original(*arguments, **keywords)  # type: ignore[arg-type]

    credentials = Credentials(site.database)
    site.database.fetch_row = counted  # type: ignore[method-assign, assignment]
    seen: list[UUID] = []

    async def ask() -> None:
        principal = await credentials.resolve(token, None, None)
        assert principal is not None
        seen.append(principal.tenant_id)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert seen == [site.harbor] * 20
    assert calls == 1


async def test_who_is_cancelled_while_looking_up_leaves_it_to_another(site: Site) -> None:
    token = await operators_token(site, site.harbor)
    credentials = Credentials(site.database)
    began, resolved = trio.Event(), []

    async def first(scope: trio.CancelScope) -> None:
        with scope:
            began.set()
            await credentials.resolve(token, None, None)

    async def second() -> None:
        await began.wait()
        resolved.append(await credentials.resolve(token, None, None))

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(first, scope)
        nursery.start_soon(second)
        await began.wait()
        scope.cancel()
    assert resolved[0] is not None


async def test_who_asks_again_and_again_waits_for_no_look_up(site: Site) -> None:
    token = await operators_token(site, site.harbor)
    async with looking_ahead(Credentials(site.database)) as credentials:
        assert await credentials.resolve(token, None, None) is not None
        for _ in range(round(3 * REMEMBERED / 0.1)):
            await trio.sleep(0.1)
            assert credentials.recall_token(token) is not None
        await site.admin("UPDATE auth.access_tokens SET revoked_at = now()")
        began = trio.current_time()
        while credentials.recall_token(token) is not None:
            await trio.sleep(0.05)
        assert trio.current_time() - began < PROMISE
        assert await credentials.resolve(token, None, None) is None


async def test_who_asks_once_is_looked_up_once(site: Site) -> None:
    token = await operators_token(site, site.harbor)
    async with looking_ahead(Credentials(site.database)) as credentials:
        assert await credentials.resolve(token, None, None) is not None
        await trio.sleep(REMEMBERED + 0.1)
        assert credentials.recall_token(token) is None


async def test_what_ends_while_it_is_looked_up_is_not_remembered(site: Site) -> None:
    token = await operators_token(site, site.harbor)
    credentials = Credentials(site.database)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(credentials.resolve, token, None, None)
        await trio.testing.wait_all_tasks_blocked()
        credentials.forget("token", token)
    assert credentials.recall_token(token) is None
