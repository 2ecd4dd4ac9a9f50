"""Every page of the dashboard in a real browser: nothing for axe to find, nothing that overflows,
nothing that the browser complains about; readable without JavaScript, usable with a keyboard alone.

A page that adds itself to `SECTIONS` is looked at here without anyone thinking of it.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.conftest import Demo, Tenant
from tests.e2e.test_browser import _log_in, browser
from tests.integration.analytics.page import Page as Parsed
from troupe.http.dashboard.breakdowns import PART_METRICS, RANKED_BY, TOP_ROWS
from troupe.http.dashboard.sections import SECTIONS

__all__ = ["browser"]

HERE: Final = Path(__file__).parent
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 380, "height": 800}, "color_scheme": "light"},
}
PROVOKED: Final = "Failed to load resource"
CLOSE_AND_PRESS: Final = """(key) => {
    document.querySelector("dialog:modal").close();
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
}"""


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core, installed once from the lock beside this file."""
    if shutil.which("npm") is None:
        pytest.fail("npm is not installed: 'make e2e' as root installs it on Debian")
    source = HERE / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    return source.read_text()


@pytest.fixture(scope="module")
def tenant(demo: Demo) -> Tenant:
    return demo.tenants[0]


@pytest.fixture(scope="module")
def session(browser: Browser, demo: Demo, tenant: Tenant) -> Any:
    """Cookies of a person who has logged in."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(demo.ready["urls"]["analytics"])
    _log_in(page, demo, tenant.name)
    page.wait_for_url(f"{demo.ready['urls']['analytics']}/**")
    state = context.storage_state()
    context.close()
    return state


class Visitor:
    """A person at a browser, and what the browser complains about."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.context, self.base = context, base
        self.page: Page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: Any) -> None:
        if message.type in {"warning", "error"} and PROVOKED not in message.text:
            self.complaints.append(message.text)

    def go(self, path: str) -> Page:
        self.page.goto(f"{self.base}{path}")
        return self.page


@pytest.fixture
def visit(browser: Browser, session: Any, demo: Demo) -> Iterator[Any]:
    contexts: list[BrowserContext] = []

    def begin(**options: Any) -> Visitor:
        contexts.append(browser.new_context(storage_state=session, **options))
        return Visitor(contexts[-1], demo.ready["urls"]["analytics"])

    yield begin
    for context in contexts:
        context.close()


