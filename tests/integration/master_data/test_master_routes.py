"""Uploads, reports and the host key as a client of port 8002 sees them."""

import csv
import hashlib
import io
import json
import uuid
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import asyncssh
import openpyxl
import pytest
import trio

from tests.integration.master_data.conftest import Shop, World, failure_of
from tests.support import tenancy
from tests.support.postgres import TestDatabase
from troupe.actors.data import master_held
from troupe.actors.data.job_requests import SCHEDULABLE_IMPORT, import_job
from troupe.common.bridge import aio
from troupe.common.errors import InvalidInput
from troupe.common.ids import TenantId, new_id
from troupe.common.outbound import OutboundGuard
from troupe.http import data, data_imports
from troupe.http.application import Application, create_app
from troupe.http.credentials import ResolvedPrincipal
from troupe.http.idempotency import PostgresIdempotencyStore
from troupe.http.principal import Principal, Role
from troupe.platform.jobs import JobState
from troupe_demo.ga4 import HARBOR_SHOP, TOOL_SHOP

WHO = uuid.UUID(int=7)
PLAIN = b"customer_id,company,email\r\n7,M\xc3\xbcller,a@b.example\r\n8,Other,\r\n"


class Tokens:
    """Bearer tokens that are a role and a tenant."""

    async def resolve(self, bearer: str | None, *_: Any) -> Principal | None:
        if bearer is None:
            return None
        role, tenant = bearer.split(".")
        return ResolvedPrincipal(
            kind="token",
            subject_id=uuid.UUID(int=1),
            credential_id=WHO,
            tenant_id=TenantId(uuid.UUID(tenant)),
            role=Role.named(role),
            scopes=frozenset({"*"}),
            name="test",
            **_unsaid(),
        )


def _unsaid() -> dict[str, Any]:
    """Whatever else a resolved principal has, which is of no matter here."""
    own = set(ResolvedPrincipal.__dataclass_fields__) - set(Principal.__dataclass_fields__)
    return dict.fromkeys(own - {"credential_id"})


@dataclass
class Answered:
    status: int
    raw: bytes
    headers: Any

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Client:
    app: Application
    tenant: TenantId
    role: str = "admin"

    async def ask(self, method: str, path: str, **options: Any) -> Answered:
        headers = {"Authorization": f"Bearer {self.role}.{self.tenant}"}
        headers |= options.pop("headers", {})
        client: Any = self.app.test_client()
        response = await client.open(f"/api/v1{path}", method=method, headers=headers, **options)
        return Answered(response.status_code, await response.get_data(), response.headers)

    async def upload(
        self, content: str, body: bytes, name: str = "c.csv", **headers: str
    ) -> Answered:
        return await self.ask(
            "POST",
            f"/uploads?content={content}&name={name}",
            data=body,
            headers={"Content-Type": "application/octet-stream", **headers},
        )


@pytest.fixture
async def app(world: World) -> Application:
    made = create_app(
        "data", resolver=Tokens(), idempotency=PostgresIdempotencyStore(world.database)
    )
    data.declare(made.api, world.database, maximum_days=90)
    data_imports.declare(made.api, world.database, world.guard)
    return made


@pytest.fixture
async def shop(world: World) -> Shop:
    return await world.shop()


@pytest.fixture
def client(app: Application, shop: Shop) -> Client:
    return Client(app, shop.tenant)


async def ended(world: World, client: Client, answer: Answered) -> Any:
    assert answer.status == 202, answer.body
    where = answer.headers["Location"].removeprefix("/api/v1")
    async with world.running():
        with trio.fail_after(30):
            while (job := (await client.ask("GET", where)).body)["finished_at"] is None:
                await trio.sleep(0.03)
    return job


async def held(world: World) -> int:
    return int(await aio(world.admin.fetchval("SELECT count(*) FROM data.held_pieces")))


