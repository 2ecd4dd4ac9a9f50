"""What owners do in the settings, in a real browser: try a login, take data along, forget a person,
let something happen by itself, try an alert. Against the running demonstration."""

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.e2e.conftest import Tenant
from tests.e2e.dashboard.test_pages_in_the_browser import LOOKS, session, tenant, visit
from tests.e2e.test_browser import browser

__all__ = ["browser", "session", "tenant", "visit"]

PATIENCE = 60_000  # milliseconds


def test_a_login_is_tried(visit: Any) -> None:
    visitor = visit(**LOOKS["light"])
    page: Page = visitor.go("/settings/logins")
    page.locator("a[data-row]").first.click()
    page.wait_for_url("**/settings/logins/*")
    page.get_by_role("button", name="Test the login").click()
    found = page.locator("#trial-found")
    expect(found.locator(".verdict")).to_have_text(
        "Works. People can be sent there to log in.", timeout=PATIENCE
    )
    expect(found.locator("li.good")).to_have_count(5)
    assert page.locator("#r-callback").inner_text().endswith("/api/v1/callback")
    assert visitor.complaints == []


def test_data_is_taken_along_whole(visit: Any, tenant: Tenant, tmp_path: Path) -> None:
    visitor = visit(**LOOKS["light"], accept_downloads=True)
    page: Page = visitor.go("/settings/privacy")
    page.get_by_role("button", name="Begin the export").click()
    link = page.locator("a[download]")
    expect(link).to_be_visible(timeout=PATIENCE)
    told = page.locator("[data-part=told]").inner_text()
    with page.expect_download() as waiting:
        link.click()
    assert re.search(r"-\d{4}-\d\d-\d\d\.jsonl$", waiting.value.suggested_filename)
    waiting.value.save_as(tmp_path / "export.jsonl")
    lines = (tmp_path / "export.jsonl").read_text().splitlines()
    end = json.loads(lines[-1])
    assert end == {"end": True, "rows": len(lines) - 1}
    assert f"{end['rows']:,} rows" in told
    customer = next(
        row["row"]["customer_id"]
        for row in map(json.loads, lines[:-1])
        if row["table"] == "data.customers"
    )
    page.get_by_label("Only of one person").fill(customer)
    page.get_by_role("button", name="Begin the export").click()
    expect(page.locator("[data-part=told]")).to_contain_text("It is whole", timeout=PATIENCE)
    assert visitor.complaints == []


def test_a_person_is_forgotten_once_that_is_typed(visit: Any) -> None:
    visitor = visit(**LOOKS["light"])
    page: Page = visitor.go("/settings/privacy")
    button = page.get_by_role("button", name="Forget the person")
    typed = page.locator("#e-typed")
    page.get_by_label("Identifiers").fill("nobody-is-called-so")
    typed.fill("forgot")
    button.click()
    assert typed.evaluate("field => field.validationMessage") == "Type forget to confirm."
    typed.fill("forget")
    button.click()
    row = page.locator("tr[data-job]").first
    expect(row).to_contain_text("Nothing was found under these identifiers.", timeout=PATIENCE)
    assert row.locator(".badge").inner_text() == "Done"
    assert visitor.complaints == []


def test_the_name_must_be_typed_before_a_tenant_is_closed(visit: Any, tenant: Tenant) -> None:
    visitor = visit(**LOOKS["light"])
    page: Page = visitor.go("/settings/privacy")
    for name in ("Deactivate", "Delete for good"):
        form = page.locator("form", has=page.get_by_role("button", name=name))
        form.get_by_role("textbox").fill(tenant.name.lower() + "?")
        form.get_by_role("button").click()
        message = form.get_by_role("textbox").evaluate("field => field.validationMessage")
        assert message == f"Type {tenant.name} to confirm."
    assert tenant.get("analytics", "/api/v1/locations").status_code == 200
    assert visitor.complaints == []


def test_a_schedule_is_made_rests_and_goes(visit: Any) -> None:
    visitor = visit(**LOOKS["light"])
    page: Page = visitor.go("/data")
    page.get_by_role("navigation", name="Data").get_by_role("link", name="Schedules").click()
    page.locator("a.choice", has_text="Count at the source").click()
    form = page.locator("#new form")
    form.get_by_label("Name").fill("Count the week")
    form.get_by_label("When").fill("every monday")
    form.get_by_role("button", name="Make it").click()
    expect(form.locator("#s-cron-error")).not_to_be_empty()
    form.get_by_label("When").fill("30 7 * * 1")
    form.get_by_label("The last").fill("7")
    form.get_by_role("button", name="Make it").click()
    tile = page.locator("li[data-schedule]", has_text="Count the week")
    expect(tile).to_contain_text("Mondays at 07:30")
    tile.get_by_role("link").click()
    sheet = page.locator(".sheet")
    sheet.get_by_role("button", name="Let it rest").click()
    expect(sheet.get_by_role("button", name="Let it run again")).to_be_visible()
    expect(tile).to_contain_text("Rests")
    assert sheet.get_by_label("The last").input_value() == "7"
    sheet.get_by_role("button", name="Remove").click()
    page.locator("#confirm").get_by_role("button", name="Remove").click()
    expect(tile).to_have_count(0)
    assert visitor.complaints == []


def test_an_alert_is_tried(visit: Any) -> None:
    visitor = visit(**LOOKS["light"])
    page: Page = visitor.go("/settings/alerts/new?kind=stale_data")
    page.get_by_label("Name").fill("Tried")
    page.get_by_label("E-mail to").fill("ada@nobody.example")
    page.get_by_role("button", name="Make the alert").click()
    page.wait_for_url("**/settings/alerts")
    page.get_by_role("link", name="Tried").click()
    page.get_by_role("button", name="Send a test").click()
    told = page.locator("ol.changes li").first
    expect(told).to_contain_text("Sent to try the alert.", timeout=PATIENCE)
    expect(told).to_contain_text("ada@nobody.example")
    page.get_by_role("button", name="Delete").click()
    page.locator("#confirm").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/settings/alerts")
    assert visitor.complaints == []
