"""Login, refresh, logout, rotation and tokens against an identity provider that is not ours."""

import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import trio
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from tests.e2e.oidc_provider.conftest import (
    APP,
    APP_RETURN,
    AUDIENCES,
    CLIENTS,
    IndependentProvider,
    fill_in,
    follow,
    log_in,
)
from tests.integration.auth.site import DASHBOARD, Browser, Site
from troupe.http.credentials import LOOPBACK_SESSION_COOKIE, Credentials

PROMISE = 2.0


async def is_in(browser: Browser) -> bool:
    return (await browser.api("/api/v1/me")).status_code == 200


async def until_out(browser: Browser) -> float:
    """Seconds until the session is refused."""
    began = trio.current_time()
    with trio.fail_after(10 * PROMISE):
        while await is_in(browser):
            await trio.sleep(0.05)
    return trio.current_time() - began


async def due(site: Site) -> None:
    await site.admin("UPDATE auth.login_sessions SET refresh_due_at = now()")


async def session_row(site: Site) -> dict[str, Any]:
    (row,) = await site.admin("SELECT * FROM auth.login_sessions")
    return dict(row.items())


# --- login ---


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_login(
    site: Site, browser: Browser, independent: IndependentProvider, client: str
) -> None:
    answer = await log_in(browser, site, independent.ids[client])
    assert answer.status_code == 303, answer.text
    assert answer.headers["Location"] == DASHBOARD
    me = (await browser.api("/api/v1/me")).json()
    assert me["email"] == "ada@harbor.example"  # it lies in userinfo, not in the ID token
    assert me["tenant"]["role"] == "analyst"
    row = await session_row(site)
    assert row["provider_sid"]
    assert row["refresh_due_at"] is not None
    assert row["confirmed_until"] > row["refresh_due_at"]


