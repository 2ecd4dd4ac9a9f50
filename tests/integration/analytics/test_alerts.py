"""Alerts from the day that is unlike others to the letter in the mailbox and the post at the
webhook."""

import base64
import hashlib
import hmac
import ipaddress
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest
from aiosmtpd.controller import Controller

from tests.integration.analytics.desk import Desk, Tokens
from tests.integration.analytics.warehouse import COUNTS, Warehouse
from tests.support.postgres import TestDatabase
from troupe.actors.analytics import alarms
from troupe.actors.analytics.alarms import Postman, watch_once
from troupe.actors.analytics.alerts import Alerts, look
from troupe.actors.analytics.trials import Trials
from troupe.common.bridge import aio
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing, Vault, new_key
from troupe.http import alerts as alert_routes
from troupe.http.application import create_app

LAST: Final = datetime(2026, 10, 20, tzinfo=UTC).date()
NOW: Final = datetime(2026, 10, 21, 6, tzinfo=UTC)
LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")


def make_shop(sessions: list[int]) -> Warehouse:
    """A shop whose last Tuesdays had so many sessions, the last one first."""
    shop = Warehouse("Shop", data_until=LAST)
    for weeks, count in enumerate(sessions):
        day = LAST - timedelta(weeks=weeks)
        shop.hourly.append(
            {
                "day": day,
                "hour_start": datetime.combine(day, datetime.min.time(), UTC),
                "location_id": "B1",
                **dict.fromkeys(COUNTS, 0),
                "sessions": count,
            }
        )
    return shop


