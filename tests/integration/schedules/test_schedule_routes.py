"""Schedules over HTTP: what a tenant's people may make, see and change."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
import trio

from tests.integration.data.test_data_routes import Tokens
from tests.support.postgres import TestDatabase
from troupe.common.bridge import aio, open_bridge
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId
from troupe.http.application import Application, create_app
from troupe.http.data import declare
from troupe.http.idempotency import PostgresIdempotencyStore
from troupe.platform.schedules import Scheduler, SchedulerSettings
from troupe.platform.supervision import Supervisor

ADA, BOB = TenantId(uuid.UUID(int=0xADA)), TenantId(uuid.UUID(int=0xB0B))
NOW = datetime(2026, 9, 30, 12, tzinfo=UTC)
NIGHTLY = {
    "name": "Nightly",
    "kind": "ingest",
    "arguments": {"last_days": 4},
    "cron": "30 5 * * *",
    "zone": "Europe/Berlin",
}


@dataclass
class Answered:
    status: int
    body: Any
    headers: Any


@dataclass
class Client:
    app: Application
    database: Database
    tenant: TenantId = ADA
    role: str = "admin"

    async def ask(self, method: str, path: str = "", **options: Any) -> Answered:
        headers = {"Authorization": f"Bearer {self.role}.{self.tenant}"}
        headers |= options.pop("headers", {})
        client: Any = self.app.test_client()
        url = f"/api/v1/schedules{path}"
        response = await client.open(url, method=method, headers=headers, **options)
        raw = await response.get_data()
        return Answered(response.status_code, json.loads(raw) if raw else None, response.headers)

    async def make(self, **changes: Any) -> Answered:
        return await self.ask("POST", json=NIGHTLY | changes)


@pytest.fixture
async def client(fresh_database: TestDatabase) -> AsyncIterator[Client]:
    async with open_bridge():
        admin = await aio(asyncpg.connect(fresh_database.admin_url))
        try:
            await aio(
                admin.execute(
                    "INSERT INTO platform.tenants (tenant_id, name, reporting_time_zone) VALUES"
                    f" ('{ADA}', 'Ada', 'America/New_York'), ('{BOB}', 'Bob', 'UTC')"
                )
            )
        finally:
            await aio(admin.close())
        async with open_database(
            fresh_database.runtime_url, connections=4, application_name="schedule routes"
        ) as database:
            app = create_app(
                "data", resolver=Tokens(), idempotency=PostgresIdempotencyStore(database)
            )
            declare(app.api, database, maximum_days=90, maximum_schedules=3, clock=lambda: NOW)
            yield Client(app, database)


async def test_from_making_to_deleting(client: Client) -> None:
    made = await client.make()
    assert made.status == 201, made.body
    where = made.headers["Location"].removeprefix("/api/v1/schedules")
    assert made.body["arguments"] == {"last_days": 4, "include_today": False}
    shown = await client.ask("GET", where)
    assert shown.body == made.body
    assert shown.headers["ETag"] == made.headers["ETag"]
    unchanged = await client.ask("GET", where, headers={"If-None-Match": shown.headers["ETag"]})
    assert unchanged.status == 304

    match = {"If-Match": shown.headers["ETag"]}
    change = {"cron": "0 6 * * MON-FRI", "arguments": {"last_days": 7}}
    changed = await client.ask("PATCH", where, json=change, headers=match)
    assert changed.status == 200, changed.body
    assert (changed.body["cron"], changed.body["arguments"]["last_days"]) == ("0 6 * * MON-FRI", 7)
    assert changed.body["name"] == "Nightly"
    assert (await client.ask("PATCH", where, json=change, headers=match)).status == 412
    assert (await client.ask("PATCH", where, json=change)).status == 428

    paused = await client.ask("POST", f"{where}/pause")
    assert (paused.status, paused.body["enabled"]) == (200, False)
    assert (await client.ask("GET", f"{where}/next")).body["data"] == []
    assert (await client.ask("GET")).body["data"][0]["next_run"] is None
    resumed = await client.ask("POST", f"{where}/resume")
    assert resumed.body["enabled"]
    ahead = await client.ask("GET", f"{where}/next?count=3")
    assert len(ahead.body["data"]) == 3
    assert ahead.body["zone"] == "Europe/Berlin"

    again = await client.ask("POST", f"{where}/resume")
    assert again.status == 200
    assert (await client.ask("DELETE", where)).status == 204
    for method, path in (("GET", where), ("DELETE", where), ("POST", f"{where}/pause")):
        assert (await client.ask(method, path)).status == 404


async def test_the_audit_log_has_every_change(client: Client) -> None:
    made = await client.make()
    where = made.headers["Location"].removeprefix("/api/v1/schedules")
    match = {"If-Match": made.headers["ETag"]}
    change = {"cron": "0 6 * * *", "name": "Daily", "zone": "Europe/Berlin"}
    await client.ask("PATCH", where, json=change, headers=match)
    await client.ask("POST", f"{where}/pause")
    await client.ask("POST", f"{where}/pause")  # no news
    await client.ask("PATCH", where, json=change, headers=match)  # outdated
    await client.make(name="Daily")  # taken
    await client.ask("DELETE", where)
    await client.ask("DELETE", where)  # gone
    rows = await client.database.fetch(
        "SELECT actor_kind, actor_id, action, target, detail FROM auth.audit_log ORDER BY sequence",
        tenant=client.tenant,
    )
    told = {"kind": "ingest", "cron": "0 6 * * *", "zone": "Europe/Berlin"}
    assert [(row["action"].removeprefix("schedule."), row["detail"]) for row in rows] == [
        ("created", {**told, "cron": NIGHTLY["cron"], "enabled": True}),
        ("changed", {**told, "enabled": True, "fields": ["name", "cron"]}),
        ("changed", {**told, "enabled": False, "fields": ["enabled"]}),
        ("deleted", {**told, "enabled": False}),
    ]
    assert {row["target"] for row in rows} == {made.body["id"]}
    assert {row["actor_kind"] for row in rows} == {"token"}
    assert all(row["actor_id"] is not None for row in rows)


async def test_the_tenants_own_clock_is_the_default(client: Client) -> None:
    body = {name: value for name, value in NIGHTLY.items() if name != "zone"}
    made = await client.ask("POST", json=body)
    assert made.body["zone"] == "America/New_York"
    preview = await client.ask("GET", "/preview?cron=30%205%20*%20*%20*&count=2")
    assert preview.body == {
        "data": ["2026-10-01T09:30:00Z", "2026-10-02T09:30:00Z"],
        "zone": "America/New_York",
    }
    autumn = (
        "/preview?cron=30%202%20*%20*%20*&zone=Europe/Berlin&count=2&after=2026-10-24T12:00:00Z"
    )
    assert (await client.ask("GET", autumn)).body["data"] == [
        "2026-10-25T00:30:00Z",
        "2026-10-26T01:30:00Z",
    ]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"kind": "derive"}, "/kind"),
        ({"kind": "send_reports"}, "/kind"),
        ({"arguments": {"last_days": 0}}, "/arguments/last_days"),
        ({"arguments": {"last_days": 10_000}}, "/arguments/last_days"),
        ({"arguments": {"start_date": "2026-01-01"}}, "/arguments/start_date"),
        ({"arguments": {"slot": "2026-01-01T00:00:00Z"}}, "/arguments/slot"),
        ({"kind": "import_master_data", "arguments": {"again": "often"}}, "/arguments/again"),
        ({"cron": "*/4 * * * *"}, "/cron"),
        ({"cron": "0,1 5 1 * *"}, "/cron"),
        ({"cron": "0 5 30 2 *"}, "/cron"),
        ({"cron": "every morning"}, "/cron"),
        ({"zone": "Mars/Base"}, "/zone"),
        ({"name": " Nightly "}, "/name"),
        ({"grace_seconds": 0}, "/grace_seconds"),
        ({"catch_up_limit": 1001}, "/catch_up_limit"),
        ({"policy": "never"}, "/policy"),
        ({"priority": 7}, "/priority"),
    ],
)
async def test_what_cannot_be_used_is_pointed_at(
    client: Client, changes: dict[str, Any], pointer: str
) -> None:
    refused = await client.make(**changes)
    assert refused.status == 422, refused.body
    assert [problem["pointer"] for problem in refused.body["errors"]] == [pointer]
    assert (await client.ask("GET")).body["total"] == 0


async def test_a_change_is_checked_like_a_new_one(client: Client) -> None:
    made = await client.make()
    where = f"/{made.body['id']}"
    for change, pointer in (
        ({"cron": "* * * * *"}, "/cron"),
        ({"arguments": {"again": True}}, "/arguments/again"),
        ({"kind": "reconcile"}, "/kind"),
    ):
        match = {"If-Match": made.headers["ETag"]}
        refused = await client.ask("PATCH", where, json=change, headers=match)
        assert refused.status == 422
        assert [problem["pointer"] for problem in refused.body["errors"]] == [pointer]
    assert (await client.ask("GET", where)).body == made.body


async def test_there_may_be_so_many_and_no_more_also_at_once(client: Client) -> None:
    answers: list[Answered] = []

    async def make(number: int) -> None:
        answers.append(await client.make(name=f"S{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(make, number)
    assert sorted(answer.status for answer in answers) == [201] * 3 + [409] * 5
    listed = await client.ask("GET", "?limit=2")
    assert (listed.body["total"], len(listed.body["data"])) == (3, 2)
    rest = await client.ask("GET", f"?cursor={listed.body['next_cursor']}")
    assert len(rest.body["data"]) == 1
    assert rest.body["data"][0]["next_run"] == "2026-10-01T03:30:00Z"


async def test_a_name_is_taken_once_and_a_key_makes_one(client: Client) -> None:
    key = {"Idempotency-Key": "nightly"}
    made = await client.ask("POST", json=NIGHTLY, headers=key)
    again = await client.ask("POST", json=NIGHTLY, headers=key)
    assert (again.status, again.body) == (201, made.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await client.make()).status == 409


async def test_roles_and_other_tenants(client: Client) -> None:
    made = await client.make()
    where = f"/{made.body['id']}"
    for role, wanted in (("viewer", 403), ("analyst", 403), ("admin", 200)):
        one = Client(client.app, client.database, ADA, role)
        for path in ("", where, f"{where}/next", f"{where}/slots", "/kinds"):
            assert (await one.ask("GET", path)).status == 200
        assert (await one.ask("POST", f"{where}/pause")).status == wanted
    stranger = Client(client.app, client.database, BOB, "owner")
    assert (await stranger.ask("GET")).body["data"] == []
    for method, path in (
        ("GET", where), ("GET", f"{where}/next"), ("GET", f"{where}/slots"), ("DELETE", where),
        ("POST", f"{where}/resume"),
    ):  # fmt: skip
        assert (await stranger.ask(method, path)).status == 404


async def test_kinds_say_what_they_take(client: Client) -> None:
    kinds = (await client.ask("GET", "/kinds")).body["data"]
    assert [kind["kind"] for kind in kinds] == ["import_master_data", "ingest", "reconcile"]
    assert kinds[1]["arguments"]["properties"]["last_days"]["maximum"] == 92
    assert "72 hours" in kinds[1]["arguments"]["properties"]["last_days"]["description"]


async def test_a_slot_makes_a_job_and_is_remembered(client: Client) -> None:
    made = await client.make(cron="*/5 * * * *")
    where = f"/{made.body['id']}"
    # As if it had been made ten minutes ago.
    await client.database.execute(
        "UPDATE platform.schedules SET settled_until = now() - interval '10 minutes',"
        " due_at = now()",
        tenant=ADA,
    )
    supervisor = Supervisor(
        "root",
        [
            Scheduler(
                database=lambda: client.database, settings=SchedulerSettings(lease=2.0)
            ).child_spec()
        ],
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.serve)
        with trio.fail_after(20):
            while not (slots := (await client.ask("GET", f"{where}/slots")).body["data"]):
                await trio.sleep(0.05)
        supervisor.request_stop()
    # The default policy: one job for everything that was missed.
    assert [slot["outcome"] for slot in slots] == ["enqueued", "coalesced"]
    assert slots[0]["job_state"] == "available"
    viewer: Any = client.app.test_client()
    job = await viewer.get(
        f"/api/v1/jobs/{slots[0]['job_id']}", headers={"Authorization": f"Bearer viewer.{ADA}"}
    )
    arguments = json.loads(await job.get_data())["arguments"]
    assert arguments == {"last_days": 4, "include_today": False, "slot": slots[0]["slot"]}
