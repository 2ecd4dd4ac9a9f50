"""The SFTP server: one directory per user, files and nothing else.

There is no shell, no command, no forwarding and no scp. A user's paths are below ROOT/<user>: what
leads out of it, by ``..`` or by a symbolic link that somebody put there, is refused, and a client
cannot make links. The number of connections is bounded.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import asyncssh

from troupe.common.logs import get_logger
from troupe.common.units import SECONDS
from troupe_demo.sftp.users import Users

HOST: Final = "127.0.0.1"
HOST_KEY_FILE: Final = ".host_key"
"""Its dot keeps it from ever being a user's directory."""
MOST_CONNECTIONS: Final = 32
LOGIN_TIMEOUT: Final = 15 * SECONDS
KEEPALIVE: Final = 15 * SECONDS

_log = get_logger(__name__)


class ConfinedFiles(asyncssh.SFTPServer):
    """A user's files."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], root: Path) -> None:
        user = str(channel.get_extra_info("username"))
        self._home = os.fsencode((root / user).resolve())
        super().__init__(channel, chroot=self._home)

    def map_path(self, path: bytes) -> bytes:
        """The local path for a client's path, if it is really inside the user's directory."""
        mapped = super().map_path(path)
        real = os.path.realpath(mapped)
        if real != self._home and not real.startswith(self._home + b"/"):
            raise asyncssh.SFTPPermissionDenied("This path leads out of your directory")
        return mapped

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Refused."""
        raise _no_link(oldpath, newpath)

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        """Refused."""
        raise _no_link(oldpath, newpath)


def _no_link(old: bytes, new: bytes) -> asyncssh.SFTPPermissionDenied:
    _log.warning("sftp_link_refused", old=os.fsdecode(old), new=os.fsdecode(new))
    return asyncssh.SFTPPermissionDenied("Links cannot be made here")


class Door(asyncssh.SSHServer):
    """Who may come in: decides about one connection."""

    def __init__(self, users: Users, open_connections: set["Door"]) -> None:
        self._users = users.users
        self._open = open_connections
        self._connection: asyncssh.SSHServerConnection | None = None

    def shut(self) -> None:
        """End the connection at once."""
        if self._connection is not None:
            self._connection.abort()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Count the connection; refuse one too many."""
        self._connection = conn
        self._open.add(self)
        if len(self._open) > MOST_CONNECTIONS:
            _log.warning("sftp_connection_refused", open=len(self._open) - 1)
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no longer."""
        self._open.discard(self)
        if exc is not None:
            _log.info("sftp_connection_lost", reason=str(exc))

    def begin_auth(self, username: str) -> bool:
        """Everybody must prove who they are; strangers learn only that they failed."""
        _log.info("sftp_login_begins", user=username[:64])
        return True

    def password_auth_supported(self) -> bool:
        """Passwords are accepted."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Whether the password is that user's."""
        user = self._users.get(username)
        return user is not None and user.accepts_password(password)

    def public_key_auth_supported(self) -> bool:
        """Keys are accepted."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether the key is one of that user's; asyncssh has checked that the client holds it."""
        user = self._users.get(username)
        return user is not None and user.accepts_key(key)


def host_key(root: Path) -> asyncssh.SSHKey:
    """The server's key, made at the first start and the same ever after."""
    path = root / HOST_KEY_FILE
    if not path.exists():
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
        partial.replace(path)
    return asyncssh.read_private_key(path)


async def serve(
    root: Path,
    users: Users,
    port: int,
    stop: asyncio.Event,
    ready: Callable[[dict[str, object]], None],
) -> None:
    """Serve every user's directory below `root` until `stop` is set.

    Args:
        root: Holds the host key and one directory per user; missing ones are made.
        users: Who may log in.
        port: On loopback; 0 takes any that is free.
        stop: Ends the server and its connections.
        ready: Called once with what a client needs: `host`, `port`, `host_key_fingerprint` and
            `host_key` (the public key, as in ``known_hosts``).

    Raises:
        OSError: The port or the directories cannot be had.
    """
    for name in users.users:
        (root / name).mkdir(parents=True, exist_ok=True)
    key = host_key(root)
    connections: set[Door] = set()

    def files(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        return ConfinedFiles(channel, root)

    acceptor = await asyncssh.listen(
        HOST,
        port,
        config=None,
        server_host_keys=[key],
        server_factory=lambda: Door(users, connections),
        sftp_factory=files,
        allow_scp=False,
        agent_forwarding=False,
        login_timeout=LOGIN_TIMEOUT,
        keepalive_interval=KEEPALIVE,
        keepalive_count_max=2,
    )
    async with acceptor:
        ready(
            {
                "host": HOST,
                "port": acceptor.get_port(),
                "host_key_fingerprint": key.get_fingerprint(),
                "host_key": key.export_public_key().decode().strip(),
            }
        )
        await stop.wait()
        acceptor.close()
        for door in tuple(connections):
            door.shut()
