"""Reading files from servers that are not what they should be."""
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

from troupe.actors.data import master_sftp
from troupe.actors.data.master_errors import (
    FileForbidden,
    FileRefused,
    StillBeingWritten,
)
from troupe.actors.data.master_sftp import SftpSource, open_source
from troupe.actors.data.master_ssh import SftpDeadlines
from troupe.common.bridge import aio
from troupe.common.connections import SftpConfig
from troupe.common.errors import CredentialsRejected, PeerRefused, PeerUnavailable
from troupe.common.outbound import OutboundGuard
from troupe.common.units import MiB

LOOPBACK = OutboundGuard([ipaddress.ip_network("127.0.0.0/8")])
SECRET = b"correct horse"


class Files(asyncssh.SFTPServer):
    """An honest server of one directory."""

    root: Path

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        super().__init__(channel, chroot=os.fsencode(self.root))


class Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password.encode() == SECRET


Serve = Callable[..., Any]


async def listen(**options: Any) -> asyncssh.SSHAcceptor:
    return await asyncssh.listen("127.0.0.1", 0, **options)


@pytest.fixture
async def serve(bridge: None, tmp_path: Path) -> Serve:
    """``async with serve(Files) as source``: an open session at a server of that kind."""
    key = asyncssh.generate_private_key("ssh-ed25519")

    @asynccontextmanager
    async def run(
        files: type[asyncssh.SFTPServer] | None, **changes: Any
    ) -> AsyncIterator[SftpSource]:
        if files is not None:
            files = type("Here", (files,), {"root": tmp_path})
        acceptor = await aio(
            listen(
                server_host_keys=[key],
                server_factory=Door,
                sftp_factory=files,
                **changes.pop("server", {}),
            )
        )
        config = SftpConfig(
            host="127.0.0.1",
            port=acceptor.get_port(),
            username="shop",
            host_key=key.export_public_key().decode().strip(),
            **changes,
        )
        try:
            async with open_source(config, SECRET, LOOPBACK, SftpDeadlines(answer=5)) as source:
                yield source
        finally:
            acceptor.close()
            await aio(acceptor.wait_closed())

    return run


async def nobody(_count: int) -> None:
    return


async def fetch(source: SftpSource, file: str) -> bytes:
    content = io.BytesIO()
    await source.read(file, await source.look(file), nobody, content)
    return content.getvalue()


async def test_a_file_arrives_whole_with_its_size_told_on_the_way(
    serve: Serve, tmp_path: Path
) -> None:
    content = os.urandom(3 * MiB + 17)
    (tmp_path / "a.csv").write_bytes(content)
    told: list[int] = []
    arrived = io.BytesIO()

    async def tell(count: int) -> None:
        told.append(count)

    async with serve(Files) as source:
        found = await source.look("a.csv")
        await source.read("a.csv", found, tell, arrived)
    assert arrived.getvalue() == content
    assert found.size == len(content) == told[-1]
    assert told == sorted(set(told))


async def test_a_file_lies_below_the_directory_unless_it_says_otherwise(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv").write_bytes(b"below")
    (tmp_path / "a.csv").write_bytes(b"top")
    async with serve(Files, directory="out") as source:
        assert await fetch(source, "a.csv") == b"below"
        assert await fetch(source, "/a.csv") == b"top"


@pytest.mark.parametrize("more", [b"more", b""])
async def test_a_file_that_changes_while_it_is_read_is_left_for_later(
    serve: Serve, tmp_path: Path, more: bytes
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"some")
    async with serve(Files) as source:
        found = await source.look("a.csv")
        path.write_bytes(b"some" + more)
        os.utime(path, (1, 1))
        with pytest.raises(StillBeingWritten, match=r"a\.csv changed while it was being read"):
            await source.read("a.csv", found, nobody, io.BytesIO())


async def test_what_the_account_may_not_read_is_told_as_such(serve: Serve) -> None:
    class Guarded(Files):
        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
            raise asyncssh.SFTPPermissionDenied("not yours")

        def stat(self, path: bytes) -> Any:
            return asyncssh.SFTPAttrs(permissions=0o100600, size=3, mtime=5)

    async with serve(Guarded) as source:
        with pytest.raises(FileForbidden, match=r"denies access while reading a\.csv"):
            await fetch(source, "a.csv")


async def test_an_endless_file_ends_at_our_limit(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(Files):
        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
            return object()

        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            return b"x" * size

        def close(self, file_obj: object) -> None:
            pass

        def stat(self, path: bytes) -> Any:
            return asyncssh.SFTPAttrs(mtime=2**32 - 1)

    monkeypatch.setattr(master_sftp, "MAX_FILE", 4 * MiB)
    told: list[int] = []

    async def tell(count: int) -> None:
        told.append(count)

    async with serve(Endless) as source:
        found = await source.look("a.csv")
        assert found.size is None
        with pytest.raises(FileRefused, match="larger than 4 MiB"):
            await source.read("a.csv", found, tell, io.BytesIO())
    assert told[-1] == 4 * MiB


@pytest.mark.parametrize("kind", [0o040755, 0o020666, 0o010666, 0o140666])
async def test_only_a_file_is_a_file(serve: Serve, kind: int) -> None:
    class Odd(Files):
        def stat(self, path: bytes) -> Any:
            return asyncssh.SFTPAttrs(permissions=kind, size=1, mtime=1)

    async with serve(Odd) as source:
        with pytest.raises(FileRefused, match="is not a file"):
            await source.look("a.csv")


async def test_a_server_without_sftp_is_told_as_such(serve: Serve) -> None:
    with pytest.raises(PeerRefused, match="offers no SFTP to this account"):
        async with serve(None):
            pass


async def test_a_server_without_a_secure_algorithm_is_told_as_such(serve: Serve) -> None:
    with pytest.raises(PeerRefused, match="no secure algorithm in common"):
        async with serve(Files, server={"encryption_algs": ["3des-cbc"]}):
            pass


async def test_nothing_of_this_machine_s_own_is_shown_to_a_server(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Curious(Door):
        def password_auth_supported(self) -> bool:
            return False

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            seen.append(key.get_fingerprint())
            return True

    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(home / ".ssh" / "id_ed25519")
    (home / ".ssh" / "config").write_text("Host *\n  User somebody\n")
    monkeypatch.setenv("HOME", str(home))
    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await aio(listen(server_host_keys=[key], server_factory=Curious))
    config = SftpConfig(
        host="127.0.0.1",
        port=acceptor.get_port(),
        username="shop",
        host_key=key.export_public_key().decode().strip(),
    )
    with pytest.raises(CredentialsRejected):
        async with open_source(config, SECRET, LOOPBACK, SftpDeadlines()):
            pass
    acceptor.close()
    await aio(acceptor.wait_closed())
    assert seen == []


async def test_nobody_there_is_worth_a_retry(bridge: None) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    config = SftpConfig(host="127.0.0.1", port=1, username="shop", host_key=key)
    with pytest.raises(PeerUnavailable, match="cannot be reached while connecting"):
        async with open_source(config, SECRET, LOOPBACK, SftpDeadlines()):
            pass
