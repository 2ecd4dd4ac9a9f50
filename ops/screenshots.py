"""Pictures of every page of the dashboard, made from the demonstration: ``make screenshots``.

Starts the demonstration with a fixed seed in a directory of its own, logs in, and looks at every
section in light, dark and on a narrow screen, and at what pages show when something is opened, when
there is nothing, and when something is wrong. The pictures are to be looked at by people: they lie
in ``docs/screenshots``, small enough for a repository (they have a palette of 256 colours).
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from troupe.http.dashboard.sections import SECTIONS

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "docs" / "screenshots"
MOST_BYTES: Final = 6_000_000
COLOURS: Final = 256
READY_SECONDS: Final = 300
CHROMIUM: Final = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
WIDE: Final = {"width": 1280, "height": 800}
NARROW: Final = {"width": 380, "height": 800}
EMPTY_TENANT: Final = "Empty Shelves Ltd"
ALERTS: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "Revenue is low",
        "kind": "drop",
        "metric": "gross_revenue",
        "threshold": 30,
        "emails": ["sales@nordwerk.example"],
        "webhook_url": "https://hook.example/shop",
    },
    {
        "name": "Data is late",
        "kind": "stale_data",
        "threshold": 36,
        "emails": ["it@nordwerk.example"],
    },
)
SCHEDULES: Final[tuple[dict[str, Any], ...]] = (
    {"name": "Load in the morning", "kind": "ingest", "cron": "30 5 * * *"},
    {"name": "Customers and branches", "kind": "import_master_data", "cron": "0 5 * * 1-5"},
    {"name": "Count on Mondays", "kind": "reconcile", "cron": "0 7 * * 1", "enabled": False},
)
PAGES: Final = (
    ("settings-connections", "/settings/connections"),
    ("settings-connection", "/settings/connections/sftp"),
    ("settings-logins", "/settings/logins"),
    ("settings-alerts", "/settings/alerts"),
    ("settings-privacy", "/settings/privacy"),
    ("settings-audit", "/settings/audit"),
    ("data-schedules", "/data/schedules"),
    ("sessions", "/account"),
)
"""Pages below those of `SECTIONS`."""
NARROW_PAGES: Final = frozenset({"settings-privacy", "data-schedules", "sessions"})
EMPTY_PAGES: Final = (
    ("settings-logins", "/settings/logins"),
    ("settings-alerts", "/settings/alerts"),
    ("data-schedules", "/data/schedules"),
)
FORGOTTEN_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture.

    Attributes:
        name: Of the file.
        path: Of the page.
        dark: In dark colours.
        narrow: On a narrow screen.
        whole: All of the page, not only what a screen shows.
        keys: Pressed before.
        empty: As somebody whose tenant has no data.
        clicks: Clicked before, one after the other; no picture where the first is not there.
        awaits: What must be there at last.
        stranger: As somebody who is not signed in.
    """

    name: str
    path: str
    dark: bool = False
    narrow: bool = False
    whole: bool = True
    keys: tuple[str, ...] = ()
    empty: bool = False
    clicks: tuple[str, ...] = ()
    awaits: str = ""
    stranger: bool = False


def shots() -> Iterator[Shot]:
    """All pictures; a section that is added gets its own."""
    for section in SECTIONS:
        name = section.name.replace("/", "-")
        yield Shot(name, section.path)
        yield Shot(f"{name}-dark", section.path, dark=True)
        yield Shot(f"{name}-narrow", section.path, narrow=True)
        yield Shot(f"{name}-empty", section.path, empty=True)
        yield Shot(f"{name}-open", section.path, whole=False, clicks=("[data-row]",))
    for name, path in PAGES:
        yield Shot(name, path)
        if name in NARROW_PAGES:
            yield Shot(f"{name}-narrow", path, narrow=True)
    for name, path in EMPTY_PAGES:
        yield Shot(f"{name}-empty", path, empty=True)
    tried, steps = ("[data-row]", "#trial [data-api]"), ".trial-steps li, .verdict"
    yield Shot("settings-login", "/settings/logins", clicks=tried, awaits=steps)
    yield Shot("settings-login-dark", "/settings/logins", clicks=tried, awaits=steps, dark=True)
    yield Shot("settings-login-narrow", "/settings/logins", clicks=("[data-row]",), narrow=True)
    yield Shot("settings-login-new", "/settings/logins/new")
    yield Shot("settings-privacy-dark", "/settings/privacy", dark=True)
    export = "form[data-export] .actions button"
    yield Shot("settings-privacy-export", "/settings/privacy", whole=False, clicks=(export,),
               awaits="a[download]")  # fmt: skip
    yield Shot("settings-alert", "/settings/alerts", clicks=(".tile a",))
    yield Shot("data-schedules-dark", "/data/schedules", dark=True)
    yield Shot("data-schedules-open", "/data/schedules", whole=False, clicks=("[data-row]",))
    yield Shot("data-schedules-new", "/data/schedules?new=ingest")
    yield Shot("overview-filtered", "/?preset=7d&device=mobile", whole=False)
    yield Shot("overview-hour", "/?preset=yesterday&compare=weekday&metric=sessions", whole=False)
    yield Shot("overview-nothing", "/?start_date=2020-01-01&end_date=2020-01-31", whole=False)
    yield Shot("help", "/", whole=False, keys=("?",))
    yield Shot("account", "/", whole=False, clicks=(".account summary",))
    yield Shot("login", "/", stranger=True)
    yield Shot("login-dark", "/", stranger=True, dark=True)
    yield Shot("login-narrow", "/", stranger=True, narrow=True)
    yield Shot("error", "/?preset=8d", whole=False)
    yield Shot("error-dark", "/nowhere", dark=True, whole=False)
    yield Shot("error-narrow", "/?preset=8d", narrow=True, whole=False)


