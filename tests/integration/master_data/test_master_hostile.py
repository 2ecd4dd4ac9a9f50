"""Listing and reading at servers that lie: names, kinds, sizes, endless things, broken lines."""
# ruff: noqa: ARG002 - the signatures are asyncssh's

import io
import ipaddress
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import trio

from troupe.actors.data import master_sftp
from troupe.actors.data.master_errors import (
    FileMissing,
    FileRefused,
    ServerStalled,
    StillBeingWritten,
)
from troupe.actors.data.master_selection import Candidate, Pattern
from troupe.actors.data.master_sftp import SftpSource, open_source
from troupe.actors.data.master_ssh import SftpDeadlines
from troupe.common.bridge import aio
from troupe.common.connections import SftpConfig
from troupe.common.errors import PeerError, PeerUnavailable
from troupe.common.outbound import OutboundGuard
from troupe.common.units import MiB

LOOPBACK = OutboundGuard([ipaddress.ip_network("127.0.0.0/8")])
DEADLINES = SftpDeadlines(connect=5, answer=1, settle=0.2, resume=(0.05, 0.05))
FILE, LINK, FOLDER = 0o100644, 0o120777, 0o040755


class Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


class Files(asyncssh.SFTPServer):
    """Honest, until something is overridden."""

    root: Path

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        super().__init__(channel, chroot=os.fsencode(self.root))


Serve = Callable[..., Any]


async def listen(**options: Any) -> asyncssh.SSHAcceptor:
    return await asyncssh.listen("127.0.0.1", 0, **options)


@pytest.fixture
async def serve(bridge: None, tmp_path: Path) -> Serve:
    """``async with serve(Files) as source``: an open session at a server of that kind."""
    key = asyncssh.generate_private_key("ssh-ed25519")

    @asynccontextmanager
    async def run(files: type[Files], **config: Any) -> AsyncIterator[SftpSource]:
        here = type("Here", (files,), {"root": tmp_path})
        options = {"server_host_keys": [key], "server_factory": Door, "sftp_factory": here}
        acceptor = await aio(listen(**options))
        settings = SftpConfig(
            host="127.0.0.1",
            port=acceptor.get_port(),
            username="shop",
            host_key=key.export_public_key().decode().strip(),
            **config,
        )
        try:
            async with open_source(settings, b"secret", LOOPBACK, DEADLINES) as source:
                yield source
        finally:
            acceptor.close()
            await aio(acceptor.wait_closed())

    return run


def entry(name: bytes, kind: int = FILE, size: int = 3) -> asyncssh.SFTPName:
    attributes = asyncssh.SFTPAttrs(permissions=kind, size=size, mtime=1_000_000, atime=0)
    return asyncssh.SFTPName(name, b"", attributes)


def listing(*entries: asyncssh.SFTPName) -> type[Files]:
    class Listing(Files):
        async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            for one in entries:
                yield one

    return Listing


async def nobody(_count: int) -> None:
    return


async def names(source: SftpSource, pattern: str) -> list[str]:
    return [candidate.file for candidate in await source.find(Pattern(pattern), "all")]


async def test_a_name_never_leads_out_of_the_directory(serve: Serve) -> None:
    hostile = [
        b"../c.csv",
        b"../../etc/c.csv",
        b"/etc/c.csv",
        b"..",
        b".",
        b"a/../c.csv",
        b"\xff\xfe.csv",
        b"new\nline.csv",
        b"n\x00l.csv",
        b"esc\x1b[2J.csv",
        "rtl\u202evsc.csv".encode(),
        b"x" * 100_000 + b".csv",
        b"c.csv.part",
        b"",
    ]
    files = listing(*map(entry, hostile), entry(b"c.csv"))
    async with serve(files, directory="out") as source:
        assert await names(source, "sub/*") == ["sub/c.csv"]


async def test_links_and_directories_match_no_pattern(serve: Serve) -> None:
    files = listing(entry(b"a.csv", LINK), entry(b"b.csv", FOLDER), entry(b"c.csv", 0o644))
    async with serve(files) as source:
        assert await names(source, "*.csv") == ["c.csv"]


