"""The pages on which people work: they show what the API answers, to those who may see it."""

import json
from dataclasses import replace
from uuid import UUID, uuid4

from tests.integration.analytics.office import NINE, Office
from tests.integration.analytics.page import Page
from troupe.actors.analytics.reports.records import Recipient, ReportSchedule
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.auth import audit, connections, members, tenants
from troupe.actors.auth.members import add_member
from troupe.common.secrets import KeyRing, Vault, new_key
from troupe.common.tenant_settings import TenantSettings
from troupe.http.dashboard.connection_forms import Trial
from troupe.http.principal import Role
from troupe.http.reports import recipient_tag
from troupe.http.tenants import connection_tag, tag_of
from troupe.platform.jobs import JobState

SECRET = "a very secret password"


PAGES = {
    "/tasks/purchases": Role.VIEWER,
    "/tasks/cart-abandonment": Role.VIEWER,
    "/tasks/search-analysis": Role.VIEWER,
    "/tasks/repeat-visits": Role.VIEWER,
    "/tasks/performance": Role.VIEWER,
    "/tasks/performance?of=branches": Role.VIEWER,
    "/settings": Role.VIEWER,
    "/settings/alerts": Role.VIEWER,
    "/settings/alerts/new?kind=stale_data": Role.ADMIN,
    "/settings/connections": Role.ADMIN,
    "/settings/connections/bigquery": Role.ADMIN,
    "/settings/connections/sftp": Role.ADMIN,
    "/settings/connections/smtp": Role.ADMIN,
    "/settings/audit": Role.ADMIN,
    "/members": Role.ANALYST,
    "/account": Role.VIEWER,
    "/reports": Role.VIEWER,
    "/reports/schedules": Role.VIEWER,
    "/reports/look": Role.VIEWER,
    "/reports/recipients": Role.ANALYST,
    "/reports/deliveries": Role.ANALYST,
    "/reports/preview": Role.ANALYST,
}


async def test_a_page_is_for_whom_the_api_is_for(office: Office) -> None:
    for path, least in PAGES.items():
        for role in Role:
            page = await office.desk.visit(office.tenant, path, role=role.label)
            assert page.status == (200 if role >= least else 403), (path, role)
            for element in page.elements:
                assert element.tag != "style"
                assert not [one for one in element.attributes if one == "style" or one[:2] == "on"]


async def test_a_tenant_without_data_has_every_page(office: Office) -> None:
    nobody = await tenants.create_tenant(office.database, "Nobody")
    for path in PAGES:
        assert (await office.desk.visit(nobody, path, role="owner")).status == 200, path


async def test_what_one_may_not_do_is_not_offered(office: Office) -> None:
    for path in ("/settings", "/settings/alerts", "/tasks/cart-abandonment?view=all", "/members"):
        page = await office.desk.visit(office.tenant, path, role="analyst")
        asking = [one for one in page.elements if "data-api" in one.attributes]
        assert all("/tasks/" in one.attributes["data-api"] for one in asking if one.tag == "button")
        if path == "/settings":
            assert "disabled" in page.one("fieldset").attributes
    owner = await office.desk.visit(office.tenant, "/settings", role="admin")
    assert "disabled" not in owner.one("fieldset").attributes


async def test_every_setting_can_be_seen_and_changed(office: Office) -> None:
    tenant = await tenants.load_tenant(office.database, office.tenant)
    page = await office.desk.visit(office.tenant, "/settings", role="admin")
    fields = {one.attributes.get("name"): one for one in page.all("input")}
    for name in TenantSettings.model_fields:
        value = getattr(tenant.settings, name)
        shown = fields[f"settings.{name}"].attributes["value"]
        assert shown == ("" if value is None else str(value)), name
    form = page.one("form", class_="setup")
    assert form.attributes["data-etag"] == f'"{tag_of(tenant)}"'
    assert form.attributes["data-api"] == f"PATCH auth:/api/v1/tenants/{office.tenant}"


async def test_a_connections_secret_is_never_on_its_page(office: Office) -> None:
    config = {"host": "mail.example", "username": "shop", "sender": "shop@mail.example"}
    version = await connections.put_connection(
        office.database, Vault(KeyRing([new_key()])), office.tenant, "smtp", config, SECRET.encode()
    )
    page = await office.desk.visit(office.tenant, "/settings/connections/smtp", role="admin")
    assert SECRET not in page.html
    assert page.one("input", name="secret").attributes.get("value", "") == ""
    assert page.one("input", name="config.host").attributes["value"] == "mail.example"
    tag = connection_tag(office.tenant, "smtp", version)
    assert page.one("form", class_="setup").attributes["data-etag"] == f'"{tag}"'
    assert "not tested yet" in page.one("section", id_="trial").text
    listed = await office.desk.visit(office.tenant, "/settings/connections", role="admin")
    assert [one.text for one in listed.all("span", class_="badge")][-1] == "Not tested yet"


