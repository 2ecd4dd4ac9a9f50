"""The line to a tenant's mail server: verified, reused, and never waited for without end.

A `MailLine` offers one mail at a time in the four steps that `outcomes` tells apart, and lets its
caller do something between RCPT and DATA: that is where the database is told that the mail may
arrive from now on.

- Sessions are those of `mail_server`, which says what is checked and verified before a password is
  shown: what a tenant has tried is what will be used.
- After a mail the session is reset (RSET) and used for the next one. A connection that has carried
  many mails, or that has failed in any way, is closed: the state of a session that went wrong is
  nobody's to guess.

aiosmtplib sends DATA and the message in one call, so a connection that breaks between the two
counts as having broken during the message. That errs on the side of asking a person.
"""

import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import aiosmtplib
import trio

from troupe.actors.analytics.reports.outcomes import Reply, Step
from troupe.common.bridge import aio
from troupe.common.connections import SmtpConfig
from troupe.common.errors import PeerError
from troupe.common.mail_server import open_session
from troupe.common.outbound import OutboundGuard
from troupe.common.units import SECONDS

CONNECT_DEADLINE: Final = 20 * SECONDS
ANSWER_DEADLINE: Final = 30 * SECONDS
DATA_DEADLINE: Final = 120 * SECONDS
"""RFC 5321 asks for ten minutes after the final dot; a job that waits so long holds up a tenant."""
QUIT_DEADLINE: Final = 2 * SECONDS
MAILS_PER_CONNECTION: Final = 100
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
        try:
            self._client = await open_session(
                self._config,
                self._secret,
                self._guard,
                tls=self._context,
                deadline=CONNECT_DEADLINE,
            )
        except PeerError as error:
            raise _Refused(Reply(Step.CONNECT, None, str(error))) from None
        self._client.timeout = ANSWER_DEADLINE
        return self._client

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
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


def _told(error: Exception) -> str:
    """What a failure says, without what could be secret in it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The mail server's certificate does not hold: {error.verify_message}."
    return str(error) or type(error).__name__
