"""A tenant's mail server: an open session, ready to send, or one sentence about why there is none.

Whoever sends reports and whoever tries the connection come through here, so that a connection that
was tried is the one that will be used. The host passes the outbound guard, and the session runs
over a socket to the address that was checked; the certificate is checked against the name.

A password travels encrypted or not at all: without encryption only networks that the operator has
allowed are spoken to. What the server says is not repeated beyond its code, since a server that is
up to something could put anything into our log.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import aiosmtplib
import trio

from troupe.common.bridge import aio
from troupe.common.connections import SmtpConfig
from troupe.common.errors import CredentialsRejected, PeerRefused, PeerUnavailable
from troupe.common.outbound import HostNotAllowed, OutboundGuard
from troupe.common.units import SECONDS

DEADLINE: Final = 20 * SECONDS
"""For resolving, connecting, TLS and login together; and for each later answer."""
FAREWELL: Final = 3 * SECONDS
GREETING: Final = "troupe.invalid"
"""What we call ourselves: the host's own name is nobody's business, and looking it up may block."""


@asynccontextmanager
async def mail_session(
    config: SmtpConfig,
    secret: bytes | None,
    guard: OutboundGuard,
    *,
    tls: ssl.SSLContext | None = None,
    deadline: float = DEADLINE,
) -> AsyncGenerator[aiosmtplib.SMTP]:
    """A session for as long as the context is open; its methods are asyncio's (`aio`).

    Args:
        config: Where and as whom.
        secret: The password; needed when the configuration names an account.
        guard: Checks the host.
        tls: Trust; the system's by default.
        deadline: Seconds until the session is open.

    Raises:
        HostNotAllowed: The host is in a network that is forbidden.
        CredentialsRejected: The password is missing or not accepted.
        PeerRefused: The server's certificate does not hold, it speaks no TLS, or knows no login.
        PeerUnavailable: It does not answer.
    """
    client = await open_session(config, secret, guard, tls=tls, deadline=deadline)
    try:
        yield client
    finally:
        with trio.move_on_after(FAREWELL, shield=True):
            await aio(_leave(client))


async def accepts_sender(client: aiosmtplib.SMTP, sender: str) -> None:
    """Ask whether mail may come from this address; nothing is sent.

    Raises:
        PeerRefused: It may not.
        PeerUnavailable: No answer.
    """

    async def ask() -> None:
        await client.mail(sender)
        await client.rset()

    with sorted_errors():
        await aio(ask())


async def open_session(
    config: SmtpConfig,
    secret: bytes | None,
    guard: OutboundGuard,
    *,
    tls: ssl.SSLContext | None = None,
    deadline: float = DEADLINE,
) -> aiosmtplib.SMTP:
    """A session that the caller ends; as `mail_session`."""
    with trio.move_on_after(deadline):
        return await _connect(config, secret, guard, tls, deadline)
    raise PeerUnavailable(f"The mail server did not answer within {deadline:g} seconds.")


async def _connect(
    config: SmtpConfig,
    secret: bytes | None,
    guard: OutboundGuard,
    tls: ssl.SSLContext | None,
    deadline: float,
) -> aiosmtplib.SMTP:
    if config.username and secret is None:
        raise CredentialsRejected("The SMTP connection has no password yet.")
    if config.security == "none":
        addresses = await guard.resolve(config.host, config.port)
        if not all(map(guard.is_excepted, addresses)):
            raise HostNotAllowed(
                "Without encryption only networks that the operator allows are spoken to "
                "(auth.allow_private_peers)."
            )
    connected = await guard.connect(config.host, config.port)
    client = _Client(
        hostname=config.host,
        sock=connected,
        timeout=deadline,
        use_tls=config.security == "tls",
        start_tls=config.security == "starttls",
        tls_context=tls or ssl.create_default_context(),
        username=config.username or None,
        password=(secret or b"").decode() if config.username else None,
        local_hostname=GREETING,
    )
    try:
        with sorted_errors():
            await aio(client.connect())
    except BaseException:
        client.close()
        with trio.move_on_after(FAREWELL, shield=True):
            await aio(asyncio.sleep(0))  # now the loop has let go of the socket, if it had it
        connected.close()
        raise
    return client


class _Client(aiosmtplib.SMTP):
    """A session that ends at once.

    asyncio's way to close TLS is to wait for the other side's farewell, for half a minute. Closing
    the socket under it instead leaves the loop with a descriptor that may be somebody else's next.
    """

    def close(self) -> None:
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()
        super().close()


async def _leave(client: aiosmtplib.SMTP) -> None:
    try:
        await client.quit()
    except (aiosmtplib.SMTPException, OSError):
        client.close()  # it left first, which is as good


@contextmanager
def sorted_errors() -> Iterator[None]:
    """Turn failures of aiosmtplib into ours.

    Raises:
        PeerError: See `mail_session`.
    """
    try:
        yield
    except aiosmtplib.SMTPAuthenticationError as error:
        raise CredentialsRejected(
            f"The mail server does not accept the account and its password ({error.code})."
        ) from error
    except (aiosmtplib.SMTPTimeoutError, TimeoutError) as error:
        raise PeerUnavailable("The mail server stopped answering.") from error
    except aiosmtplib.SMTPResponseException as error:
        kind = PeerUnavailable if 400 <= error.code < 500 else PeerRefused
        raise kind(f"The mail server refuses ({error.code}).") from error
    except aiosmtplib.SMTPServerDisconnected as error:
        raise PeerUnavailable(
            "The mail server closed the connection; if it speaks TLS from the start, security "
            "must be tls."
        ) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise _failure(error) from error


def _failure(error: Exception) -> PeerRefused | PeerUnavailable:
    causes: list[BaseException] = [error]
    while (inner := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(inner)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return PeerRefused(
                f"The mail server's certificate does not hold: {cause.verify_message}."
            )
        if isinstance(cause, ssl.SSLError):
            return PeerRefused(
                "The mail server does not speak TLS as expected; check port and security."
            )
    if any(said in str(error) for said in ("AUTH extension", "authentication method")):
        return PeerRefused(
            "The mail server offers no login with a password; check port and security, or leave "
            "the account empty."
        )
    if "STARTTLS" in str(error):
        return PeerRefused("The mail server offers no STARTTLS; check port and security.")
    return PeerUnavailable("The mail server cannot be reached.")
