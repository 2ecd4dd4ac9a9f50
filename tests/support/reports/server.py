"""A mail server that does what a test tells it, in a thread and loop of its own.

What an address is called says what happens to its mail: ``later-2@…`` is told to come back twice,
``nobody@…`` is unknown, ``drop@…`` loses its connection during the message, ``lost@…`` is taken and
never told so, ``slow@…`` takes its time, ``spam@…`` is refused after the message.
"""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

SLOW = 0.5


@dataclass
class Taken:
    """One mail that the server took."""

    recipient: str
    content: bytes

    @property
    def message(self) -> EmailMessage:
        parsed = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class Rules:
    """What happens, and what has happened."""

    taken: list[Taken] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    logins: int = 0
    refuse_login: bool = False
    mails_per_session: int = 0
    transports: set[Any] = field(default_factory=set)

    def to(self, address: str) -> list[Taken]:
        return [mail for mail in self.taken if mail.recipient == address]

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        served = getattr(session, "served", 0)
        if 0 < self.mails_per_session <= served:
            server.transport.abort()
            return "421 4.7.0 Enough for now"
        session.served = served + 1  # type: ignore[attr-defined]
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.seen[address] += 1
        kind = address.partition("@")[0].partition("+")[0]
        if kind.startswith("later-") and self.seen[address] <= int(kind.partition("-")[2]):
            return "451 4.7.1 Greylisted, come back"
        if kind == "nobody":
            return "550 5.1.1 No such user here"
        if kind == "policy":
            return "550 5.7.1 You may not send here"
        if kind == "hangup" and self.seen[address] == 1:
            server.transport.abort()
            return "421 4.0.0 Bye"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        address = envelope.rcpt_tos[0]
        kind = address.partition("@")[0].partition("+")[0]
        assert isinstance(envelope.content, bytes)
        if kind == "spam":
            return "554 5.7.1 Looks like spam"
        if kind == "full" and self.seen[address] == 1:
            return "452 4.2.2 Mailbox full"
        if kind == "drop":
            server.transport.abort()
            return "421 4.0.0 Bye"
        if kind == "slow":
            await asyncio.sleep(SLOW)
        self.taken.append(Taken(address, envelope.content))
        if kind == "lost":
            server.transport.abort()
            return "250 2.0.0 never heard"
        return "250 2.0.0 Kept"


class _Counted(SMTP):
    def connection_made(self, transport: Any) -> None:
        self.event_handler.connections += 1
        self.event_handler.transports.add(transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.event_handler.transports.discard(self.transport)
        super().connection_lost(error)


class MailServer:
    """Listens on loopback from `start` to `stop`.

    Args:
        context: For TLS; None: it speaks none.
        implicit: TLS from the start, as on port 465, rather than STARTTLS.
        password: Of every account; empty: nobody has to log in.
    """

    def __init__(self, *, context: Any = None, implicit: bool = False, password: str = "") -> None:
        self.rules = Rules()
        self.port = 0
        self._outer, self._context = (context, None) if implicit else (None, context)
        self._password = password
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    def _protocol(self) -> SMTP:
        rules = self.rules

        def authenticate(_s: Any, _n: Any, _e: Any, _m: str, data: Any) -> AuthResult:
            rules.logins += 1
            right = not rules.refuse_login and data.password == self._password.encode()
            return AuthResult(success=right, handled=False)

        return _Counted(
            rules,
            hostname="mail.test",
            loop=self._loop,
            tls_context=self._context,
            require_starttls=self._context is not None,
            # aiosmtpd does not know of TLS from the start, and warns of passwords without TLS.
            auth_required=bool(self._password) and self._outer is None,
            auth_require_tls=self._context is not None,
            authenticator=authenticate if self._password else None,
            timeout=60,
        )

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def listen() -> asyncio.Server:
            server = await self._loop.create_server(
                self._protocol, "127.0.0.1", self.port, ssl=self._outer
            )
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            return server

        server = self._loop.run_until_complete(listen())
        self._loop.run_forever()
        server.close()
        for transport in list(self.rules.transports):
            transport.abort()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    def start(self) -> "MailServer":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def wait_for(self, count: int, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while len(self.rules.taken) < count and time.monotonic() < end:
            time.sleep(0.01)