@dataclass
class Post:
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A web server that takes what is posted, and answers with the status it is told."""

    status: int = 200
    posts: list[Post] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posts.append(Post({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            if 300 <= found.status < 400:
                self.send_header("Location", found.url)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Letters:
    """A mail server that keeps what it gets."""

    taken: list[Any] = field(default_factory=list)
    port: int = 0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.taken.append(envelope)
        return "250 OK"


@pytest.fixture
def letters() -> Iterator[Letters]:
    kept = Letters()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        kept.port = probe.getsockname()[1]
    controller = Controller(kept, hostname="127.0.0.1", port=kept.port)
    controller.start()
    yield kept
    controller.stop()


@dataclass
class Watch:
    """A desk with alerts, and the postman."""

    desk: Desk
    database: Database
    postman: Postman
    vault: Vault
    url: str

    async def open(self, shop: Warehouse) -> TenantId:
        await aio(shop.store(self.url))
        return shop.tenant

    async def make(self, tenant: TenantId, **body: Any) -> Any:
        body = {"name": "Watch", "emails": ["ada@shop.example"], **body}
        reply = await self.desk.ask(tenant, "POST", "/alerts", role="admin", json=body)
        assert reply.status == 201, reply.raw
        return reply.json

    async def look(self, tenant: TenantId, now: datetime = NOW) -> int:
        return await self.database.run(lambda c: look(c, tenant, now), tenant=tenant)

    async def told(self, tenant: TenantId, alert: Any) -> list[Any]:
        return await self.desk.pages(tenant, f"/alerts/{alert['id']}/alarms", limit=2)

    async def connect(self, tenant: TenantId, letters: Letters) -> None:
        config = {"host": "127.0.0.1", "port": letters.port, "security": "none",
                  "sender": "troupe@shop.example"}  # fmt: skip
        statement = "INSERT INTO auth.connections (tenant_id, kind, config) VALUES ($1, 'smtp', $2)"
        await self.sql(tenant, statement, tenant, config)

    async def sql(self, tenant: TenantId, statement: str, *arguments: Any) -> None:
        await self.database.execute(statement, *arguments, tenant=tenant)


@pytest.fixture
async def watch(bridge: None, module_database: TestDatabase) -> AsyncIterator[Watch]:
    vault = Vault(KeyRing([new_key()]))
    guard = OutboundGuard([LOOPBACK])
    async with (
        open_database(module_database.runtime_url, connections=3) as database,
        Postman(database, vault, guard) as postman,
    ):
        app = create_app("analytics", resolver=Tokens())
        trials = Trials(database, vault, guard)
        alert_routes.declare(app.api, Alerts(database, vault), trials)
        yield Watch(Desk(app), database, postman, vault, module_database.runtime_url)


@pytest.mark.parametrize(
    ("sessions", "kind", "threshold", "fires"),
    [
        ([50, 100, 100], "drop", "50", True),
        ([51, 100, 100], "drop", "50", False),
        ([150, 100, 100], "spike", "50", True),
        ([149, 100, 100], "spike", "50", False),
        ([150, 100, 100], "drop", "1", False),
        ([10, 100], "drop", "50", False),  # one day is no habit
        ([0, 100, 100, 100, 100, 10**6], "drop", "100", True),  # the fifth week does not count
        ([10, 0, 0], "spike", "50", False),  # nothing is usual
    ],
)
async def test_a_day_unlike_others(
    watch: Watch, sessions: list[int], kind: str, threshold: str, fires: bool
) -> None:
    tenant = await watch.open(make_shop(sessions))
    alert = await watch.make(tenant, kind=kind, metric="sessions", threshold=threshold)
    assert await watch.look(tenant) == int(fires)
    assert await watch.look(tenant) == 0  # once a day
    assert len(await watch.told(tenant, alert)) == int(fires)


async def test_small_numbers_and_other_branches_are_left_alone(watch: Watch) -> None:
    tenant = await watch.open(make_shop([1, 4, 4]))
    await watch.make(tenant, name="a", kind="drop", metric="sessions", threshold="50", least="5")
    elsewhere = {"kind": "drop", "metric": "sessions", "threshold": "50", "location_id": "B2"}
    await watch.make(tenant, name="b", **elsewhere)
    off = await watch.make(tenant, name="c", **elsewhere | {"location_id": "B1"}, enabled=False)
    assert await watch.look(tenant) == 0
    reply = await watch.desk.ask(
        tenant, "PATCH", f"/alerts/{off['id']}", role="admin", json={"enabled": True},
        headers={"If-Match": "*"},
    )  # fmt: skip
    assert reply.status == 200
    assert await watch.look(tenant) == 1


async def test_data_that_gets_old(watch: Watch) -> None:
    tenant = await watch.open(make_shop([1]))
    alert = await watch.make(tenant, kind="stale_data", threshold="30")
    assert await watch.look(tenant, datetime(2026, 10, 22, 5, 59, tzinfo=UTC)) == 0
    assert await watch.look(tenant, datetime(2026, 10, 22, 6, 0, tzinfo=UTC)) == 1
    assert await watch.look(tenant, datetime(2026, 10, 23, tzinfo=UTC)) == 0
    await watch.sql(tenant, "UPDATE data.versions SET data_until = '2026-10-22'")
    assert await watch.look(tenant, datetime(2026, 10, 23, 7, tzinfo=UTC)) == 0
    assert await watch.look(tenant, datetime(2026, 10, 25, tzinfo=UTC)) == 1
    assert [alarm["text"] for alarm in await watch.told(tenant, alert)] == [
        "There is no complete day after 2026-10-22.",
        "There is no complete day after 2026-10-20.",
    ]


async def test_a_load_that_fails_is_told_again_only_after_it_went_well(watch: Watch) -> None:
    tenant = await watch.open(make_shop([1]))
    alert = await watch.make(tenant, kind="failed_load")
    write = (
        "INSERT INTO data.source_days (tenant_id, source_day, state, problem)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, source_day)"
        " DO UPDATE SET state = excluded.state, problem = excluded.problem"
    )
    await watch.sql(tenant, write, tenant, LAST, "failed", "Not enough quota.")
    assert await watch.look(tenant) == 1
    assert await watch.look(tenant) == 0
    await watch.sql(tenant, write, tenant, LAST, "loaded", None)
    assert await watch.look(tenant) == 0
    await watch.sql(tenant, write, tenant, LAST, "stale", None)
    assert await watch.look(tenant) == 1
    second, first = await watch.told(tenant, alert)
    assert first["resolved_at"] is not None
    assert second["resolved_at"] is None
    assert first["text"] == "The day 2026-10-20 could not be loaded: Not enough quota."


async def test_the_letter_and_the_post_arrive_once(
    watch: Watch, receiver: Receiver, letters: Letters
) -> None:
    tenant = await watch.open(make_shop([50, 100, 100]))
    await watch.connect(tenant, letters)
    alert = await watch.make(
        tenant, kind="drop", metric="sessions", threshold="20", webhook_url=receiver.url,
        emails=["ada@shop.example", "bo@shop.example"],
    )  # fmt: skip
    for _ in range(3):
        await watch.look(tenant)
        await watch.postman.deliver(tenant)
    assert sorted(one.rcpt_tos for one in letters.taken) == [
        ["ada@shop.example"], ["bo@shop.example"],
    ]  # fmt: skip
    text = letters.taken[0].content.decode()
    assert "Subject: Watch (Shop)" in text
    assert "50.0 % below the usual 100" in text.replace("=\r\n", "")
    [post] = receiver.posts
    name, moment = post.headers["webhook-id"], post.headers["webhook-timestamp"]
    key = base64.b64decode(alert["webhook_secret"].removeprefix("whsec_"))
    signed = hmac.new(key, f"{name}.{moment}.".encode() + post.body, hashlib.sha256).digest()
    assert post.headers["webhook-signature"] == "v1," + base64.b64encode(signed).decode()
    document = json.loads(post.body)
    assert document["data"]["facts"]["percent"] == "-50"
    [alarm] = await watch.told(tenant, alert)
    assert {one["state"] for one in alarm["messages"]} == {"sent"}


async def test_what_is_refused_for_now_is_tried_again_and_then_given_up(
    watch: Watch, receiver: Receiver
) -> None:
    tenant = await watch.open(make_shop([50, 100, 100]))
    alert = await watch.make(
        tenant, kind="drop", metric="sessions", threshold="20", webhook_url=receiver.url, emails=[]
    )
    await watch.look(tenant)
    receiver.status = 503
    for attempt in range(1, alarms.ATTEMPTS + 1):
        assert await watch.postman.deliver(tenant) == 1
        assert await watch.postman.deliver(tenant) == 0  # not yet due again
        assert len(receiver.posts) == attempt
        await watch.sql(tenant, "UPDATE analytics.alarm_messages SET next_at = now()")
    assert await watch.postman.deliver(tenant) == 0
    [alarm] = await watch.told(tenant, alert)
    [message] = alarm["messages"]
    assert (message["state"], message["attempts"]) == ("failed", alarms.ATTEMPTS)
    assert message["problem"] == "The webhook answered with status 503."
    assert len({post.headers["webhook-id"] for post in receiver.posts}) == 1


@pytest.mark.parametrize("status", [302, 307, 404, 410])
async def test_what_is_refused_for_good_is_not_tried_again(
    watch: Watch, receiver: Receiver, status: int
) -> None:
    tenant = await watch.open(make_shop([50, 100, 100]))
    alert = await watch.make(
        tenant, kind="drop", metric="sessions", threshold="20", webhook_url=receiver.url
    )
    receiver.status = status
    await watch_once(watch.database, watch.postman, tenant)
    await watch.look(tenant)
    await watch.postman.deliver(tenant)
    alarm_list = await watch.told(tenant, alert)
    states = {
        message["channel"]: message["state"]
        for alarm in alarm_list
        for message in alarm["messages"]
    }
    assert states == {"email": "failed", "webhook": "failed"}  # there is no mail server
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("readable", [True, False])
async def test_a_host_inside_is_not_knocked_at(
    watch: Watch, receiver: Receiver, readable: bool
) -> None:
    """And a secret that does not open yet is no reason to give up, nor to keep others waiting."""
    tenant = await watch.open(make_shop([50, 100, 100]))
    hook = {"webhook_url": receiver.url, "emails": []}
    alert = await watch.make(tenant, kind="drop", metric="sessions", threshold="20", **hook)
    await watch.look(tenant)
    vault = watch.vault if readable else Vault(KeyRing([new_key()]))
    async with Postman(watch.database, vault, OutboundGuard()) as strict:
        assert await strict.deliver(tenant) == 1
    assert receiver.posts == []
    [alarm] = await watch.told(tenant, alert)
    [message] = alarm["messages"]
    assert message["state"] == ("failed" if readable else "waiting")
    assert message["problem"]


async def test_no_notation_of_a_host_inside_is_knocked_at(watch: Watch, receiver: Receiver) -> None:
    tenant = await watch.open(make_shop([50, 100, 100]))
    port = receiver.url.rpartition(":")[2]
    hosts = (
        "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]",
        "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0", "169.254.169.254",
    )  # fmt: skip
    for name in hosts:
        hook = {"webhook_url": f"http://{name}:{port}", "emails": [], "name": name}
        await watch.make(tenant, kind="drop", metric="sessions", threshold="20", **hook)
    assert await watch.look(tenant) == len(hosts)
    async with Postman(watch.database, watch.vault, OutboundGuard()) as strict:
        assert await strict.deliver(tenant) == len(hosts)
    assert receiver.posts == []


async def test_a_webhooks_name_is_looked_up_once_for_each_message(
    watch: Watch, receiver: Receiver
) -> None:
    """A resolver that says something harmless first, and another host's address from then on."""
    tenant = await watch.open(make_shop([50, 100, 100]))
    url = receiver.url.replace("127.0.0.1", "hook.example")
    alert = await watch.make(
        tenant, kind="drop", metric="sessions", threshold="20", webhook_url=url, emails=[]
    )
    await watch.look(tenant)
    asked: list[str] = []

    def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1" if len(asked) == 1 else "127.0.0.2"]

    here = OutboundGuard([ipaddress.ip_network("127.0.0.1/32")], rebinding)
    async with Postman(watch.database, watch.vault, here) as postman:
        receiver.status = 503
        assert await postman.deliver(tenant) == 1
        assert [post.headers["host"].partition(":")[0] for post in receiver.posts] == asked
        await watch.sql(tenant, "UPDATE analytics.alarm_messages SET next_at = now()")
        assert await postman.deliver(tenant) == 1
    assert len(receiver.posts) == 1
    [alarm] = await watch.told(tenant, alert)
    [message] = alarm["messages"]
    assert message["state"] == "failed"
    assert "private or reserved network" in message["problem"]


