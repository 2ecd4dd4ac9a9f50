"""Looking at a report before it is sent; the HTTP port and the terminal both ask here.

A preview is written by the same `Edition` as the mail. So its text, HTML, picture and workbook are
those of the mail, to the byte, as long as the data version is the same; and the preview of a
delivery (`of_delivery`) is the whole mail, to the byte.
"""

import base64
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Final
from uuid import UUID

from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.periods import ReportPeriod, period_before, period_of
from troupe.actors.analytics.reports.records import Delivery, Recipient, TenantLook
from troupe.actors.analytics.reports.rendering import CHART_ID, LOGO_ID, Rendered
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.reports.writing import Press, Written, secret_of
from troupe.common.connections import NotConnected, SmtpConfig, read_connection
from troupe.common.dates import DateRange
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId

NOBODY: Final = "reader@report.invalid"
NO_SENDER: Final = "reports@report.invalid"


class Part(StrEnum):
    """What of a mail is shown."""

    HTML = "html"
    PAGE = "page"
    """The HTML with its pictures inside, for browsers; mail programs have them beside it."""
    TEXT = "text"
    MAIL = "mail"
    CHART = "chart"
    WORKBOOK = "workbook"


CONTENT_TYPES: Final = {
    Part.HTML: "text/html; charset=utf-8",
    Part.PAGE: "text/html; charset=utf-8",
    Part.TEXT: "text/plain; charset=utf-8",
    Part.MAIL: "message/rfc822",
    Part.CHART: "image/png",
    Part.WORKBOOK: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A report to look at.

    Attributes:
        period: What it sums up.
        day: A day after the period (its last day is the last one before it); None: today in the
            reporting zone.
        location: The branch; None: the whole company.
        recipient: As they would get it, with their branch; None: as nobody in particular.
        language: Of nobody in particular.
        notice: Show the notice that figures are late.
    """

    period: ReportPeriod
    day: date | None = None
    location: str | None = None
    recipient: UUID | None = None
    language: str = "en"
    notice: bool = False


async def preview(
    store: ReportStore, press: Press, tenant: TenantId, sample: Sample, *, now: datetime
) -> Written:
    """Write a report that nobody is sent.

    Raises:
        NotFound: There is no such tenant or recipient.
        DatabaseError: The database failed.
    """
    look = await store.look(tenant)
    reader = Recipient(location_id=sample.location, address=NOBODY, language=sample.language)
    if sample.recipient is not None:
        reader = await store.recipients.one(tenant, sample.recipient)
    days = _days(look, sample, now)
    delivery = _as_delivery(sample, reader, days)
    secret = None if sample.recipient is None else await secret_of(store.database, tenant, delivery)
    edition = press.edition(tenant, look, await _sender(store, tenant))
    return await edition.write(delivery, sample.recipient, secret or b"", notice=sample.notice)


async def of_delivery(
    store: ReportStore, press: Press, tenant: TenantId, delivery_id: UUID
) -> Written:
    """Write the mail of a delivery again: the same bytes, as long as the data is the same.

    Raises:
        NotFound: There is no such delivery.
        DatabaseError: The database failed.
    """
    delivery = await store.deliveries.one(tenant, delivery_id)
    run = await store.runs.one(tenant, delivery.run_id)
    secret = await secret_of(store.database, tenant, delivery)
    edition = press.edition(tenant, await store.look(tenant), await _sender(store, tenant))
    return await edition.write(
        delivery,
        None if secret is None else UUID(delivery.recipient),
        secret or b"",
        notice=run.notice if delivery.state is State.QUEUED else delivery.notice,
    )


def part_of(written: Written, part: Part) -> bytes:
    """One part of a mail.

    Raises:
        NotFound: The mail has no such part.
    """
    rendered = written.rendered
    found: bytes | None
    match part:
        case Part.HTML:
            found = None if rendered.html is None else rendered.html.encode()
        case Part.PAGE:
            found = None if rendered.html is None else _with_pictures(rendered, rendered.html)
        case Part.TEXT:
            found = rendered.text.encode()
        case Part.MAIL:
            found = written.message
        case Part.CHART:
            found = rendered.chart
        case Part.WORKBOOK:
            found = rendered.workbook
    if found is None:
        raise NotFound("The mail has no such part.")
    return found


def _with_pictures(rendered: Rendered, html: str) -> bytes:
    """The HTML of a mail, with what it refers to in place of the references."""
    pictures = {CHART_ID: (rendered.chart, "png"), LOGO_ID: rendered.logo or (None, "")}
    for name, (picture, subtype) in pictures.items():
        if picture is not None:
            encoded = base64.b64encode(picture).decode()
            html = html.replace(f"cid:{name}", f"data:image/{subtype};base64,{encoded}")
    return html.encode()


def _days(look: TenantLook, sample: Sample, now: datetime) -> DateRange:
    if sample.day is None:
        return period_of(now, look.time_zone, sample.period, look.week_start)
    return period_before(sample.day, sample.period, look.week_start)


async def _sender(store: ReportStore, tenant: TenantId) -> str:
    try:
        config = (await read_connection(store.database, tenant, "smtp")).config
    except NotConnected:
        return NO_SENDER
    return config.sender if isinstance(config, SmtpConfig) else NO_SENDER


def _as_delivery(sample: Sample, reader: Recipient, days: DateRange) -> Delivery:
    """A delivery that is not stored, dated by its period: the same preview gives the same bytes."""
    dated = datetime.combine(days.end, time(23, 59), UTC)
    return Delivery(
        id=UUID(int=0),
        run_id=UUID(int=0),
        series="preview",
        location_id=reader.location_id,
        period=sample.period,
        first_day=days.start,
        last_day=days.end,
        recipient="preview" if reader.id is None else str(reader.id),
        address=reader.address,
        name=reader.name,
        language=reader.language,
        time_zone=reader.time_zone,
        format=reader.format,
        workbook=reader.workbook,
        message_id="report.preview",
        dated=dated,
        state=State.QUEUED,
        attempts=0,
        due_at=dated,
        notice=sample.notice,
        data_version=None,
        content_hash=None,
        server_answer=None,
        settled_at=None,
    )
