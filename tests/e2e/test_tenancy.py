"""Two tenants in one database, full of data: nobody sees what is another's."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.e2e.conftest import Demo
from tests.support import tenancy
from troupe.common.postgres import running_server
from troupe.platform.jobs import NewJob, enqueue_many

MAY_BE_EMPTY = frozenset(
    {
        "analytics.report_addresses",
        "analytics.report_deliveries",
        "analytics.report_history",
        "analytics.report_recipients",
        "analytics.report_runs",
        "analytics.report_schedules",
        "analytics.report_settings",
        "analytics.report_zones",
        "data.staged_days",
        "data.erased_persons",
        "data.held_files",
        "data.held_pieces",
        "data.row_reports",
        "analytics.alarm_messages",
        "analytics.alarms",
        "analytics.alerts",
        "analytics.task_changes",
        "data.source_event_counts",
        "platform.schedules",
        "platform.schedule_slots",
    }
)
"""Rows are there only while a day or a file is being loaded, where a file had bad rows, or once
somebody was erased, has made a schedule or counted a day at the source. Files are asked in
tests/integration/master_data, erasures in tests/integration/tenancy, schedules in
tests/integration/schedules, counts in tests/integration/data, changes of tasks and
alerts in tests/integration/analytics, reports in tests/integration/reports."""

Check = Callable[[asyncpg.Connection, asyncpg.Connection], Awaitable[Any]]


def _with_connections(demo: Demo, check: Check) -> Any:
    state = demo.state / "troupe"
    runtime_url = running_server(state).runtime
    passwords = json.loads((state / "postgres" / "passwords.json").read_text())
    port = int((state / "postgres" / "port").read_text())

    async def work() -> Any:
        admin = await asyncpg.connect(
            host="127.0.0.1",
            port=port,
            user="postgres",
            password=passwords["admin"],
            database="troupe",
        )
        runtime = await asyncpg.connect(runtime_url)
        try:
            return await check(admin, runtime)
        finally:
            await runtime.close()
            await admin.close()

    return asyncio.run(work())


@pytest.fixture(scope="module")
def filled(demo: Demo) -> Demo:
    """The demonstration, with rows also where its own life leaves none."""
    for tenant in demo.tenants:
        day = tenant.last_day.isoformat()
        answer = httpx2.post(
            f"{demo.ready['urls']['data']}/api/v1/ingestions",
            json={"start_date": day, "end_date": day},
            headers={"Authorization": f"Bearer {tenant.token}", "Idempotency-Key": "tenancy"},
            timeout=60,
        )
        assert answer.status_code == 202, answer.text
        path = f"/api/v1/tenants/{tenant.id}/invitations"
        invited = tenant.post("auth", path, {"email": "guest@x.example", "role": "viewer"})
        assert invited.status_code == 201, invited.text

    async def enqueue(_admin: asyncpg.Connection, runtime: asyncpg.Connection) -> None:
        """A live job with a key, of a kind that nobody runs."""
        waiting = NewJob(group="data", kind="waiting", idempotency_key="tenancy")
        for tenant in demo.tenants:
            async with runtime.transaction():
                await runtime.execute(
                    "SELECT set_config('troupe.tenant_id', $1, true)", str(tenant.id)
                )
                await enqueue_many(runtime, [waiting])

    async def follow(admin: asyncpg.Connection, _runtime: asyncpg.Connection) -> None:
        """Tasks follow a load by a second or two."""
        deadline = time.monotonic() + 60
        while True:
            count = await admin.fetchval("SELECT count(DISTINCT tenant_id) FROM analytics.tasks")
            if count >= len(demo.tenants):
                return
            assert time.monotonic() < deadline, "no tasks"
            await asyncio.sleep(0.2)

    _with_connections(demo, enqueue)
    _with_connections(demo, follow)
    return demo


def test_the_catalogue_holds_what_tenancy_needs(filled: Demo) -> None:
    assert _with_connections(filled, lambda admin, _runtime: tenancy.structure(admin)) == []


def test_no_table_view_or_partition_shows_rows_of_another_tenant(filled: Demo) -> None:
    tenants = [uuid.UUID(tenant.id) for tenant in filled.tenants]

    async def check(admin: asyncpg.Connection, runtime: asyncpg.Connection) -> list[str]:
        return await tenancy.behaviour(admin, runtime, tenants, may_be_empty=MAY_BE_EMPTY)

    assert _with_connections(filled, check) == []


BREAK = {
    "a table without row-level security": "ALTER TABLE data.sessions DISABLE ROW LEVEL SECURITY",
    "a policy that lets everybody in": (
        "CREATE POLICY open ON data.purchases TO troupe_runtime USING (true) WITH CHECK (true)"
    ),
    "a view that runs as its owner": (
        "CREATE VIEW analytics.leak AS SELECT * FROM data.purchases;"
        "GRANT SELECT ON analytics.leak TO troupe_runtime"
    ),
    "a materialized view": (
        "CREATE MATERIALIZED VIEW analytics.leak AS SELECT * FROM data.purchases;"
        "GRANT SELECT ON analytics.leak TO troupe_runtime"
    ),
    "a table that nobody thought of": (
        "CREATE TABLE data.forgotten (tenant_id uuid PRIMARY KEY, secret text);"
        "INSERT INTO data.forgotten SELECT tenant_id, 'x' FROM platform.tenants;"
        "GRANT SELECT ON data.forgotten TO troupe_runtime"
    ),
    "a door that anybody may open": (
        "CREATE FUNCTION data.door() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
        " AS 'SELECT count(*) FROM data.sessions'"
    ),
    "a role that may bypass": "ALTER ROLE troupe_runtime BYPASSRLS",
}


@pytest.mark.parametrize("broken", BREAK, ids=lambda name: name.replace(" ", "-"))
def test_the_checker_finds(filled: Demo, broken: str) -> None:
    """Its broken twins: one mistake each, in a copy of the database."""
    tenants = [uuid.UUID(tenant.id) for tenant in filled.tenants]

    async def check(admin: asyncpg.Connection, _runtime: asyncpg.Connection) -> list[str]:
        transaction = admin.transaction()
        await transaction.start()
        try:
            await admin.execute(BREAK[broken])
            found = await tenancy.structure(admin)
            # What only behaviour shows is asked within the same transaction, as that role.
            found += await _as_runtime(admin, tenants)
        finally:
            await transaction.rollback()
        return found

    assert _with_connections(filled, check) != []


async def _as_runtime(admin: asyncpg.Connection, tenants: list[uuid.UUID]) -> list[str]:
    """The one question that a policy can answer wrongly while the catalogue looks right."""
    await admin.execute("SET LOCAL ROLE troupe_runtime")
    await admin.execute("SELECT set_config('troupe.tenant_id', $1, true)", str(tenants[0]))
    foreign = await admin.fetchval(
        "SELECT count(*) FROM data.purchases WHERE tenant_id <> $1", tenants[0]
    )
    return [f"{foreign} purchases of others"] if foreign else []


def test_every_route_but_the_public_ones_needs_credentials(demo: Demo) -> None:
    walked = 0
    for group in ("auth", "data", "analytics"):
        url = demo.ready["urls"][group]
        document = httpx2.get(f"{url}/openapi.json", timeout=30).json()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if not operation.get("security"):
                    continue
                real = path
                for variable in operation.get("parameters", []):
                    if variable["in"] == "path":
                        value = variable["schema"].get("enum", [uuid.uuid4()])[0]
                        real = real.replace(f"{{{variable['name']}}}", str(value))
                answer = httpx2.request(method.upper(), f"{url}{real}", timeout=30)
                assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
                walked += 1
    assert walked > 20
