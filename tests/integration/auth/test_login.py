"""A person logs in through the development provider, over real HTTP."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration.auth.site import DASHBOARD, Browser, Site
from troupe.http.credentials import LOOPBACK_SESSION_COOKIE


async def test_a_login_gives_a_session(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "analyst")
    answer = await browser.log_in(site.harbor, "ada")
    assert answer.status_code == 303
    assert answer.headers["Location"] == DASHBOARD
    me = (await browser.api("/api/v1/me")).json()
    assert me["name"] == "Ada Lovelace"
    assert me["email"] == "ada@harbor.example"
    assert me["tenant"] == {
        "tenant_id": str(site.harbor),
        "name": "Harbor",
        "role": "analyst",
    }
    assert me["csrf_token"]
    valid = (await browser.api("/api/v1/validate")).json()
    assert valid["active"] is True
    assert valid["kind"] == "session"


async def test_the_session_cookie_is_out_of_reach_for_scripts(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    answer = await browser.log_in(site.harbor, "ada")
    cookie = next(
        value
        for name, value in answer.headers.multi_items()
        if name == "set-cookie" and value.startswith(LOOPBACK_SESSION_COOKIE)
    )
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie


async def test_nobody_without_credentials(site: Site, browser: Browser) -> None:
    assert site.url
    for path in ("me", "validate", "tokens", "tenants", f"tenants/{site.harbor}"):
        answer = await browser.api(f"/api/v1/{path}")
        assert answer.status_code == 401, path
        assert answer.json()["type"] == "urn:troupe:problem:unauthenticated"


async def test_a_wrong_password_stays_at_the_provider(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    form = await browser.to_provider(site.harbor)
    refused = await browser.submit(form, "ada", "wrong")
    assert refused.status_code == 400
    assert "The user name or the password is wrong." in refused.text
    assert (await browser.api("/api/v1/me")).status_code == 401
    accepted = await browser.submit(refused, "ada")
    assert (await browser.get(accepted.headers["Location"])).status_code == 303
    assert (await browser.api("/api/v1/me")).status_code == 200


async def test_cancelling_at_the_provider(site: Site, browser: Browser) -> None:
    form = await browser.to_provider(site.harbor)
    cancelled = await browser.submit(form, "", "", action="cancel")
    answer = await browser.get(cancelled.headers["Location"])
    assert answer.status_code == 403
    assert "You are not signed in" in answer.text
    assert "Sign in again" in answer.text


async def test_a_callback_works_once(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    callback = await browser.callback_url(site.harbor, "ada")
    assert (await browser.get(callback)).status_code == 303
    replayed = await browser.get(callback)
    assert replayed.status_code == 409
    assert "Please sign in again" in replayed.text
    assert not replayed.headers.get("set-cookie")
    assert len(await site.admin("SELECT FROM auth.login_sessions")) == 1


async def test_a_callback_in_another_browser_is_refused_and_spent(
    site: Site, browser: Browser, other_browser: Browser
) -> None:
    await site.add(site.harbor, "ada", "viewer")
    callback = await browser.callback_url(site.harbor, "ada")
    # The other browser has a login of its own under way, so it has a binding, only not this one.
    await other_browser.to_provider(site.harbor)
    stolen = await other_browser.get(callback)
    assert stolen.status_code == 409
    assert "begun in another browser" in stolen.text
    assert (await other_browser.api("/api/v1/me")).status_code == 401
    assert (await browser.get(callback)).status_code == 409


async def test_two_tabs_of_one_browser(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    first = await browser.callback_url(site.harbor, "ada")
    second = await browser.callback_url(site.harbor, "ada")
    assert (await browser.get(first)).status_code == 303
    assert (await browser.get(second)).status_code == 303
    # The second login replaced the session of the first.
    assert len(await site.admin("SELECT FROM auth.login_sessions")) == 1


async def test_a_login_that_took_too_long(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    callback = await browser.callback_url(site.harbor, "ada")
    await site.admin("UPDATE auth.login_states SET expires_at = now() - interval '1 second'")
    answer = await browser.get(callback)
    assert answer.status_code == 409
    assert "took too long" in answer.text


@pytest.mark.parametrize("state", [None, "", "short", "x" * 43, "é" * 43])
async def test_a_callback_with_an_invented_state(browser: Browser, state: str | None) -> None:
    query = {"code": "c"} | ({} if state is None else {"state": state})
    answer = await browser.get("/api/v1/callback", params=query)
    assert answer.status_code == 409
    assert "Please sign in again" in answer.text


async def test_a_code_of_another_login(site: Site, browser: Browser) -> None:
    """Codes are bound to a login by PKCE and nonce: swapping them redeems nothing."""
    await site.add(site.harbor, "ada", "viewer")
    first = urlsplit(await browser.callback_url(site.harbor, "ada"))
    second = urlsplit(await browser.callback_url(site.harbor, "ada"))
    swapped = {name: values[0] for name, values in parse_qs(first.query).items()}
    swapped["code"] = parse_qs(second.query)["code"][0]
    answer = await browser.get("/api/v1/callback", params=swapped)
    assert answer.status_code == 409
    assert (await browser.api("/api/v1/me")).status_code == 401


@pytest.mark.parametrize("issuer", ["https://evil.example", None])
async def test_an_answer_that_names_another_issuer_or_none(
    site: Site, browser: Browser, issuer: str | None
) -> None:
    await site.add(site.harbor, "ada", "viewer")
    callback = urlsplit(await browser.callback_url(site.harbor, "ada"))
    query = {name: values[0] for name, values in parse_qs(callback.query).items()}
    assert query.pop("iss") == site.provider.issuer
    answer = await browser.get(
        "/api/v1/callback", params=query | ({"iss": issuer} if issuer else {})
    )
    assert answer.status_code == 502
    assert "another identity provider" in answer.text


async def test_a_provider_that_does_not_answer(site: Site, browser: Browser) -> None:
    await site.put_provider(site.harbor, issuer="http://127.0.0.1:9", client_id="gone")
    provider = str(site.providers[site.harbor])
    answer = await browser.get("/api/v1/login", params={"provider": provider})
    assert answer.status_code == 503
    assert "could not sign you in" in answer.text
    assert "Retry-After" in answer.headers
    as_json = await browser.api("/api/v1/login", params={"provider": provider})
    assert as_json.json()["type"] == "urn:troupe:problem:peer-unavailable"


async def test_a_provider_in_a_network_that_nobody_allowed(site: Site, browser: Browser) -> None:
    await site.put_provider(site.harbor, issuer="http://10.0.0.1", client_id="inside")
    answer = await browser.get(
        "/api/v1/login", params={"provider": str(site.providers[site.harbor])}
    )
    assert answer.status_code == 502
    assert "private or reserved network" in answer.text


async def test_a_wrong_client_secret(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await site.put_provider(site.harbor, client_secret="outdated")
    answer = await browser.log_in(site.harbor, "ada")
    assert answer.status_code == 502
    assert "does not accept the client id and secret" in answer.text
    assert "outdated" not in answer.text


async def test_an_unknown_provider(site: Site, browser: Browser) -> None:
    answer = await browser.get("/api/v1/login", params={"provider": str(site.harbor)})
    assert answer.status_code == 404
    assert "This sign-in link does not work" in answer.text


async def test_somebody_who_is_no_member(site: Site, browser: Browser) -> None:
    for _ in range(2):
        answer = await browser.log_in(site.harbor, "eve")
        assert answer.status_code == 403
        assert "You have no access here" in answer.text
    assert not await site.admin("SELECT FROM auth.users WHERE subject = 'sub-eve'")
    entries = await site.admin("SELECT target FROM auth.audit_log WHERE action = 'session.refused'")
    first, second = [entry["target"] for entry in entries]
    assert first == second  # one who keeps trying is recognised,
    assert "eve" not in first  # and not named


async def test_joining_by_the_domain_of_a_verified_address(
    site: Site, browser: Browser, other_browser: Browser
) -> None:
    await site.put_provider(
        site.harbor, allowed_email_domains=["harbor.example"], joining_role="analyst"
    )
    assert (await browser.log_in(site.harbor, "ada")).status_code == 303
    assert (await browser.api("/api/v1/me")).json()["tenant"]["role"] == "analyst"
    assert (await other_browser.log_in(site.harbor, "eve")).status_code == 403


async def test_a_member_keeps_the_role_when_joining_rules_say_another(
    site: Site, browser: Browser
) -> None:
    await site.put_provider(site.harbor, allowed_email_domains=["harbor.example"])
    await site.add(site.harbor, "ada", "owner")
    await browser.log_in(site.harbor, "ada")
    assert (await browser.api("/api/v1/me")).json()["tenant"]["role"] == "owner"


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        (f"{DASHBOARD}/?preset=7d", f"{DASHBOARD}/?preset=7d"),
        ("/tasks?x=1", f"{DASHBOARD}/tasks?x=1"),
        ("https://evil.example/", DASHBOARD),
        ("//evil.example/", DASHBOARD),
        ("javascript:alert(1)", DASHBOARD),
    ],
)
async def test_where_a_login_leads(site: Site, browser: Browser, wanted: str, reached: str) -> None:
    await site.add(site.harbor, "ada", "viewer")
    answer = await browser.log_in(site.harbor, "ada", next=wanted)
    assert answer.headers["Location"] == reached


async def test_the_login_page_offers_what_is_listed(site: Site, browser: Browser) -> None:
    page = await browser.get("/")
    assert page.status_code == 200
    assert "Harbor" in page.text
    assert "Tools" in page.text
    await site.put_provider(site.tools, listed=False)
    page = await browser.get("/")
    assert "Tools" not in page.text
    # Who knows the tenant's identifier still gets its provider.
    page = await browser.get("/", params={"tenant": str(site.tools)})
    assert "Tools" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


async def test_login_without_a_choice_asks_on_the_page(site: Site, browser: Browser) -> None:
    answer = await browser.get("/api/v1/login", params={"next": "/x"})
    assert answer.headers["Location"] == "/?next=%2Fx"
    assert site.url


async def test_logging_out(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    token = (await browser.api("/api/v1/me")).json()["csrf_token"]
    session = browser.client.cookies[LOOPBACK_SESSION_COOKIE]
    answer = await browser.client.post(
        f"{site.url}/api/v1/logout", data={"csrf_token": token}, headers={"Origin": "null"}
    )
    assert answer.status_code == 200
    assert f"{site.provider.issuer}/end-session?" in answer.text
    assert LOOPBACK_SESSION_COOKIE not in browser.client.cookies
    # Also for somebody who has kept the cookie.
    kept = await browser.get("/api/v1/me", headers={"Cookie": f"troupe_session={session}"})
    assert kept.status_code == 401
    # The provider's own session ends where the page leads, and comes back to the login page.
    link = answer.text.split('content="0; url=')[1].split('"')[0].replace("&amp;", "&")
    returned = await browser.get(link)
    assert returned.headers["Location"].startswith(f"{site.url}/?state=")
    assert (await browser.get(returned.headers["Location"])).status_code == 200
    assert (await browser.to_provider(site.harbor)).status_code == 200  # asks for the password


async def test_another_site_cannot_log_somebody_out(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    token = (await browser.api("/api/v1/me")).json()["csrf_token"]
    url = f"{site.url}/api/v1/logout"
    without = await browser.client.post(url, data={"csrf_token": ""})
    assert without.status_code == 403
    foreign = await browser.client.post(
        url, data={"csrf_token": token}, headers={"Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403
    assert (await browser.api("/api/v1/me")).status_code == 200


async def test_logging_out_without_a_session(site: Site, browser: Browser) -> None:
    answer = await browser.client.post(f"{site.url}/api/v1/logout", data={"csrf_token": ""})
    assert answer.status_code == 200
    assert "You are signed out" in answer.text
