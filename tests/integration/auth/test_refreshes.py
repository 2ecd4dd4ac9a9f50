"""Asking the provider again: once for each time, by one process, whatever dies in between."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import trio

from tests.integration.auth.hostile import TWO, HostileProvider, open_provider
from tests.integration.auth.refresh_worker import LEASE
from tests.integration.auth.site import Browser, Site
from tests.support.postgres import TestDatabase
from troupe.actors.auth.refreshes import AGAIN, Claim, Refresher
from troupe.actors.auth.session_tokens import SessionTokens
from troupe.common.ids import TenantId
from troupe.common.units import SECONDS
from troupe.http.credentials import Credentials

PATIENCE = 30 * SECONDS


@pytest.fixture
async def hostile(site: Site) -> AsyncIterator[HostileProvider]:
    async with open_provider() as provider:
        provider.rotation = "strict"
        await site.put_provider(
            site.harbor,
            issuer=provider.issuer,
            client_id="troupe",
            allowed_email_domains=["harbor.example"],
        )
        yield provider


async def log_in(site: Site, browser: Browser) -> str:
    """The session's cookie."""
    browser.client.cookies.clear()
    provider = str(site.providers[site.harbor])
    begun = await browser.get("/api/v1/login", params={"provider": provider})
    sent_back = await browser.get(begun.headers["Location"])
    assert (await browser.get(sent_back.headers["Location"])).status_code == 303
    cookie: str = browser.client.cookies["troupe_session"]
    return cookie


async def is_good(site: Site, session: str) -> bool:
    return await Credentials(site.database).resolve(None, session, None) is not None


async def row_of(site: Site) -> dict[str, Any]:
    (row,) = await site.admin("SELECT * FROM auth.login_sessions")
    return dict(row.items())


async def make_due(site: Site) -> None:
    await site.admin("UPDATE auth.login_sessions SET refresh_due_at = now()")


async def tokens_of(site: Site) -> SessionTokens:
    row = await row_of(site)
    return await SessionTokens.opened(
        site.database,
        site.vault,
        TenantId(row["provider_tenant_id"]),
        row["session_id"],
        row["provider_tokens"],
    )


@asynccontextmanager
async def worker(url: str, mode: str) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.integration.auth.refresh_worker", url, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        with trio.fail_after(PATIENCE):
            assert await process.stdout.receive_some(64) == b"ready\n"
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()


async def until_settled(site: Site, attempt: int) -> dict[str, Any]:
    with trio.fail_after(PATIENCE):
        while True:
            row = await row_of(site)
            if row["refresh_attempt"] >= attempt and not row["refresh_open"]:
                return row
            await trio.sleep(0.05)


