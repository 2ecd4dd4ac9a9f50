"""The whole import against the server that most tenants have: Debian's OpenSSH, in a chroot."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.master_data.conftest import Shop, World, failure_of
from tests.support.openssh import OpenSsh, openssh_server
from troupe.actors.data.master_trust import shown_key, trust_key
from troupe.common.bridge import aio
from troupe.common.ids import new_id
from troupe.platform.jobs import JobState
from troupe_demo.ga4 import TOOL_SHOP, write_master_data


@pytest.fixture(scope="module")
def server() -> Iterator[OpenSsh]:
    with openssh_server() as server:
        yield server


@pytest.fixture
def files(server: OpenSsh) -> Iterator[Path]:
    """The account's files, owned by it and an hour old."""
    owner = server.files.stat()
    for path in write_master_data(TOOL_SHOP, server.files):
        os.chown(path, owner.st_uid, owner.st_gid)
        written = path.stat().st_mtime - 100_000
        os.utime(path, (written, written))
    yield server.files
    for path in sorted(server.files.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def connected(world: World, server: OpenSsh, **changes: object) -> Shop:
    shop = await world.shop(TOOL_SHOP)
    shop.config |= {
        "port": server.port,
        "username": server.user,
        "host_key": server.host_key,
        "host": "127.0.0.1",
    }
    secret = server.key if changes.get("authentication") == "key" else server.password.encode()
    await world.connect(shop, secret=secret, **changes)
    shop.folder = server.files
    return shop


@pytest.mark.parametrize("authentication", ["password", "key"])
async def test_both_ways_to_log_in_bring_both_files(
    world: World, server: OpenSsh, files: Path, authentication: str
) -> None:
    shop = await connected(world, server, authentication=authentication)
    result = await world.imported(shop)
    assert [file["state"] for file in result["files"]] == ["imported", "imported"]
    assert len(await world.rows(shop, "customers")) == len(TOOL_SHOP.customers)
    assert (await world.imported(shop))["skipped"] == 2


async def test_a_chroot_is_all_that_there_is(world: World, server: OpenSsh, files: Path) -> None:
    columns = dict(TOOL_SHOP.master.location_columns)
    locations = {"file": "/etc/passwd", "columns": columns}
    shop = await connected(world, server, customers=None, locations=locations)
    assert failure_of(await world.refused(shop)).kind == "FileMissing"
    (files / "locations.csv").unlink()
    (files / "locations.csv").symlink_to("/etc/passwd")
    await world.connect(
        shop,
        secret=server.password.encode(),
        customers=None,
        locations={"file": "locations.csv", "columns": columns},
    )
    assert failure_of(await world.refused(shop)).kind == "FileMissing"


async def test_a_file_that_the_account_may_not_read(
    world: World, server: OpenSsh, files: Path
) -> None:
    shop = await connected(world, server)
    os.chown(files / "customers.csv", 0, 0)
    (files / "customers.csv").chmod(0o600)
    job = await world.refused(shop)
    assert failure_of(job).kind == "FileForbidden"
    assert len(await world.rows(shop, "locations")) == len(TOOL_SHOP.branches)


async def test_a_changed_host_key_stops_everything_until_somebody_trusts_it(
    world: World, server: OpenSsh, files: Path
) -> None:
    shop = await connected(world, server)
    await world.imported(shop)
    server.stop()
    server.new_host_key("ecdsa")
    server.start()
    job = await world.refused(shop)
    assert (job.state, failure_of(job).kind) == (JobState.FAILED, "HostKeyChanged")
    shown = await shown_key(world.database, shop.tenant, world.guard)
    assert (shown.state, shown.algorithm) == ("changed", "ecdsa-sha2-nistp256")
    actor = ("user", new_id())
    await trust_key(
        world.database, shop.tenant, world.guard, fingerprint=shown.fingerprint, actor=actor
    )
    assert (await world.imported(shop))["skipped"] == 2
    entry = await aio(
        world.admin.fetchrow(
            "SELECT actor_id, detail FROM auth.audit_log WHERE tenant_id = $1"
            " AND action = 'connection.host_key_pinned'",
            shop.tenant,
        )
    )
    assert entry["actor_id"] == actor[1]
    assert shown.fingerprint in entry["detail"]
    assert '"replaces_another": true' in entry["detail"]


async def test_files_are_put_away_once_they_are_loaded(
    world: World, server: OpenSsh, files: Path
) -> None:
    shop = await connected(world, server, archive_directory="done")
    result = await world.imported(shop)
    assert names_in(files) == ["done"]
    put_away = names_in(files / "done")
    assert sorted(file["archived_as"] for file in result["files"]) == put_away
    assert {name.partition("_")[2] for name in put_away} == {"customers.csv", "locations.csv"}
    # And when there is nothing, nothing is wrong.
    result = await world.imported(shop)
    assert [file["state"] for file in result["files"]] == ["absent", "absent"]


async def test_a_file_that_cannot_be_put_away_is_loaded_all_the_same(
    world: World, server: OpenSsh, files: Path
) -> None:
    shop = await connected(world, server, archive_directory="/denied")
    result = await world.imported(shop)
    assert [file["state"] for file in result["files"]] == ["imported", "imported"]
    assert all("denies access" in file["archive_problem"] for file in result["files"])
    assert (files / "customers.csv").exists()


async def test_of_dated_files_the_newest_counts_or_all(
    world: World, server: OpenSsh, files: Path
) -> None:
    text = (files / "locations.csv").read_bytes()
    for number, day in enumerate(("20261124", "20261126", "20261125")):
        path = files / f"locations_{day}.csv"
        path.write_bytes(text.replace("Jörg Petersen".encode("cp1252"), day.encode()))
        os.utime(path, (1_000_000 + number, 1_000_000 + number))
    (files / "locations_20261127.csv.part").write_bytes(text[:100])
    (files / ".locations_20261128.csv").write_bytes(text[:100])
    (files / "locations_20261129.csv").symlink_to("locations_20261124.csv")
    (files / "locations_20261130.csv").mkdir()
    columns = dict(TOOL_SHOP.master.location_columns)
    pattern = {"file": "locations_{YYYY}{MM}{DD}.csv", "columns": columns}
    shop = await connected(world, server, customers=None, locations=pattern)
    [file] = (await world.imported(shop))["files"]
    assert file["file"] == "locations_20261126.csv"
    await world.connect(
        shop,
        secret=server.password.encode(),
        customers=None,
        locations=pattern | {"take": "all"},
    )
    result = await world.imported(shop)
    assert {file["file"]: file["state"] for file in result["files"]} == {
        "locations_20261124.csv": "imported",
        "locations_20261125.csv": "imported",
        "locations_20261126.csv": "unchanged",
    }


async def test_an_older_file_does_not_turn_back_what_a_newer_one_has_said(
    world: World, server: OpenSsh, files: Path
) -> None:
    text = (files / "locations.csv").read_bytes()
    for day in ("20261124", "20261125"):
        path = files / f"locations_{day}.csv"
        path.write_bytes(text.replace("Jörg Petersen".encode("cp1252"), day.encode()))
        os.utime(path, (1_000_000, 1_000_000))
    columns = dict(TOOL_SHOP.master.location_columns)
    pattern = {"file": "locations_{YYYY}{MM}{DD}.csv", "columns": columns}
    shop = await connected(
        world, server, customers=None, locations=pattern, archive_directory="done"
    )
    [file] = (await world.imported(shop))["files"]
    assert (file["file"], file["state"]) == ("locations_20261125.csv", "imported")
    [file] = (await world.imported(shop))["files"]
    assert (file["file"], file["state"]) == ("locations_20261124.csv", "superseded")
    assert (await world.rows(shop, "locations"))["DE-HAM"]["manager"] == "20261125"


async def test_a_truncated_file_changes_nothing_that_it_does_not_say(
    world: World, server: OpenSsh, files: Path
) -> None:
    """A file that was cut short in its last row: the row is bad, the customers behind it stay."""
    shop = await connected(world, server)
    await world.imported(shop)
    before = await world.rows(shop, "customers")
    path = files / "customers.csv"
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    half = b"".join(lines[: len(lines) // 2])
    path.write_bytes(half + lines[len(lines) // 2][:5])
    os.utime(path, (1_000_000, 1_000_000))
    result = await world.imported(shop)
    assert result["errors_total"] == 1
    assert "cells, the header has" in result["errors"][0]["message"]
    assert await world.rows(shop, "customers") == before


async def test_a_server_that_is_stopped_in_its_tracks_is_left(
    world: World, server: OpenSsh, files: Path
) -> None:
    """SIGSTOP: the kernel still acknowledges, and nobody answers."""
    shop = await connected(world, server)
    world.deadlines = type(world.deadlines)(connect=1.0, answer=0.5, settle=0.1, resume=(0.1,))
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        job = await world.refused(shop)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert (job.state, failure_of(job).kind) == (JobState.DEAD, "ServerStalled")
    assert (await world.imported(shop))["skipped"] == 0
