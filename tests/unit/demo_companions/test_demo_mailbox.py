"""The mailbox and its pages, without a network."""

import asyncio
import json
from email.message import EmailMessage

import pytest

from troupe_demo.mail.mailbox import Mailbox, parse
from troupe_demo.mail.web import create_app

PNG = b"\x89PNG\r\n\x1a\n-not-really"


def report() -> bytes:
    message = EmailMessage()
    message["From"] = "Troupe <reports@troupe.example>"
    message["To"] = "jörg@nordwerk.example"
    message["Subject"] = "Niederlassung Köln: Woche 45"
    message.set_content("Umsatz: 1.234,50 €")
    message.add_alternative('<p>Umsatz <img src="cid:chart"></p>', subtype="html")
    html = message.get_payload()[1]
    html.add_related(PNG, "image", "png", cid="<chart>")
    message.add_attachment(b"xlsx", "application", "octet-stream", filename="../../etc/woche.xlsx")
    return message.as_bytes()


@pytest.fixture
def mailbox(tmp_path) -> Mailbox:
    return Mailbox(tmp_path / "mail")


def test_keeps_text_html_attachments_and_envelope(mailbox) -> None:
    number = mailbox.deliver("bounce@troupe.example", ["a@x.example", "b@x.example"], report())
    message = mailbox.message(number)
    assert message is not None
    assert message.subject == "Niederlassung Köln: Woche 45"
    assert message.sender == "bounce@troupe.example"
    assert message.recipients == ("a@x.example", "b@x.example")
    assert message.text == "Umsatz: 1.234,50 €\n"
    assert "<p>Umsatz" in (message.html or "")
    assert [part.content_type for part in message.attachments] == [
        "image/png",
        "application/octet-stream",
    ]


def test_survives_a_restart_and_goes_on_counting(tmp_path) -> None:
    first = Mailbox(tmp_path)
    first.deliver("a@x.example", ["b@x.example"], report())
    again = Mailbox(tmp_path)
    assert [entry.subject for entry in again.entries(9)] == ["Niederlassung Köln: Woche 45"]
    assert again.deliver("a@x.example", ["b@x.example"], report()) == 2


def test_forgets_the_oldest_when_there_are_too_many(tmp_path) -> None:
    mailbox = Mailbox(tmp_path, most_messages=3)
    for _ in range(5):
        mailbox.deliver("a@x.example", ["b@x.example"], b"Subject: x\r\n\r\nx")
    assert [entry.number for entry in mailbox.entries(9)] == [5, 4, 3]
    assert len(list(tmp_path.iterdir())) == 3
    assert mailbox.message(1) is None


def test_forgets_the_oldest_when_they_are_too_large(tmp_path) -> None:
    mailbox = Mailbox(tmp_path, most_bytes=5_000)
    for _ in range(4):
        mailbox.deliver("a@x.example", ["b@x.example"], b"Subject: x\r\n\r\n" + b"x" * 2_000)
    assert len(mailbox) == 2


def test_names_of_senders_never_become_paths(mailbox, tmp_path) -> None:
    mailbox.deliver("../../evil\r\nX-Injected: 1", ["/etc/passwd"], report())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["000000001.eml"]
    message = mailbox.message(1)
    assert message is not None
    assert message.sender == "../../evil  X-Injected: 1"
    assert message.recipients == ("/etc/passwd",)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no header at all",
        b"Subject: =?utf-8?b?////?=\r\nTo: @@@<<>>,,\r\nDate: yesterday\r\n\r\nx",
        b"From: =?nonsense?q?x?= <a\r\nContent-Type: text/plain; charset=klingon\r\n\r\n\xff\xfe",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<",
        b"Content-Disposition: attachment; filename*=utf-8''%ff\r\nContent-ID: <\r\n\r\nx",
        b"Subject: a\r\n b\x00c\r\n\r\nx",
    ],
)
def test_reads_whatever_is_sent(raw) -> None:
    message = parse(1, raw)
    assert message.size == len(raw)
    assert "\n" not in message.subject