async def test_the_same_person_through_three_clients_is_one_person(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    for client in CLIENTS:
        assert (await log_in(browser, site, independent.ids[client])).status_code == 303
    assert len(await site.admin("SELECT FROM auth.users")) == 1


async def test_a_wrong_password_and_a_change_of_mind(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    """At this provider nobody gets in with a wrong password; at the other one neither."""
    begun = await browser.get(
        "/api/v1/login", params={"provider": str(independent.ids["confidential-rs"])}
    )
    form = await follow(browser, begun)
    refused = await fill_in(browser, form, "ada", "wrong")
    assert refused.status_code == 400
    assert "wrong" in refused.text
    assert not await is_in(browser)

    await site.add(site.tools, "ada", "viewer")
    other = await browser.to_provider(site.tools)
    assert (await browser.submit(other, "ada", "wrong")).status_code == 400
    assert not await is_in(browser)

    cancelled = await follow(browser, await fill_in(browser, form, "", "", action="cancel"))
    assert cancelled.status_code == 403
    assert not await is_in(browser)
    assert (await log_in(browser, site, independent.ids["confidential-rs"])).status_code == 303
    assert await is_in(browser)


async def test_a_wrong_client_secret(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    await site.put_provider(
        site.harbor,
        issuer=independent.issuer,
        client_id="confidential-rs",
        client_secret="outdated",
        allowed_email_domains=["harbor.example"],
    )
    answer = await log_in(browser, site, independent.ids["confidential-rs"])
    assert answer.status_code == 502
    assert "does not accept the client id and secret" in answer.text
    assert not await is_in(browser)


async def test_an_algorithm_that_was_not_agreed(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    await site.put_provider(
        site.harbor,
        issuer=independent.issuer,
        client_id="public",
        client_secret=None,
        signing_algorithms=["ES256"],
        allowed_email_domains=["harbor.example"],
    )
    answer = await log_in(browser, site, independent.ids["public"])
    assert answer.status_code == 502
    assert not await is_in(browser)


async def test_the_code_is_redeemed_once(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    last = await log_in(browser, site, independent.ids["confidential-es"], stop="callback")
    target = urljoin(str(last.url), last.headers["Location"])
    assert parse_qs(urlsplit(target).query)["iss"] == [independent.issuer]
    assert (await browser.get(target)).status_code == 303
    assert (await browser.get(target)).status_code == 409


async def test_rotated_keys_fail_nobody(
    site: Site, browser: Browser, other_browser: Browser, independent: IndependentProvider
) -> None:
    assert (await log_in(browser, site, independent.ids["confidential-rs"])).status_code == 303
    before = independent.tell("tally")["keys"]
    independent.tell("rotate")
    answer = await log_in(other_browser, site, independent.ids["confidential-rs"])
    assert answer.status_code == 303, answer.text
    assert independent.tell("tally")["keys"] == before + 1


# --- refresh ---


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_refresh_rotates_the_token(
    site: Site, browser: Browser, independent: IndependentProvider, client: str
) -> None:
    await log_in(browser, site, independent.ids[client])
    sealed = (await session_row(site))["provider_tokens"]
    for number in range(1, 4):
        await due(site)
        assert await site.refresher.refresh_due() == 1
        row = await session_row(site)
        assert row["provider_tokens"] != sealed
        assert row["refresh_attempt"] == number
        assert not row["refresh_open"]
        sealed = row["provider_tokens"]
    assert independent.tell("tally") | {"keys": 0} == {
        "refreshed": 3,
        "refused": 0,
        "introspected": 0,
        "keys": 0,
    }
    assert await is_in(browser)


async def test_who_is_locked_out_there_is_locked_out_here(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    await log_in(browser, site, independent.ids["confidential-rs"])
    independent.tell("lock", sub="sub-ada")
    await due(site)
    assert await site.refresher.refresh_due() == 1
    assert await until_out(browser) < PROMISE
    entries = await site.admin("SELECT detail FROM auth.audit_log WHERE action = 'session.ended'")
    assert "refused to confirm" in entries[0]["detail"]


async def test_a_token_that_was_used_behind_our_back_ends_the_session(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    """Somebody restores yesterday's database: its refresh token is void there."""
    await log_in(browser, site, independent.ids["confidential-rs"])
    old = (await session_row(site))["provider_tokens"]
    await due(site)
    await site.refresher.refresh_due()
    await site.admin("UPDATE auth.login_sessions SET provider_tokens = $1", old)
    await due(site)
    await site.refresher.refresh_due()
    assert await until_out(browser) < PROMISE


async def test_a_successor_that_was_lost_logs_nobody_out(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    """As after a kill between the provider's answer and the commit, at one that gives no grace."""
    await log_in(browser, site, independent.ids["confidential-rs"])
    before = await session_row(site)
    await due(site)
    await site.refresher.refresh_due()
    await site.admin(
        "UPDATE auth.login_sessions SET provider_tokens = $1, refresh_open = true,"
        " confirmed_until = $2, refresh_due_at = now()",
        before["provider_tokens"],
        before["confirmed_until"],
    )
    await site.refresher.refresh_due()
    assert independent.tell("tally")["refused"] == 1
    row = await session_row(site)
    assert row["refresh_due_at"] is None
    assert row["confirmed_until"] == before["confirmed_until"]
    assert await is_in(browser)
    await site.admin("UPDATE auth.login_sessions SET confirmed_until = now()")
    assert await until_out(browser) < PROMISE


# --- logout ---


async def test_logging_out_here_logs_out_there(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    await log_in(browser, site, independent.ids["confidential-rs"])
    token = (await browser.api("/api/v1/me")).json()["csrf_token"]
    page = await browser.client.post(f"{site.url}/api/v1/logout", data={"csrf_token": token})
    link = page.text.split('content="0; url=')[1].split('"')[0].replace("&amp;", "&")
    asked = await follow(browser, await browser.client.get(link))
    form = dict(
        pair.split('" value="')
        for pair in (
            part.split('"/>')[0] for part in asked.text.split('<input type="hidden" name="')[1:]
        )
    )
    confirmed = await browser.client.post(
        asked.text.split('action="')[1].split('"')[0], data={**form, "logout": "yes"}
    )
    assert confirmed.headers["Location"].startswith(f"{site.url}/?state=")
    # It asks for the password again.
    begun = await browser.get(
        "/api/v1/login", params={"provider": str(independent.ids["confidential-rs"])}
    )
    assert "Password" in (await follow(browser, begun)).text


async def test_logging_out_there_logs_out_here_in_every_browser_of_that_session(
    site: Site, browser: Browser, other_browser: Browser, independent: IndependentProvider
) -> None:
    """Back-channel: the provider's own session ends without our taking part."""
    await log_in(browser, site, independent.ids["confidential-rs"])
    await log_in(other_browser, site, independent.ids["confidential-rs"])
    sid = (await browser.api("/api/v1/sessions")).json()
    assert sid["total"] == 2

    asked = await browser.client.get(f"{independent.issuer}/session/end")
    fields = {
        part.split('"')[0]: part.split('value="')[1].split('"')[0]
        for part in asked.text.split('<input type="hidden" name="')[1:]
    }
    action = asked.text.split('action="')[1].split('"')[0]
    confirmed = await browser.client.post(action, data={**fields, "logout": "yes"})
    assert confirmed.status_code in {302, 303}
    assert await until_out(browser) < PROMISE
    assert await is_in(other_browser), "another session of the same person at the provider"


# --- access tokens ---


async def app_token(
    browser: Browser, independent: IndependentProvider, resource: str, scope: str
) -> str:
    """An access token of an application that calls our API for Ada."""
    verifier = secrets.token_urlsafe(48)
    begun = await browser.client.get(
        f"{independent.issuer}/auth",
        params={
            "client_id": APP,
            "response_type": "code",
            "redirect_uri": APP_RETURN,
            "scope": f"openid {scope}",
            "resource": resource,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        },
    )
    answer = await follow(browser, begun, APP_RETURN)
    if answer.status_code == 200:
        answer = await follow(browser, await fill_in(browser, answer, "ada"), APP_RETURN)
    assert "Location" in answer.headers, (answer.url, answer.text)
    code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
    redeemed = await browser.client.post(
        f"{independent.issuer}/token",
        data={
            "grant_type": "authorization_code",
            "client_id": APP,
            "code": code,
            "redirect_uri": APP_RETURN,
            "code_verifier": verifier,
            "resource": resource,
        },
    )
    assert redeemed.status_code == 200, redeemed.text
    token: str = redeemed.json()["access_token"]
    return token


async def validate(site: Site, browser: Browser, token: str, *, tenant: bool = True) -> Any:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    if tenant:
        headers["X-Tenant-Id"] = str(site.harbor)
    return await browser.client.get(f"{site.url}/api/v1/validate", headers=headers)


@pytest.mark.parametrize("client", CLIENTS)
async def test_an_access_token_of_the_provider(
    site: Site, browser: Browser, independent: IndependentProvider, client: str
) -> None:
    """Signed with RS256, with ES256, and opaque: our API takes all three."""
    await log_in(browser, site, independent.ids["public"])
    await browser.client.post(f"{site.url}/api/v1/logout")
    browser.client.cookies.delete(LOOPBACK_SESSION_COOKIE)
    token = await app_token(browser, independent, AUDIENCES[client], "analytics:read unrelated")
    answer = await validate(site, browser, token)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["kind"] == "token"
    assert said["role"] == "analyst"
    assert said["scopes"] == ["analytics:read"]
    assert said["expires_at"]
    is_opaque = client == "confidential-rs"
    alone = await validate(site, browser, token, tenant=False)
    assert alone.status_code == (401 if is_opaque else 200)
    forbidden = await browser.client.get(
        f"{site.url}/api/v1/tenants/{site.harbor}",
        headers={"Authorization": f"Bearer {token}", "X-Tenant-Id": str(site.harbor)},
    )
    assert forbidden.status_code == 403, "the token lacks auth:read"


async def test_an_access_token_for_somebody_else(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    await log_in(browser, site, independent.ids["public"])
    browser.client.cookies.delete(LOOPBACK_SESSION_COOKIE)
    for resource in ("https://other.example/rsa", "https://other.example/opaque"):
        token = await app_token(browser, independent, resource, "analytics:read")
        assert (await validate(site, browser, token)).status_code == 401


async def test_a_revoked_opaque_token_stops_within_two_seconds(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    await log_in(browser, site, independent.ids["public"])
    browser.client.cookies.delete(LOOPBACK_SESSION_COOKIE)
    token = await app_token(browser, independent, AUDIENCES["confidential-rs"], "analytics:read")
    for _ in range(5):
        assert (await validate(site, browser, token)).status_code == 200
    assert independent.tell("tally")["introspected"] <= 2
    revoked = await browser.client.post(
        f"{independent.issuer}/token/revocation", data={"token": token, "client_id": APP}
    )
    assert revoked.status_code == 200
    began = trio.current_time()
    with trio.fail_after(10 * PROMISE):
        while (await validate(site, browser, token)).status_code == 200:
            await trio.sleep(0.05)
    assert trio.current_time() - began < PROMISE
    before = independent.tell("tally")["introspected"]
    for _ in range(5):
        assert (await validate(site, browser, token)).status_code == 401
    assert independent.tell("tally")["introspected"] == before, "what is void is remembered"


async def test_access_tokens_under_rotated_keys(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    await log_in(browser, site, independent.ids["public"])
    browser.client.cookies.delete(LOOPBACK_SESSION_COOKIE)
    old = await app_token(browser, independent, AUDIENCES["public"], "analytics:read")
    assert (await validate(site, browser, old)).status_code == 200
    independent.tell("rotate")
    new = await app_token(browser, independent, AUDIENCES["public"], "analytics:read")
    assert (await validate(site, browser, new)).status_code == 200


async def test_a_removed_member_is_out_with_a_token_that_is_still_good(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    await log_in(browser, site, independent.ids["public"])
    browser.client.cookies.delete(LOOPBACK_SESSION_COOKIE)
    token = await app_token(browser, independent, AUDIENCES["public"], "analytics:read")
    assert (await validate(site, browser, token)).status_code == 200
    await site.admin("DELETE FROM auth.members")
    assert await Credentials(site.database).resolve(token, None, None) is None
    began = trio.current_time()
    with trio.fail_after(10 * PROMISE):
        while (await validate(site, browser, token)).status_code == 200:
            await trio.sleep(0.05)
    assert trio.current_time() - began < timedelta(seconds=PROMISE).total_seconds()