async def test_an_upload_is_loaded_as_the_server_s_file_would_be(
    world: World, client: Client, shop: Shop
) -> None:
    content = shop.file("customers").read_bytes()
    answer = await client.upload("customers", content)
    assert answer.body["sha256"] == hashlib.sha256(content).hexdigest()
    assert answer.body["size"] == len(content)
    assert await held(world) == 1
    job = await ended(world, client, answer)
    assert (job["state"], job["kind"]) == ("done", "import_master_data")
    assert len(await world.rows(shop, "customers")) == len(TOOL_SHOP.customers)
    assert await held(world) == 0
    [file] = (await client.ask("GET", "/imports/files")).body["data"]
    assert (file["path"], file["problem"]) == ("uploads/c.csv", None)
    assert file["loaded_rows"] == len(TOOL_SHOP.customers)

    # The same once more changes nothing, and is let go all the same.
    job = await ended(world, client, await client.upload("customers", content))
    assert (job["result"]["skipped"], await held(world)) == (1, 0)


async def test_without_a_connection_the_headers_are_our_own_names(
    world: World, client: Client, shop: Shop
) -> None:
    await aio(world.admin.execute("DELETE FROM auth.connections"))
    job = await ended(world, client, await client.upload("customers", PLAIN))
    assert job["state"] == "done", job["error"]
    rows = await world.rows(shop, "customers")
    assert rows["7"]["company"] == "Müller"
    assert rows["8"]["email"] is None


async def test_a_workbook_can_be_uploaded(world: World, client: Client, shop: Shop) -> None:
    await aio(world.admin.execute("DELETE FROM auth.connections"))
    book = openpyxl.Workbook()
    rows = [[number, "Müller & Söhne", 4940000 + number] for number in range(1001, 1021)]
    for row in (["customer_id", "company", "phone"], *rows, [7, "=1+1", 1]):
        book.active.append(row)
    body = io.BytesIO()
    book.save(body)
    job = await ended(world, client, await client.upload("customers", body.getvalue(), "c.xlsx"))
    known = await world.rows(shop, "customers")
    assert (known["1001"]["company"], known["1001"]["phone"]) == ("Müller & Söhne", "4941001")
    [error] = job["result"]["errors"]
    assert "formula without a computed value" in error["message"]


async def test_the_report_of_rows_can_be_opened_in_a_spreadsheet(
    world: World, client: Client, shop: Shop
) -> None:
    lines = ["customer_id,company,email", *(f"{n},x,ok@b.example" for n in range(2000))]
    lines[5], lines[9] = ",nobody,", "9,x,not an address"
    await aio(world.admin.execute("DELETE FROM auth.connections"))
    answer = await client.upload("customers", "\r\n".join(lines).encode(), "%3Dcmd.csv")
    job = await ended(world, client, answer)
    assert job["result"]["errors_total"] == 2
    report = await client.ask("GET", f"/imports/{job['id']}/errors")
    assert report.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in report.headers["Content-Disposition"]
    assert report.raw.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(report.raw.decode("utf-8-sig"))))
    assert rows == [
        ["file", "line", "column", "problem"],
        ["uploads/=cmd.csv", "6", "customer_id", "is empty"],
        ["uploads/=cmd.csv", "10", "email", "is not one plain e-mail address"],
    ]


async def test_a_refused_upload_changes_nothing_and_is_reported(
    world: World, client: Client, shop: Shop
) -> None:
    await aio(world.admin.execute("DELETE FROM auth.connections"))
    body = b"customer_id,company\r\n" + b",x\r\n" * 12_000
    answer = await client.upload("customers", body)
    job = await ended(world, client, answer)
    assert (job["state"], job["error"]["kind"]) == ("failed", "TooManyBadRows")
    assert await world.rows(shop, "customers") == {}
    assert await held(world) == 0
    raw = (await client.ask("GET", f"/imports/{job['id']}/errors")).raw.decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(raw)))
    assert len(rows) == 1 + 10_000 + 1
    assert rows[-1] == ["uploads/c.csv", "", "", "and 2000 more that are not told"]
    # Somebody runs it again, and is told why that does not help.
    await client.ask("POST", f"/jobs/{job['id']}/retry")
    again = await ended(world, client, answer)
    assert again["error"]["message"] == "The uploaded file is no longer held; upload it again."


