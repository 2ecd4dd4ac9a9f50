"""PgBouncer in transaction mode, in front of a database; installed when missing and allowed."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import trio

from troupe.common.units import MILLISECONDS, SECONDS

INSTALL_DEADLINE = 300 * SECONDS
START_DEADLINE = 10 * SECONDS
ACCOUNT = "nobody"
"""It refuses to run as root."""

CONFIGURATION = """
[databases]
{database} = host={host} port={port} dbname={database}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory}/users.txt
pool_mode = transaction
default_pool_size = 10
max_client_conn = 100
# Seconds after a failed login at the server; its 15 would be longer than any restart.
server_login_retry = 1
logfile = {directory}/pgbouncer.log
"""


def find_pgbouncer() -> str:
    """Its program; as root on Debian it is installed, for anyone else its absence is a failure."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    found = shutil.which("pgbouncer", path=places)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        subprocess.run(
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "pgbouncer"],
            check=True,
            timeout=INSTALL_DEADLINE,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.DEVNULL,
        )
        found = shutil.which("pgbouncer", path=places)
    if found is None:
        pytest.fail("PgBouncer is missing: install it (Debian: apt-get install pgbouncer)")
    return found


class PgBouncer:
    """One in front of the database at ``url``.

    Attributes:
        url: Where to connect instead.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self._program = find_pgbouncer()
        self._configuration = directory / "pgbouncer.ini"
        self._account = ACCOUNT if os.geteuid() == 0 else None
        self._process: trio.Process | None = None
        parts = urlsplit(url)
        self._port = _free_port()
        login = parts.netloc.rsplit("@", 1)[0]
        self.url = parts._replace(netloc=f"{login}@127.0.0.1:{self._port}").geturl()
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        (directory / "users.txt").write_text(f'"{user}" "{password}"\n')
        self._configuration.write_text(
            CONFIGURATION.format(
                database=parts.path.lstrip("/"),
                host=parts.hostname,
                port=parts.port,
                listen_port=self._port,
                directory=directory,
            )
        )
        if self._account is not None:
            number = pwd.getpwnam(self._account)
            for path in (directory, *directory.iterdir()):
                os.chown(path, number.pw_uid, number.pw_gid)

    async def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = await trio.lowlevel.open_process(
            [self._program, "-q", str(self._configuration)],
            user=self._account,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with trio.fail_after(START_DEADLINE):
            while True:
                assert self._process.poll() is None, "PgBouncer ended"
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", self._port)
                except OSError:
                    await trio.sleep(20 * MILLISECONDS)
                else:
                    await stream.aclose()
                    return

    async def kill(self) -> None:
        """End it at once; its clients and servers see their connections close."""
        if self._process is not None:
            self._process.kill()
            with trio.CancelScope(shield=True):
                await self._process.wait()


def _free_port() -> int:
    # Below the range of outgoing connections, so that none can sit on it during a restart.
    for port in (20_000 + secrets.randbelow(10_000) for _ in range(100)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.fail("no port is free")


@contextmanager
def _directory() -> Iterator[Path]:
    # Not pytest's, which only its own account can enter.
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        yield Path(name)


@asynccontextmanager
async def open_pgbouncer(url: str) -> AsyncIterator[PgBouncer]:
    """A running PgBouncer in front of the database at ``url``."""
    with _directory() as directory:
        pooler = PgBouncer(url, directory)
        try:
            await pooler.start()
            yield pooler
        finally:
            await pooler.kill()