async def test_the_token_is_rotated_and_lies_sealed(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    session = await log_in(site, browser)
    first = await tokens_of(site)
    assert first.refresh_token
    await make_due(site)
    assert await site.refresher.refresh_due() == 1
    second = await tokens_of(site)
    assert hostile.refreshes == [first.refresh_token]
    assert second.refresh_token == hostile.successors[first.refresh_token]
    assert second.id_token != first.id_token
    row = await row_of(site)
    assert second.refresh_token.encode() not in row["provider_tokens"]
    assert timedelta(minutes=50) < row["refresh_due_at"] - row["created_at"] < timedelta(hours=1.1)
    assert await is_good(site, session)
    assert await site.refresher.refresh_due() == 0, "it is not due any more"


async def test_without_a_refresh_token_nobody_is_asked(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    hostile.rotation = None
    session = await log_in(site, browser)
    row = await row_of(site)
    assert row["refresh_due_at"] is None
    assert row["confirmed_until"] is None
    assert await site.refresher.refresh_due() == 0
    assert await is_good(site, session)


async def test_many_processes_redeem_a_token_once(
    site: Site, hostile: HostileProvider, browser: Browser, fresh_database: TestDatabase
) -> None:
    """A strict provider ends the grant at the second use, so this would log everybody out."""
    sessions = [await log_in(site, browser) for _ in range(6)]
    url = fresh_database.runtime_url
    async with worker(url, "steady"), worker(url, "steady"), worker(url, "steady"):
        for number in range(1, 4):
            await make_due(site)
            with trio.fail_after(PATIENCE):
                while len(hostile.refreshes) < 6 * number:
                    await trio.sleep(0.02)
            await trio.sleep(0.2)
            assert len(hostile.refreshes) == 6 * number
    assert len(set(hostile.refreshes)) == len(hostile.refreshes)
    assert [await is_good(site, session) for session in sessions] == [True] * 6


async def test_without_the_claim_they_would_redeem_it_twice(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    """The broken twin of the test above: two that hold the same claim."""
    session = await log_in(site, browser)
    row = await row_of(site)
    claim = Claim(
        session=row["session_id"],
        tenant=site.harbor,
        provider=row["provider_id"],
        subject="person",
        attempt=0,
        was_open=False,
        sealed=row["provider_tokens"],
    )
    await site.refresher._attempt(claim)
    assert await is_good(site, session)
    await site.refresher._attempt(claim)
    assert len(set(hostile.refreshes)) == 1
    assert hostile.ended
    assert not await is_good(site, session)


@pytest.mark.parametrize("rotation", ["strict", "grace"])
async def test_a_kill_between_the_answer_and_the_commit(
    site: Site,
    hostile: HostileProvider,
    browser: Browser,
    fresh_database: TestDatabase,
    rotation: Any,
) -> None:
    hostile.rotation = rotation
    session = await log_in(site, browser)
    before = await tokens_of(site)
    confirmed_until = (await row_of(site))["confirmed_until"]
    await make_due(site)
    async with worker(fresh_database.runtime_url, "doomed") as process:
        with trio.fail_after(PATIENCE):
            assert await process.wait() == -9
    assert hostile.refreshes == [before.refresh_token], "the provider has answered"
    row = await row_of(site)
    assert row["refresh_open"], "and nobody knows"
    assert await tokens_of(site) == before
    assert await is_good(site, session)
    async with worker(fresh_database.runtime_url, "steady"):
        began = trio.current_time()
        row = await until_settled(site, 2)
        assert trio.current_time() - began < LEASE + 10
    assert hostile.refreshes == [before.refresh_token] * 2
    assert await is_good(site, session), "nobody is logged out for our crash"
    after = await tokens_of(site)
    if rotation == "grace":
        assert after.refresh_token == hostile.successors[before.refresh_token or ""]
        assert row["confirmed_until"] > confirmed_until
        await make_due(site)
        await site.refresher.refresh_due()
        assert hostile.refreshes[-1] == after.refresh_token
        assert await is_good(site, session)
    else:
        assert after == SessionTokens(before.id_token, None)
        assert row["refresh_due_at"] is None
        assert row["confirmed_until"] == confirmed_until
        await site.admin("UPDATE auth.login_sessions SET confirmed_until = now()")
        assert not await is_good(site, session), "but not for ever"


async def test_a_late_answer_does_not_overwrite_a_newer_one(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    """An attempt that was slower than its lease: its fencing token is not the present one."""
    await log_in(site, browser)
    hostile.rotation = "grace"
    row = await row_of(site)
    stale = Claim(
        session=row["session_id"],
        tenant=site.harbor,
        provider=row["provider_id"],
        subject="person",
        attempt=0,
        was_open=False,
        sealed=row["provider_tokens"],
    )
    await make_due(site)
    await site.refresher.refresh_due()
    newer = await row_of(site)
    await site.refresher._keep(stale, SessionTokens("old", "old"))
    await site.refresher._ended(stale)
    assert await row_of(site) == newer


async def test_the_provider_stands_by_the_login_no_longer(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    session = await log_in(site, browser)
    hostile.ended = True
    await make_due(site)
    await site.refresher.refresh_due()
    assert not await is_good(site, session)
    entries = await site.admin("SELECT detail FROM auth.audit_log WHERE action = 'session.ended'")
    assert "refused to confirm" in entries[0]["detail"]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (503, {}),
        (429, {}),
        (401, {"error": "invalid_client"}),
        (400, {"error": "server_error"}),
        (200, {"id_token": "nonsense"}),
        (200, {"access_token": None}),
    ],
)
async def test_a_provider_that_cannot_say(
    site: Site, hostile: HostileProvider, browser: Browser, status: int, answer: dict[str, Any]
) -> None:
    session = await log_in(site, browser)
    before = await tokens_of(site)
    hostile.status, hostile.answer = status, answer
    await make_due(site)
    await site.refresher.refresh_due()
    row = await row_of(site)
    assert await tokens_of(site) == before
    assert row["refresh_open"] == (status != 401), "a refused client has not spent the token"
    (waits,) = await site.admin("SELECT refresh_due_at - now() AS due FROM auth.login_sessions")
    assert timedelta(seconds=0.7 * AGAIN) < waits["due"] < timedelta(seconds=1.3 * AGAIN)
    assert await is_good(site, session)


@pytest.mark.parametrize(
    "claims", [{"sub": "somebody else"}, {"aud": "other"}, {"iss": "http://x"}]
)
async def test_an_id_token_about_somebody_else_confirms_nothing(
    site: Site, hostile: HostileProvider, browser: Browser, claims: dict[str, Any]
) -> None:
    await log_in(site, browser)
    before = await row_of(site)
    hostile.claims = claims
    await make_due(site)
    await site.refresher.refresh_due()
    row = await row_of(site)
    assert row["confirmed_until"] == before["confirmed_until"]
    assert row["provider_tokens"] == before["provider_tokens"]
    hostile.claims = {"nonce": None}
    hostile.rotation = "grace"
    await make_due(site)
    await site.refresher.refresh_due()
    assert (await row_of(site))["confirmed_until"] > before["confirmed_until"]


async def test_keys_rotated_since_the_login(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    await log_in(site, browser)
    hostile.key = TWO
    await make_due(site)
    await site.refresher.refresh_due()
    assert not (await row_of(site))["refresh_open"]
    assert hostile.key_fetches == 2


async def test_a_provider_that_is_away_is_not_asked_with_the_token(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    """Nothing was sent, so the next refusal is believed."""
    session = await log_in(site, browser)
    gone = Refresher(
        site.database,
        site.vault,
        site.refresher._relying_party,
        site.refresher._settings,
    )
    move = "UPDATE auth.identity_providers SET issuer = $2 WHERE issuer = $1"
    await site.admin(move, hostile.issuer, "http://127.0.0.1:7")
    await make_due(site)
    await gone.refresh_due()
    assert not (await row_of(site))["refresh_open"]
    await site.admin(move, "http://127.0.0.1:7", hostile.issuer)
    hostile.ended = True
    await make_due(site)
    await gone.refresh_due()
    assert not await is_good(site, session)
