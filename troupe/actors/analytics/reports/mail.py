"""A rendered report as the bytes that leave: MIME, always the same for the same mail.

Everything that the standard library would choose by chance or by the clock is given: boundaries
follow from the Message-ID, the date is the occasion's, not the moment's. So a preview of a delivery
is its mail to the byte, and a mail that is offered again is the same mail.

A header field is one line. `EmailMessage` refuses line breaks, but takes ``a, b`` for two
recipients; so an address is looked at here before it becomes one. It also writes a token that is
too long for a line as encoded words, which nobody decodes in a Message-ID or in a link: those two
fields are written by hand.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from troupe.actors.analytics.reports.rendering import CHART_ID, LOGO_ID, Rendered
from troupe.actors.analytics.reports.workbook import MEDIA_TYPE
from troupe.common.errors import InvalidInput

_ADDRESS: Final = re.compile(
    r"(?P<local>[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64})"
    r"@(?P<domain>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)"
)
LONGEST_ADDRESS: Final = 254
_PLAIN: Final = re.compile(r"[A-Za-z-]+: [!-~]{1,900}")
_POLICY: Final = SMTP.clone(cte_type="7bit", max_line_length=76)
"""Quoted-printable takes the policy's length for its own, which is 76 (RFC 2045)."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a mail says beside its report.

    Attributes:
        sender: Address that it comes from.
        sender_name: Shown beside it.
        recipient: Address that it goes to.
        recipient_name: Shown beside it; may be empty.
        message_id: Without angle brackets.
        dated: The mail's date.
        unsubscribe: Link of RFC 8058; empty: none.
    """

    sender: str
    sender_name: str
    recipient: str
    recipient_name: str
    message_id: str
    dated: datetime
    unsubscribe: str


def check_address(text: str, pointer: str = "/address") -> str:
    """An address as it can be given to a mail server: one, plain, ASCII.

    Raises:
        InvalidInput: It is something else.

    >>> check_address("Ada@Example.com")
    'Ada@example.com'
    """
    match = _ADDRESS.fullmatch(text)
    local = match["local"] if match is not None else "."
    if (
        match is None
        or len(text) > LONGEST_ADDRESS
        or local.startswith(".")
        or local.endswith(".")
        or ".." in local
    ):
        raise InvalidInput(
            "The address cannot be used.", [(pointer, "must be one plain e-mail address")]
        )
    return f"{local}@{match['domain'].lower()}"


def compose(report: Rendered, envelope: Envelope) -> bytes:
    """The mail, as it stands between DATA and the final dot.

    Raises:
        InvalidInput: An address cannot be used.
    """
    message = EmailMessage(policy=_POLICY)
    message["Subject"] = report.subject
    message["From"] = _address(envelope.sender, envelope.sender_name)
    message["To"] = _address(envelope.recipient, envelope.recipient_name)
    message["Date"] = format_datetime(envelope.dated)
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(report.text, cte="quoted-printable")
    if report.html is not None:
        message.add_alternative(report.html, subtype="html", cte="quoted-printable")
        html = message.get_payload(1)
        assert isinstance(html, MIMEPart)  # noqa: S101  # just added
        if report.chart is not None:
            html.add_related(
                report.chart, "image", "png", cid=f"<{CHART_ID}>", filename="chart.png",
                disposition="inline",
            )  # fmt: skip
        if report.logo is not None:
            picture, subtype = report.logo
            html.add_related(
                picture, "image", subtype, cid=f"<{LOGO_ID}>", filename=f"logo.{subtype}",
                disposition="inline",
            )  # fmt: skip
    if report.workbook is not None:
        message.add_attachment(
            report.workbook,
            maintype=MEDIA_TYPE[0],
            subtype=MEDIA_TYPE[1],
            filename=report.workbook_name,
        )
    seed = hashlib.blake2b(envelope.message_id.encode(), digest_size=12).hexdigest()
    for number, part in enumerate(message.walk()):
        if part.is_multipart():
            part.set_boundary(f"=_{seed}_{number}")
    return _by_hand(envelope) + message.as_bytes()


def _by_hand(envelope: Envelope) -> bytes:
    """Fields whose values must not be folded or encoded."""
    lines = [f"Message-ID: <{envelope.message_id}>"]
    if envelope.unsubscribe:
        lines.append(f"List-Unsubscribe: <{envelope.unsubscribe}>")
        lines.append("List-Unsubscribe-Post: List-Unsubscribe=One-Click")
    if not all(_PLAIN.fullmatch(line) for line in lines):
        raise InvalidInput("A link or an identifier has signs that a mail cannot carry.")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def digest(message: bytes) -> bytes:
    """What tells whether two mails are the same."""
    return hashlib.blake2b(message, digest_size=16).digest()


def _address(address: str, name: str) -> Address:
    local, _, domain = check_address(address).rpartition("@")
    shown = "".join(sign if sign.isprintable() else " " for sign in name)
    return Address(display_name=shown.strip(), username=local, domain=domain)
