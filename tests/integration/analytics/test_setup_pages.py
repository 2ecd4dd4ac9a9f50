"""Logins, exports, erasures, the end of a tenant, schedules and trials, as pages show them."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.integration.analytics.desk import NOW
from tests.integration.analytics.office import Office
from tests.integration.analytics.page import Page
from troupe.actors.auth import providers, tenants
from troupe.actors.auth.members import add_member
from troupe.actors.data.job_requests import SCHEDULABLE
from troupe.common.erasure import ERASE_PERSON
from troupe.common.secrets import KeyRing, Vault, new_key
from troupe.http.auth_providers import ProviderBody, provider_tag
from troupe.http.dashboard.erasure_words import ErasureWords
from troupe.http.dashboard.schedule_pages import ARGUMENT_WORDS, KIND_HELP, USUAL_LINE
from troupe.http.principal import Role
from troupe.http.schedules import tag_of as schedule_tag
from troupe.http.tenants import tag_of
from troupe.platform.jobs import JobState, JobStore, NewJob
from troupe.platform.schedules import NewSchedule, Schedule, ScheduleStore

SECRET = "canary client secret"


async def set_up(office: Office, **changes: object) -> providers.ListedProvider:
    settings: dict[str, object] = {
        "label": "Company login",
        "issuer": f"https://login{uuid4().hex[:6]}.example",
        "client_id": "troupe",
        "client_secret": SECRET,
        "allowed_email_domains": ["shop.example"],
    }
    vault = Vault(KeyRing([new_key()]))
    made = await providers.put_identity_provider(
        office.database,
        vault,
        office.tenant,
        **settings | changes,  # type: ignore[arg-type]
    )
    return (await providers.list_providers(office.database, office.tenant, made))[0]


async def schedule(office: Office, **changes: object) -> Schedule:
    values: dict[str, object] = {
        "name": "Night load",
        "group": "data",
        "kind": "ingest",
        "cron": "0 6 * * 1-5",
        "zone": "Europe/Berlin",
        "arguments": {"last_days": 3, "include_today": False},
    }
    new = NewSchedule(**values | changes)  # type: ignore[arg-type]
    return await ScheduleStore(office.database).create(office.tenant, new, most=10)


def forms(page: Page) -> dict[str, dict[str, str]]:
    return {
        str(one.attributes["data-api"]): dict(one.attributes)
        for one in page.elements
        if one.tag in {"form", "button"} and "data-api" in one.attributes
    }


def text_of(page: Page) -> str:
    return " ".join(page.one("body").text.split())


async def test_who_sees_which_page(office: Office) -> None:
    door, made = await set_up(office), await schedule(office)
    pages = {
        "/settings/logins": Role.ADMIN,
        f"/settings/logins/{door.provider_id}": Role.ADMIN,
        "/settings/logins/new": Role.OWNER,
        "/settings/privacy": Role.ADMIN,
        "/data/schedules": Role.VIEWER,
        "/data/schedules?new=ingest": Role.VIEWER,
        f"/data/schedules?schedule={made.id}": Role.VIEWER,
    }
    for path, least in pages.items():
        for role in Role:
            page = await office.desk.visit(office.tenant, path, role=role.label)
            assert page.status == (200 if role >= least else 403), (path, role)
            for element in page.elements:
                assert element.tag != "style"
                assert not [one for one in element.attributes if one == "style" or one[:2] == "on"]
    for path in (
        f"/settings/logins/{uuid4()}",
        f"/data/schedules?schedule={uuid4()}",
    ):
        assert (await office.desk.visit(office.tenant, path, role="owner")).status == 404
    odd = await office.desk.visit(office.tenant, "/data/schedules?new=retention", role="owner")
    assert odd.status == 422


async def test_what_one_may_not_do_is_not_offered(office: Office) -> None:
    door, made = await set_up(office), await schedule(office)
    for path, least in (
        (f"/settings/logins/{door.provider_id}", Role.OWNER),
        (f"/data/schedules?schedule={made.id}", Role.ADMIN),
        ("/data/schedules?new=ingest", Role.ADMIN),
    ):
        for role in Role:
            page = await office.desk.visit(office.tenant, path, role=role.label)
            if page.status == 403:
                continue
            offered = [one for one in forms(page) if not one.endswith("/test")]
            assert bool(offered) == (role >= least), (path, role)
    admin = await office.desk.visit(office.tenant, "/settings/privacy", role="admin")
    assert "Owners take data along." in text_of(admin)
    assert [one.rpartition("/")[2] for one in forms(admin)] == ["erase"]


async def test_a_login_is_sent_whole_and_its_secret_never_shown(office: Office) -> None:
    door = await set_up(
        office, allowed_claims={"groups": ["sales", 'a "quoted" <one>']}, enabled=False
    )
    page = await office.desk.visit(
        office.tenant, f"/settings/logins/{door.provider_id}", role="owner"
    )
    assert SECRET not in page.html
    api = f"auth:/api/v1/tenants/{office.tenant}/providers/{door.provider_id}"
    offered = forms(page)
    assert set(offered) == {f"PUT {api}", f"DELETE {api}", f"POST {api}/test"}
    assert offered[f"PUT {api}"]["data-etag"] == f'"{provider_tag(door)}"'
    names = {one.attributes.get("name") for one in page.elements if one.attributes.get("name")}
    assert names >= set(ProviderBody.model_fields)  # what is not sent would take its default
    assert "https://auth.example/api/v1/callback" in text_of(page)
    listed = await office.desk.visit(office.tenant, "/settings/logins", role="admin")
    assert door.issuer in text_of(listed)
    assert "Switched off" in text_of(listed)


async def test_a_tenant_without_a_login_is_told_how_to_get_one(office: Office) -> None:
    page = await office.desk.visit(office.tenant, "/settings/logins", role="owner")
    assert "Nobody logs in here yet" in text_of(page)
    new = await office.desk.visit(office.tenant, "/settings/logins/new", role="owner")
    (api,) = forms(new)
    assert api == f"POST auth:/api/v1/tenants/{office.tenant}/providers"


async def test_an_erasure_says_what_it_found(office: Office) -> None:
    nobody = await office.desk.visit(office.tenant, "/settings/privacy", role="admin")
    assert "Nobody was forgotten lately." in text_of(nobody)
    store = JobStore(office.database)
    job = await store.enqueue(office.tenant, NewJob(group="data", kind=ERASE_PERSON))
    waiting = await office.desk.visit(office.tenant, "/settings/privacy", role="admin")
    (row,) = [one for one in waiting.all("tr") if "data-job" in one.attributes]
    assert row.attributes["data-follow"] == f"data:/api/v1/jobs/{job.id}/events"
    await store.request_cancel(office.tenant, job.id)
    over = await office.desk.visit(office.tenant, "/settings/privacy", role="admin")
    assert not [one for one in over.all("tr") if "data-follow" in one.attributes]
    # A job that has ended is not made by hand; what its result says is.
    counts = {"customers": 1, "events": 1240, "data.sessions": 1, "data.user_day": 7}
    done = replace(job, state=JobState.DONE, result={"rows": counts})
    told = "1 customer was deleted; 1,240 events, 1 session and 7 other rows no longer lead"
    assert ErasureWords.of(done).found == f"{told} to anybody."


async def test_an_end_is_typed_first(office: Office) -> None:
    user = await add_member(
        office.database, office.tenant, issuer="https://i.example", subject="bo", role="viewer"
    )
    page = await office.desk.visit(office.tenant, "/settings/privacy", role="owner")
    tenant = await tenants.load_tenant(office.database, office.tenant)
    api = f"auth:/api/v1/tenants/{office.tenant}"
    closing = forms(page)[f"POST {api}/deactivate"]
    assert closing["data-etag"] == f'"{tag_of(tenant)}"'
    typed = [
        one.attributes["data-must-be"] for one in page.all("input")
        if "data-must-be" in one.attributes
    ]  # fmt: skip
    assert typed == ["forget", tenant.name, tenant.name]
    assert str(user) in [one.attributes.get("value") for one in page.all("option")]
    (export,) = [one for one in page.all("form") if "data-export" in one.attributes]
    assert export.attributes["data-export"] == f"{api}/export"


async def test_schedules_are_told_in_words(office: Office) -> None:
    empty = await office.desk.visit(office.tenant, "/data/schedules", role="admin")
    assert "Nothing happens by itself yet" in text_of(empty)
    made = await schedule(office)
    resting = await schedule(office, name="Rest", enabled=False, cron="*/7 1 * * *")
    report = await schedule(office, name="report 1", kind="report_plan", group="analytics")
    page = await office.desk.visit(office.tenant, "/data/schedules", role="viewer")
    assert "report 1" not in text_of(page)
    hidden = f"/data/schedules?schedule={report.id}"
    assert (await office.desk.visit(office.tenant, hidden, role="owner")).status == 404
    assert "Load days, Mondays to Fridays at 06:00" in text_of(page)
    assert "Rests" in text_of(page)
    sheet = await office.desk.visit(
        office.tenant, f"/data/schedules?schedule={made.id}", role="admin"
    )
    api = f"data:/api/v1/schedules/{made.id}"
    offered = forms(sheet)
    assert set(offered) == {f"PATCH {api}", f"DELETE {api}", f"POST {api}/pause"}
    assert offered[f"PATCH {api}"]["data-etag"] == f'"{schedule_tag(made)}"'
    values = {
        one.attributes["name"]: one.attributes.get("value")
        for one in sheet.all("input")
        if "name" in one.attributes
    }
    assert values["arguments.last_days"] == "3"
    assert values["cron"] == "0 6 * * 1-5"
    # The next weekday's morning after the desk's present, in the reporting zone.
    runs = [
        one.attributes["datetime"] for one in sheet.all("time")
        if str(one.attributes["datetime"]) > NOW.isoformat()
        and str(one.attributes["datetime"]) < (NOW + timedelta(days=9)).isoformat()
    ]  # fmt: skip
    assert len(runs) >= 3
    other = await office.desk.visit(
        office.tenant, f"/data/schedules?schedule={resting.id}", role="admin"
    )
    assert f"POST data:/api/v1/schedules/{resting.id}/resume" in forms(other)


@pytest.mark.parametrize("kind", SCHEDULABLE)
async def test_whatever_may_be_scheduled_has_a_form(office: Office, kind: str) -> None:
    page = await office.desk.visit(office.tenant, f"/data/schedules?new={kind}", role="admin")
    names = [one.attributes.get("name") for one in page.elements]
    for argument in SCHEDULABLE[kind].arguments.model_fields:
        assert f"arguments.{argument}" in names
        assert argument in ARGUMENT_WORDS
    assert kind in KIND_HELP
    assert kind in USUAL_LINE


async def test_an_alert_offers_its_trial_and_tells_trials_apart(office: Office) -> None:
    alert = uuid4()
    await office.database.execute(
        "INSERT INTO analytics.alerts (tenant_id, alert_id, name, kind, emails)"
        " VALUES ($1, $2, 'Loads', 'failed_load', '{a@b.example}')",
        office.tenant,
        alert,
        tenant=office.tenant,
    )
    await office.database.execute(
        "INSERT INTO analytics.alarms (tenant_id, alert_id, subject, facts, resolved_at)"
        " VALUES ($1, $2, 'trial', '{\"trial\": true}', now())",
        office.tenant,
        alert,
        tenant=office.tenant,
    )
    await office.database.execute(
        "INSERT INTO analytics.alarm_messages"
        " (tenant_id, alarm_id, channel, recipient, state, problem)"
        " SELECT tenant_id, alarm_id, 'email', 'a@b.example', 'failed', 'Refused.'"
        " FROM analytics.alarms WHERE tenant_id = $1 AND alert_id = $2",
        office.tenant,
        alert,
        tenant=office.tenant,
    )
    admin = await office.desk.visit(office.tenant, f"/settings/alerts/{alert}", role="admin")
    assert "a@b.example: Refused." in text_of(admin)
    assert f"POST /api/v1/alerts/{alert}/test" in forms(admin)
    assert "Sent to try the alert." in text_of(admin)
    viewer = await office.desk.visit(office.tenant, f"/settings/alerts/{alert}", role="viewer")
    assert forms(viewer).keys() <= {f"PATCH /api/v1/alerts/{alert}"}
    listed = await office.desk.visit(office.tenant, "/settings/alerts", role="viewer")
    assert "Tested" in text_of(listed)
