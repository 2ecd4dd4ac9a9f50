"""Port 8002 as a client sees it."""

import contextlib
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from tests.integration.data.conftest import DAYS, Shop, World
from troupe.common.ids import TenantId
from troupe.http.application import Application, create_app
from troupe.http.data import declare
from troupe.http.idempotency import PostgresIdempotencyStore
from troupe.http.principal import Principal, Role
from troupe_demo.bigquery import Fault
from troupe_demo.ga4 import HARBOR_SHOP, TOOL_SHOP, Family

NOW = datetime(2026, 9, 30, 12, tzinfo=UTC)


class Tokens:
    """Bearer tokens that are a role and a tenant."""

    async def resolve(
        self, bearer: str | None, session_cookie: str | None, requested_tenant: uuid.UUID | None
    ) -> Principal | None:
        del session_cookie, requested_tenant
        if bearer is None:
            return None
        role, tenant = bearer.split(".")
        return Principal(
            kind="token",
            subject_id=uuid.UUID(int=1),
            tenant_id=TenantId(uuid.UUID(tenant)),
            role=Role.named(role),
            scopes=frozenset({"*"}),
            name="test",
        )


@dataclass
class Answered:
    status: int
    body: Any
    headers: Any


@dataclass
class Client:
    app: Application
    tenant: TenantId
    role: str = "analyst"

    async def ask(self, method: str, path: str, **options: Any) -> Answered:
        headers = {"Authorization": f"Bearer {self.role}.{self.tenant}"}
        headers |= options.pop("headers", {})
        client: Any = self.app.test_client()
        response = await client.open(f"/api/v1{path}", method=method, headers=headers, **options)
        return Answered(
            response.status_code, json.loads(await response.get_data()), response.headers
        )

    async def get(self, path: str) -> Answered:
        return await self.ask("GET", path)

    async def start(self, body: Any, **options: Any) -> Answered:
        return await self.ask("POST", "/ingestions", json=body, **options)


@pytest.fixture
async def app(world: World) -> Application:
    made = create_app(
        "data", resolver=Tokens(), idempotency=PostgresIdempotencyStore(world.database)
    )
    declare(made.api, world.database, maximum_days=90, clock=lambda: NOW)
    return made


@pytest.fixture
async def shop(world: World) -> Shop:
    return await world.shop()


@pytest.fixture
def client(app: Application, shop: Shop) -> Client:
    return Client(app, shop.tenant)


def whole(shop: Shop) -> dict[str, str]:
    return {"start_date": shop.first.isoformat(), "end_date": shop.last.isoformat()}


async def test_an_ingestion_from_post_to_availability(
    world: World, client: Client, shop: Shop
) -> None:
    started = await client.start(whole(shop))
    assert started.status == 202
    where = started.headers["Location"].removeprefix("/api/v1")
    assert where == f"/jobs/{started.body['id']}"
    assert started.body["state"] == "available"
    async with world.running():
        with trio.fail_after(60):
            while (job := (await client.get(where)).body)["state"] != "done":
                assert job["error"] is None
                await trio.sleep(0.05)
    progress = job["progress"]
    assert (progress["done"], progress["total"], progress["phase"]) == (DAYS, DAYS, "loading")
    assert progress["message"] == "All loaded"
    assert progress["rows"] == job["result"]["rows"] > 0
    assert progress["bytes"] > progress["rows"]
    assert progress["seconds_left"] == 0

    query = f"?start_date={shop.first - timedelta(days=1)}&end_date={shop.last}"
    seen = (await client.get(f"/availability{query}")).body
    assert [day["state"] for day in seen["data"]] == ["unknown"] + ["loaded"] * DAYS
    assert seen["data_version"] == DAYS
    # The copied tables were all written after their days had ended, the intraday one too.
    assert seen["data_until"] == shop.last.isoformat()
    families = [day["family"] for day in seen["data"]]
    assert families[-3:] == ["daily", "fresh", "intraday"]
    assert all(day["loaded_rows"] == day["source_rows"] for day in seen["data"][1:])


async def test_asking_twice_gives_one_job(client: Client, shop: Shop) -> None:
    first = await client.start(whole(shop))
    again = await client.start(whole(shop))
    assert again.body["id"] == first.body["id"]
    other = await client.start({"start_date": "2026-09-01", "end_date": "2026-09-02"})
    assert other.body["id"] != first.body["id"]
    listed = await client.get("/jobs?kind=ingest&limit=1")
    assert listed.body["total"] == 2
    assert [job["id"] for job in listed.body["data"]] == [other.body["id"]]
    rest = await client.get(f"/jobs?kind=ingest&cursor={listed.body['next_cursor']}")
    assert [job["id"] for job in rest.body["data"]] == [first.body["id"]]
    assert (await client.get("/jobs?state=done")).body["data"] == []