def _shown(page: Page, axe: str) -> dict[str, list[str]]:
    """What axe finds in what is shown, rule by rule, with the elements."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return {
        one["id"]: [node["html"][:200] for node in one["nodes"][:5]] for one in found["violations"]
    }


def _first_cart(page: Page, tenant: Tenant) -> Any:
    """A task; they follow the load within half a minute."""
    for _ in range(90):
        if found := tenant.get("analytics", "/api/v1/tasks/cart-abandonment").json()["data"]:
            return found[0]
        page.wait_for_timeout(1000)
    pytest.fail("no cart has become a task")


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_on_any_page(visit: Any, tenant: Tenant, axe: str, look: str) -> None:
    visitor = visit(**LOOKS[look])
    branch = tenant.get("analytics", "/api/v1/locations").json()["data"][0]["location_id"]
    cart = _first_cart(visitor.page, tenant)
    doors = tenant.get("auth", f"/api/v1/tenants/{tenant.id}/providers").json()["data"]
    door = doors[0]["provider_id"]
    paths = [
        f"/tasks/cart-abandonment?task={cart['id']}",
        f"/history/users/{cart['user_id']}",
        "/settings/connections/sftp",
        "/settings/alerts/new?kind=drop",
        "/settings/logins",
        f"/settings/logins/{door}",
        "/settings/privacy",
        "/data/schedules?new=ingest",
        "/account",
        "/reports/schedules",
        *(section.path for section in SECTIONS),
        f"/?preset=7d&compare=none&location={branch}&device=desktop",
        f"/data?day={tenant.last_day}",
        "/?preset=8d",
    ]
    findings: dict[str, Any] = {}
    for path in paths:
        page = visitor.go(path)
        if found := _shown(page, axe):
            findings[path] = found
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > LOOKS[look]["viewport"]["width"]:
            findings[f"{path}: width"] = width
    page = visitor.go("/")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    if found := _shown(page, axe):
        findings["help"] = found
    assert findings == {}
    assert visitor.complaints == []


def test_axe_would_find_something(visit: Any, axe: str) -> None:
    page = visit().go("/")
    page.evaluate("document.querySelector('main h1').insertAdjacentHTML('afterend', '<img>')")
    assert "image-alt" in _shown(page, axe)


def test_pages_can_be_read_without_javascript(visit: Any, tenant: Tenant) -> None:
    page = visit(java_script_enabled=False, **LOOKS["narrow"]).go("/?preset=7d")
    assert page.locator(".until").inner_text().startswith("data until")
    page.locator("tr[data-channel] a").first.click()
    assert re.search(r"[?&]preset=7d&channel=", page.url)
    assert page.locator(".chip").count() == 1
    page.locator("#preset").select_option("28d")
    page.locator("#view button").click()
    assert "channel=" in page.url
    assert "preset=28d" in page.url
    page.get_by_role("navigation", name="Sections").get_by_role("link", name="Data").click()
    page.locator("a.day.loaded").last.click()
    assert page.locator(".sheet dt", has_text="Rows loaded").is_visible()
    page.get_by_role("link", name="Close").click()
    assert page.url.endswith("/data")
    assert page.locator("button:visible").count() == 0  # nothing that would not do anything


def test_a_keyboard_suffices(visit: Any) -> None:
    visitor = visit(**LOOKS["light"])
    page = visitor.go("/")
    page.evaluate("window.stays = true")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog").get_by_text("The period before")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("[")
    page.wait_for_url("**/?start_date=*")
    was = page.url
    page.keyboard.press("?")
    page.evaluate(CLOSE_AND_PRESS, "[")  # in one frame: nobody is so quick, a browser may be slow
    page.wait_for_url(lambda url: url != was)
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.wait_for_url("**/data")
    expect(page.locator("h1")).to_have_text("Data")
    expect(page).to_have_title(re.compile("^Data · "))
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/data?day=*")
    expect(page.locator(".sheet")).to_be_focused()
    page.keyboard.press("Escape")
    page.wait_for_url("**/data")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.go_back()
    page.wait_for_url("**/data?day=*")
    expect(page.locator(".sheet")).to_be_visible()
    assert page.evaluate("window.stays"), "the page was loaded anew"
    assert visitor.complaints == []


def test_a_job_is_started_and_followed(visit: Any, tenant: Tenant) -> None:
    visitor = visit(**LOOKS["light"])
    page = visitor.go("/data")
    counted = page.locator("tr[data-job]", has_text="Count at the source")
    before = counted.count()
    form = page.locator("form", has_text="Compares event by event")
    day = tenant.last_day.isoformat()
    form.get_by_label("From").fill("1999-01-01")
    form.get_by_label("To").fill(day)
    form.get_by_role("button").click()
    expect(
        form.locator(".field-error, .form-error").filter(has_text="must not be before")
    ).to_be_visible()
    form.get_by_label("From").fill(day)
    form.get_by_role("button").click()
    expect(page.get_by_text("Counting begins.")).to_be_visible()
    expect(counted).to_have_count(before + 1)
    expect(counted.first.locator(".badge")).to_have_text("Done", timeout=20_000)
    page.locator(f"tr[data-day='{day}'] a").click()
    expect(page.locator(".sheet dd").nth(5)).to_contain_text(re.compile(r"\d\d:\d\d"))
    assert visitor.complaints == []


def test_lists_say_what_the_api_says(demo: Demo, tenant: Tenant) -> None:
    query = {"preset": "7d", "compare": "previous", "device": "desktop"}
    text = _look(demo, tenant, "/", query)
    page = Parsed(text)
    funnel = tenant.get("analytics", "/api/v1/funnel", **query).json()["steps"]
    assert {one.attributes["data-step"]: int(one.attributes["data-value"])
            for one in page.all("li") if "data-step" in one.attributes} == {
        step["name"]: step["sessions"] for step in funnel
    }  # fmt: skip
    for route, parameter in (
        ("channels", "channel"),
        ("devices", "device"),
        ("countries", "country"),
    ):
        rows = tenant.get("analytics", f"/api/v1/{route}", **query).json()["data"]
        wanted = {
            row["name"]: [_exact(row["metrics"][name]["value"]) for name in PART_METRICS]
            for row in rows
            if row["metrics"]["sessions"]["value"] or row["metrics"]["purchases"]["value"]
        }
        shown = _rows(page, f"data-{parameter}", "data-part-metric")
        assert shown == dict(list(wanted.items())[:TOP_ROWS])
    for kind, by in RANKED_BY.items():
        rows = tenant.get("analytics", f"/api/v1/top/{kind}s", **query, limit=TOP_ROWS).json()
        found = {row["name"]: _exact(row["metrics"][by]["value"]) for row in rows["data"]}
        shown = _rows(page, "data-subject", "data-subject-metric")
        assert {name: values[0] for name, values in shown.items() if name in found} == found
        _follow_a_subject(demo, tenant, text, kind, next(iter(found)))


def _look(demo: Demo, tenant: Tenant, address: str, query: dict[str, str]) -> str:
    answer = httpx2.get(
        f"{demo.ready['urls']['analytics']}{address}",
        params=query,
        headers={"Authorization": f"Bearer {tenant.token}", "Accept": "text/html"},
    )
    assert answer.status_code == 200
    return answer.text


def _follow_a_subject(demo: Demo, tenant: Tenant, text: str, kind: str, name: str) -> None:
    """A click in a top list narrows the page to sessions with it, and the chip takes that away."""
    [link] = [
        one.attributes["href"]
        for one in Parsed(text).elements
        if one.tag == "a" and one.attributes.get("title") == f"Only sessions with {name}"
    ]
    asked = dict(parse_qsl(link.partition("?")[2]))
    assert asked[kind] == name
    page = Parsed(_look(demo, tenant, "/", asked))
    narrowed = tenant.get("analytics", "/api/v1/stats", **asked).json()["metrics"]["sessions"]
    assert [
        float(one.attributes["data-value"])
        for one in page.elements
        if one.attributes.get("data-metric") == "sessions" and one.tag == "a"
    ] == [narrowed["value"]]
    assert narrowed["value"] > 0
    chips = [one for one in page.elements if one.attributes.get("class") == "chip"]
    assert kind not in dict(parse_qsl(chips[-1].attributes["href"].partition("?")[2]))


def _exact(value: Any) -> float | None:
    return None if value is None else float(value)


def _rows(page: Parsed, row: str, cell: str) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {}
    current: list[float | None] | None = None
    for one in page.elements:
        if one.tag == "tr":
            name = one.attributes.get(row)
            current = found.setdefault(name, []) if name is not None else None
        elif current is not None and cell in one.attributes:
            text = one.attributes["data-value"]
            current.append(float(text) if text else None)
    return found