def answer(mailbox, path, **headers):
    """GET `path` of the mailbox's pages; returns status, headers, body."""

    async def ask():
        client = create_app(mailbox).test_client()
        response = await client.get(path, headers={"Host": "127.0.0.1:8025", **headers})
        return response.status_code, response.headers, await response.get_data()

    return asyncio.run(ask())


def test_pages_escape_what_senders_write(mailbox) -> None:
    content = b"Subject: <script>alert(1)</script>\r\nFrom: <b>@x\r\n\r\n<img src=x onerror=1>"
    mailbox.deliver('"<i>"@x.example', ["<u>@x.example"], content)
    for path in ("/", "/messages/1"):
        status, headers, body = answer(mailbox, path)
        assert status == 200
        assert b"&lt;script&gt;" in body
        for tag in (b"<script", b"<b>", b"<i>", b"<u>", b"<img"):
            assert tag not in body
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_html_is_served_into_a_sandbox_with_its_own_images(mailbox) -> None:
    mailbox.deliver("a@x.example", ["b@x.example"], report())
    _, _, page = answer(mailbox, "/messages/1")
    assert b'<iframe sandbox=""' in page
    status, headers, body = answer(mailbox, "/messages/1/html")
    assert status == 200
    assert b'src="data:image/png;base64,iVBORw0' in body
    policy = headers["Content-Security-Policy"]
    assert "sandbox" in policy
    assert "img-src data:" in policy
    assert "script" not in policy
    assert "http" not in policy


def test_attachments_are_only_downloaded_under_a_harmless_name(mailbox) -> None:
    mailbox.deliver("a@x.example", ["b@x.example"], report())
    message = mailbox.message(1)
    assert message is not None
    part = message.attachments[1].number
    status, headers, body = answer(mailbox, f"/messages/1/parts/{part}")
    assert (status, body) == (200, b"xlsx")
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''woche.xlsx"


def test_the_list_as_json(mailbox) -> None:
    for _ in range(3):
        mailbox.deliver("a@x.example", ["b@x.example"], report())
    _, _, body = answer(mailbox, "/api/messages?limit=2")
    record = json.loads(body)
    assert record["total"] == 3
    assert [entry["id"] for entry in record["data"]] == [3, 2]
    assert record["data"][0]["subject"] == "Niederlassung Köln: Woche 45"
    assert record["data"][0]["attachments"] == 2


def test_one_message_as_json(mailbox) -> None:
    content = report()
    mailbox.deliver("a@x.example", ["b@x.example"], content)
    _, _, body = answer(mailbox, "/api/messages/1")
    record = json.loads(body)
    assert record["text"] == "Umsatz: 1.234,50 €\n"
    assert record["headers"]["To"] == "jörg@nordwerk.example"
    assert [part["content_type"] for part in record["attachments"]][1] == (
        "application/octet-stream"
    )
    _, _, raw = answer(mailbox, "/api/messages/1/raw")
    assert raw.endswith(content)


@pytest.mark.parametrize("limit", ["0", "501", "-1"])
def test_a_limit_out_of_range_is_a_problem(mailbox, limit) -> None:
    status, headers, body = answer(mailbox, f"/api/messages?limit={limit}")
    assert status == 422
    assert headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["status"] == 422


def test_what_is_not_there_is_said_plainly(mailbox) -> None:
    assert answer(mailbox, "/messages/7")[0] == 404
    status, headers, _ = answer(mailbox, "/api/messages/7")
    assert (status, headers["Content-Type"]) == (404, "application/problem+json")


def test_answers_under_its_own_address_only(mailbox) -> None:
    assert answer(mailbox, "/", Host="rebound.example:8025")[0] == 403
    assert answer(mailbox, "/api/messages", Host="rebound.example")[0] == 403
    assert answer(mailbox, "/", Host="localhost:8025")[0] == 200


def test_an_empty_mailbox_says_so(mailbox) -> None:
    assert b"No mail yet" in answer(mailbox, "/")[2]
