"""A tenant's SFTP server, as far as an import needs it: look at a file, read a file.

The server is a stranger in both directions. The tenant names it, so its host passes the outbound
guard, and we connect to the address that was checked. And whoever answers there may be somebody
else or up to something, so:

- It must show the host key that the connection pins, before anything is sent to it. Other kinds of
  key are offered behind the pinned one's, so that a server with a new key of another kind is told
  apart from one that has no algorithm in common with us.
- asyncssh is told to look nowhere but here: no configuration file, no agent, no key or certificate
  from the home directory, no GSSAPI.
- A path is what the configuration says. No name that the server tells is ever used, and nothing is
  written to our disk.
- Sizes are ours to count: what the server says about a file is a reason to refuse it early, never
  a reason to trust it.
- Every answer has a deadline. A stalled transfer ignores the cancellation of its task, so a
  deadline aborts the connection first. A piece of a file must arrive within one answer's time, so
  that a server which trickles is left as well.

A file is held in memory: it has a limit and so has the number of imports at a time, and nothing
remains on a disk when a process is killed.
"""

import io
import posixpath
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncssh
import trio

from troupe.actors.data.master_errors import (
    FileRefused,
    HostKeyNotPinned,
    ServerStalled,
    StillBeingWritten,
    sorted_errors,
)
from troupe.common.bridge import aio
from troupe.common.connections import SftpConfig
from troupe.common.errors import CredentialsRejected, PeerError, PeerUnavailable
from troupe.common.outbound import Address, OutboundGuard
from troupe.common.units import MINUTES, SECONDS, MiB

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

MAX_FILE: Final = 64 * MiB
PIECE: Final = 1 * MiB
KEEPALIVE: Final = 15 * SECONDS
UNANSWERED_KEEPALIVES: Final = 2
CLOSE_DEADLINE: Final = 3 * SECONDS
ABORT_DEADLINE: Final = 1 * SECONDS

_HOST_KEY_ALGORITHMS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SftpDeadlines:
    """How long the server may take.

    Attributes:
        connect: Seconds for resolving, connecting, key exchange and login together.
        answer: Seconds for one answer, or one piece of a file.
        transfer: Seconds for one whole file.
    """

    connect: float = 30 * SECONDS
    answer: float = 30 * SECONDS
    transfer: float = 15 * MINUTES


@dataclass(frozen=True, slots=True)
class Found:
    """What the server says about a file.

    Attributes:
        size: Bytes; None when it does not say.
        modified: When the file was last written, to the second; None when it does not say.
    """

    size: int | None
    modified: datetime | None


class SftpSource:
    """An open session; made by `open_source`."""

    def __init__(self, config: SftpConfig, deadlines: SftpDeadlines) -> None:
        self._config = config
        self._deadlines = deadlines
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    def path(self, file: str) -> str:
        """Where a configured file lies on the server."""
        return posixpath.join(self._config.directory, file)

    async def look(self, file: str) -> Found:
        """Ask about a file.

        Raises:
            FileMissing: It is not there.
            FileRefused: It is no file, or too large.
            PeerError: The server denies access, or failed.
        """
        what = f"looking at {file}"
        attributes = await self._answered(what, self._sftp.stat(self.path(file)))
        # A server that leaves the kind of file out of the permissions says nothing.
        if stat.S_IFMT(attributes.permissions or 0) not in {0, stat.S_IFREG}:
            raise FileRefused(f"{file} is not a file.")
        if attributes.size is not None and attributes.size > MAX_FILE:
            raise _too_large(file)
        return Found(attributes.size, _instant(attributes.mtime))

    async def read(
        self, file: str, found: Found, told: Callable[[int], Awaitable[None]]
    ) -> io.BytesIO:
        """Read a whole file, unless it changes meanwhile.

        Args:
            file: As configured.
            found: What `look` said just before.
            told: Called with the bytes read so far, after each piece.

        Raises:
            StillBeingWritten: It is not what was found, or no longer.
            FileRefused: It is too large.
            PeerError: The server denies access, or failed.
        """
        what = f"reading {file}"
        begin = trio.current_time()
        content = io.BytesIO()
        handle = await self._answered(what, self._open(self.path(file)))
        while True:
            left = begin + self._deadlines.transfer - trio.current_time()
            offset = content.tell()
            piece: bytes = await self._answered(what, handle.read(PIECE, offset), left)
            if not piece:
                break
            content.write(piece)
            if content.tell() > MAX_FILE:
                raise _too_large(file)
            await told(content.tell())
        await self._answered(what, handle.close())
        if await self.look(file) != found or found.size not in {None, content.tell()}:
            raise StillBeingWritten(f"{file} changed while it was being read.")
        return content

    async def connect(self, secret: bytes | None, guard: OutboundGuard) -> None:
        """Open the session; see `open_source`."""
        config = self._config
        options = _options(config, secret)
        until = trio.current_time() + self._deadlines.connect
        addresses: tuple[Address, ...] = ()
        with trio.CancelScope(deadline=until):
            addresses = await guard.resolve(config.host, config.port)
        if not addresses:
            raise PeerUnavailable(f"The name {config.host} was not resolved in time.")
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                await self._answered(
                    "connecting",
                    self._establish(str(address), options),
                    # One address that leads nowhere must not use up the time of the others.
                    (until - trio.current_time()) / left,
                )
            except PeerUnavailable:
                if left == 1:
                    raise
            else:
                return

    async def close(self) -> None:
        """End the session: politely, and at once if the server does not play along."""
        connection = self._connection
        if connection is None:
            return

        async def leave() -> None:
            connection.close()
            await connection.wait_closed()

        with trio.move_on_after(CLOSE_DEADLINE, shield=True):
            await aio(leave(), cancel=self._abort)

    async def _establish(self, address: str, options: dict[str, Any]) -> None:
        connection = await asyncssh.connect(address, self._config.port, **options)
        self._connection = connection
        try:
            self._client = await connection.start_sftp_client()
        except BaseException:
            self._connection = None
            connection.abort()
            raise

    async def _open(self, path: str) -> asyncssh.SFTPClientFile:
        return await self._sftp.open(path, "rb")

    async def _answered(
        self, what: str, question: Coroutine[Any, Any, T], left: float | None = None
    ) -> T:
        """Wait for an answer, for as long as one may take and for no longer than `left`."""
        seconds = self._deadlines.answer if left is None else left
        if self._client is not None:
            seconds = min(seconds, self._deadlines.answer)
        with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
            try:
                with sorted_errors(what):
                    return await aio(question, cancel=self._abort)
            except PeerError as error:
                # An aborted connection fails as one that was lost.
                if not scope.cancel_called:
                    raise
                raise ServerStalled(f"The SFTP server stopped answering while {what}.") from error
        raise ServerStalled(f"The SFTP server stopped answering while {what}.")

    def _abort(self, task: "asyncio.Task[Any]") -> None:
        """End a task that waits for the server."""
        if self._connection is None:
            task.cancel()
            return
        # What waits for a lost connection fails, and clears up behind itself; a cancellation would
        # leave asyncssh's own reading tasks with failures that nobody looks at.
        self._connection.abort()
        task.get_loop().call_later(ABORT_DEADLINE, task.cancel)

    @property
    def _sftp(self) -> asyncssh.SFTPClient:
        if self._client is None:
            raise RuntimeError("the session is not open")
        return self._client


