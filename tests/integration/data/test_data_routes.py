"""Port 8002 as a client sees it."""

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import trio

from tests.integration.data.conftest import DAYS, Shop, World
from troupe.common.ids import TenantId
from troupe.http import data_jobs
from troupe.http.application import Application, create_app
from troupe.http.data import declare
from troupe.http.idempotency import PostgresIdempotencyStore
from troupe.http.principal import Principal, Role
from troupe.http.request import DRAINING_EXTENSION
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
    assert await world.published(shop) == shop.days
    assert seen["data_version"] == await world.value("SELECT data_version FROM data.versions")
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


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("end_date=9999-12-31", "?end_date"),
        ("start_date=0001-01-01", "?start_date"),
        ("start_date=2026-09-01&end_date=2026-08-31", "?end_date"),
        ("start_date=2010-01-01&end_date=2020-12-31", "?end_date"),
    ],
)
async def test_availability_of_days_beyond_measure(
    client: Client, query: str, pointer: str
) -> None:
    refused = await client.get(f"/availability?{query}")
    assert refused.status == 422
    assert [problem["pointer"] for problem in refused.body["errors"]] == [pointer]


async def test_availability_is_at_most_ten_years(client: Client) -> None:
    longest = await client.get("/availability?start_date=2010-01-01&end_date=2020-01-08")
    assert len(longest.body["data"]) == 3660
    open_ended = await client.get("/availability?start_date=2010-01-01&end_date=2010-01-31")
    assert len(open_ended.body["data"]) == 31


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


async def test_jobs_are_filtered_by_time(client: Client, world: World, shop: Shop) -> None:
    first = (await client.start(whole(shop))).body
    second = (await client.start({"start_date": "2026-09-01", "end_date": "2026-09-02"})).body
    await world.change(
        "UPDATE platform.jobs SET created_at = created_at - interval '1 hour' WHERE job_id = $1",
        uuid.UUID(first["id"]),
    )
    between = (datetime.now(UTC) - timedelta(minutes=30)).isoformat().replace("+00:00", "Z")
    later = (await client.get(f"/jobs?created_from={between}")).body
    earlier = (await client.get(f"/jobs?created_before={between}")).body
    assert [job["id"] for job in later["data"]] == [second["id"]]
    assert [job["id"] for job in earlier["data"]] == [first["id"]]
    assert (later["total"], earlier["total"]) == (1, 1)
    refused = await client.get("/jobs?created_from=2026-09-01T12:00:00")
    assert refused.status == 422
    assert refused.body["errors"][0]["pointer"] == "?created_from"


async def test_dead_and_failed_jobs_run_again_at_once(
    world: World, client: Client, shop: Shop
) -> None:
    day = {"start_date": "2026-08-01", "end_date": "2026-08-01"}
    job = (await client.start(day)).body
    async with world.running():
        failed = await world.finished(await world.store.get(shop.tenant, uuid.UUID(job["id"])))
    assert failed.state.value == "failed"
    viewer = Client(client.app, shop.tenant, "viewer")
    assert (await viewer.ask("POST", "/jobs/redrive", json={})).status == 403
    nothing = await client.ask("POST", "/jobs/redrive", json={"kind": "import_master_data"})
    assert (nothing.status, nothing.body["data"]) == (202, [])
    again = await client.ask("POST", "/jobs/redrive", json={"kind": "ingest", "limit": 10})
    assert [(one["id"], one["state"]) for one in again.body["data"]] == [(job["id"], "available")]
    assert (await client.ask("POST", "/jobs/redrive", json={"limit": 0})).status == 422