BASE: Final = {"name": "n", "kind": "drop", "metric": "sessions", "threshold": "10",
               "emails": ["a@b.example"]}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"kind": "rain"}, "/kind"),
        ({"metric": "luck"}, "/metric"),
        ({"metric": None}, "/metric"),
        ({"threshold": None}, "/threshold"),
        ({"threshold": "0"}, "/threshold"),
        ({"threshold": "101"}, "/threshold"),
        ({"kind": "failed_load"}, "/metric"),
        ({"kind": "stale_data", "metric": None, "threshold": "9999"}, "/threshold"),
        ({"emails": []}, "/emails"),
        ({"emails": ["a@b.example, c@d.example"]}, "/emails/0"),
        ({"emails": ["a@b.example\nBcc: x@y.example"]}, "/emails/0"),
        ({"emails": ["a@b.example"] * 11}, "/emails"),
        ({"webhook_url": "ftp://x.example/"}, "/webhook_url"),
        ({"webhook_url": "https://me:secret@x.example/"}, "/webhook_url"),
        ({"webhook_url": "https://x.example/ y"}, "/webhook_url"),
        ({"webhook_secret": "mine"}, "/webhook_secret"),
    ],
)
async def test_bad_alerts_are_told(watch: Watch, change: dict[str, Any], pointer: str) -> None:
    tenant = await watch.open(make_shop([1]))
    body = {**BASE, **change}
    reply = await watch.desk.ask(tenant, "POST", "/alerts", role="admin", json=body)
    assert reply.status in {400, 422}
    assert pointer in [error["pointer"] for error in reply.json["errors"]]
    assert (await watch.desk.get(tenant, "/alerts"))["data"] == []