async def test_reports_and_uploads_are_the_tenant_s_own(
    world: World, app: Application, client: Client, shop: Shop
) -> None:
    job = await ended(world, client, await client.upload("customers", b"a;b\r\n"))
    other = Client(app, (await world.shop(HARBOR_SHOP)).tenant)
    assert (await other.ask("GET", f"/imports/{job['id']}/errors")).status == 404
    assert (await other.ask("GET", "/imports/files")).body["data"] == []
    assert (await client.ask("GET", f"/imports/{new_id()}/errors")).status == 404
    viewer = replace(client, role="viewer")
    assert (await viewer.ask("GET", f"/imports/{job['id']}/errors")).status == 403
    assert (await viewer.upload("customers", PLAIN)).status == 403


async def test_what_cannot_be_uploaded_is_said(client: Client) -> None:
    assert (await client.upload("prices", PLAIN)).status == 422
    assert (await client.upload("customers", b"")).status == 422
    for name in ("..%2Fc.csv", "..", "a%00b", "x" * 300):
        assert (await client.upload("customers", PLAIN, name)).status == 422, name
    wrong = {"Content-Type": "text/html"}
    assert (await client.upload("customers", PLAIN, **wrong)).status == 415


async def test_a_repeated_upload_is_one_upload(world: World, client: Client) -> None:
    key = {"Idempotency-Key": "monday"}
    first = await client.upload("customers", PLAIN, **key)
    assert (await client.upload("customers", PLAIN, **key)).raw == first.raw
    assert (await client.upload("customers", PLAIN + b"9,x,\r\n", **key)).status == 422
    assert await held(world) == 1


async def test_so_many_uploads_may_wait(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master_held, "MAX_UPLOADS", 2)
    statuses = [(await client.upload("customers", PLAIN, f"{n}.csv")).status for n in range(3)]
    assert statuses == [202, 202, 409]
    # What nobody has come for within a week makes room.
    await aio(world.admin.execute("UPDATE data.held_files SET held_at = now() - interval '8 days'"))
    assert (await client.upload("customers", PLAIN)).status == 202


async def test_a_host_key_is_seen_confirmed_and_pinned(
    world: World, client: Client, shop: Shop
) -> None:
    await world.connect(shop, host_key="")
    seen = (await client.ask("GET", "/sftp/host-key")).body
    assert (seen["state"], seen["pinned_fingerprint"]) == ("unpinned", None)
    assert seen["fingerprint"] == world.server["host_key_fingerprint"]
    other = {"fingerprint": "SHA256:" + "A" * 43}
    refused = await client.ask("PUT", "/sftp/host-key", json=other)
    assert (refused.status, refused.body["type"]) == (409, "urn:troupe:problem:conflict")
    assert failure_of(await world.refused(shop)).kind == "HostKeyNotPinned"

    confirmed = {"fingerprint": seen["fingerprint"]}
    pinned = (await client.ask("PUT", "/sftp/host-key", json=confirmed)).body
    assert (pinned["state"], pinned["pinned_fingerprint"]) == ("pinned", seen["fingerprint"])
    assert (await world.imported(shop))["changed"] > 0
    # Once more is no change.
    assert (await client.ask("PUT", "/sftp/host-key", json=confirmed)).body == pinned
    entries = await aio(
        world.admin.fetch(
            "SELECT actor_kind, actor_id, detail FROM auth.audit_log WHERE tenant_id = $1"
            " AND action = 'connection.host_key_pinned'",
            shop.tenant,
        )
    )
    assert [(entry["actor_kind"], entry["actor_id"]) for entry in entries] == [("token", WHO)]
    assert json.loads(entries[0]["detail"])["fingerprint"] == seen["fingerprint"]


