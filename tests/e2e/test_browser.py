"""A person logs in and reads the dashboard, in a real browser."""

import os
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.conftest import Demo

CHROMIUM = (
    os.environ.get("TROUPE_CHROMIUM", ""),
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium_path() -> str:
    executable = next((path for path in CHROMIUM if path and Path(path).exists()), None)
    if executable is None:
        pytest.fail("Chromium is not installed: 'make e2e' as root installs it on Debian")
    return executable


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium_path(), args=QUIET)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


def _log_in(page: Page, demo: Demo, tenant: str) -> None:
    page.get_by_text(tenant).click()
    page.get_by_label("User name").fill(demo.ready["login"]["user"])
    page.get_by_label("Password").fill(demo.ready["login"]["password"])
    page.get_by_role("button", name="Sign in").click()


def test_a_person_logs_in_and_reads_the_true_figures(page: Page, demo: Demo) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    tenant = demo.tenants[0]
    end = tenant.last_day - timedelta(days=1)
    truth = tenant.truth(end - timedelta(days=6), end)["total"]
    currency = tenant.get("analytics", "/api/v1/stats").json()["currency"]

    page.goto(f"{demo.ready['urls']['analytics']}/?preset=7d")
    assert page.url.startswith(demo.ready["urls"]["auth"])
    _log_in(page, demo, tenant.name)
    page.wait_for_url(f"{demo.ready['urls']['analytics']}/?preset=7d")

    def figure(metric: str) -> str:
        return page.locator(f".card[data-metric={metric}]").get_attribute("data-value") or ""

    assert int(figure("sessions")) == truth["sessions"]
    assert int(figure("purchases")) == truth["purchases"]
    assert int(figure("total_users")) == truth["total_users"]
    assert Decimal(figure("gross_revenue")) == Decimal(truth["money"][currency]["gross"])
    assert f"{truth['sessions']:,}" in page.locator(".card[data-metric=sessions]").inner_text()

    assert page.locator("svg.plot").is_visible()
    assert page.locator("table.branches tbody tr").count() >= 5
    assert page.locator(".change").first.is_visible()
    assert not [text for text in complaints if not text.startswith(("info", "verbose"))]


def test_a_click_on_a_branch_filters_and_the_address_says_so(page: Page, demo: Demo) -> None:
    page.goto(f"{demo.ready['urls']['analytics']}/?preset=7d")
    _log_in(page, demo, demo.tenants[1].name)
    page.locator("table.branches tbody tr a").first.click()
    page.wait_for_url("**location=*")
    assert page.locator("table.branches tbody tr").count() == 1
    assert "preset=7d" in page.url


def test_a_wrong_password_leads_nowhere(page: Page, demo: Demo) -> None:
    page.goto(demo.ready["urls"]["analytics"])
    page.get_by_text(demo.tenants[0].name).click()
    page.get_by_label("User name").fill(demo.ready["login"]["user"])
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("alert").is_visible()
    answer = page.goto(demo.ready["urls"]["analytics"])
    assert answer is not None
    assert page.url.startswith(demo.ready["urls"]["auth"])


def test_log_out_ends_the_session(page: Page, demo: Demo) -> None:
    page.goto(demo.ready["urls"]["analytics"])
    _log_in(page, demo, demo.tenants[0].name)
    page.wait_for_url(f"{demo.ready['urls']['analytics']}/**")
    page.locator(".account summary").click()
    page.get_by_role("button", name="Log out").click()
    # By way of the provider, and back: going elsewhere in between would be interrupted.
    page.wait_for_url(f"{demo.ready['urls']['auth']}/?state=*")
    page.goto(demo.ready["urls"]["analytics"])
    assert page.url.startswith(demo.ready["urls"]["auth"])