async def test_who_may_do_what(watch: Watch) -> None:
    tenant = await watch.open(make_shop([1]))
    stranger = await watch.open(make_shop([1]))
    alert = await watch.make(tenant, **BASE | {"name": "m"}, webhook_url="https://hook.example/")
    assert alert["webhook_secret"].startswith("whsec_")
    path = f"/alerts/{alert['id']}"
    shown = await watch.desk.get(tenant, path)
    assert "webhook_secret" not in shown
    tag = (await watch.desk.ask(tenant, "GET", path)).headers["ETag"]
    for role in ("viewer", "analyst"):
        for method, where in (("POST", "/alerts"), ("PATCH", path), ("DELETE", path)):
            reply = await watch.desk.ask(
                tenant, method, where, role=role, json=BASE, headers={"If-Match": tag}
            )
            assert reply.status == 403
    for method, where in (("GET", path), ("GET", f"{path}/alarms"), ("DELETE", path)):
        reply = await watch.desk.ask(stranger, method, where, role="owner")
        assert reply.status == 404
    again = await watch.desk.ask(tenant, "POST", "/alerts", role="admin", json=BASE)
    assert again.status == 201  # another name
    twice = await watch.desk.ask(tenant, "POST", "/alerts", role="admin", json=BASE)
    assert twice.status == 409
    change = {"threshold": "25", "webhook_url": None}
    bare = await watch.desk.ask(tenant, "PATCH", path, role="admin", json=change)
    assert bare.status == 428
    changed = await watch.desk.ask(
        tenant, "PATCH", path, role="admin", json=change, headers={"If-Match": tag}
    )
    assert changed.status == 200, changed.raw
    assert (changed.json["threshold"], changed.json["webhook_url"]) == ("25", None)
    assert changed.json["webhook_secret"] is None
    late = await watch.desk.ask(
        tenant, "PATCH", path, role="admin", json=change, headers={"If-Match": tag}
    )
    assert late.status == 412
    gone = await watch.desk.ask(tenant, "DELETE", path, role="admin")
    assert gone.status == 204
    assert (await watch.desk.ask(tenant, "GET", path)).status == 404