async def test_an_idempotency_key_outlives_the_job(client: Client, shop: Shop) -> None:
    key = {"Idempotency-Key": "load-september"}
    first = await client.start(whole(shop), headers=key)
    cancelled = await client.ask("POST", f"/jobs/{first.body['id']}/cancel")
    assert cancelled.status == 202
    assert cancelled.body["state"] == "cancelled"
    again = await client.start(whole(shop), headers=key)
    assert again.body["id"] == first.body["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    misused = await client.start({"preset": "7d"}, headers=key)
    assert misused.status == 422


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"start_date": "2026-09-10", "end_date": "2026-09-01"}, ["/end_date"]),
        ({"start_date": "2026-09-30", "end_date": "2026-10-02"}, ["/end_date"]),
        ({"start_date": "2026-01-01", "end_date": "2026-09-01"}, ["/end_date"]),
        ({"start_date": "1999-12-31", "end_date": "1999-12-31"}, ["/start_date"]),
        ({"end_date": "2026-09-01"}, ["/start_date"]),
        ({"preset": "7d", "start_date": "2026-09-01"}, ["/preset"]),
        ({}, ["/start_date"]),
        ({"start_date": "September", "end_date": "2026-09-01"}, ["/start_date"]),
        ({"start_date": "2026-09-01", "end_date": "2026-09-01", "dry": True}, ["/dry"]),
    ],
)
async def test_ranges_that_make_no_sense(
    client: Client, body: dict[str, Any], pointers: list[str]
) -> None:
    refused = await client.start(body)
    assert refused.status == 422
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert [problem["pointer"] for problem in refused.body["errors"]] == pointers


async def test_presets_end_yesterday(client: Client) -> None:
    started = await client.start({"preset": "7d"})
    assert started.body["arguments"] == {"start_date": "2026-09-23", "end_date": "2026-09-29"}


async def test_a_tenant_that_is_not_there(app: Application) -> None:
    stranger = Client(app, TenantId(uuid.uuid4()))
    assert (await stranger.start({"preset": "7d"})).status == 404


async def test_roles(client: Client, shop: Shop) -> None:
    job = (await client.start(whole(shop))).body
    viewer = Client(client.app, shop.tenant, "viewer")
    for path in ("/jobs", f"/jobs/{job['id']}", "/availability"):
        assert (await viewer.get(path)).status == 200
    assert (await viewer.start(whole(shop))).status == 403
    for what in ("cancel", "retry"):
        assert (await viewer.ask("POST", f"/jobs/{job['id']}/{what}")).status == 403


async def test_another_tenants_job_is_nowhere(world: World, client: Client, shop: Shop) -> None:
    job = (await client.start(whole(shop))).body
    other = Client(client.app, (await world.shop(HARBOR_SHOP)).tenant, "owner")
    assert (await other.get(f"/jobs/{job['id']}")).status == 404
    assert (await other.get(f"/jobs/{job['id']}/events")).status == 404
    for what in ("cancel", "retry"):
        assert (await other.ask("POST", f"/jobs/{job['id']}/{what}")).status == 404
    assert (await other.get("/jobs")).body["data"] == []


async def test_a_failed_job_says_why_and_is_retried(
    world: World, client: Client, shop: Shop
) -> None:
    table = Family.DAILY.table(shop.first)
    shop.table(table).rename(shop.folder / "kept")
    day = {"start_date": shop.first.isoformat(), "end_date": shop.first.isoformat()}
    job = (await client.start(day)).body
    where = f"/jobs/{job['id']}"
    async with world.running():
        await world.finished(await world.store.get(shop.tenant, uuid.UUID(job["id"])))
        failed = (await client.get(where)).body
        assert failed["state"] == "failed"
        assert failed["error"]["message"] == (
            f"{TOOL_SHOP.project}.{TOOL_SHOP.dataset} has no events table for {shop.first}."
        )
        (seen,) = (await client.get("/availability")).body["data"]
        assert (seen["day"], seen["state"]) == (shop.first.isoformat(), "missing")
        assert (await client.ask("POST", f"{where}/cancel")).status == 409
        (shop.folder / "kept").rename(shop.table(table))
        again = await client.ask("POST", f"{where}/retry")
        assert again.status == 202
        await world.finished(await world.store.get(shop.tenant, uuid.UUID(job["id"])))
    assert (await client.get(where)).body["state"] == "done"
    assert (await client.ask("POST", f"{where}/retry")).status == 409


async def test_a_job_is_followed_to_its_end(world: World, client: Client, shop: Shop) -> None:
    world.bigquery.faults.add(Fault("job.run", times=None, delay=0.3))
    job = (await client.start(whole(shop))).body
    tester: Any = client.app.test_client()
    events: list[dict[str, Any]] = []
    text = ""
    async with world.running(days_in_flight=1):
        headers = {"Authorization": f"Bearer viewer.{shop.tenant}"}
        with trio.fail_after(60):
            # The test client holds ten messages at most: they are taken as they come.
            async with tester.request(
                f"/api/v1/jobs/{job['id']}/events", headers=headers
            ) as connection:
                await connection.send_complete()
                with contextlib.suppress(trio.EndOfChannel):
                    while True:
                        text += (await connection.receive()).decode()
    assert connection.status_code == 200
    assert connection.headers["Content-Type"].startswith("text/event-stream")
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in lines:
            assert lines["event"] == "progress"
            events.append(json.loads(lines["data"]))
    assert [event["state"] for event in events][-1] == "done"
    assert {event["state"] for event in events} >= {"running", "done"}
    done = [event["progress"]["done"] or 0 for event in events]
    assert done == sorted(done)
    assert len(set(done)) > 2
