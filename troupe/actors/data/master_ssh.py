"""A session at a tenant's SSH server: how it is opened, how long an answer may take, how it ends.

- The server must show the host key that the connection pins, before anything is sent to it. Other
  kinds of key are offered behind the pinned one's, so that a server with a new key of another kind
  is told apart from one that has no algorithm in common with us.
- asyncssh is told to look nowhere but here: no configuration file, no agent, no key or certificate
  from the home directory, no GSSAPI.
- The host passes the outbound guard, and we connect to the address that was checked.
- Every answer has a deadline. A stalled transfer ignores the cancellation of its task, so a
  deadline aborts the connection first.
"""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncssh
import trio

from troupe.actors.data.master_errors import HostKeyNotPinned, ServerStalled, sorted_errors
from troupe.common.bridge import aio
from troupe.common.connections import SftpConfig
from troupe.common.errors import CredentialsRejected, PeerError, PeerUnavailable
from troupe.common.outbound import Address, OutboundGuard
from troupe.common.units import MINUTES, SECONDS

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

KEEPALIVE: Final = 15 * SECONDS
UNANSWERED_KEEPALIVES: Final = 2
CLOSE_DEADLINE: Final = 3 * SECONDS
ABORT_DEADLINE: Final = 1 * SECONDS

HOST_KEY_ALGORITHMS: Final = (
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
        settle: Seconds for which a file that was written of late must stay as it is.
        resume: Seconds to wait before each attempt to take up a broken transfer.
    """

    connect: float = 30 * SECONDS
    answer: float = 30 * SECONDS
    transfer: float = 15 * MINUTES
    settle: float = 5 * SECONDS
    resume: tuple[float, ...] = (0.5 * SECONDS, 5 * SECONDS)


class SshSession:
    """One session; `connect` opens it, `close` ends it.

    Args:
        config: Where and as whom.
        secret: The password, or the private key.
        guard: Checks the host.
        deadlines: Of the server.
    """

    def __init__(
        self,
        config: SftpConfig,
        secret: bytes | None,
        guard: OutboundGuard,
        deadlines: SftpDeadlines,
    ) -> None:
        self._config = config
        self._secret = secret
        self._guard = guard
        self._deadlines = deadlines
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    async def connect(self) -> None:
        """Open the session.

        Raises:
            HostKeyNotPinned: The connection does not say which host key to expect.
            HostKeyChanged: The server shows another one.
            CredentialsRejected: The secret is not of the right form, or not accepted.
            HostNotAllowed: The host is in a network that is forbidden.
            PeerUnavailable: The server cannot be reached, or does not answer in time.
        """
        config = self._config
        options = _options(config, self._secret)

        async def attempt(address: str, left: float) -> None:
            await self.answered("connecting", self._establish(address, options), left)

        await at_some_address(
            config.host, config.port, self._guard, self._deadlines.connect, attempt
        )

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

    async def reconnected(self) -> bool:
        """Open the session anew; whether that worked.

        Raises:
            PeerRefused: The server does not let us in any more.
        """
        await self.close()
        self._connection = self._client = None
        try:
            await self.connect()
        except PeerUnavailable:
            return False
        return True

    async def answered(
        self, what: str, question: Coroutine[Any, Any, T], left: float | None = None
    ) -> T:
        """Wait for an answer, for as long as one may take and for no longer than `left`.

        Args:
            what: What is being done, for the sentence: ``reading customers.csv``.
            question: Talks to the server.
            left: Seconds.

        Raises:
            PeerError: The server refuses, or failed, or did not answer in time.
        """
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
    def client(self) -> asyncssh.SFTPClient:
        """The files of the server, for questions."""
        if self._client is None:
            raise RuntimeError("the session is not open")
        return self._client


async def at_some_address(
    host: str,
    port: int,
    guard: OutboundGuard,
    seconds: float,
    attempt: Callable[[str, float], Awaitable[T]],
) -> T:
    """Try a host's checked addresses, one after the other, until one can be connected to.

    Args:
        host: That a tenant named.
        port: TCP port.
        guard: Checks it.
        seconds: For everything together.
        attempt: Called with an address and the seconds that it may take.

    Raises:
        HostNotAllowed: The host is in a network that is forbidden.
        PeerUnavailable: None of them can be reached.
    """
    until = trio.current_time() + seconds
    addresses: tuple[Address, ...] = ()
    with trio.CancelScope(deadline=until):
        addresses = await guard.resolve(host, port)
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            # One address that leads nowhere must not use up the time of the others.
            return await attempt(str(address), (until - trio.current_time()) / left)
        except PeerUnavailable:
            if left == 1:
                raise
    raise PeerUnavailable(f"The name {host} was not resolved in time.")


def _options(config: SftpConfig, secret: bytes | None) -> dict[str, Any]:
    """Everything that asyncssh is told; each None closes one door to this machine's own keys."""
    pinned = pinned_key(config)
    names = [name.decode() for name in pinned.sig_algorithms if name != b"ssh-rsa"]
    options: dict[str, Any] = {
        "username": config.username,
        "known_hosts": ([pinned], [], []),
        "server_host_key_algs": [
            *names,
            *(name for name in HOST_KEY_ALGORITHMS if name not in names),
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


def pinned_key(config: SftpConfig) -> asyncssh.SSHKey:
    """The host key that the server must show.

    Raises:
        HostKeyNotPinned: The connection does not say, or what it says is no key.
    """
    if not config.host_key:
        raise HostKeyNotPinned(
            "The SFTP connection does not say yet which host key its server has."
        )
    try:
        return asyncssh.import_public_key(config.host_key)
    except asyncssh.KeyImportError:
        raise HostKeyNotPinned("The pinned host key is not a public key.") from None