async def test_a_test_says_what_it_found_until_the_connection_changes(office: Office) -> None:
    config = {"host": "mail.example", "sender": "shop@mail.example"}
    vault = Vault(KeyRing([new_key()]))
    await connections.put_connection(office.database, vault, office.tenant, "smtp", config, None)
    job = await connections.start_test(office.database, office.tenant, "smtp", actor=audit.OPERATOR)
    path = "/settings/connections/smtp"
    waiting = (await office.desk.visit(office.tenant, path, role="admin")).one(
        "section", id_="trial"
    )
    assert waiting.attributes["hx-trigger"] == "every 1s"
    found = {
        "connection": "smtp", "version": 1, "works": False, "message": "It does not let us in.",
        "steps": [{"name": "connecting", "ok": False, "message": "It does not let us in."}],
    }  # fmt: skip
    ended = replace(job, state=JobState.DONE, result=found, finished_at=NINE)
    trial = Trial.of(ended, 1)
    assert (trial.works, trial.is_under_way, trial.is_outdated) == (False, False, False)
    assert trial.steps == (("connecting", False, "It does not let us in."),)
    assert Trial.of(ended, 2).is_outdated
    dead = replace(job, state=JobState.DEAD, result=None)
    assert (Trial.of(dead, 1).works, Trial.of(dead, 1).message) == (None, "It was given up.")


async def test_members_are_shown_with_what_one_may_make_of_them(office: Office) -> None:
    for name, role in (("Ada", "owner"), ("Bo <b>", "analyst")):
        await add_member(
            office.database, office.tenant, issuer="https://id.example", subject=name,
            role=role, name=name,
        )  # fmt: skip
    page = await office.desk.visit(office.tenant, "/members", role="admin")
    rows = [one for one in page.all("tr") if "data-member" in one.attributes]
    assert ["Ada" in rows[0].text, "Bo <b>" in rows[1].text] == [True, True]
    choices = page.all("select", name="role")
    assert [one.attributes["aria-label"] for one in choices] == ["Role of Bo <b>"]
    assert "Owner" not in choices[0].text
    owner = await office.desk.visit(office.tenant, "/members", role="owner")
    assert len(owner.all("select", name="role")) == 2
    assert not (await office.desk.visit(office.tenant, "/members")).all("select", name="role")


async def test_the_log_is_told_in_words(office: Office) -> None:
    user = await add_member(
        office.database, office.tenant, issuer="https://id.example", subject="a", role="viewer",
        name="Ada",
    )  # fmt: skip
    await members.change_role(
        office.database, office.tenant, user, "analyst", by="owner", actor=audit.Actor("user", user)
    )
    page = await office.desk.visit(office.tenant, "/settings/audit", role="owner")
    told = [one.text for one in page.all("td", data_label="Did what")]
    assert told[:2] == ["Made Ada analyst (before: viewer)", "Let Ada in as viewer"]
    assert [one.text for one in page.all("td", data_label="Who")][:2] == ["Ada", "The operator"]


def rows_of(page: Page) -> list[str]:
    return [one.attributes["data-row"] for one in page.all("a") if "data-row" in one.attributes]


async def test_a_list_shows_what_the_api_answers(office: Office) -> None:
    for kind in ("purchases", "cart-abandonment", "search-analysis", "repeat-visits"):
        for view, query in (
            ("todo", {"status": ["open", "in_progress"], "snoozed": "false"}),
            ("done", {"status": ["done", "dismissed", "settled"]}),
            ("all", {}),
        ):
            found = await office.desk.get(
                office.tenant, f"/tasks/{kind}", sort="-priority", **query
            )
            page = await office.desk.visit(office.tenant, f"/tasks/{kind}?view={view}")
            assert rows_of(page) == [one["id"] for one in found["data"]]
            export = next(one for one in page.all("a") if one.text == "CSV").attributes["href"]
            file = await office.desk.ask(office.tenant, "GET", export.removeprefix("/api/v1"))
            assert file.status == 200
            assert len(file.raw.decode().splitlines()) == 1 + found["total"]


