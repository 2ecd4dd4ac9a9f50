"""Reports over HTTP, as whoever has a role."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.reports.conftest import ORIGIN, Office
from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.reports.content import ReportReader
from troupe.actors.analytics.reports.unsubscribe import link_of
from troupe.actors.analytics.reports.workshop import ThreadWriter
from troupe.actors.analytics.reports.writing import Press
from troupe.http import reports
from troupe.http.application import create_app
from troupe.http.credentials import ResolvedPrincipal
from troupe.http.idempotency import PostgresIdempotencyStore
from troupe.http.principal import Principal, Role
from troupe.http.report_desk import Desk

SCOPES = frozenset({"analytics:read", "analytics:write"})


@dataclass
class People:
    """A token is the name of a role, or of one in the rival's shop."""

    office: Office

    async def resolve(
        self, bearer: str | None, session_cookie: str | None, requested_tenant: UUID | None
    ) -> Principal | None:
        del session_cookie, requested_tenant
        if bearer is None:
            return None
        shop = self.office.rival if bearer.startswith("rival ") else self.office.shop
        return ResolvedPrincipal(
            kind="token",
            subject_id=UUID(int=7),
            tenant_id=shop.tenant,
            role=Role.named(bearer.removeprefix("rival ")),
            scopes=SCOPES,
            name="Ada",
            credential_id=uuid4(),
            expires_at=None,
            memberships=(),
        )


@dataclass
class Reply:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Port:
    """The analytics group's application, with reports alone."""

    def __init__(self, office: Office) -> None:
        app = create_app(
            "analytics",
            resolver=People(office),
            idempotency=PostgresIdempotencyStore(office.database),
        )
        press = Press(ReportReader(Answers(office.database)), ThreadWriter(office.threads), ORIGIN)
        reports.declare(app.api, Desk(office.store, press))
        self.client: Any = app.test_client()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        role: str | None = "admin",
        **headers: str,
    ) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if role is not None:
            named["Authorization"] = f"Bearer {role}"
        options = {} if body is None else {"json": body}
        response = await self.client.open(
            f"/api/v1/reports/{path}", method=method, headers=named, **options
        )
        return Reply(response.status_code, response.headers, await response.get_data())


@pytest.fixture
def port(office: Office) -> Port:
    return Port(office)


async def test_a_preview_is_what_is_sent_to_the_byte(office: Office, port: Port) -> None:
    recipient = await office.add("ada@branch.example", name="Ada", language="de")
    run = await office.send()
    async with office.running():
        await office.becomes(run, "done")
    (mail,) = office.mail.rules.taken
    sent = mail.message
    (delivery,) = await office.deliveries(run)
    whole = await port.ask("GET", f"deliveries/{delivery.id}/message")
    assert whole.body == mail.content
    parts = {
        part.get_content_type(): part.get_payload(decode=True)
        for part in sent.walk()
        if not part.is_multipart()
    }
    for part, kind in (
        ("html", "text/html"),
        ("text", "text/plain"),
        ("chart", "image/png"),
        ("workbook", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ):
        reply = await port.ask("GET", f"preview?recipient={recipient.id}&part={part}")
        assert reply.status == 200, reply.body
        shown, was = reply.body, parts[kind]
        if part in {"html", "text"}:  # a mail's lines end as SMTP has them
            was = was.replace(b"\r\n", b"\n")
        assert shown.rstrip(b"\n") == was.rstrip(b"\n"), part
        assert reply.headers["Content-Type"].startswith(kind)
        assert "sandbox" in reply.headers["Content-Security-Policy"]


async def test_recipients_are_made_changed_and_removed(office: Office, port: Port) -> None:
    body = {"address": "Ada@Branch.example", "location_id": "b1", "language": "de"}
    made = await port.ask("POST", "recipients", body, Idempotency_Key="one")
    assert made.status == 201, made.body
    assert made.json["address"] == "Ada@branch.example"
    assert made.json["time_zone"] == "UTC"
    again = await port.ask("POST", "recipients", body, Idempotency_Key="one")
    assert again.json == made.json
    assert (await port.ask("POST", "recipients", body)).status == 409
    where = f"recipients/{made.json['id']}"
    seen = await port.ask("GET", where)
    assert (await port.ask("PATCH", where, {"enabled": False})).status == 428
    changed = await port.ask(
        "PATCH", where, {"enabled": False, "location_id": None}, If_Match=seen.headers["ETag"]
    )
    assert (changed.status, changed.json["enabled"]) == (200, False)
    assert changed.json["location_id"] is None
    stale = await port.ask("PATCH", where, {"enabled": True}, If_Match=seen.headers["ETag"])
    assert stale.status == 412
    listed = await port.ask("GET", "recipients?limit=1")
    assert (listed.json["total"], listed.json["next_cursor"]) == (1, None)
    assert (await port.ask("DELETE", where)).status == 204
    assert (await port.ask("GET", where)).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"address": "a, b@c.example"},
        {"address": "a@b.example", "language": "fr"},
        {"address": "a@b.example", "location_id": "nowhere"},
        {"address": "a@b.example", "time_zone": "Mars/Olympus"},
        {"address": "a@b.example", "secret": "x"},
        {"address": "a@b.example", "name": "x\r\ny"},
    ],
)
async def test_a_recipient_that_cannot_be(office: Office, port: Port, body: Any) -> None:
    reply = await port.ask("POST", "recipients", body)
    assert reply.status == 422, reply.body
    assert reply.json["errors"]


