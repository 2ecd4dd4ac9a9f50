"""Disks that are full, read-only or closed: one clear sentence, nothing half-made."""

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import trio

from tests.support.disks import small_disk
from tests.support.embedded import QUICK, ROOT_ONLY, fetch, refuses, value
from troupe.common.bridge import aio, open_bridge
from troupe.common.errors import StorageFull
from troupe.common.postgres import ClusterSettings, start_embedded, start_embedded_sync
from troupe.common.units import SECONDS, MiB

WITH_LIMIT = """
import resource, sys
from pathlib import Path
from troupe.common.errors import TroupeError
from troupe.common.postgres import start_embedded_sync

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with start_embedded_sync(Path(sys.argv[1])):
        print("started")
except TroupeError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Room for a cluster and little more."""
    with small_disk(tmp_path / "disk", 160 * MiB) as place:
        yield place


def fill(path: Path, leave: int) -> None:
    """Write a file that leaves `leave` bytes free."""
    status = os.statvfs(path.parent)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - leave)


@ROOT_ONLY
def test_too_little_room_for_a_cluster(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * MiB) as disk:
        refuses(
            disk, r"Only 6\d MiB are free under .*/postgres; .* needs 128 MiB", kind=StorageFull
        )
        left = {path.name for path in (disk / "postgres").iterdir()}
        assert left == {"supervisor.lock", "cluster.lock"}


@ROOT_ONLY
def test_the_disk_fills_while_a_cluster_is_made(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("troupe.common.postgres._cluster._SPACE_FOR_NEW", 1)
    fill(disk / "ballast", 30 * MiB)
    refuses(disk, "^No space is left for the database under ", kind=StorageFull)
    left = {path.name for path in (disk / "postgres").iterdir()}
    assert left == {"supervisor.lock", "cluster.lock", "passwords.json"}
    (disk / "ballast").unlink()
    with start_embedded_sync(disk, QUICK) as server:
        assert value(server.owner_url, "SELECT 1") == 1


@ROOT_ONLY
def test_the_disk_is_full_at_the_next_start(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_embedded_sync(disk, QUICK):
        pass
    fill(disk / "ballast", 1 * MiB)
    refuses(disk, "Only 1 MiB are free", kind=StorageFull)
    monkeypatch.setattr("troupe.common.postgres._cluster._SPACE_TO_START", 0)
    fill(disk / "ballast2", 0)
    refuses(disk, "^No space is left for the database under ", kind=StorageFull)
    (disk / "ballast").unlink()
    (disk / "ballast2").unlink()
    with start_embedded_sync(disk, QUICK) as server:
        assert value(server.owner_url, "SELECT 1") == 1


@ROOT_ONLY
async def test_the_disk_fills_while_it_runs(disk: Path) -> None:
    grow = "INSERT INTO public.t SELECT repeat(md5(i::text), 50) FROM generate_series(1, 20000) i"
    async with open_bridge():
        async with start_embedded(disk, ClusterSettings(max_connections=20)) as server:
            await aio(fetch(server.owner_url, "CREATE TABLE public.t (v text)"))
            await aio(fetch(server.owner_url, grow))
            fill(disk / "ballast", 8 * MiB)
            lost = (asyncpg.DiskFullError, asyncpg.PostgresConnectionError, OSError)
            with contextlib.suppress(*lost), trio.fail_after(60 * SECONDS):
                while True:
                    await aio(fetch(server.owner_url, grow))
        # It may have stopped over this or not; with room again it holds what was committed.
        (disk / "ballast").unlink()
        async with start_embedded(disk, QUICK) as server:
            rows = await aio(fetch(server.owner_url, "SELECT count(*) FROM public.t"))
            assert rows[0][0] >= 20000
            assert rows[0][0] % 20000 == 0


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """Also without root: a limit below a segment of the write-ahead log stands for a full disk."""

    def start(limit: int) -> str:
        command = [sys.executable, "-c", WITH_LIMIT, str(tmp_path), str(limit)]
        return subprocess.check_output(command, text=True).splitlines()[-1]

    assert start(8 * MiB).startswith("StorageFull No space is left for the database under ")
    assert not (tmp_path / "postgres" / "data").exists()
    assert not (tmp_path / "postgres" / "data.new").exists()
    assert start(resource.RLIM_INFINITY) == "started"


@ROOT_ONLY
def test_a_read_only_disk(disk: Path) -> None:
    remount = ["/bin/mount", "-o", "remount,ro", str(disk)]
    subprocess.run(remount, check=True)
    refuses(disk / "state", r"^/.*/disk/state cannot be used: Read-only file system\.$")


@ROOT_ONLY
def test_a_disk_that_became_read_only(disk: Path) -> None:
    with start_embedded_sync(disk, QUICK):
        pass
    subprocess.run(["/bin/mount", "-o", "remount,ro", str(disk)], check=True)
    refuses(disk, r"^/.*/disk/postgres/supervisor.lock cannot be used: Read-only file system\.$")


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    refuses(tmp_path / "state", r"^/.*/state.* cannot be used: File exists\.$")
    refuses(tmp_path / "state" / "below", r"^/.*/state/below cannot be used: Not a directory\.$")
