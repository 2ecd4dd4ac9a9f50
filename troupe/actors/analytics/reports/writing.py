"""Mails of one run, written one after another: what readers share is made once.

A run's deliveries come sorted by branch and language, so remembering the last few is enough; memory
stays the same however many there are.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import trio

from troupe.actors.analytics.reports.content import ReportContent, ReportReader, Subject
from troupe.actors.analytics.reports.mail import Envelope, compose
from troupe.actors.analytics.reports.records import Delivery, TenantLook
from troupe.actors.analytics.reports.rendering import Links, Reader, Rendered, Renderer, Shared
from troupe.actors.analytics.reports.store import QUERIES, ReportStore
from troupe.actors.analytics.reports.unsubscribe import link_of
from troupe.common.ids import TenantId
from troupe.platform.threads import Threads

T = TypeVar("T")

REMEMBERED: Final = 6
_MAIL_ROOM: Final = "report.invalid"


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
        threads: Where rendering runs.
        origin: Of the dashboard, ``https://dashboard.example``.
    """

    def __init__(self, reader: ReportReader, threads: Threads, origin: str) -> None:
        self._reader = reader
        self._threads = threads
        self._origin = origin.rstrip("/")
        self._renderer = Renderer()

    def edition(self, tenant: TenantId, look: TenantLook, sender: str) -> "Edition":
        """What writes the mails of one run, or one preview."""
        return Edition(
            self._reader, self._renderer, self._threads, self._origin, tenant, look, sender
        )


class Edition:
    """Mails of one tenant that are written together; see `Press.edition`."""

    def __init__(
        self,
        reader: ReportReader,
        renderer: Renderer,
        threads: Threads,
        origin: str,
        tenant: TenantId,
        look: TenantLook,
        sender: str,
    ) -> None:
        self._reader = reader
        self._renderer = renderer
        self._threads = threads
        self._origin = origin
        self._tenant = tenant
        self._look = look
        self._sender = sender
        self._contents: OrderedDict[Hashable, ReportContent] = OrderedDict()
        self._shared: OrderedDict[Hashable, Shared] = OrderedDict()
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
        """
        subject = Subject(delivery.location_id, delivery.period, delivery.days)
        unsubscribe = ""
        if recipient is not None:
            unsubscribe = link_of(self._origin, self._tenant, recipient, secret)
        async with self._one_at_a_time:
            content = await self._content(subject)
            shared = None if notice else await self._share(content, delivery.language)
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

        def work() -> tuple[Rendered, bytes]:
            rendered = self._renderer.render(
                content, self._look.settings, reader, links, shared, test=delivery.is_test
            )
            return rendered, compose(rendered, envelope)

        rendered, message = await self._threads.run(work)
        return Written(rendered, message, content)

    async def _content(self, subject: Subject) -> ReportContent:
        known = self._contents.get(subject)
        if known is None:
            known = await self._reader.read(self._tenant, subject)
            _remember(self._contents, subject, known)
        return known

    async def _share(self, content: ReportContent, language: str) -> Shared:
        key = content.subject, language
        known = self._shared.get(key)
        if known is None:
            settings = self._look.settings
            known = await self._threads.run(self._renderer.share, content, settings, language)
            _remember(self._shared, key, known)
        return known

    def _dashboard(self, subject: Subject) -> str:
        asked = {
            "start_date": subject.days.start.isoformat(),
            "end_date": subject.days.end.isoformat(),
        }
        if subject.location_id is not None:
            asked["location"] = subject.location_id
        return f"{self._origin}/?{urlencode(asked)}"


def _remember(known: OrderedDict[Hashable, T], key: Hashable, value: T) -> None:
    known[key] = value
    while len(known) > REMEMBERED:
        known.popitem(last=False)


async def secret_of(store: ReportStore, tenant: TenantId, delivery: Delivery) -> bytes | None:
    """The secret of a delivery's recipient; None: a test, or the recipient is gone."""
    if delivery.is_test:
        return None
    secret: bytes | None = await store.database.fetch_value(
        QUERIES["unsubscribe_secret"],
        tenant,
        UUID(delivery.recipient),
        tenant=tenant,
        read_only=True,
    )
    return secret