async def test_only_an_admin_trusts_a_key(client: Client) -> None:
    analyst = replace(client, role="analyst")
    assert (await analyst.ask("GET", "/sftp/host-key")).status == 403
    body = {"fingerprint": "SHA256:" + "A" * 43}
    assert (await analyst.ask("PUT", "/sftp/host-key", json=body)).status == 403
    wrong = await client.ask("PUT", "/sftp/host-key", json={"fingerprint": "aa:bb"})
    assert wrong.status == 422


async def test_a_changed_key_is_seen_as_such(world: World, client: Client, shop: Shop) -> None:
    other = asyncssh.generate_private_key("ssh-rsa").export_public_key().decode().strip()
    await world.connect(shop, host_key=other)
    seen = (await client.ask("GET", "/sftp/host-key")).body
    assert (seen["state"], seen["algorithm"]) == ("changed", "ssh-ed25519")
    assert seen["pinned_fingerprint"] == asyncssh.import_public_key(other).get_fingerprint()


async def test_a_host_inside_is_not_asked(world: World, shop: Shop) -> None:
    made = create_app(
        "data", resolver=Tokens(), idempotency=PostgresIdempotencyStore(world.database)
    )
    data_imports.declare(made.api, world.database, OutboundGuard())
    answer = await Client(made, shop.tenant).ask("GET", "/sftp/host-key")
    assert (answer.status, answer.body["type"]) == (502, "urn:troupe:problem:peer-refused")


async def test_a_server_that_says_nothing_is_not_waited_for(
    world: World, client: Client, shop: Shop, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async def nonsense(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n" + b"x" * 100_000)

    async def gone(stream: trio.SocketStream) -> None:
        await stream.aclose()

    for handler in (silent, nonsense, gone):
        await world.connect(shop, port=await listener(handler))
        monkeypatch.setattr(data_imports.shown_key, "__defaults__", (0.5,))
        begin = trio.current_time()
        answer = await client.ask("GET", "/sftp/host-key")
        assert (answer.status, trio.current_time() - begin < 5) == (503, True), answer.body


async def test_a_tenant_without_a_connection_has_no_key(world: World, client: Client) -> None:
    await aio(world.admin.execute("DELETE FROM auth.connections"))
    assert (await client.ask("GET", "/sftp/host-key")).status == 404


def test_what_a_schedule_may_say() -> None:
    SCHEDULABLE_IMPORT.checked({})
    SCHEDULABLE_IMPORT.checked({"again": True})
    for wrong in ({"again": "yes"}, {"upload": str(new_id())}, {"agian": True}):
        with pytest.raises(InvalidInput) as failure:
            SCHEDULABLE_IMPORT.checked(wrong)
        assert failure.value.errors[0][0] == f"/arguments/{next(iter(wrong))}"


async def test_a_scheduled_job_carries_its_slot(world: World, shop: Shop) -> None:
    arguments = {"again": False, "slot": "2026-11-26T03:00:00Z"}
    job = await world.store.enqueue(shop.tenant, replace(import_job(), arguments=arguments))
    async with world.running():
        assert (await world.ended(job)).state is JobState.DONE


async def test_nobody_sees_what_is_held_for_another_tenant(
    world: World, app: Application, client: Client, fresh_database: TestDatabase
) -> None:
    other = Client(app, (await world.shop(HARBOR_SHOP)).tenant)
    await aio(world.admin.execute("DELETE FROM auth.connections"))
    rows = b"".join(b"%d,x\r\n" % number for number in range(20))
    broken = b"customer_id,company\r\n" + rows + b",x\r\n"
    for each in (client, other):
        job = await ended(world, each, await each.upload("customers", broken))
        assert job["state"] == "done"
    for each in (client, other):
        await each.upload("customers", broken)
    mine = ("data.held_files", "data.held_pieces", "data.row_reports", "data.master_files")

    async def check() -> list[str]:
        runtime = await asyncpg.connect(fresh_database.runtime_url)
        try:
            return await tenancy.behaviour(world.admin, runtime, [client.tenant, other.tenant])
        finally:
            await runtime.close()

    assert [line for line in await aio(check()) if line.startswith(mine)] == []