async def test_who_made_changed_and_deleted_an_alert_is_in_the_log(watch: Watch) -> None:
    tenant = await watch.open(make_shop([100, 100, 100]))
    made = await watch.desk.ask(tenant, "POST", "/alerts", role="admin", json=BASE)
    assert made.status == 201, made.raw
    path, tag = f"/alerts/{made.json['id']}", made.headers["ETag"]
    body = {"threshold": "25", "enabled": False}
    for _ in range(2):  # an outdated copy changes nothing, and leaves no entry
        await watch.desk.ask(
            tenant, "PATCH", path, role="admin", json=body, headers={"If-Match": tag}
        )
    for _ in range(2):
        await watch.desk.ask(tenant, "DELETE", path, role="admin")
    entries = await watch.database.fetch(
        "SELECT action, target, detail FROM auth.audit_log WHERE tenant_id = $1"
        " AND action LIKE 'alert.%' ORDER BY sequence",
        tenant,
        tenant=tenant,
    )
    kind = BASE["kind"]
    assert [tuple(entry.values()) for entry in entries] == [
        (action, made.json["id"], {"kind": kind} | detail)
        for action, detail in (
            ("alert.created", {"enabled": True}),
            ("alert.changed", {"enabled": False, "fields": ["threshold", "enabled"]}),
            ("alert.deleted", {}),
        )
    ]


