"""The job ``import_master_data`` against the SFTP companion and PostgreSQL, over the wire."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import asyncssh
import openpyxl
import pytest
import trio

from tests.integration.master_data.conftest import World, failure_of
from troupe.actors.data import master_sftp
from troupe.actors.data.job_requests import import_job
from troupe.common.bridge import aio
from troupe.common.outbound import OutboundGuard
from troupe.common.units import SECONDS, MiB
from troupe.platform.jobs import JobState
from troupe_demo.ga4 import HARBOR_SHOP, TOOL_SHOP

Listen = Callable[[Callable[[trio.SocketStream], Awaitable[None]]], Awaitable[int]]


async def test_both_files_are_imported_as_they_stand(world: World) -> None:
    shop = await world.shop(TOOL_SHOP)
    async with world.database.listen("troupe_data_version") as announced:
        result = await world.imported(shop)
        with trio.fail_after(5 * SECONDS):
            assert await announced.receive() == str(shop.tenant)
    locations = await world.rows(shop, "locations")
    assert set(locations) == {branch.id for branch in TOOL_SHOP.branches}
    assert locations["DE-HAM"]["manager"] == "Jörg Petersen"
    customers = await world.rows(shop, "customers")
    assert {
        (
            row["customer_id"],
            row["company"],
            row["contact"],
            row["email"],
            row["phone"],
            row["location_id"],
            row["city"],
        )
        for row in customers.values()
    } == {
        (
            known.erp_id,
            known.company,
            known.contact,
            known.email,
            known.phone,
            known.branch,
            known.city,
        )
        for known in TOOL_SHOP.customers
    }
    total = len(locations) + len(customers)
    assert (result["rows"], result["changed"], result["skipped"]) == (total, total, 0)
    assert (result["errors"], result["errors_total"]) == ([], 0)
    assert [(file["content"], file["state"]) for file in result["files"]] == [
        ("locations", "imported"),
        ("customers", "imported"),
    ]
    # Each file is a transaction of its own.
    assert result["data_version"] == await world.version(shop) == 2


async def test_an_unchanged_file_is_not_read_again(world: World) -> None:
    shop = await world.shop()
    await world.imported(shop)
    before = shop.file("customers").stat()
    # Unreadable now: whoever only asks about it does not notice.
    content = shop.file("customers").read_bytes()
    shop.file("customers").write_bytes(bytes(len(content)))
    os.utime(shop.file("customers"), (before.st_mtime, before.st_mtime))
    result = await world.imported(shop)
    assert (result["skipped"], result["changed"], result["data_version"]) == (2, 0, None)
    assert await world.version(shop) == 2

    # Unless it is asked for.
    job = await world.attempt(shop, again=True)
    assert job.state is JobState.FAILED


async def test_a_file_written_again_with_the_same_content_changes_nothing(world: World) -> None:
    shop = await world.shop()
    await world.imported(shop)
    for content in ("locations", "customers"):
        shop.rewrite(content, lambda text: text, age=60)
    result = await world.imported(shop)
    assert (result["skipped"], result["data_version"]) == (2, None)
    files = await world.files(shop)
    for content, file in files.items():
        assert file["modified_at"].timestamp() == int(shop.file(content).stat().st_mtime)


async def test_a_file_younger_than_its_import_is_compared_by_content(world: World) -> None:
    shop = await world.shop()
    now = shop.file("locations").stat().st_mtime + 3600
    os.utime(shop.file("locations"), (now, now))
    await world.imported(shop)
    size = shop.file("locations").stat().st_size
    shop.rewrite("locations", lambda text: text.replace("Petersen", "Paulsen_"), age=0)
    assert shop.file("locations").stat().st_size == size
    os.utime(shop.file("locations"), (now, now))
    result = await world.imported(shop)
    assert result["changed"] == 1
    assert (await world.rows(shop, "locations"))["DE-HAM"]["manager"] == "Jörg Paulsen_"


async def test_a_changed_row_is_written_and_a_vanished_one_stays(world: World) -> None:
    shop = await world.shop()
    await world.imported(shop)
    before = await world.rows(shop, "locations")

    def change(text: str) -> str:
        header, *lines = text.replace("Jörg Petersen", "Änne Öz").splitlines(keepends=True)
        gone = [line for line in lines if "DE-BER" not in line]
        assert len(gone) == len(lines) - 1
        return "".join([header, *gone])

    shop.rewrite("locations", change, age=60)
    result = await world.imported(shop)
    [locations, customers] = result["files"]
    assert (locations["inserted"], locations["updated"]) == (0, 1)
    assert customers["state"] == "unchanged"
    assert result["data_version"] == await world.version(shop) == 3
    after = await world.rows(shop, "locations")
    assert after == before | {"DE-HAM": before["DE-HAM"] | {"manager": "Änne Öz"}}


async def test_another_mapping_reads_an_unchanged_file_anew(world: World) -> None:
    shop = await world.shop()
    await world.imported(shop)
    columns = dict(TOOL_SHOP.master.location_columns)
    del columns["manager"]
    await world.connect(shop, locations={"file": "locations.csv", "columns": columns})
    result = await world.imported(shop)
    assert (result["skipped"], result["changed"]) == (1, len(TOOL_SHOP.branches))
    locations = await world.rows(shop, "locations")
    assert {row["manager"] for row in locations.values()} == {None}


async def test_bad_rows_are_reported_and_the_others_taken(world: World) -> None:
    shop = await world.shop()
    mail = TOOL_SHOP.customers[3].email
    shop.rewrite("customers", lambda text: text.replace(mail, "someone, anyone"))
    result = await world.imported(shop)
    [error] = result["errors"]
    assert error == {
        "file": "customers.csv",
        "line": 5,
        "column": TOOL_SHOP.master.customer_columns["email"],
        "message": "is not one plain e-mail address",
    }
    assert result["errors_total"] == 1
    missing = TOOL_SHOP.customers[3].erp_id
    assert missing not in await world.rows(shop, "customers")
    assert (await world.files(shop))["customers"]["bad_rows"] == 1


async def test_a_bad_file_changes_nothing_and_the_other_is_taken(world: World) -> None:
    shop = await world.shop()
    await world.imported(shop)
    before = await world.rows(shop, "customers")
    shop.rewrite("customers", lambda text: text.replace("@", " at "), age=60)
    shop.rewrite("locations", lambda text: text.replace("Petersen", "Paulsen"), age=60)
    job = await world.refused(shop)
    assert failure_of(job).kind == "TooManyBadRows"
    assert "rows are bad, more than 10%; the first: line 2, E-Mail" in failure_of(job).message
    assert job.progress.detail["errors"][0]["line"] == 2
    assert await world.rows(shop, "customers") == before
    assert (await world.rows(shop, "locations"))["DE-HAM"]["manager"] == "Jörg Paulsen"
    file = (await world.files(shop))["customers"]
    assert file["problem"] == failure_of(job).message
    assert file["imported_at"] < file["checked_at"]

    # Mended, it is taken, and the problem is gone.
    shop.rewrite("customers", lambda text: text.replace(" at ", "@"), age=-120)
    await world.imported(shop)
    assert (await world.files(shop))["customers"]["problem"] is None


async def test_a_missing_header_refuses_the_file(world: World) -> None:
    shop = await world.shop()
    await world.connect(shop, delimiter=",")
    job = await world.refused(shop)
    assert failure_of(job).kind == "FilesNotImported"
    assert "locations.csv lacks the header" in failure_of(job).message
    assert await world.rows(shop, "locations") == {}
    assert await world.version(shop) == 0


async def test_a_missing_file_is_named_and_the_other_is_taken(world: World) -> None:
    shop = await world.shop()
    shop.file("locations").unlink()
    job = await world.refused(shop)
    assert failure_of(job).kind == "FileMissing"
    assert "looking at locations.csv" in failure_of(job).message
    assert len(await world.rows(shop, "customers")) == len(TOOL_SHOP.customers)


async def test_a_directory_is_no_file(world: World) -> None:
    shop = await world.shop()
    shop.file("locations").unlink()
    shop.file("locations").mkdir()
    job = await world.refused(shop)
    assert (failure_of(job).kind, failure_of(job).message) == (
        "FileRefused",
        "locations.csv is not a file.",
    )


async def test_a_path_that_leads_out_of_the_account_finds_nothing(world: World) -> None:
    shop, other = await world.shop(TOOL_SHOP), await world.shop(HARBOR_SHOP)
    columns = dict(HARBOR_SHOP.master.location_columns)
    path = f"../{HARBOR_SHOP.project}/locations.csv"
    await world.connect(shop, customers=None, locations={"file": path, "columns": columns})
    assert other.file("locations").exists()
    assert failure_of(await world.refused(shop)).kind == "FileMissing"


async def test_a_file_that_is_too_large_is_refused_before_it_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await world.shop()
    with shop.file("locations").open("r+b") as file:
        file.truncate(master_sftp.MAX_FILE + 1)
    job = await world.refused(shop)
    assert failure_of(job).message == "locations.csv is larger than 64 MiB."


async def test_a_large_file_arrives_whole(world: World) -> None:
    shop = await world.shop()
    text = "".join(f"{number};{number:0>40};;;;;\r\n" for number in range(60_000))
    shop.rewrite("customers", lambda old: old.splitlines(keepends=True)[0] + text)
    assert shop.file("customers").stat().st_size > 2 * master_sftp.PIECE
    result = await world.imported(shop)
    assert len(await world.rows(shop, "customers")) == 60_000
    assert result["data_version"] == 2


@pytest.mark.parametrize("secret", [b"wrong", b"\xff"])
async def test_a_wrong_password_is_told_as_such(world: World, secret: bytes) -> None:
    shop = await world.shop()
    await world.connect(shop, secret=secret)
    job = await world.refused(shop)
    assert failure_of(job).kind == "CredentialsRejected"
    assert await world.rows(shop, "customers") == {}


async def test_a_key_logs_in_where_passwords_do_not(world: World) -> None:
    shop = await world.shop()
    await world.connect(shop, authentication="key", secret=b"no key")
    job = await world.refused(shop)
    assert failure_of(job).kind == "CredentialsRejected"
    key = asyncssh.generate_private_key("ssh-ed25519").export_private_key()
    await world.connect(shop, authentication="key", secret=key)
    job = await world.refused(shop)
    assert (failure_of(job).kind, failure_of(job).message) == (
        "CredentialsRejected",
        "The SFTP server does not accept the account's credentials.",
    )


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"])
async def test_another_host_key_stops_everything(world: World, algorithm: str) -> None:
    shop = await world.shop()
    other = asyncssh.generate_private_key(algorithm).export_public_key().decode().strip()
    await world.connect(shop, host_key=other)
    job = await world.refused(shop)
    assert failure_of(job).kind == "HostKeyChanged"
    assert "another host key than the pinned one" in failure_of(job).message
    assert job.state is JobState.FAILED


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"host_key": ""}, "HostKeyNotPinned"),
        ({"host_key": "ssh-ed25519 AAAA"}, "HostKeyNotPinned"),
        ({"customers": None, "locations": None}, "NoFilesConfigured"),
    ],
)
async def test_a_connection_that_says_too_little(
    world: World, changes: dict[str, Any], kind: str
) -> None:
    shop = await world.shop()
    await world.connect(shop, **changes)
    assert failure_of(await world.refused(shop)).kind == kind


async def test_a_host_inside_is_not_connected_to_unless_allowed(world: World) -> None:
    shop = await world.shop()
    world.guard = OutboundGuard()
    assert failure_of(await world.refused(shop)).kind == "HostNotAllowed"


async def test_a_server_that_is_away_is_tried_again_later(world: World, listener: Listen) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.aclose()

    shop = await world.shop()
    await world.connect(shop, port=await listener(hang_up))
    job = await world.start(shop, attempts=2)
    async with world.running():
        waiting = await world.ended(job, lambda job: job.error is not None)
    assert (waiting.state, failure_of(waiting).kind) == (JobState.AVAILABLE, "PeerUnavailable")


async def test_a_server_that_says_nothing_is_left_at_the_deadline(
    world: World, listener: Listen
) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    shop = await world.shop()
    world.deadlines = replace(world.deadlines, connect=0.5)
    await world.connect(shop, port=await listener(silent))
    begin = trio.current_time()
    job = await world.refused(shop)
    assert trio.current_time() - begin < 5
    assert (job.state, failure_of(job).kind) == (JobState.DEAD, "ServerStalled")
    assert failure_of(job).message == "The SFTP server stopped answering while connecting."


class Relay:
    """Stands between us and the server, and stops passing on answers after some bytes."""

    def __init__(self, world: World, answers: float) -> None:
        self.world = world
        self.left = answers
        self.passed = 0

    async def __call__(self, ours: trio.SocketStream) -> None:
        server = self.world.server
        theirs = await trio.open_tcp_stream(server["host"], server["port"])
        async with theirs, trio.open_nursery() as nursery:
            nursery.start_soon(self.questions, ours, theirs)
            async for data in theirs:
                if self.passed + len(data) > self.left:
                    await trio.sleep_forever()
                self.passed += len(data)
                await ours.send_all(data)

    async def questions(self, ours: trio.SocketStream, theirs: trio.SocketStream) -> None:
        async for data in ours:
            await theirs.send_all(data)
        theirs.socket.shutdown(1)


@pytest.mark.parametrize("when", [500, 3_000, 1_000_000])
async def test_a_server_that_stalls_is_left_whenever_it_does(
    world: World, listener: Listen, when: int
) -> None:
    shop = await world.shop()
    body = ";x;;;;;\r\n" * 300_000
    shop.rewrite("customers", lambda old: old.splitlines(keepends=True)[0] + body)
    world.deadlines = replace(world.deadlines, connect=1.0, answer=0.5)
    relay = Relay(world, when)
    await world.connect(shop, port=await listener(relay))
    begin = trio.current_time()
    job = await world.refused(shop)
    assert trio.current_time() - begin < 8
    assert (job.state, failure_of(job).kind) == (JobState.DEAD, "ServerStalled"), relay.passed
    assert await world.rows(shop, "customers") == {}


async def test_a_retry_goes_on_where_the_attempt_before_stopped(
    world: World, listener: Listen
) -> None:
    shop = await world.shop()
    body = "".join(f"{number};Firma {number};;;;;\r\n" for number in range(60_000))
    shop.rewrite("customers", lambda old: old.splitlines(keepends=True)[0] + body)
    world.deadlines = replace(world.deadlines, answer=1.0)
    relay = Relay(world, 1_100_000)
    await world.connect(shop, port=await listener(relay))
    job = await world.start(shop, attempts=2)
    async with world.running():
        failed = await world.ended(job, lambda job: job.error is not None)
        assert failure_of(failed).kind == "ServerStalled"
        assert "while reading customers.csv" in failure_of(failed).message
        assert (await world.files(shop))["customers"]["problem"] == failure_of(failed).message
        assert await world.version(shop) == 1
        # What has arrived is kept, and does not come once more.
        held = await aio(world.admin.fetchrow("SELECT purpose, size FROM data.held_files"))
        assert tuple(held) == ("transfer", 1 * MiB)
        size, relay.passed = shop.file("customers").stat().st_size, 0
        relay.left = float("inf")
        ended = await world.ended(job)
    assert (ended.state, ended.attempt) == (JobState.DONE, 2)
    assert relay.passed < size - 1 * MiB + 150_000
    assert await aio(world.admin.fetchval("SELECT count(*) FROM data.held_files")) == 0
    [locations, customers] = ended.result["files"]
    assert (locations["state"], locations["inserted"]) == ("imported", len(TOOL_SHOP.branches))
    assert customers["inserted"] == 60_000
    assert ended.result["data_version"] == await world.version(shop) == 2


async def test_a_stalled_import_can_be_cancelled(world: World, listener: Listen) -> None:
    shop = await world.shop()
    relay = Relay(world, 3_000)
    await world.connect(shop, port=await listener(relay))
    job = await world.start(shop)
    async with world.running():
        with trio.fail_after(10):
            while relay.passed < 1_500:
                await trio.sleep(0.02)
        await world.store.request_cancel(shop.tenant, job.id)
        begin = trio.current_time()
        ended = await world.ended(job)
    assert ended.state is JobState.CANCELLED
    assert trio.current_time() - begin < 5


async def test_tenants_see_nothing_of_each_other(world: World) -> None:
    tools, harbor = await world.shop(TOOL_SHOP), await world.shop(HARBOR_SHOP)
    jobs = [await world.start(shop) for shop in (tools, harbor)]
    async with world.running():
        for job in jobs:
            assert (await world.ended(job)).state is JobState.DONE
    for shop in (tools, harbor):
        assert set(await world.rows(shop, "customers")) == {
            customer.erp_id for customer in shop.profile.customers
        }
        for table in ("customers", "locations", "master_files"):
            seen = await world.database.fetch_value(
                f"SELECT array_agg(DISTINCT tenant_id) FROM data.{table}", tenant=shop.tenant
            )
            assert seen == [shop.tenant]
    # What one has changed is no change for the other.
    tools.rewrite("customers", lambda text: text.replace("GmbH", "AG"), age=60)
    before = await world.rows(harbor, "customers"), await world.version(harbor)
    await world.imported(tools)
    assert (await world.rows(harbor, "customers"), await world.version(harbor)) == before


async def test_one_import_at_a_time_for_each_tenant(world: World) -> None:
    shop, other = await world.shop(TOOL_SHOP), await world.shop(HARBOR_SHOP)
    first = await world.store.enqueue(shop.tenant, import_job())
    assert (await world.store.enqueue(shop.tenant, import_job(again=True))).id == first.id
    assert (await world.store.enqueue(other.tenant, import_job())).id != first.id


async def test_a_file_that_grows_is_left_and_the_other_is_taken(world: World) -> None:
    shop = await world.shop()
    world.deadlines = replace(world.deadlines, settle=1.0)
    job = await world.start(shop)
    path = shop.file("locations")
    async with world.running(), trio.open_nursery() as nursery:

        async def write_on() -> None:
            while True:
                with path.open("ab") as file:
                    file.write(b"\r\n")
                await trio.sleep(0.2)

        nursery.start_soon(write_on)
        job = await world.ended(job)
        nursery.cancel_scope.cancel()
    assert (job.state, failure_of(job).kind) == (JobState.DEAD, "StillBeingWritten")
    assert failure_of(job).message == "locations.csv is still being written."
    assert await world.rows(shop, "locations") == {}
    assert len(await world.rows(shop, "customers")) == len(TOOL_SHOP.customers)
    assert (await world.files(shop))["locations"]["problem"] == failure_of(job).message


async def test_a_workbook_at_the_server_is_taken_for_one(world: World) -> None:
    shop = await world.shop()
    form = TOOL_SHOP.master.location_columns
    book = openpyxl.Workbook()
    book.active.title = "Notes"
    sheet = book.create_sheet("Niederlassungen")
    sheet.append([form[key] for key in ("location_id", "name", "city", "email", "manager")])
    for branch in TOOL_SHOP.branches:
        sheet.append([branch.id, branch.name, branch.city, None, None])
    book.save(shop.folder / "branches.xlsx")
    agreed = {"file": "bran*.xlsx", "columns": dict(form), "sheet": "niederlassungen"}
    await world.connect(shop, customers=None, locations=agreed)
    result = await world.imported(shop)
    assert result["changed"] == len(TOOL_SHOP.branches)
    rows = await world.rows(shop, "locations")
    assert {row["name"] for row in rows.values()} == {branch.name for branch in TOOL_SHOP.branches}
    [file] = (await world.files(shop)).values()
    assert file["path"] == "./branches.xlsx"
