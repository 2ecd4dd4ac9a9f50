"""Telling of alarms: by e-mail over the tenant's mail server, and by webhook.

A message is a row that waits. Whoever takes it counts the attempt and puts off the next one before
anything is sent, in a transaction of its own: if the sender dies, somebody tries again later. So a
message is told at least once; one whose sender died between sending and noting it is told twice,
under the same id (``Message-ID``, ``webhook-id``), by which a receiver can tell. After `ATTEMPTS`
it is given up, and says why. What is refused for good (no mail server, a host that is not allowed)
is not tried again.

Webhooks follow the Standard Webhooks: the signature is HMAC-SHA256 over ``id.timestamp.body`` with
the alert's secret, which is told to who made the alert, once. They go through the outbound guard to
checked addresses, over https unless the operator has allowed the network; redirects are not
followed, and of the answer nothing but its status is read.
"""

import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

import aiosmtplib
import asyncpg
import httpx2
import trio

from troupe.actors.analytics.alerts import ALERTS, AlertKind, look
from troupe.common.bridge import aio
from troupe.common.connections import NotConnected, SmtpConfig, load_connection
from troupe.common.database import Database
from troupe.common.errors import (
    ConfigurationError,
    DeadlineExceeded,
    PeerError,
    PeerRefused,
    PeerUnavailable,
)
from troupe.common.guarded_http import GuardedTransport
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.mail_server import mail_session, sorted_errors
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import Vault, alert_secret_place
from troupe.common.tenants import active_tenants
from troupe.common.units import HOURS, MINUTES, SECONDS

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

LOOK_PAUSE: Final = 30 * SECONDS
SEND_DEADLINE: Final = 30 * SECONDS
WEBHOOK_DEADLINE: Final = 10 * SECONDS
LEASE: Final = 2 * MINUTES
"""For which a message that was taken is nobody else's; longer than sending may take."""
ATTEMPTS: Final = 8
FIRST_PAUSE: Final = 1 * MINUTES
LONGEST_PAUSE: Final = 4 * HOURS
AT_ONCE: Final = 20
"""Messages of one tenant that are sent before the next tenant's turn."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one receiver."""

    message_id: UUID
    channel: str
    recipient: str
    attempts: int
    alarm_id: UUID
    alert_id: UUID
    name: str
    kind: AlertKind
    subject: str
    facts: Mapping[str, Any]
    raised_at: datetime
    tenant_name: str
    sealed: bytes | None
    """The signing secret, of a webhook."""

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "Message":
        """From a row of a message with its alarm and alert."""
        # The address may have been changed since: the alarm goes to where the secret is known.
        recipient = row["webhook_url"] if row["channel"] == "webhook" else row["recipient"]
        return cls(
            row["message_id"],
            row["channel"],
            recipient or row["recipient"],
            row["attempts"],
            row["alarm_id"],
            row["alert_id"],
            row["name"],
            AlertKind(row["kind"]),
            row["subject"],
            row["facts"],
            row["raised_at"],
            row["tenant_name"],
            row["webhook_secret"],
        )

    @property
    def sentence(self) -> str:
        """What has happened, for people."""
        return sentence_of(self.kind, self.facts)


def is_trial(facts: Mapping[str, Any]) -> bool:
    """Whether an alarm is about nothing: somebody has tried the alert."""
    return "trial" in facts


def sentence_of(kind: AlertKind, facts: Mapping[str, Any]) -> str:
    """What an alarm tells, in one sentence."""
    if is_trial(facts):
        return "This is a test. Nothing has happened, and nobody needs to do anything."
    match kind:
        case AlertKind.SPIKE | AlertKind.DROP:
            how = "above" if kind is AlertKind.SPIKE else "below"
            percent = abs(float(facts["percent"]))
            where = "" if facts["location_id"] is None else f" in branch {facts['location_id']}"
            return (
                f"{facts['metric']}{where} was {facts['value']} on {facts['day']}, {percent:.1f} %"
                f" {how} the usual {facts['usual']}."
            )
        case AlertKind.STALE_DATA:
            return f"There is no complete day after {facts['data_until']}."
        case AlertKind.FAILED_LOAD:
            problem = facts["problem"] or "The reason is not known."
            return f"The day {facts['source_day']} could not be loaded: {problem}"


def letter(message: Message, sender: str) -> EmailMessage:
    """The message as an e-mail: plain text, one receiver."""
    made = EmailMessage()
    test = "Test: " if is_trial(message.facts) else ""
    made["Subject"] = f"{test}{_line(message.name)} ({_line(message.tenant_name)})"
    made["From"] = sender
    made["To"] = message.recipient
    made["Date"] = format_datetime(message.raised_at)
    made["Message-ID"] = f"<{message.message_id}@troupe.invalid>"
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(
        f"{message.sentence}\n\nAlert: {message.name}\nTenant: {message.tenant_name}\n"
        f"Raised at: {message.raised_at.isoformat(timespec='seconds')}\n"
    )
    return made


def _line(text: str) -> str:
    """A text as one line: nothing that a header could be ended with."""
    return " ".join(text.split())