async def test_schedules_are_made_changed_and_looked_ahead(office: Office, port: Port) -> None:
    await office.add("ada@branch.example", time_zone="Asia/Tokyo")
    made = await port.ask("POST", "schedules", {"name": "daily", "cron": "0 8 * * MON-FRI"})
    assert made.status == 201, made.body
    assert made.json["zones"] == ["Asia/Tokyo"]
    where = f"schedules/{made.json['id']}"
    runs = await port.ask("GET", f"{where}/next?count=2&zone=Asia/Tokyo")
    assert len(runs.json["data"]) == 2
    tag = (await port.ask("GET", where)).headers["ETag"]
    changed = await port.ask("PATCH", where, {"enabled": False}, If_Match=tag)
    assert changed.json["enabled"] is False
    assert (await port.ask("POST", "schedules", {"name": "daily"})).status == 409
    for wrong in ({"name": "x", "cron": "* * * * *"}, {"name": "x", "cron": "nonsense !"}):
        assert (await port.ask("POST", "schedules", wrong)).status == 422
    assert (await port.ask("DELETE", where)).status == 204


async def test_a_report_is_sent_followed_and_cancelled(office: Office, port: Port) -> None:
    await office.add("ada@branch.example")
    sent = await port.ask("POST", "send", {"to": "all"}, role="analyst", Idempotency_Key="x")
    assert sent.status == 202, sent.body
    again = await port.ask("POST", "send", {"to": "all"}, role="analyst", Idempotency_Key="x")
    assert again.json["id"] == sent.json["id"]
    where = f"runs/{sent.json['id']}"
    cancelled = await port.ask("POST", f"{where}/cancel", role="analyst")
    assert cancelled.json["mails"] == {"cancelled": 1}
    assert (await port.ask("POST", f"{where}/cancel", role="analyst")).status == 409
    assert (await port.ask("GET", "runs", role="viewer")).json["data"][0]["state"] == "cancelled"
    (delivery,) = (await port.ask("GET", "deliveries?state=cancelled")).json["data"]
    detail = await port.ask("GET", f"deliveries/{delivery['id']}")
    assert [step["state"] for step in detail.json["history"]] == ["queued", "cancelled"]
    assert (await port.ask("POST", f"deliveries/{delivery['id']}/send-again")).status == 409


