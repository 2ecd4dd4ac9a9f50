"""Reports of non-delivery: what a mail server that took a mail found out later.

A server that says 250 has promised to deliver or to say so. It says so by a mail (RFC 3464) to the
envelope's sender. A tenant that names the mailbox of that address has it read here: each report
that names one of our mails and a permanent failure turns that delivery into ``bounced``, and counts
against the address if the status is about the address.

Anybody can send a mail that looks like such a report. What it must name is a Message-ID that only
the recipient's own servers have seen (see `planning.message_id_of`), so all that a forger can do is
what a recipient may: end their own reports.

Mails are fetched without marking them and marked as read once their effect is committed; a crash in
between reads them again, and a delivery bounces once. Everything is bounded: mails at a time, bytes
of each, parts of each. imaplib blocks, so it runs in a thread, with deadlines on its socket.
"""

import contextlib
import email.parser
import email.policy
import imaplib
import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING, Any, Final

import trio

from troupe.actors.analytics.reports.outcomes import LONGEST_ANSWER, Reply, Step, is_hard
from troupe.actors.analytics.reports.statements import QUERIES
from troupe.actors.analytics.reports.store import ReportStore
from troupe.common.connections import (
    SmtpConfig,
    load_connection,
)
from troupe.common.database import Database
from troupe.common.errors import CredentialsRejected, PeerUnavailable
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import Vault
from troupe.common.units import MINUTES, SECONDS, KiB
from troupe.platform.jobs import JobKind, JobRun
from troupe.platform.threads import Threads

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

_log = get_logger(__name__)

ANSWER_DEADLINE: Final = 20 * SECONDS
JOB_DEADLINE: Final = 5 * MINUTES
MOST_MAILS: Final = 200
LARGEST_MAIL: Final = 512 * KiB
MOST_PARTS: Final = 50
_OURS: Final = re.compile(r"<?(report\.[0-9a-f]{32})@")
_SIZE: Final = re.compile(rb"RFC822\.SIZE (\d+)")
_FAILED: Final = re.compile(r"5\.\d{1,3}\.\d{1,3}")


@dataclass(frozen=True, slots=True)
class Bounce:
    """One permanent failure that a report tells of.

    Attributes:
        message_id: Of our mail, without its domain.
        status: Enhanced status code.
        diagnostic: What the server said.
    """

    message_id: str
    status: str
    diagnostic: str

    @property
    def answer(self) -> str:
        """For the delivery's history."""
        text = self.diagnostic if self.status in self.diagnostic else ""
        said = text or f"{self.status} {self.diagnostic}"
        plain = " ".join(said.split())
        return "".join(sign if sign.isprintable() else "?" for sign in plain)[:LONGEST_ANSWER]

    @property
    def is_hard(self) -> bool:
        """Whether it is about the address."""
        return is_hard(Reply(Step.RECIPIENT, 550, self.status))


def read_bounce(raw: bytes) -> Bounce | None:
    """What a mail says, if it is a report that a mail of ours failed for good."""
    message = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(raw)
    if message.get_content_type() != "multipart/report":
        return None
    ours = failure = None
    for number, part in enumerate(message.walk()):
        if number > MOST_PARTS:
            return None
        match part.get_content_type():
            case "message/delivery-status":
                failure = failure or _failure(part)
            case "message/rfc822" | "text/rfc822-headers" | "message/rfc822-headers":
                ours = ours or _original(part)
    if ours is None or failure is None:
        return None
    return Bounce(ours, *failure)


def _failure(part: Message) -> tuple[str, str] | None:
    """Status and diagnostic of the first recipient that failed for good."""
    blocks = part.get_payload()
    for block in blocks if isinstance(blocks, list) else []:
        if not isinstance(block, Message):
            continue
        status = _FAILED.match(str(block.get("Status", "")).strip())
        if status and str(block.get("Action", "")).strip().lower() == "failed":
            code = str(block.get("Diagnostic-Code", ""))
            return status[0], code.partition(";")[2].strip() or code
    return None


def _original(part: Message) -> str | None:
    """The Message-ID of our mail, in what the report returns of it."""
    payload = part.get_payload()
    if isinstance(payload, list) and payload and isinstance(payload[0], Message):
        named = str(payload[0].get("Message-ID", ""))
    else:
        decoded = part.get_payload(decode=True)
        text = decoded.decode("utf-8", "replace") if isinstance(decoded, bytes) else ""
        named = str(email.parser.HeaderParser().parsestr(text).get("Message-ID", ""))
    match = _OURS.match(named.strip())
    return None if match is None else match[1]


class BounceMailbox(imaplib.IMAP4):
    """A mailbox, over a connection that was made before. Blocks."""

    def __init__(self, connection: socket.socket) -> None:
        self._made = connection
        super().__init__()

    def _create_socket(self, timeout: float | None) -> socket.socket:
        """What imaplib calls to connect."""
        del timeout
        return self._made


def _connect(
    addresses: Sequence[str], config: SmtpConfig, context: ssl.SSLContext
) -> socket.socket:
    failure: Exception = OSError("no address")
    for address in addresses:
        try:
            plain = socket.create_connection((address, config.bounce_port), ANSWER_DEADLINE)
        except OSError as error:
            failure = error
            continue
        try:
            return context.wrap_socket(plain, server_hostname=config.bounce_host)
        except OSError as error:
            plain.close()
            failure = error
    raise PeerUnavailable(f"The bounce mailbox cannot be reached: {failure}.")


