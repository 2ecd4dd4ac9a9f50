"""The mailbox: every message that was sent, as an ``.eml`` file in one directory.

Files are named by a number of our own; nothing that a sender chose ever becomes a path. The
envelope, which a message does not contain, is written in front of it as header lines, the way a
real server adds its own. The oldest messages go when there are too many or too large.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Final

from troupe.common.units import MiB

MOST_MESSAGES: Final = 500
MOST_BYTES: Final = 512 * MiB
SUFFIX: Final = ".eml"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part of a message that is neither its text nor its HTML."""

    number: int
    """Its place among all parts, by which it is asked for."""
    file_name: str
    """What the sender calls it: to be shown, never to be opened."""
    content_type: str
    content_id: str | None
    """What the HTML calls it, if it is an image of the HTML."""
    content: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One message, taken apart."""

    number: int
    received_at: str
    sender: str
    recipients: tuple[str, ...]
    """Of the envelope: who would have got it."""
    headers: tuple[tuple[str, str], ...]
    subject: str
    text: str | None
    html: str | None
    attachments: tuple[Attachment, ...]
    size: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the mailbox."""

    number: int
    received_at: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    size: int
    attachments: int


class Mailbox:
    """All messages of one directory, the newest first."""

    def __init__(
        self, directory: Path, *, most_messages: int = MOST_MESSAGES, most_bytes: int = MOST_BYTES
    ) -> None:
        """Open the directory, which is made if missing, with the messages that are in it."""
        self._directory = directory
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._entries: dict[int, Entry] = {}
        directory.mkdir(parents=True, exist_ok=True)
        numbers = (int(path.stem) for path in directory.glob(f"*{SUFFIX}") if path.stem.isdecimal())
        for number in sorted(numbers):
            self._entries[number] = _entry(self._parse(number))
        self._next = max(self._entries, default=0) + 1
        self._forget_the_oldest()

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self, limit: int) -> list[Entry]:
        """The newest `limit` messages."""
        return [self._entries[number] for number in sorted(self._entries, reverse=True)[:limit]]

    def message(self, number: int) -> Message | None:
        """The message of that number, if it is still there."""
        return self._parse(number) if number in self._entries else None

    def deliver(self, sender: str, recipients: list[str], content: bytes) -> int:
        """Keep a message; returns its number.

        Raises:
            OSError: It cannot be written; nothing is kept then.
        """
        number = self._next
        envelope = (
            f"Return-Path: <{_line(sender)}>\r\n"
            f"X-Envelope-To: {', '.join(_line(recipient) for recipient in recipients)}\r\n"
            f"X-Received-At: {datetime.now(UTC).isoformat(timespec='seconds')}\r\n"
        )
        path = self._path(number)
        partial = path.with_suffix(".partial")
        try:
            partial.write_bytes(envelope.encode() + content)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self._next = number + 1
        self._entries[number] = _entry(self._parse(number))
        self._forget_the_oldest()
        return number

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:09d}{SUFFIX}"

    def _parse(self, number: int) -> Message:
        raw = self._path(number).read_bytes()
        return parse(number, raw)

    def _forget_the_oldest(self) -> None:
        total = sum(entry.size for entry in self._entries.values())
        for number in sorted(self._entries):
            if len(self._entries) <= self._most_messages and total <= self._most_bytes:
                break
            total -= self._entries.pop(number).size
            self._path(number).unlink(missing_ok=True)


def parse(number: int, raw: bytes) -> Message:
    """Take a stored message apart; whatever a sender broke is shown as it came."""
    # With this policy the parser makes an EmailMessage of every part.
    message = BytesParser(policy=default).parsebytes(raw)
    text: str | None = None
    html: str | None = None
    attachments: list[Attachment] = []
    for place, part in enumerate(message.walk()):
        if part.is_multipart():
            continue
        kind = part.get_content_type()
        shown = part.get_content_disposition() != "attachment" and part.get_filename() is None
        if shown and kind == "text/plain" and text is None:
            text = _text(part)
        elif shown and kind == "text/html" and html is None:
            html = _text(part)
        else:
            attachments.append(_attachment(place, part))
    return Message(
        number=number,
        received_at=header(message, "X-Received-At"),
        sender=header(message, "Return-Path").strip("<>"),
        recipients=tuple(header(message, "X-Envelope-To").split(", ")),
        headers=tuple((name, header(message, name)) for name in ("From", "To", "Cc", "Date")),
        subject=header(message, "Subject"),
        text=text,
        html=html,
        attachments=tuple(attachments),
        size=len(raw),
        raw=raw,
    )


def header(message: EmailMessage, name: str) -> str:
    """A header as text, "" if there is none; one that cannot be parsed is taken as it came."""
    try:
        value = message[name]
    except (ValueError, LookupError, AttributeError, TypeError):
        # The parser of headers fails in several ways on what spam contains.
        raw = (value for key, value in message.raw_items() if key.lower() == name.lower())
        value = next(raw, "")
    return "" if value is None else _line(str(value))


def _entry(message: Message) -> Entry:
    return Entry(
        number=message.number,
        received_at=message.received_at,
        sender=message.sender,
        recipients=message.recipients,
        subject=message.subject,
        size=message.size,
        attachments=len(message.attachments),
    )


def _attachment(place: int, part: EmailMessage) -> Attachment:
    payload = part.get_payload(decode=True)
    content_id = header(part, "Content-ID").strip("<>")
    return Attachment(
        number=place,
        file_name=_line(part.get_filename() or f"part-{place}"),
        content_type=part.get_content_type(),
        content_id=content_id or None,
        content=payload if isinstance(payload, bytes) else b"",
    )


def _text(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    try:
        text = content.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:  # a character set that does not exist
        text = content.decode("latin-1")
    # Mail travels with CR LF; what is read is text.
    return text.replace("\r\n", "\n")


def _line(text: str) -> str:
    """Text without line breaks and other control characters: it stays one header, one line."""
    return "".join(character if character.isprintable() else " " for character in text).strip()