async def test_a_sheet_changes_the_very_task_that_it_shows(office: Office) -> None:
    task = await office.only("cart-abandonment")
    path = f"/tasks/cart-abandonment?task={task['id']}"
    page = await office.desk.visit(office.tenant, path)
    sheet = page.one("div", data_sheet=task["id"])
    assert task["why"] in sheet.text
    for reason in task["reasons"]:
        assert reason["text"] in sheet.text
    (form,) = [one for one in page.all("form") if "data-changed-only" in one.attributes]
    tag = form.attributes["data-etag"]
    assert tag == f'"{task["etag"]}"'
    taking = next(one for one in page.all("button") if one.text == "Done")
    changed = await office.change(
        task, json.loads(taking.attributes["data-json"]), headers={"If-Match": tag}
    )
    assert changed.json["status"] == "done"
    again = await office.desk.visit(office.tenant, path)
    assert task["id"] not in rows_of(again)
    assert "Status: Done" in again.one("ol", class_="changes").text
    viewer = await office.desk.visit(office.tenant, path, role="viewer")
    assert not [one for one in viewer.elements if "data-api" in one.attributes]
    gone = await office.desk.visit(office.tenant, f"/tasks/cart-abandonment?task={uuid4()}")
    assert gone.notices()[0].startswith("The task that this address opens is not there")


async def test_names_from_outside_are_only_names(office: Office) -> None:
    nasty = "<script>alert('1')</script>\"&"
    await office.database.execute(
        "UPDATE analytics.tasks SET company = $2, note = $2, title = $2 WHERE tenant_id = $1",
        office.tenant, nasty, tenant=office.tenant,
    )  # fmt: skip
    task = await office.only("cart-abandonment")
    page = await office.desk.visit(
        office.tenant, f"/tasks/cart-abandonment?task={task['id']}&q=script"
    )
    assert all(one.attributes["src"].startswith("/static/") for one in page.all("script"))
    assert page.one("textarea").text == nasty
    assert rows_of(page) == [task["id"]]


async def test_timelines_show_every_event_with_its_pauses_and_devices(office: Office) -> None:
    task = await office.only("cart-abandonment")
    known = await office.desk.get(office.tenant, f"/history/sessions/{task['session_id']}")
    page = await office.desk.visit(office.tenant, f"/history/sessions/{task['session_id']}")
    events = [one for one in page.all("li") if "event" in one.attributes.get("class", "").split()]
    assert len(events) == len(known["data"])
    assert "Put into the cart: 2 × Drill, Saw" in page.html
    person = await office.desk.get(office.tenant, f"/history/users/{task['user_id']}")
    page = await office.desk.visit(office.tenant, f"/history/users/{task['user_id']}")
    events = [one for one in page.all("li") if "event" in one.attributes.get("class", "").split()]
    assert len(events) == len(person["data"])
    gaps = [one["gap_seconds"] for one in person["data"] if (one["gap_seconds"] or 0) >= 1800]
    assert len(page.all("li", class_="pause")) == len(gaps) > 0
    letters = {one.text for one in page.all("span", class_="device")}
    assert letters == {"A", "B"}
    assert (await office.desk.visit(office.tenant, "/history/users/nobody")).status == 404
    assert NINE.isoformat() in page.html


async def test_reports_show_who_gets_them_and_when(office: Office) -> None:
    store, person = ReportStore(office.database), ("user", UUID(int=1))
    recipient = await store.recipients.add(
        office.tenant, Recipient(location_id="B1", address="bo@kiel.example", name="<Bo>"), person
    )
    schedule = await store.schedules.add(
        office.tenant, ReportSchedule(name="Mondays", cron="0 8 * * 1"), person, now=NINE
    )
    path = f"/reports/recipients?recipient={recipient.id}"
    page = await office.desk.visit(office.tenant, path, role="admin")
    assert rows_of(page) == [str(recipient.id)]
    (form,) = [one for one in page.all("form") if "data-changed-only" in one.attributes]
    assert form.attributes["data-etag"] == f'"{recipient_tag(recipient)}"'
    assert page.one("input", name="name").attributes["value"] == "<Bo>"
    looking = await office.desk.visit(office.tenant, path)
    assert rows_of(looking) == []
    assert "bo@kiel.example" in looking.html
    page = await office.desk.visit(office.tenant, "/reports/schedules", role="admin")
    assert rows_of(page) == [str(schedule.id)]
    assert "Mondays at 08:00 on each recipient’s clock" in page.html
    empty = await office.desk.visit(office.tenant, "/reports/deliveries?state=&run=")
    assert [one.text for one in empty.all("h2")][:1] == ["No mails"]
