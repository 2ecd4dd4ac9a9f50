"""Mails of one run, written one after another: what readers share is made once.

A run's deliveries come sorted by branch and language, so remembering the last few is enough; memory
stays the same however many there are.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

import trio

from troupe.actors.analytics.following import follow_once
from troupe.actors.analytics.reports.content import ReportContent, ReportReader, Subject
from troupe.actors.analytics.reports.mail import Envelope
from troupe.actors.analytics.reports.records import Delivery, TenantLook
from troupe.actors.analytics.reports.rendering import Links, Reader, Rendered
from troupe.actors.analytics.reports.statements import QUERIES
from troupe.actors.analytics.reports.unsubscribe import link_of
from troupe.actors.analytics.reports.workshop import Order, Writer
from troupe.common.database import Database
from troupe.common.errors import TroupeError
from troupe.common.ids import TenantId
from troupe.common.units import SECONDS

REMEMBERED: Final = 6
FOLLOW_TRIES: Final = 20
FOLLOW_PAUSE: Final = 0.5 * SECONDS
_MAIL_ROOM: Final = "report.invalid"


class TasksBehind(TroupeError):
    """The task lists are not those of the data that the figures are of; worth another attempt."""


@dataclass(frozen=True, slots=True)
class Written:
    """A mail, ready to leave.

    Attributes:
        rendered: Its parts.
        message: Its bytes.
        content: What its figures are.
    """

    rendered: Rendered
    message: bytes
    content: ReportContent


class Press:
    """Writes reports.

    Args:
        reader: Reads their content.
        writer: Turns it into mails.
        origin: Of the dashboard, ``https://dashboard.example``.
    """

    def __init__(self, reader: ReportReader, writer: Writer, origin: str) -> None:
        self.reader = reader
        self.writer = writer
        self.origin = origin.rstrip("/")

    def edition(
        self, tenant: TenantId, look: TenantLook, sender: str, *, awaits_tasks: bool = False
    ) -> "Edition":
        """What writes the mails of one run, or one preview.

        Args:
            tenant: Whose.
            look: How they want it.
            sender: Their address.
            awaits_tasks: Only with task lists that have followed the data of the figures.
        """
        return Edition(self, tenant, look, sender, awaits_tasks=awaits_tasks)


class Edition:
    """Mails of one tenant that are written together; see `Press.edition`."""

    def __init__(
        self, press: Press, tenant: TenantId, look: TenantLook, sender: str, *, awaits_tasks: bool
    ) -> None:
        self._press = press
        self._awaits_tasks = awaits_tasks
        self._tenant = tenant
        self._look = look
        self._sender = sender
        self._contents: OrderedDict[Subject, ReportContent] = OrderedDict()
        self._one_at_a_time = trio.Lock()

    async def write(
        self, delivery: Delivery, recipient: UUID | None, secret: bytes, *, notice: bool
    ) -> Written:
        """Write the mail of a delivery.

        Args:
            delivery: Which.
            recipient: Whom an unsubscribe link is to name; None: there is none.
            secret: Of that recipient.
            notice: Say that the figures are late, instead of figures.

        Raises:
            TasksBehind: The task lists do not follow, and this edition awaits them.
            WorkshopFailed: It was not written; try again.
            InvalidInput: It cannot be written.
        """
        subject = Subject(delivery.location_id, delivery.period, delivery.days)
        unsubscribe = ""
        if recipient is not None:
            unsubscribe = link_of(self._press.origin, self._tenant, recipient, secret)
        content = await self._content(subject)
        envelope = Envelope(
            sender=self._sender,
            sender_name=self._look.settings.sender_name or self._look.name,
            recipient=delivery.address,
            recipient_name=delivery.name,
            message_id=f"{delivery.message_id}@{self._sender.rpartition('@')[2] or _MAIL_ROOM}",
            dated=delivery.dated,
            unsubscribe=unsubscribe,
        )
        reader = Reader(
            delivery.address, delivery.name, delivery.language, delivery.format, delivery.workbook
        )
        links = Links(self._dashboard(subject), unsubscribe)

        order = Order(
            content, self._look.settings, reader, links, envelope, notice, delivery.is_test
        )
        rendered, message = await self._press.writer.write(order)
        return Written(rendered, message, content)

    async def _content(self, subject: Subject) -> ReportContent:
        async with self._one_at_a_time:
            known = self._contents.get(subject)
            if known is None:
                known = await self._read(subject)
                self._contents[subject] = known
                while len(self._contents) > REMEMBERED:
                    self._contents.popitem(last=False)
            return known

    async def _read(self, subject: Subject) -> ReportContent:
        reader = self._press.reader
        for _ in range(FOLLOW_TRIES):
            content = await reader.read(self._tenant, subject)
            if content.tasks_followed or not self._awaits_tasks:
                return content
            # Something was loaded while mails are being sent.
            if not await follow_once(reader.database, self._tenant):
                await trio.sleep(FOLLOW_PAUSE)  # somebody else is at it
        raise TasksBehind("The task lists do not follow the data; they are waited for.")

    def _dashboard(self, subject: Subject) -> str:
        asked = {
            "start_date": subject.days.start.isoformat(),
            "end_date": subject.days.end.isoformat(),
        }
        if subject.location_id is not None:
            asked["location"] = subject.location_id
        return f"{self._press.origin}/?{urlencode(asked)}"


async def secret_of(database: Database, tenant: TenantId, delivery: Delivery) -> bytes | None:
    """The secret of a delivery's recipient; None: a test, or the recipient is gone."""
    if delivery.is_test:
        return None
    secret: bytes | None = await database.fetch_value(
        QUERIES["unsubscribe_secret"],
        tenant,
        UUID(delivery.recipient),
        tenant=tenant,
        read_only=True,
    )
    return secret