@asynccontextmanager
async def open_source(
    config: SftpConfig, secret: bytes | None, guard: OutboundGuard, deadlines: SftpDeadlines
) -> AsyncGenerator[SftpSource]:
    """A session at the tenant's server for as long as the context is open.

    Args:
        config: Where and as whom.
        secret: The password, or the private key.
        guard: Checks the host.
        deadlines: Of the server.

    Raises:
        HostKeyNotPinned: The connection does not say which host key to expect.
        HostKeyChanged: The server shows another one.
        CredentialsRejected: The secret is not of the right form, or not accepted.
        HostNotAllowed: The host is in a network that is forbidden.
        PeerUnavailable: The server cannot be reached, or does not answer in time.
    """
    source = SftpSource(config, deadlines)
    try:
        await source.connect(secret, guard)
        yield source
    finally:
        await source.close()


def _options(config: SftpConfig, secret: bytes | None) -> dict[str, Any]:
    """Everything that asyncssh is told; each None closes one door to this machine's own keys."""
    pinned = _pinned(config)
    names = [name.decode() for name in pinned.sig_algorithms if name != b"ssh-rsa"]
    options: dict[str, Any] = {
        "username": config.username,
        "known_hosts": ([pinned], [], []),
        "server_host_key_algs": [
            *names,
            *(name for name in _HOST_KEY_ALGORITHMS if name not in names),
        ],
        "config": None,
        "agent_path": None,
        "client_keys": None,
        "x509_trusted_certs": None,
        "gss_auth": False,
        "gss_kex": False,
        "compression_algs": ["none"],  # else a small packet may become a large one
        "keepalive_interval": KEEPALIVE,
        "keepalive_count_max": UNANSWERED_KEEPALIVES,
    }
    if secret is None:
        raise CredentialsRejected("The SFTP connection has no secret yet.")
    if config.authentication == "key":
        try:
            options["client_keys"] = [asyncssh.import_private_key(secret)]
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, UnicodeDecodeError):
            raise CredentialsRejected(
                "The SFTP connection's secret is not a private key without a passphrase."
            ) from None
        options["preferred_auth"] = ["publickey"]
    else:
        try:
            options["password"] = secret.decode()
        except UnicodeDecodeError:
            raise CredentialsRejected(
                "The SFTP connection's secret is not a password in UTF-8."
            ) from None
        options["preferred_auth"] = ["password", "keyboard-interactive"]
    return options


def _pinned(config: SftpConfig) -> asyncssh.SSHKey:
    if not config.host_key:
        raise HostKeyNotPinned(
            "The SFTP connection does not say yet which host key its server has."
        )
    try:
        return asyncssh.import_public_key(config.host_key)
    except asyncssh.KeyImportError:
        raise HostKeyNotPinned("The pinned host key is not a public key.") from None


def _instant(seconds: int | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _too_large(file: str) -> FileRefused:
    return FileRefused(f"{file} is larger than {MAX_FILE // MiB} MiB.")
