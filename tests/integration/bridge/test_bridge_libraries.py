"""The libraries that the bridge is for: asyncssh on both ends, aiosmtplib against a real server.

asyncpg's part is tests/integration/database.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiosmtplib
import asyncssh
import pytest
import trio
from aiosmtpd.smtp import SMTP

from troupe.common.bridge import ToTrio, aio, open_bridge
from troupe.common.units import MiB


@pytest.fixture
async def bridge() -> AsyncIterator[None]:
    with trio.fail_after(30):
        async with open_bridge():
            yield


class SftpSite:
    """An SFTP server on the bridge's own loop, with one account and a pinned host key."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self.sessions = 0

    async def open(self) -> None:
        site = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, _conn: asyncssh.SSHServerConnection) -> None:
                site.sessions += 1

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                return (username, password) == ("ada", "correct horse")

        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Server,
            server_host_keys=[self.host_key],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=bytes(self._root)),
        )

    @property
    def port(self) -> int:
        assert self._acceptor is not None
        return self._acceptor.get_port()

    async def close(self) -> None:
        assert self._acceptor is not None
        self._acceptor.close()
        await self._acceptor.wait_closed()

    @asynccontextmanager
    async def visit(
        self, password: str = "correct horse"
    ) -> AsyncIterator[asyncssh.SSHClientConnection]:
        known = f"[127.0.0.1]:{self.port} {self.host_key.export_public_key().decode()}"
        async with asyncssh.connect(
            "127.0.0.1",
            self.port,
            username="ada",
            password=password,
            known_hosts=asyncssh.import_known_hosts(known),
            client_keys=None,
            agent_path=None,
            config=None,
        ) as connection:
            yield connection


@pytest.fixture
async def site(bridge: None, tmp_path: Path) -> AsyncIterator[SftpSite]:
    site = SftpSite(tmp_path)
    await aio(site.open())
    yield site
    await aio(site.close())


async def test_sftp_both_ways(site: SftpSite, tmp_path: Path) -> None:
    content = bytes(range(256)) * (4 * MiB // 256)

    async def visit() -> bytes:
        async with site.visit() as connection, connection.start_sftp_client() as sftp:
            async with sftp.open("customers.csv", "wb") as file:
                await file.write(content)
            async with sftp.open("customers.csv", "rb") as file:
                data: bytes = await file.read()
                return data

    assert await aio(visit()) == content
    assert (tmp_path / "customers.csv").read_bytes() == content


async def test_several_sftp_sessions_at_once(site: SftpSite) -> None:
    async def visit(number: int) -> list[str]:
        async with site.visit() as connection, connection.start_sftp_client() as sftp:
            async with sftp.open(f"{number}.csv", "wb") as file:
                await file.write(b"id\n")
            return sorted(str(name) for name in await sftp.listdir("."))

    listings: list[list[str]] = []

    async def one(number: int) -> None:
        listings.append(await aio(visit(number)))

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(one, number)
    assert site.sessions == 5
    assert set().union(*listings) >= {f"{number}.csv" for number in range(5)}


async def test_a_refused_login_arrives_unchanged(site: SftpSite) -> None:
    async def visit() -> None:
        async with site.visit(password="wrong"):
            pass

    with pytest.raises(asyncssh.PermissionDenied):
        await aio(visit())


async def test_a_deadline_ends_a_transfer_and_the_session(site: SftpSite) -> None:
    connections: list[asyncssh.SSHClientConnection] = []

    async def visit() -> None:
        async with site.visit() as connection, connection.start_sftp_client() as sftp:
            connections.append(connection)
            async with sftp.open("endless.csv", "wb") as file:
                while True:
                    await file.write(bytes(64 * 1024))

    with trio.move_on_after(0.3) as scope:
        await aio(visit())
    assert scope.cancelled_caught
    assert connections[0].is_closed()


class Mailbox:
    """An SMTP server's handler that hands every letter to trio."""

    def __init__(self, outlet: ToTrio[bytes]) -> None:
        self._outlet = outlet

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        await self._outlet.send(envelope.content)
        return "250 kept"


async def test_a_letter_goes_out_and_arrives(bridge: None) -> None:
    send, receive = trio.open_memory_channel[bytes](1)
    mailbox = Mailbox(ToTrio(send))

    async def serve() -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: SMTP(mailbox, hostname="localhost"), host="127.0.0.1", port=0
        )

    server = await aio(serve())
    port = server.sockets[0].getsockname()[1]

    async def post() -> None:
        await aiosmtplib.send(
            "Subject: hello\r\n\r\nfrom trio\r\n",
            sender="a@example.org",
            recipients=["b@example.org"],
            hostname="127.0.0.1",
            port=port,
            timeout=5,
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(aio, post())
        letter = await receive.receive()
    assert b"from trio" in letter
    server.close()
    await aio(server.wait_closed())


async def test_a_server_that_says_nothing_is_left_at_the_deadline(bridge: None) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, silent, 0, host="127.0.0.1")
        )
        port = listeners[0].socket.getsockname()[1]
        started = trio.current_time()
        with trio.move_on_after(0.2) as scope:
            await aio(aiosmtplib.SMTP(hostname="127.0.0.1", port=port, timeout=60).connect())
        assert scope.cancelled_caught
        assert trio.current_time() - started < 1
        nursery.cancel_scope.cancel()
