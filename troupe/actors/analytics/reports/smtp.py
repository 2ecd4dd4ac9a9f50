"""The line to a tenant's mail server: verified, reused, and never waited for without end.

A `MailLine` offers one mail at a time in the four steps that `outcomes` tells apart, and lets its
caller do something between RCPT and DATA: that is where the database is told that the mail may
arrive from now on.

- The host passes the outbound guard, and the connection goes to an address that was checked. The
  certificate must name the host that the tenant gave, not that address.
- ``starttls`` is demanded, not hoped for: a server that does not offer it is not spoken to, so
  nobody in between can take it away. ``none`` is for servers that the operator has allowed as
  private ones: elsewhere a password would cross the network in the clear.
- After a mail the session is reset (RSET) and used for the next one. A connection that has carried
  many mails, or that has failed in any way, is closed: the state of a session that went wrong is
  nobody's to guess.

aiosmtplib sends DATA and the message in one call, so a connection that breaks between the two
counts as having broken during the message. That errs on the side of asking a person.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import aiosmtplib
import trio

from troupe.actors.analytics.reports.outcomes import Reply, Step
from troupe.common.bridge import aio
from troupe.common.connections import SmtpConfig
from troupe.common.errors import PeerError, PeerUnavailable
from troupe.common.outbound import OutboundGuard
from troupe.common.units import SECONDS

CONNECT_DEADLINE: Final = 20 * SECONDS
ANSWER_DEADLINE: Final = 30 * SECONDS
DATA_DEADLINE: Final = 120 * SECONDS
"""RFC 5321 asks for ten minutes after the final dot; a job that waits so long holds up a tenant."""
QUIT_DEADLINE: Final = 2 * SECONDS
MAILS_PER_CONNECTION: Final = 100
_HELLO: Final = "troupe.invalid"
_BYE: Final = 421
"""The server ends the session."""

Handing = Callable[[], Awaitable[bool]]
"""Called between RCPT and DATA; False: do not send it after all."""


class Withdrawn(Exception):
    """The caller did not want the mail sent after all."""


class MailLine:
    """One connection at a time to one server; made anew when it is gone.

    Args:
        config: Of the tenant's connection.
        secret: The password; None: there is none.
        guard: Decides which hosts a tenant may name.
        context: For TLS; the system's certificates by default. Tests bring their own.
    """

    def __init__(
        self,
        config: SmtpConfig,
        secret: bytes | None,
        guard: OutboundGuard,
        *,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._config = config
        self._secret = secret
        self._guard = guard
        self._context = context or ssl.create_default_context()
        self._client: aiosmtplib.SMTP | None = None
        self._carried = 0

    async def offer(self, recipient: str, message: bytes, handing: Handing) -> Reply:
        """Offer one mail to one address.

        Args:
            recipient: A checked address.
            message: Of `mail.compose`.
            handing: See `Handing`; what it raises is raised, and nothing was sent.

        Raises:
            Withdrawn: `handing` said no; nothing was sent.
        """
        try:
            client, refusal = await self._open(recipient)
        except _Refused as refused:
            return refused.reply
        if refusal is not None:
            return refusal
        try:
            wanted = await handing()
        except BaseException:
            self.drop()
            raise
        if not wanted:
            await self._reset(client, Reply(Step.RECIPIENT, 250, ""))
            raise Withdrawn
        reply = await self._hand_over(client, message)
        self._carried += 1
        if reply.code is None or self._carried >= MAILS_PER_CONNECTION:
            await self.close()
        return reply

    async def _open(self, recipient: str) -> tuple[aiosmtplib.SMTP, Reply | None]:
        """A session that waits for DATA, or why it does not.

        A server may end a session that it has had for a while; one that was used before is
        therefore no reason to give up the line.
        """
        while True:
            used = self._client is not None and self._client.is_connected
            client = await self._connected()
            refusal = await self._announce(client, recipient)
            if refusal is None:
                return client, None
            await self._reset(client, refusal)
            if not (used and refusal.step is Step.SENDER and refusal.code in {None, _BYE}):
                return client, refusal
            self.drop()

    async def close(self) -> None:
        """End the session in order, or at once when that takes too long."""
        client, self._client, self._carried = self._client, None, 0
        if client is None:
            return
        with trio.move_on_after(QUIT_DEADLINE):
            try:
                if client.is_connected:
                    await aio(client.quit(timeout=QUIT_DEADLINE))
            except (aiosmtplib.SMTPException, OSError, ValueError):
                pass  # it was to end anyway, and `close` below sees to it
        client.close()

    def drop(self) -> None:
        """End the connection at once, without a word."""
        client, self._client, self._carried = self._client, None, 0
        if client is not None:
            client.close()

    async def _connected(self) -> aiosmtplib.SMTP:
        if self._client is not None and self._client.is_connected:
            return self._client
        self.drop()
        with trio.move_on_after(CONNECT_DEADLINE):
            try:
                self._client = await self._connect()
            except (PeerError, aiosmtplib.SMTPException, OSError, ValueError) as error:
                raise _Refused(Step.CONNECT, error) from None
            return self._client
        raise _Refused(Step.CONNECT, PeerUnavailable("The mail server did not answer in time."))

    async def _connect(self) -> aiosmtplib.SMTP:
        config = self._config
        addresses = await self._guard.resolve(config.host, config.port)
        if config.security == "none" and not all(map(self._guard.is_excepted, addresses)):
            raise PeerUnavailable(
                "Mail is sent without encryption only to servers that the operator has allowed"
                " (auth.allow_private_peers)."
            )
        failure: Exception | None = None
        for address in addresses:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            plain = trio.socket.socket(family, socket.SOCK_STREAM)
            try:
                await plain.connect((str(address), config.port))
            except OSError as error:
                plain.close()
                failure = error
                continue
            except BaseException:
                plain.close()
                raise
            descriptor = socket.socket(fileno=plain.detach())
            descriptor.setblocking(False)
            return await self._greet(descriptor)
        raise PeerUnavailable(f"The mail server cannot be reached: {failure}.")

    async def _greet(self, descriptor: socket.socket) -> aiosmtplib.SMTP:
        config = self._config
        client = aiosmtplib.SMTP(
            # With a socket of our own, the name serves to check the certificate only.
            hostname=config.host,
            sock=descriptor,
            use_tls=config.security == "tls",
            start_tls=False,
            tls_context=self._context,
            local_hostname=_HELLO,
            timeout=ANSWER_DEADLINE,
        )
        try:
            await aio(client.connect())
            if config.security == "starttls":
                await aio(client.starttls(server_hostname=config.host))
            if config.username:
                password = (self._secret or b"").decode("utf-8", "replace")
                await aio(client.login(config.username, password))
        except BaseException:
            client.close()
            descriptor.close()
            raise
        return client

    async def _announce(self, client: aiosmtplib.SMTP, recipient: str) -> Reply | None:
        """MAIL and RCPT; None: both were taken."""
        step = Step.SENDER
        try:
            await aio(client.mail(self._config.bounce_address or self._config.sender))
            step = Step.RECIPIENT
            await aio(client.rcpt(recipient))
        except aiosmtplib.SMTPResponseException as error:
            return Reply(step, error.code, str(error.message))
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            self.drop()
            return Reply(step, None, _told(error))
        return None

    async def _hand_over(self, client: aiosmtplib.SMTP, message: bytes) -> Reply:
        try:
            answer = await aio(client.data(message, timeout=DATA_DEADLINE))
        except aiosmtplib.SMTPDataError as error:
            return Reply(Step.DATA, error.code, str(error.message))
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            self.drop()
            return Reply(Step.DATA, None, _told(error))
        return Reply(Step.DATA, answer.code, str(answer.message))

    async def _reset(self, client: aiosmtplib.SMTP, reply: Reply) -> None:
        """Make the session ready for another mail, or end it."""
        if reply.code is None or reply.code == _BYE:
            self.drop()
            return
        try:
            await aio(client.rset())
        except (aiosmtplib.SMTPException, OSError, ValueError):
            self.drop()


class _Refused(Exception):
    def __init__(self, step: Step, error: Exception) -> None:
        code = getattr(error, "code", None)
        text = str(getattr(error, "message", "") or _told(error))
        super().__init__(text)
        self.reply = Reply(step, code if isinstance(code, int) and code > 0 else None, text)


def _told(error: Exception) -> str:
    """What a failure says, without what could be secret in it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The mail server's certificate does not hold: {error.verify_message}."
    return str(error) or type(error).__name__