async def test_gaps_are_filled_by_one_call(world: World, client: Client, shop: Shop) -> None:
    nothing_known = await client.start({"gaps": True})
    assert nothing_known.status == 422
    second = shop.first + timedelta(days=1)
    await world.loaded(shop, shop.first, shop.first)
    await world.loaded(shop, shop.last - timedelta(days=1), shop.last - timedelta(days=1))
    seen = (await client.get("/availability")).body
    missing = [(second + timedelta(days=n)).isoformat() for n in range(DAYS - 3)]
    assert seen["gaps"] == [{"first_day": missing[0], "last_day": missing[-1], "days": DAYS - 3}]
    assert (seen["missing_days"], seen["stale_days"]) == (DAYS - 3, 0)
    started = await client.start({"gaps": True})
    assert started.status == 202
    assert started.body["arguments"] == {"days": missing}
    assert (await client.start({"gaps": True})).body["id"] == started.body["id"]
    async with world.running():
        job = await world.finished(
            await world.store.get(shop.tenant, uuid.UUID(started.body["id"]))
        )
    assert job.result["days"] == DAYS - 3, job.error
    # The last day is not over, so it is no gap although it was never loaded.
    whole_again = await client.start({"gaps": True, **whole(shop)})
    assert whole_again.status == 409
    assert "no gaps" in whole_again.body["detail"]
    assert (await client.get("/availability")).body["gaps"] == []


async def test_days_that_are_not_kept_are_not_loaded(
    world: World, client: Client, shop: Shop
) -> None:
    await world.change(
        "UPDATE platform.tenants SET settings = settings || '{\"retention_days\": 30}'"
        " WHERE tenant_id = $1",
        shop.tenant,
    )
    refused = await client.start({"start_date": "2026-08-31", "end_date": "2026-09-02"})
    assert refused.status == 422
    assert refused.body["errors"] == [
        {
            "pointer": "/start_date",
            "message": "must not be before 2026-09-01, see the tenant's retention_days",
        }
    ]
    cut = await client.start({"preset": "90d"})
    assert cut.body["arguments"]["start_date"] == "2026-09-01"
    assert (await client.get("/availability")).body["kept_from"] == "2026-09-01"


async def test_what_is_loaded_is_compared_with_the_source(
    world: World, client: Client, shop: Shop
) -> None:
    await world.loaded(shop, shop.first, shop.first + timedelta(days=1))
    days = {
        "start_date": shop.first.isoformat(),
        "end_date": (shop.first + timedelta(days=1)).isoformat(),
    }
    query = f"/reconciliation?start_date={days['start_date']}&end_date={days['end_date']}"
    before = (await client.get(query)).body["data"]
    assert [day["counted_at"] for day in before] == [None, None]
    assert all(event["source_rows"] is None for event in before[0]["events"])

    async def counted() -> list[dict[str, Any]]:
        started = await client.ask("POST", "/reconciliations", json=days)
        assert started.status == 202, started.body
        async with world.running():
            job = await world.store.get(shop.tenant, uuid.UUID(started.body["id"]))
            job = await world.finished(job)
        assert job.result == {"days": 2, "counted": 2}, job.error
        found: list[dict[str, Any]] = (await client.get(query)).body["data"]
        return found

    for day in await counted():
        assert day["difference"] == 0
        assert not day["source_changed"]
        assert {event["difference"] for event in day["events"]} == {0}
        assert sum(event["loaded_rows"] for event in day["events"]) == day["loaded_rows"]
        nobodys = await world.value(
            "SELECT count(*) FROM data.events WHERE tenant_id = $1 AND source_day = $2"
            " AND user_pseudo_id IS NULL",
            shop.tenant,
            date.fromisoformat(day["day"]),
        )
        assert sum(event["without_visitor"] for event in day["events"]) == nobodys

    # Late events arrive at the source: the day is compared with another table than was loaded.
    shop.rewrite(Family.DAILY.table(shop.first), lambda table: table.slice(0, table.num_rows - 5))
    changed, untouched = await counted()
    assert changed["source_changed"]
    assert sum(event["difference"] for event in changed["events"]) == -5
    assert not untouched["source_changed"]
    assert (await client.get("/reconciliation?preset=all")).status == 200
    # What is odd about purchases, on top of what the day has.
    normal = changed["money"]
    for number, (visitor, currency, counted, missing, differs) in enumerate(
        [("u", "EUR", False, False, False), (None, "EUR", True, True, False),
         ("u", "CHF", True, False, True)]
    ):  # fmt: skip
        await world.change(
            "INSERT INTO data.purchases (tenant_id, purchase_id, source_day, day, purchased_at,"
            " user_pseudo_id, transaction_id, currency, currency_missing, revenue, counted,"
            " value_mismatch) VALUES ($1, $2, $3, $3, now(), $4, 'T', $5, $6, 1, $7, $8)",
            shop.tenant, number, shop.first, visitor, currency, missing, counted, differs,
        )  # fmt: skip
    odd = (await client.get(query)).body["data"][0]["money"]
    assert {name: odd[name] - normal[name] for name in odd} == {
        "purchases": 3,
        "duplicates": 1,
        "without_key": 1,
        "currency_missing": 1,
        "other_currency": 1,
        "value_mismatch": 1,
    }
    too_long = await client.get("/reconciliation?start_date=2026-01-01&end_date=2026-09-01")
    assert too_long.status == 422


