"""A report that the running system sends arrives, says what the port says, and looks right."""

import os
import subprocess
import sys
import time
from decimal import Decimal
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from babel.numbers import format_currency
from playwright.sync_api import Browser

from tests.e2e.conftest import Demo, Tenant
from tests.e2e.test_browser import browser
from tests.support.reports.looks import SCHEMES, keep, photograph

__all__ = ["browser"]  # a fixture

SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots"
PATIENCE = 60.0
TROUPE = Path(sys.executable).with_name("troupe")


def _sent(tenant: Tenant) -> Any:
    """A run that was asked for now, once it is done."""
    body = {"to": "all", "day": tenant.last_day.isoformat()}
    asked = tenant.post("analytics", "/api/v1/reports/send", body)
    assert asked.status_code == 202, asked.text
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        run = tenant.get("analytics", f"/api/v1/reports/runs/{asked.json()['id']}").json()
        if run["state"] == "done":
            return run
        time.sleep(0.1)
    pytest.fail(f"the run does not end: {run}")


def _mail(demo: Demo, message_id: str) -> EmailMessage:
    for file in (demo.state / "mail").glob("*.eml"):
        message = message_from_bytes(file.read_bytes(), policy=policy.default)
        if message["Message-ID"] and message["Message-ID"].startswith(f"<{message_id}@"):
            assert isinstance(message, EmailMessage)
            return message
    pytest.fail(f"{message_id} is not in the mailbox")


def test_a_report_arrives_and_says_what_the_port_says(demo: Demo, browser: Browser) -> None:
    tenant = demo.tenants[0]
    run = _sent(tenant)
    assert run["mails"] == {"sent": 1}
    assert run["notice"] is False
    (delivery,) = tenant.get("analytics", "/api/v1/reports/deliveries", run=run["id"]).json()[
        "data"
    ]
    message = _mail(demo, delivery["message_id"])
    html = message.get_body(("html",))
    assert html is not None
    days = {"start_date": run["first_day"], "end_date": run["last_day"]}
    stats = tenant.get("analytics", "/api/v1/stats", **days).json()
    revenue = stats["metrics"]["gross_revenue"]
    shown = format_currency(Decimal(revenue["value"]), revenue["currency"], locale="en")
    assert shown in html.get_content()
    assert f">{stats['metrics']['sessions']['value']:,}<" in html.get_content()
    bought = tenant.get("analytics", "/api/v1/tasks/purchases", **days).json()["data"]
    shown = unescape(html.get_content())
    assert bought
    assert all(task["title"][:30] in shown for task in bought[:10])
    taken = {scheme: photograph(browser, message, scheme) for scheme in SCHEMES}
    assert taken["light"][1] != taken["dark"][1]
    if os.environ.get("KEEP_SCREENSHOTS"):
        keep(SCREENSHOTS, "report", {scheme: picture for scheme, (picture, _) in taken.items()})


def test_the_terminal_shows_what_the_port_shows(demo: Demo) -> None:
    """The whole mail, which holds all of its parts, and one part by itself."""
    tenant = demo.tenants[0]
    day = tenant.last_day.isoformat()
    command = [TROUPE, "--state-dir", demo.state / "troupe", "report", "preview", tenant.name]
    for part in ("mail", "html"):
        for _ in range(3):  # a cart may turn idle in between, and then the mail says so
            shown = tenant.get("analytics", "/api/v1/reports/preview", day=day, part=part)
            assert shown.status_code == 200, shown.text
            printed = subprocess.run(
                [*command, "--day", day, "--part", part],
                check=True, capture_output=True, timeout=60,
            )  # fmt: skip
            if printed.stdout == shown.content:
                break
        else:
            pytest.fail(f"the terminal shows another {part}")
