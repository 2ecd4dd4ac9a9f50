"""The sink: an SMTP server that takes every message for the mailbox, within limits."""

import asyncio
import hmac
import logging
import warnings
from pathlib import Path
from typing import Any, Final

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import BaseModel, ConfigDict, Field

from troupe.common.logs import get_logger
from troupe.common.units import MINUTES, MiB
from troupe_demo.mail.mailbox import Mailbox

HOST: Final = "127.0.0.1"
MOST_RECIPIENTS: Final = 100
MOST_CONNECTIONS: Final = 32
LARGEST_MESSAGE: Final = 25 * MiB
IDLE: Final = 1 * MINUTES
MOST_COMMANDS: Final = {"*": 500}

_log = get_logger(__name__)


class Account(BaseModel):
    """The one account that may send, if sending needs one: a JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = Field(min_length=1)
    password: str = Field(min_length=1)

    @classmethod
    def read(cls, path: Path) -> "Account":
        """Read the file; OSError or ValueError if it cannot be."""
        return cls.model_validate_json(path.read_bytes())

    def accepts(self, login: object) -> bool:
        """Whether an AUTH command named this account."""
        if not isinstance(login, LoginPassword):
            return False
        user = hmac.compare_digest(self.user.encode(), login.login)
        return hmac.compare_digest(self.password.encode(), login.password) and user


class Delivery:
    """What is done with the commands of a connection; aiosmtpd calls it by these names."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name for the command's hook
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """Take one recipient, up to a limit."""
        if len(envelope.rcpt_tos) >= MOST_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name for the command's hook
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Keep the message."""
        content = envelope.content
        if not isinstance(content, bytes):
            return "554 5.6.0 The message is no bytes"
        try:
            number = self._mailbox.deliver(
                envelope.mail_from or "", [str(name) for name in envelope.rcpt_tos], content
            )
        except OSError as error:
            _log.error("mail_not_kept", reason=str(error))
            return "452 4.3.1 The message could not be stored"
        _log.info("mail_kept", number=number, size=len(content))
        return f"250 2.0.0 Kept as {number}"


class Connection(SMTP):
    """One connection; one too many is told so and closed."""

    def __init__(self, connections: set["Connection"], *arguments: Any, **options: Any) -> None:
        self._connections = connections
        super().__init__(*arguments, **options)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        if len(self._connections) >= MOST_CONNECTIONS and isinstance(transport, asyncio.Transport):
            transport.write(b"421 4.7.0 Too many connections\r\n")
            transport.close()
            return
        self._connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Count it no longer."""
        if self in self._connections:
            self._connections.discard(self)
            super().connection_lost(error)

    def shut(self) -> None:
        """End it at once."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()


class Sink:
    """The listening server and its connections."""

    def __init__(self, mailbox: Mailbox, account: Account | None) -> None:
        self._mailbox = mailbox
        self._account = account
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self, port: int) -> int:
        """Listen on loopback; returns the port, which is any free one for 0."""
        # aiosmtpd reports every command; what matters is logged here.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, HOST, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._connections):
            connection.shut()
        await self._server.wait_closed()

    def _connection(self) -> Connection:
        account = self._account

        def authenticate(
            _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: Any
        ) -> AuthResult:
            allowed = account is not None and account.accepts(login)
            # Not handled: aiosmtpd itself tells the client how it went.
            return AuthResult(success=allowed, handled=False)

        with warnings.catch_warnings():
            # Without TLS a password is readable on the wire: this wire never leaves the machine.
            warnings.simplefilter("ignore", UserWarning)
            return Connection(
                self._connections,
                Delivery(self._mailbox),
                data_size_limit=LARGEST_MESSAGE,
                enable_SMTPUTF8=True,
                hostname="mail.example",
                ident="Troupe demonstration mailbox",
                timeout=IDLE,
                command_call_limit=MOST_COMMANDS,
                auth_required=account is not None,
                # Without an account AUTH is not offered at all.
                auth_require_tls=account is None,
                authenticator=authenticate if account is not None else None,
                loop=asyncio.get_running_loop(),
            )