class _Session:
    """One visit to a mailbox. Everything here blocks."""

    def __init__(
        self,
        addresses: Sequence[str],
        config: SmtpConfig,
        secret: bytes,
        context: ssl.SSLContext,
    ) -> None:
        try:
            self._box = BounceMailbox(_connect(addresses, config, context))
            self._box.login(config.bounce_username or config.username, secret.decode("utf-8"))
            self._box.select("INBOX")
        except imaplib.IMAP4.error as error:
            raise CredentialsRejected(f"The bounce mailbox refused us: {error}.") from None
        except OSError as error:
            raise PeerUnavailable(f"The bounce mailbox broke off: {error}.") from None

    def unread(self) -> list[bytes]:
        """Numbers of mails that were not read yet, at most `MOST_MAILS`."""
        _, found = self._box.uid("SEARCH", "UNSEEN")
        numbers = (found[0] or b"").split() if found else []
        return list(numbers[:MOST_MAILS])

    def fetch(self, number: bytes) -> bytes:
        """A mail; empty when it is too large to be a report."""
        uid = number.decode("ascii")
        _, sized = self._box.uid("FETCH", uid, "(RFC822.SIZE)")
        match = _SIZE.search(b" ".join(_flat(sized)))
        if match is None or int(match[1]) > LARGEST_MAIL:
            return b""
        _, fetched = self._box.uid("FETCH", uid, "(BODY.PEEK[])")
        return next((one[1] for one in fetched if isinstance(one, tuple) and len(one) > 1), b"")

    def mark(self, numbers: Iterable[bytes]) -> None:
        """Mark mails as read."""
        wanted = b",".join(numbers).decode("ascii")
        if wanted:
            self._box.uid("STORE", wanted, "+FLAGS.SILENT", "(\\Seen)")

    def close(self) -> None:
        """End the visit."""
        with contextlib.suppress(imaplib.IMAP4.error, OSError):  # it was to end anyway
            self._box.logout()


def _flat(found: Iterable[Any]) -> Iterator[bytes]:
    for one in found:
        if isinstance(one, bytes):
            yield one
        elif isinstance(one, tuple):
            yield from (part for part in one if isinstance(part, bytes))


class Collector:
    """Reads bounce mailboxes.

    Args:
        database: The group's pool.
        vault: Opens the tenants' passwords.
        guard: Decides which hosts a tenant may name.
        threads: Where imaplib blocks.
        context: For TLS; the system's certificates by default.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        guard: OutboundGuard,
        threads: Threads,
        *,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._database = database
        self._vault = vault
        self._guard = guard
        self._threads = threads
        self._context = context or ssl.create_default_context()
        self._store = ReportStore(database)

    async def collect(self, run: JobRun) -> dict[str, int]:
        """Handle a job: read what is new in a tenant's bounce mailbox."""
        tenant = run.job.tenant_id
        connection = await load_connection(self._database, self._vault, tenant, "smtp")
        config = connection.config
        if not isinstance(config, SmtpConfig) or not config.bounce_host:
            return {"read": 0, "bounced": 0}
        found = await self._guard.resolve(config.bounce_host, config.bounce_port)
        addresses = [str(address) for address in found]
        session = await self._threads.run(
            _Session, addresses, config, connection.secret or b"", self._context
        )
        try:
            return await self._read(tenant, session)
        except (imaplib.IMAP4.error, OSError) as error:
            raise PeerUnavailable(f"The bounce mailbox broke off: {error}.") from None
        finally:
            with trio.CancelScope(shield=True):
                await self._threads.run(session.close)

    async def _read(self, tenant: TenantId, session: _Session) -> dict[str, int]:
        limit = (await self._store.look(tenant)).settings.bounces_until_suppressed
        numbers = await self._threads.run(session.unread)
        bounced = 0
        for number in numbers:
            raw = await self._threads.run(session.fetch, number)
            bounce = read_bounce(raw)
            if bounce is not None:
                bounced += await self._take(tenant, bounce, limit)
            await self._threads.run(session.mark, [number])
        return {"read": len(numbers), "bounced": bounced}

    async def _take(self, tenant: TenantId, bounce: Bounce, limit: int) -> bool:
        """Let a delivery have bounced; False: it had, or is not ours."""

        async def unit(connection: "Connection") -> bool:
            row = await connection.fetchrow(
                QUERIES["bounced_later"], tenant, bounce.message_id, bounce.answer
            )
            if row is None:
                return False
            if bounce.is_hard:
                await connection.fetchval(
                    QUERIES["note_bounce"], tenant, row["address"], bounce.answer, limit
                )
            return True

        taken = await self._database.run(unit, tenant=tenant)
        if taken:
            _log.info("report_mail_bounced_later", status=bounce.status)
        return taken


def bounce_kind(collector: Collector) -> JobKind:
    """The kind of job that reads a mailbox."""
    return JobKind(handler=collector.collect, concurrency=2, tenant_limit=1, timeout=JOB_DEADLINE)