async def test_an_alert_is_tried(watch: Watch, receiver: Receiver, letters: Letters) -> None:
    """Switched off, with a figure that is as usual, and to everybody."""
    tenant = await watch.open(make_shop([100, 100, 100]))
    await watch.connect(tenant, letters)
    alert = await watch.make(tenant, **BASE, webhook_url=receiver.url, enabled=False)
    tried = await watch.desk.ask(tenant, "POST", f"/alerts/{alert['id']}/test", role="admin")
    assert tried.status == 200, tried.raw
    assert (tried.json["works"], tried.json["alarm"]["test"]) == (True, True)
    assert tried.json["message"] == "The test was taken for all 2 receivers."
    [letter] = letters.taken
    assert "Subject: Test: n (Shop)" in letter.content.decode()
    assert "This is a test." in letter.content.decode()
    [post] = receiver.posts
    document = json.loads(post.body)
    assert (document["type"], document["data"]["alert_id"]) == ("alert.test", alert["id"])
    name, moment = post.headers["webhook-id"], post.headers["webhook-timestamp"]
    wanted = alarms.signature(alert["webhook_secret"], name, int(moment), post.body)
    assert post.headers["webhook-signature"] == wanted
    assert await watch.postman.deliver(tenant) == 0  # nothing is left to be sent
    assert [one["id"] for one in await watch.told(tenant, alert)] == [tried.json["alarm"]["id"]]
    entries = await watch.database.fetch(
        "SELECT target, detail FROM auth.audit_log WHERE tenant_id = $1 AND action = $2",
        tenant,
        "alert.tested",
        tenant=tenant,
    )
    assert [tuple(entry.values()) for entry in entries] == [(alert["id"], {"messages": 2})]


async def test_a_trial_that_does_not_arrive_says_so_and_is_over(
    watch: Watch, receiver: Receiver
) -> None:
    tenant = await watch.open(make_shop([50, 100, 100]))
    alert = await watch.make(tenant, **BASE, webhook_url=receiver.url)
    receiver.status = 503
    tried = await watch.desk.ask(tenant, "POST", f"/alerts/{alert['id']}/test", role="admin")
    assert tried.json["works"] is False
    assert tried.json["message"].startswith("2 of 2 receivers were not reached.")
    told = {one["channel"]: one for one in tried.json["alarm"]["messages"]}
    assert {one["state"] for one in told.values()} == {"failed"}
    assert told["webhook"]["problem"] == "The webhook answered with status 503."
    assert await watch.look(tenant) == 1  # a trial stands in no real alarm's way


async def test_trials_are_for_administrators_and_only_so_many(
    watch: Watch, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("troupe.actors.analytics.trials.MOST_TRIALS", 2)
    tenant, stranger = [await watch.open(make_shop([1])) for _ in range(2)]
    alert = await watch.make(tenant, **BASE | {"emails": []}, webhook_url=receiver.url)
    path = f"/alerts/{alert['id']}/test"
    assert (await watch.desk.ask(tenant, "POST", path, role="analyst")).status == 403
    assert (await watch.desk.ask(stranger, "POST", path, role="owner")).status == 404
    for status in (200, 200, 429):
        reply = await watch.desk.ask(tenant, "POST", path, role="admin")
        assert reply.status == status
    assert 0 < int(reply.headers["Retry-After"]) <= 3600
    assert len(receiver.posts) == 2


async def test_there_are_only_so_many(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("troupe.actors.analytics.alerts.MOST_ALERTS", 2)
    tenant = await watch.open(make_shop([1]))
    for name in "ab":
        await watch.make(tenant, **BASE | {"name": name})
    reply = await watch.desk.ask(tenant, "POST", "/alerts", role="admin", json=BASE | {"name": "c"})
    assert reply.status == 409
    names = [alert["name"] for alert in await watch.desk.pages(tenant, "/alerts", limit=1)]
    assert names == ["a", "b"]