async def test_an_endless_directory_ends_at_our_limit(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(Files):
        async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            number = 0
            while True:
                number += 1
                yield entry(b"%d.csv" % number)

    monkeypatch.setattr(master_sftp, "MAX_LISTED", 2000)
    async with serve(Endless) as source:
        with pytest.raises(FileRefused, match="has more than 2000 entries"):
            await source.find(Pattern("*.csv"), "newest")


async def test_a_directory_that_never_comes_is_left_at_the_deadline(serve: Serve) -> None:
    class Slow(Files):
        async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            import asyncio  # noqa: PLC0415 - the server is asyncio's

            yield entry(b"a.csv")
            await asyncio.sleep(60)

    begin = trio.current_time()
    with pytest.raises(ServerStalled, match=r"stopped answering while listing"):
        async with serve(Slow) as source:
            await source.find(Pattern("*.csv"), "newest")
    assert trio.current_time() - begin < 10


async def test_too_many_matches_are_refused(serve: Serve) -> None:
    files = listing(*(entry(b"%d.csv" % number) for number in range(1001)))
    async with serve(files) as source:
        with pytest.raises(FileRefused, match=r"More than 1000 files match \*\.csv"):
            await source.find(Pattern("*.csv"), "all")
        assert len(await source.find(Pattern("*.csv"), "newest")) == 1


async def test_a_match_that_is_too_large_is_refused_unread(serve: Serve) -> None:
    async with serve(listing(entry(b"a.csv", size=2**63))) as source:
        with pytest.raises(FileRefused, match=r"a\.csv is larger than 64 MiB"):
            await source.find(Pattern("*.csv"), "newest")


async def test_a_directory_that_is_not_there(serve: Serve) -> None:
    async with serve(Files) as source:
        with pytest.raises(FileMissing, match="listing the directory"):
            await source.find(Pattern("nowhere/*.csv"), "newest")
        assert await source.find(Pattern("*.csv"), "newest") == []


async def test_a_file_that_grows_is_seen_to(serve: Serve, tmp_path: Path) -> None:
    for name in ("grows.csv", "gone.csv", "rests.csv", "old.csv"):
        (tmp_path / name).write_bytes(b"some")
    os.utime(tmp_path / "old.csv", (1_000_000, 1_000_000))
    async with serve(Files) as source, trio.open_nursery() as nursery:
        candidates = await source.find(Pattern("*.csv"), "all")

        async def change() -> None:
            await trio.sleep(DEADLINES.settle / 2)
            (tmp_path / "grows.csv").write_bytes(b"some more")
            (tmp_path / "gone.csv").unlink()

        nursery.start_soon(change)
        assert await source.growing(candidates) == {"grows.csv", "gone.csv"}
        begin = trio.current_time()
        old = [each for each in candidates if each.name == "old.csv"]
        assert await source.growing(old) == set()
        assert trio.current_time() - begin < DEADLINES.settle / 2


async def test_a_size_that_changes_with_every_look_is_never_believed(serve: Serve) -> None:
    class Changing(Files):
        looks = 0

        def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
            type(self).looks += 1
            return asyncssh.SFTPAttrs(permissions=FILE, size=4 + self.looks, mtime=1, atime=1)

        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
            return io.BytesIO(b"some")

    async with serve(Changing) as source:
        found = await source.look("a.csv")
        with pytest.raises(StillBeingWritten):
            await source.read("a.csv", found, nobody, io.BytesIO())


async def test_a_file_shorter_than_its_size_is_still_being_written(serve: Serve) -> None:
    class Short(Files):
        def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return asyncssh.SFTPAttrs(permissions=FILE, size=1000, mtime=1, atime=1)

        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
            return io.BytesIO(b"short")

    async with serve(Short) as source:
        found = await source.look("a.csv")
        with pytest.raises(StillBeingWritten):
            await source.read("a.csv", found, nobody, io.BytesIO())


class Breaking(Files):
    """Hangs up whenever so many bytes have been read since the last time."""

    breaks_after = 2 * MiB
    read_bytes = 0
    breaks = 0
    most_breaks = 100

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        super().__init__(channel)
        self._channel = channel

    def read(self, file_obj: Any, offset: int, size: int) -> bytes:
        here = type(self)
        data: bytes = super().read(file_obj, offset, size)  # type: ignore[assignment]
        here.read_bytes += len(data)
        if here.read_bytes >= self.breaks_after and here.breaks < self.most_breaks:
            here.breaks, here.read_bytes = here.breaks + 1, 0
            self._channel.get_connection().abort()
        return data


async def test_a_transfer_that_breaks_goes_on_where_it_broke(serve: Serve, tmp_path: Path) -> None:
    content = os.urandom(9 * MiB + 11)
    (tmp_path / "a.csv").write_bytes(content)
    told: list[int] = []

    async def tell(count: int) -> None:
        told.append(count)

    arrived = io.BytesIO()
    async with serve(Breaking) as source:
        found = await source.look("a.csv")
        await source.read("a.csv", found, tell, arrived)
    assert arrived.getvalue() == content
    assert told == sorted(set(told))  # nothing came twice


async def test_a_line_that_always_breaks_is_given_up(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(os.urandom(3 * MiB))

    class Hopeless(Breaking):
        breaks_after = 1
        most_breaks = 10**9

    arrived = io.BytesIO()
    with pytest.raises(PeerUnavailable, match=r"while reading a\.csv"):
        async with serve(Hopeless) as source:
            await source.read("a.csv", await source.look("a.csv"), nobody, arrived)


async def test_another_file_is_not_spliced_onto_the_beginning_of_the_first(
    serve: Serve, tmp_path: Path
) -> None:
    """Of the same size and time, as far as the server tells."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * 4 * MiB)
    os.utime(path, (1, 1))

    class Swapping(Breaking):
        breaks_after = 2 * MiB
        most_breaks = 1

        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
            if self.breaks:
                local = self.root / "a.csv"
                local.write_bytes(b"y" * 4 * MiB)
                os.utime(local, (1, 1))
            return super().open(path, pflags, attrs)

    async with serve(Swapping) as source:
        found = await source.look("a.csv")
        with pytest.raises(StillBeingWritten):
            await source.read("a.csv", found, nobody, io.BytesIO())


async def test_a_rename_that_is_refused_says_so(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"some")

    class ReadOnly(Files):
        def rename(self, oldpath: bytes, newpath: bytes) -> None:
            raise asyncssh.SFTPPermissionDenied("read only")

    async with serve(ReadOnly, archive_directory="old") as source:
        with pytest.raises(PeerError, match=r"denies access while moving a\.csv"):
            await source.put_away("a.csv")


async def test_what_a_packet_may_hold_is_bounded(serve: Serve) -> None:
    class Huge(Files):
        def readlink(self, path: bytes) -> bytes:
            return b""

        async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            for _ in range(100):
                yield entry(b"x" * 200_000)

    with pytest.raises(PeerUnavailable):
        async with serve(Huge) as source:
            await source.find(Pattern("*"), "newest")


def test_a_candidate_is_named_by_its_last_part() -> None:
    found = master_sftp.Found(1, None)
    assert Candidate("a/b/c.csv", found).name == "c.csv"