class Listener:
    """A client of an event stream that hangs up when it has heard enough."""

    def __init__(self, client: Client, job: str, seen: str | None = None) -> None:
        self._hung_up = trio.Event()
        self._headers = {"Authorization": f"Bearer viewer.{client.tenant}"}
        if seen is not None:
            self._headers["Last-Event-ID"] = seen
        self._tester: Any = client.app.test_client()
        self._path = f"/api/v1/jobs/{job}/events"
        self._text = b""

    async def get(self) -> Any:
        """The whole answer; for one that ends by itself."""
        with trio.fail_after(10):
            return await self._tester.get(self._path, headers=self._headers)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Callable[..., Awaitable[bytes]]]:
        scope = {"extensions": {DRAINING_EXTENSION: self._hung_up}}
        async with self._tester.request(
            self._path, headers=self._headers, scope_base=scope
        ) as connection:
            await connection.send_complete()

            async def hear(until: bytes, *, patience: float = 10) -> bytes:
                with trio.move_on_after(patience):
                    while until not in self._text:
                        self._text += await connection.receive()
                return self._text

            try:
                yield hear
            finally:
                self._hung_up.set()


def id_in(text: bytes) -> str:
    return text.split(b"id: ")[-1].split(b"\n")[0].decode()


async def test_following_goes_on_where_it_was_lost(client: Client, shop: Shop) -> None:
    job = (await client.start(whole(shop))).body["id"]
    async with Listener(client, job).listening() as hear:
        seen = id_in(await hear(b"data: "))
    async with Listener(client, job, seen).listening() as hear:
        # Nothing has happened since, so there is nothing to say.
        assert b"data: " not in await hear(b"data: ", patience=1.2)
        await client.ask("POST", f"/jobs/{job}/cancel")
        text = await hear(b'"cancelled"')
        assert b'"cancelled"' in text
    assert (await Listener(client, job, seen).get()).status_code == 200
    assert (await Listener(client, job, id_in(text)).get()).status_code == 204


async def test_a_tenant_follows_so_many_jobs_and_no_more(
    monkeypatch: pytest.MonkeyPatch, client: Client, world: World, shop: Shop
) -> None:
    monkeypatch.setattr(data_jobs, "TENANT_FOLLOWERS", 1)
    job = (await client.start(whole(shop))).body["id"]
    async with Listener(client, job).listening() as hear:
        await hear(b"data: ")
        refused = await Listener(client, job).get()
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
        # Another tenant's are its own.
        other = Client(client.app, (await world.shop(HARBOR_SHOP)).tenant)
        theirs = (await other.start({"preset": "7d"})).body["id"]
        await other.ask("POST", f"/jobs/{theirs}/cancel")
        assert (await Listener(other, theirs).get()).status_code == 200
    await client.ask("POST", f"/jobs/{job}/cancel")
    assert (await Listener(client, job).get()).status_code == 200


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
