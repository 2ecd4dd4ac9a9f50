"""A real browser logs in and out at the independent provider: cookies, policies and redirects."""

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urljoin

import pytest
import trio
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright

from tests.e2e.oidc_provider.conftest import CLIENTS, IndependentProvider
from tests.e2e.oidc_provider.conftest import log_in as walk_to_callback
from tests.e2e.test_browser import QUIET, chromium_path
from tests.integration.auth.site import PASSWORD, Browser, Site
from troupe.common.units import SECONDS
from troupe.http.credentials import LOOPBACK_SESSION_COOKIE

PATIENCE = 20 * SECONDS
T = TypeVar("T")


async def in_chromium(walk: Callable[[Chromium], T]) -> T:
    """Run a walk in a thread: the site that it visits is served by this one."""

    def run() -> T:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=QUIET)
            try:
                return walk(browser)
            finally:
                browser.close()

    return await trio.to_thread.run_sync(run)


def log_in(page: Page, password: str = PASSWORD) -> None:
    page.get_by_label("User name").fill("ada")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("client", CLIENTS)
async def test_logging_in_and_out(
    site: Site, independent: IndependentProvider, client: str
) -> None:
    def walk(browser: Chromium) -> None:
        complaints: list[str] = []
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))

        page.goto(f"{site.url}/?tenant={site.harbor}&next={site.url}/")
        page.get_by_role("link", name=client).click()
        assert page.url.startswith(independent.issuer)
        log_in(page, "wrong")
        assert page.get_by_role("alert").is_visible()
        log_in(page)
        page.wait_for_url(f"{site.url}/")
        assert page.get_by_text("Ada Lovelace").is_visible()
        cookie = next(one for one in context.cookies() if one["name"] == LOOPBACK_SESSION_COOKIE)
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Lax"
        assert page.evaluate("document.cookie") == ""

        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{independent.issuer}/**")
        page.get_by_role("button", name="Yes, sign me out").click()
        page.wait_for_url(f"{site.url}/?state=*")
        assert LOOPBACK_SESSION_COOKIE not in {one["name"] for one in context.cookies()}
        # Both are over: the provider asks for the password again.
        page.goto(f"{site.url}/?tenant={site.harbor}&next={site.url}/")
        page.get_by_role("link", name=client).click()
        assert page.get_by_label("Password").is_visible()
        harmless = ("info", "verbose", "error: Failed to load resource")  # a 400 that we provoked
        assert not [text for text in complaints if not text.startswith(harmless)]

    await in_chromium(walk)
    assert not await site.admin("SELECT FROM auth.login_sessions")


async def test_a_login_begun_in_another_browser(
    site: Site, browser: Browser, independent: IndependentProvider
) -> None:
    """Somebody sends the address at which his own login ends to somebody else."""
    last = await walk_to_callback(browser, site, independent.ids["public"], stop="callback")
    address = urljoin(str(last.url), last.headers["Location"])

    def walk(chromium: Chromium) -> str:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(address)
        assert LOOPBACK_SESSION_COOKIE not in {one["name"] for one in context.cookies()}
        return page.content()

    assert "begun in another browser" in await in_chromium(walk)
    assert not await site.admin("SELECT FROM auth.login_sessions")
