"""The mail companion: SMTP by aiosmtplib, the mailbox by HTTP."""

import asyncio
import json
from email.message import EmailMessage

import aiosmtplib
import httpx2
import pytest

MODULE = "troupe_demo.mail"


def letter(subject="Weekly report") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "reports@troupe.example"
    message["To"] = "lead@nordwerk.example"
    message["Subject"] = subject
    message.set_content("Sessions: 1,234")
    message.add_alternative("<h1>Sessions: 1,234</h1>", subtype="html")
    message.add_attachment(b"PK", "application", "zip", filename="/etc/cron.d/evil.zip")
    return message


def send(server, message, **options):
    host, port = server.ready["smtp"].split(":")
    return asyncio.run(
        aiosmtplib.send(message, hostname=host, port=int(port), timeout=10, **options)
    )


def get(server, path):
    return httpx2.get(server.ready["url"] + path, timeout=10)


@pytest.fixture
def server(start, tmp_path):
    return start(MODULE, tmp_path / "mail")


def test_what_is_sent_can_be_read(server, tmp_path) -> None:
    send(server, letter(), recipients=["lead@nordwerk.example", "hidden@nordwerk.example"])
    listing = get(server, "/api/messages").json()
    assert listing["total"] == 1
    entry = listing["data"][0]
    assert entry["to"] == ["lead@nordwerk.example", "hidden@nordwerk.example"]
    message = get(server, f"/api/messages/{entry['id']}").json()
    assert message["text"] == "Sessions: 1,234\n"
    assert "<h1>" in message["html"]
    assert "Weekly report" in get(server, "/").text
    assert "Weekly report" in get(server, f"/messages/{entry['id']}").text
    assert get(server, "/static/mailbox.css").status_code == 200
    # The attachment's name became no path.
    assert [path.name for path in (tmp_path / "mail").rglob("*")] == ["000000001.eml"]


def test_every_answer_carries_a_strict_policy(server) -> None:
    send(server, letter())
    for path in ("/", "/messages/1", "/messages/1/html", "/messages/1/raw", "/api/messages", "/no"):
        headers = get(server, path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "script-src" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_mail_is_there_after_a_restart(start, tmp_path) -> None:
    first = start(MODULE, tmp_path / "mail")
    send(first, letter("Kept"))
    first.ended_after(by=lambda companion: companion.terminate())
    second = start(MODULE, tmp_path / "mail")
    assert get(second, "/api/messages").json()["data"][0]["subject"] == "Kept"


def test_a_message_that_is_too_large_is_refused(server) -> None:
    message = EmailMessage()
    message["From"] = "a@x.example"
    message["To"] = "b@x.example"
    message.set_content("x" * 70 + "\n")
    message.add_attachment(b"\0" * (20 * 1024 * 1024), "application", "octet-stream", filename="x")
    with pytest.raises(aiosmtplib.SMTPResponseException) as refused:
        send(server, message)
    assert refused.value.code == 552
    assert get(server, "/api/messages").json()["total"] == 0


def test_recipients_are_limited(server) -> None:
    recipients = [f"r{number}@x.example" for number in range(120)]
    refused, _ = send(server, letter(), recipients=recipients)
    assert len(refused) == 20
    assert len(get(server, "/api/messages").json()["data"][0]["to"]) == 100


def test_connections_are_limited(server) -> None:
    host, port = server.ready["smtp"].split(":")

    async def use() -> None:
        writers = []
        greetings = []
        for _ in range(33):
            reader, writer = await asyncio.open_connection(host, int(port))
            writers.append(writer)
            greetings.append(await asyncio.wait_for(reader.readline(), 10))
        assert all(greeting.startswith(b"220 ") for greeting in greetings[:32])
        assert greetings[32].startswith(b"421 ")
        for writer in writers:
            writer.close()
            await writer.wait_closed()

    asyncio.run(use())
    send(server, letter())


def test_an_account_is_needed_when_there_is_one(start, tmp_path) -> None:
    account = tmp_path / "account.json"
    account.write_text(json.dumps({"user": "troupe", "password": "geheim"}))
    server = start(MODULE, tmp_path / "mail", "--account", account)
    with pytest.raises(aiosmtplib.SMTPSenderRefused):
        send(server, letter())
    with pytest.raises(aiosmtplib.SMTPAuthenticationError):
        send(server, letter(), username="troupe", password="falsch")
    send(server, letter(), username="troupe", password="geheim")
    assert get(server, "/api/messages").json()["total"] == 1


@pytest.mark.parametrize("how", ["terminate", "close_input"])
def test_ends_in_time_with_clients_connected(server, how) -> None:
    host, port = server.ready["smtp"].split(":")

    async def use() -> None:
        async with httpx2.AsyncClient() as browser, aiosmtplib.SMTP(hostname=host, port=int(port)):
            await browser.get(server.ready["url"])
            seconds = await asyncio.to_thread(
                server.ended_after, by=lambda companion: getattr(companion, how)()
            )
            assert seconds < 2.0

    asyncio.run(use())
    assert server.process.returncode == 0


def test_listens_on_loopback_only(server) -> None:
    assert server.ready["smtp"].startswith("127.0.0.1:")
    assert server.ready["url"].startswith("http://127.0.0.1:")
