"""One's own sessions: where one is logged in, and ending that."""

import httpx2
import pytest

from tests.integration.auth.site import Browser, Site
from troupe.actors.auth.access_tokens import issue_token
from troupe.http.credentials import LOOPBACK_SESSION_COOKIE, Credentials


async def is_good(site: Site, browser: Browser) -> bool:
    session = browser.client.cookies[LOOPBACK_SESSION_COOKIE]
    return await Credentials(site.database).resolve(None, session, None) is not None


async def test_where_one_is_logged_in(site: Site, browser: Browser, other_browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await site.add(site.harbor, "grace", "viewer")
    browser.client.headers["User-Agent"] = "Mozilla/5.0 \x7f (laptop)" + "x" * 300
    await browser.log_in(site.harbor, "ada")
    await other_browser.log_in(site.harbor, "ada")
    third = Browser(site)
    async with third.client:
        await third.log_in(site.harbor, "grace")
    listed = (await browser.api("/api/v1/sessions")).json()
    assert listed["total"] == 2
    assert listed["next_cursor"] is None
    newest, mine = listed["data"]
    assert mine["is_current"]
    assert not newest["is_current"]
    assert mine["user_agent"].startswith("Mozilla/5.0  (laptop)")
    assert len(mine["user_agent"]) == 200
    assert mine["address"] == "127.0.0.1"
    assert mine["created_at"] <= mine["last_seen_at"] < mine["expires_at"]
    text = (await browser.api("/api/v1/sessions")).text
    assert browser.client.cookies[LOOPBACK_SESSION_COOKIE] not in text


async def test_pages_of_sessions(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    for _ in range(3):
        await browser.log_in(site.harbor, "ada")
        session = browser.client.cookies[LOOPBACK_SESSION_COOKIE]
        browser.client.cookies.delete(LOOPBACK_SESSION_COOKIE)  # so that it is not replaced
    browser.client.cookies.set(LOOPBACK_SESSION_COOKIE, session, domain="127.0.0.1")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await browser.api("/api/v1/sessions", params=query)).json()
        seen += [one["session_id"] for one in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 3
    assert seen == sorted(seen, reverse=True)


async def test_ending_one_of_them(site: Site, browser: Browser, other_browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    await other_browser.log_in(site.harbor, "ada")
    listed = (await browser.api("/api/v1/sessions")).json()["data"]
    other = next(one["session_id"] for one in listed if not one["is_current"])
    assert (await browser.send("DELETE", f"/api/v1/sessions/{other}")).status_code == 204
    assert not await is_good(site, other_browser)
    assert await is_good(site, browser)
    assert (await browser.send("DELETE", f"/api/v1/sessions/{other}")).status_code == 404
    entries = await site.admin("SELECT target FROM auth.audit_log WHERE action = 'session.ended'")
    assert [entry["target"] for entry in entries] == [other]


async def test_logging_out_everywhere_else(
    site: Site, browser: Browser, other_browser: Browser
) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    await other_browser.log_in(site.harbor, "ada")
    ended = await browser.send("DELETE", "/api/v1/sessions")
    assert ended.json() == {"ended": 1}
    assert await is_good(site, browser)
    assert not await is_good(site, other_browser)
    assert (await browser.send("DELETE", "/api/v1/sessions")).json() == {"ended": 0}


async def test_nobody_ends_the_sessions_of_others(
    site: Site, browser: Browser, other_browser: Browser
) -> None:
    await site.add(site.harbor, "ada", "owner")
    await site.add(site.harbor, "grace", "viewer")
    await browser.log_in(site.harbor, "ada")
    await other_browser.log_in(site.harbor, "grace")
    graces = (await other_browser.api("/api/v1/sessions")).json()["data"][0]["session_id"]
    assert (await browser.send("DELETE", f"/api/v1/sessions/{graces}")).status_code == 404
    assert await is_good(site, other_browser)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", "")])
async def test_a_token_is_not_the_person_at_the_browser(site: Site, method: str, path: str) -> None:
    issued = await issue_token(site.database, site.harbor, name="tests", role="owner")
    async with httpx2.AsyncClient() as client:
        answer = await client.request(
            method,
            f"{site.url}/api/v1/sessions",
            headers={"Authorization": f"Bearer {issued.token}"},
        )
    assert answer.status_code == 403


async def test_ending_sessions_needs_proof(
    site: Site, browser: Browser, other_browser: Browser
) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    await other_browser.log_in(site.harbor, "ada")
    bare = await browser.client.delete(f"{site.url}/api/v1/sessions")
    assert bare.status_code == 403
    foreign = await browser.send("DELETE", "/api/v1/sessions", {"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert await is_good(site, other_browser)


async def test_a_login_gives_a_new_session_and_ends_the_old_one(
    site: Site, browser: Browser
) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    first = browser.client.cookies[LOOPBACK_SESSION_COOKIE]
    await browser.log_in(site.harbor, "ada")
    second = browser.client.cookies[LOOPBACK_SESSION_COOKIE]
    assert first != second
    assert await Credentials(site.database).resolve(None, first, None) is None
    rows = await site.admin("SELECT session_hash FROM auth.login_sessions")
    assert len(rows) == 1
    assert second.encode() not in rows[0]["session_hash"]