@contextmanager
def demonstration(state: Path) -> Iterator[dict[str, Any]]:
    """The demonstration, running; what it says about itself."""
    ready = state / "ready.json"
    ready.unlink(missing_ok=True)
    command = [
        *(str(ROOT / ".venv" / "bin" / "troupe"), "demo", "--days", "60", "--events", "150000"),
        *("--seed", "11", "--ports", "auto"),
        *("--state-dir", str(state / "demo"), "--ready-file", str(ready)),
    ]
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own program
        try:
            end = time.monotonic() + READY_SECONDS
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit(f"the demonstration did not start: see {state / 'log'}")
                time.sleep(0.2)
            yield json.loads(ready.read_text())
        finally:
            process.terminate()
            process.wait(timeout=60)


def token_of_nobody(state: Path) -> str:
    """The token of a tenant without data."""
    troupe = [str(ROOT / ".venv" / "bin" / "troupe"), "--state-dir", str(state / "demo" / "troupe")]
    made = json.loads(_said([*troupe, "tenants", "create", EMPTY_TENANT, "--json"]))
    return _said(
        [*troupe, "tenants", "token", made["id"], "--name", "screenshots", "--role", "owner"]
    ).strip()


def _said(command: list[str]) -> str:
    done = subprocess.run(  # noqa: S603 - our own program
        command, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def furnish(ready: dict[str, Any]) -> None:
    """Set up what people will have after some weeks.

    Alerts, one of them tried, schedules, and a person who was forgotten.
    """
    tenant, urls = ready["tenants"][0], ready["urls"]
    headers = {"Authorization": f"Bearer {tenant['token']}"}
    with httpx2.Client(headers=headers, timeout=60) as client:
        api = f"{urls['auth']}/api/v1/tenants/{tenant['id']}"
        made = client.post(f"{urls['analytics']}/api/v1/alerts", json=ALERTS[0])
        if made.status_code == 201:
            path = f"{urls['analytics']}/api/v1/alerts/{made.json()['id']}/test"
            client.post(path).raise_for_status()
        client.post(f"{urls['analytics']}/api/v1/alerts", json=ALERTS[1])
        for schedule in SCHEDULES:
            client.post(f"{urls['data']}/api/v1/schedules", json=schedule)
        person = {"what": "person", "identifiers": ["nobody-at-all"]}
        asked = client.post(f"{api}/erase", json=person)
        where = f"{urls['data']}/api/v1/jobs/{asked.json()['job_id']}"
        end = time.monotonic() + FORGOTTEN_SECONDS
        while client.get(where).json()["state"] != "done" and time.monotonic() < end:
            time.sleep(0.2)


def log_in(browser: Browser, ready: dict[str, Any]) -> Any:
    """Cookies of the demonstration's person."""
    page = browser.new_page()
    page.goto(ready["urls"]["analytics"])
    page.get_by_text(ready["tenants"][0]["name"]).first.click()
    page.get_by_label("User name").fill(ready["login"]["user"])
    page.get_by_label("Password").fill(ready["login"]["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{ready['urls']['analytics']}/**")
    state = page.context.storage_state()
    page.context.close()
    return state


def take(page: Page, base: str, shot: Shot) -> bytes | None:
    """The picture as PNG; None if what it shows is not there."""
    page.goto(f"{base}{shot.path}")
    for place, click in enumerate(shot.clicks):
        target = page.locator(click)
        if not place and not target.count():
            return None
        target.last.click()
        page.wait_for_load_state("networkidle")
    if shot.awaits:
        page.locator(shot.awaits).first.wait_for()
    for key in shot.keys:
        page.keyboard.press(key)
    page.wait_for_timeout(350)
    return page.screenshot(full_page=shot.whole)


def small(picture: bytes) -> bytes:
    """The same with a palette."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return written.getvalue()


def make(state: Path, only: str) -> int:
    """Take all pictures whose name holds `only`; their bytes in all."""
    chromium = next(
        path for path in (os.environ.get("TROUPE_CHROMIUM", ""), *CHROMIUM) if Path(path).is_file()
    )
    FOLDER.mkdir(exist_ok=True)
    with demonstration(state) as ready, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        furnish(ready)
        session, base = log_in(browser, ready), ready["urls"]["analytics"]
        nobody = {"Authorization": f"Bearer {token_of_nobody(state)}"}
        for shot in shots():
            if only not in shot.name:
                continue
            context = browser.new_context(
                viewport=NARROW if shot.narrow else WIDE,  # type: ignore[arg-type]
                color_scheme="dark" if shot.dark else "light",
                storage_state=None if shot.empty or shot.stranger else session,
                extra_http_headers=nobody if shot.empty else {},
                reduced_motion="reduce",
            )
            picture = take(context.new_page(), base, shot)
            if picture is not None:
                (FOLDER / f"{shot.name}.png").write_bytes(small(picture))
            context.close()
    return sum(file.stat().st_size for file in FOLDER.glob("*.png"))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", help="pictures whose name holds this")
    parser.add_argument("--state-dir", type=Path, help="keep the demonstration's data here")
    chosen = parser.parse_args()
    if chosen.state_dir:
        chosen.state_dir.mkdir(parents=True, exist_ok=True)
        size = make(chosen.state_dir, chosen.only)
    else:
        with tempfile.TemporaryDirectory(prefix="troupe-screenshots-") as directory:
            size = make(Path(directory), chosen.only)
    sys.stdout.write(f"{FOLDER.relative_to(ROOT)}: {size / 1e6:.1f} MB\n")
    if size > MOST_BYTES:
        sys.exit(f"more than {MOST_BYTES / 1e6:.0f} MB: make the pictures smaller")


if __name__ == "__main__":
    main()