def payload(message: Message) -> bytes:
    """The message as a webhook's body."""
    document = {
        "type": "alert.test" if is_trial(message.facts) else f"alert.{message.kind}",
        "timestamp": message.raised_at.isoformat().replace("+00:00", "Z"),
        "data": {
            "alarm_id": str(message.alarm_id),
            "alert_id": str(message.alert_id),
            "name": message.name,
            "text": message.sentence,
            "facts": {
                name: value if value is None else str(value)
                for name, value in message.facts.items()
            },
        },
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """What ``webhook-signature`` says."""
    key = base64.b64decode(secret.partition("_")[2])
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class Postman:
    """Sends messages. Use as an async context manager.

    Args:
        database: The group's pool.
        vault: Opens secrets.
        guard: Decides which hosts may be connected to.
        tls: Trust; the system's by default.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        guard: OutboundGuard,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._database = database
        self._vault = vault
        self._guard = guard
        self._tls = tls
        self._client = httpx2.AsyncClient(
            transport=GuardedTransport(guard, tls),
            timeout=httpx2.Timeout(WEBHOOK_DEADLINE),
            follow_redirects=False,
            trust_env=False,
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            headers={"User-Agent": "troupe"},
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def deliver(self, tenant: TenantId) -> int:
        """Send what is due of a tenant, at most `AT_ONCE` messages; how many were taken."""
        for taken in range(AT_ONCE):
            message = await self._take(tenant)
            if message is None:
                return taken
            await self.send(tenant, message)
        return AT_ONCE

    async def _take(self, tenant: TenantId) -> Message | None:
        async def unit(connection: "Connection") -> Message | None:
            row = await connection.fetchrow(ALERTS["take_message"], tenant, LEASE)
            return None if row is None else Message.of(row)

        return await self._database.run(unit, tenant=tenant)

    async def send(
        self,
        tenant: TenantId,
        message: Message,
        *,
        patience: float = SEND_DEADLINE,
        attempts: int = ATTEMPTS,
    ) -> None:
        """Send a message that was taken, and note what became of it.

        Args:
            tenant: Whose.
            message: Which.
            patience: Seconds.
            attempts: After so many it is given up.

        Raises:
            DatabaseError: It could not be noted.
        """
        pause: float | None = None
        try:
            with trio.fail_after(patience):
                if message.channel == "email":
                    await self._write(tenant, message)
                else:
                    await self._post(tenant, message)
        except (PeerRefused, NotConnected) as error:
            problem = str(error)
        except (PeerError, ConfigurationError, trio.TooSlowError) as error:
            problem = str(error) or "The receiver did not answer in time."
            if message.attempts < attempts:
                pause = min(FIRST_PAUSE * 2 ** (message.attempts - 1), LONGEST_PAUSE)
        else:
            await self._database.execute(
                ALERTS["note_sent"], tenant, message.message_id, tenant=tenant
            )
            return
        _log.warning(
            "alarm_not_delivered",
            tenant_id=str(tenant),
            channel=message.channel,
            attempts=message.attempts,
            final=pause is None,
            problem=problem,
        )
        await self._database.execute(
            ALERTS["note_failed"], tenant, message.message_id, problem, pause, tenant=tenant
        )

    async def _write(self, tenant: TenantId, message: Message) -> None:
        connection = await load_connection(self._database, self._vault, tenant, "smtp")
        config = connection.config
        if not isinstance(config, SmtpConfig):
            raise TypeError(f"an smtp connection has {type(config).__name__}")
        made = letter(message, config.sender)
        async with mail_session(config, connection.secret, self._guard, tls=self._tls) as session:
            await aio(_sent(session, made))

    async def _post(self, tenant: TenantId, message: Message) -> None:
        secret = await self._secret(tenant, message)
        body = payload(message)
        name, moment = f"msg_{message.message_id}", int(datetime.now(UTC).timestamp())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(moment),
            "webhook-signature": signature(secret, name, moment, body),
        }
        try:
            request = self._client.build_request(
                "POST", message.recipient, content=body, headers=headers
            )
            response = await self._client.send(request, stream=True)
            await response.aclose()
        except httpx2.InvalidURL:
            raise PeerRefused("The webhook's address is not valid.") from None
        except httpx2.HTTPError:
            raise PeerUnavailable("The webhook's host cannot be reached.") from None
        if not response.is_success:
            told = f"The webhook answered with status {response.status_code}."
            later = response.status_code in {408, 425, 429} or response.status_code >= 500
            raise PeerUnavailable(told) if later else PeerRefused(told)

    async def _secret(self, tenant: TenantId, message: Message) -> str:
        sealed = message.sealed
        if sealed is None:
            raise PeerRefused("The alert posts nowhere any more.")
        place = alert_secret_place(message.alert_id)
        secret = await self._database.run(
            lambda connection: self._vault.unseal(connection, tenant, place, sealed),
            tenant=tenant,
            read_only=True,
        )
        return secret.decode()


async def _sent(session: aiosmtplib.SMTP, made: EmailMessage) -> None:
    with sorted_errors():
        await session.send_message(made, sender=str(made["From"]), recipients=[str(made["To"])])


async def watch_once(database: Database, postman: Postman, tenant: TenantId) -> None:
    """Look at a tenant's alerts, and send what is due.

    Raises:
        DatabaseError: PostgreSQL failed.
    """

    async def unit(connection: "Connection") -> int:
        now: datetime = await connection.fetchval("SELECT now()")
        return await look(connection, tenant, now)

    raised = await database.run(unit, tenant=tenant)
    if raised:
        _log.info("alarms_raised", tenant_id=str(tenant), alarms=raised)
    await postman.deliver(tenant)


async def watch_everybody(
    database: Database, vault: Vault, guard: OutboundGuard, stopping: trio.Event
) -> None:
    """Watch every tenant, twice a minute, until `stopping` is set.

    Raises:
        DatabaseError: PostgreSQL is away; whoever supervises this starts it again.
    """
    async with Postman(database, vault, guard) as postman:
        while not stopping.is_set():
            for tenant in await active_tenants(database):
                try:
                    await watch_once(database, postman, tenant)
                except DeadlineExceeded as error:
                    # The other tenants must not wait for this one.
                    _log.warning("alerts_not_looked_at", tenant_id=str(tenant), problem=str(error))
            with trio.move_on_after(LOOK_PAUSE):
                await stopping.wait()
