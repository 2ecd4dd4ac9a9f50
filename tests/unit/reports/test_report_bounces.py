"""Reports of non-delivery: what they say of our mails, and what forged ones cannot."""

from email.message import EmailMessage

import pytest

from troupe.actors.analytics.reports.bounces import read_bounce

OURS = "report.0123456789abcdef0123456789abcdef"
REPORT = f"""\
From: MAILER-DAEMON@mail.example
To: reports@shop.example
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

I'm sorry.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example

Final-Recipient: rfc822; ada@branch.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <ada@branch.example>: unknown

--b
Content-Type: message/rfc822

Message-ID: <{OURS}@shop.example>
Subject: Daily report

Text
--b--
""".replace("\n", "\r\n")


def test_a_report_of_postfix_is_understood() -> None:
    bounce = read_bounce(REPORT.encode())
    assert bounce is not None
    assert (bounce.message_id, bounce.status) == (OURS, "5.1.1")
    assert bounce.answer == "550 5.1.1 <ada@branch.example>: unknown"
    assert bounce.is_hard


def test_headers_alone_are_enough() -> None:
    report = REPORT.replace("message/rfc822", "text/rfc822-headers")
    bounce = read_bounce(report.encode())
    assert bounce is not None
    assert bounce.message_id == OURS


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Action: failed", "Action: delayed"),
        ("Status: 5.1.1", "Status: 4.2.2"),
        (OURS, "somebody.else"),
        ("multipart/report", "multipart/mixed"),
    ],
)
def test_what_is_no_failure_of_ours(old: str, new: str) -> None:
    assert read_bounce(REPORT.replace(old, new).encode()) is None


def test_a_full_mailbox_is_no_bad_address() -> None:
    bounce = read_bounce(REPORT.replace("5.1.1", "5.2.2").encode())
    assert bounce is not None
    assert not bounce.is_hard


@pytest.mark.parametrize("raw", [b"", b"\x00\xff" * 100, b"Content-Type: multipart/report\r\n\r\n"])
def test_rubbish_is_no_report(raw: bytes) -> None:
    assert read_bounce(raw) is None


def test_a_report_of_very_many_parts_is_not_read() -> None:
    message = EmailMessage()
    message["Subject"] = "many"
    message.make_mixed()
    for _ in range(200):
        message.add_attachment(b"x", maintype="message", subtype="x")
    raw = message.as_bytes().replace(b"multipart/mixed", b"multipart/report")
    assert read_bounce(raw) is None