@pytest.mark.parametrize(
    "body",
    [
        {"to": "everybody"},
        {"to": "locations"},
        {"to": "all", "locations": ["b1"]},
        {"to": "all", "period": "year"},
        {"to": "locations", "locations": ["b3"]},
        {"to": "myself"},
    ],
)
async def test_what_cannot_be_sent(office: Office, port: Port, body: Any) -> None:
    await office.add("ada@branch.example")
    reply = await port.ask("POST", "send", body)
    assert reply.status == 422, reply.body


async def test_settings_are_a_tenant_s_own(office: Office, port: Port) -> None:
    first = await port.ask("GET", "settings")
    changed = await port.ask(
        "PUT", "settings", {"colour": "#aa0000", "rows": 5}, If_Match=first.headers["ETag"]
    )
    assert (changed.status, changed.json["colour"]) == (200, "#aa0000")
    stale = await port.ask("PUT", "settings", {}, If_Match=first.headers["ETag"])
    assert stale.status == 412
    wrong = await port.ask("PUT", "settings", {"colour": "red"}, If_Match=changed.headers["ETag"])
    assert wrong.status == 422
    theirs = await port.ask("GET", "settings", role="rival viewer")
    assert theirs.json["colour"] != "#aa0000"


async def test_unsubscribing_takes_one_post_and_no_look(office: Office, port: Port) -> None:
    recipient = await office.add("ada@branch.example", language="de")
    secret = await office.value(
        "SELECT secret FROM analytics.report_recipients WHERE recipient_id = $1", recipient.id
    )
    assert recipient.id is not None
    link = link_of("", office.shop.tenant, recipient.id, secret)
    path = link.removeprefix("/api/v1/reports/")
    page = await port.ask("GET", path, role=None)
    assert page.status == 200
    assert "Soll ada@branch.example keine Berichte" in page.body.decode()
    assert (await port.ask("GET", "suppressions")).json["data"] == []
    posted = await port.client.post(link, form={"List-Unsubscribe": "One-Click"})
    assert posted.status_code == 200
    (suppressed,) = (await port.ask("GET", "suppressions")).json["data"]
    assert suppressed["reason"] == "unsubscribed"
    assert (await port.ask("DELETE", "suppressions/ada@branch.example")).status == 204
    assert (await port.ask("POST", path[:-4] + "AAAA", role=None)).status == 404


ROUTES = [
    ("GET", "settings", "viewer"),
    ("PUT", "settings", "admin"),
    ("GET", "recipients", "analyst"),
    ("POST", "recipients", "admin"),
    ("GET", "suppressions", "analyst"),
    ("POST", "suppressions", "admin"),
    ("DELETE", "suppressions/a@b.example", "admin"),
    ("GET", "schedules", "viewer"),
    ("POST", "schedules", "admin"),
    ("GET", "preview", "analyst"),
    ("POST", "send", "analyst"),
    ("GET", "runs", "viewer"),
    ("GET", "deliveries", "analyst"),
]
LADDER = ["viewer", "analyst", "admin", "owner"]


@pytest.mark.parametrize(("method", "path", "least"), ROUTES)
async def test_roles(office: Office, port: Port, method: str, path: str, least: str) -> None:
    body = {} if method in {"POST", "PUT"} else None
    assert (await port.ask(method, path, body, role=None)).status == 401
    for role in LADDER:
        status = (await port.ask(method, path, body, role=role)).status
        assert (status == 403) == (LADDER.index(role) < LADDER.index(least)), (role, status)


async def test_a_rival_finds_nothing(office: Office, port: Port) -> None:
    recipient = await office.add("ada@branch.example")
    run = await office.send()
    (delivery,) = await office.deliveries(run)
    for path in (
        f"recipients/{recipient.id}",
        f"runs/{run.id}",
        f"deliveries/{delivery.id}",
        f"deliveries/{delivery.id}/message",
        f"preview?recipient={recipient.id}",
    ):
        assert (await port.ask("GET", path, role="rival owner")).status == 404, path
    for path in ("recipients", "runs", "deliveries", "suppressions", "schedules"):
        assert (await port.ask("GET", path, role="rival owner")).json["data"] == []
