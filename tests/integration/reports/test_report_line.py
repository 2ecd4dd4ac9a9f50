"""The line to a mail server: encryption is demanded and verified, silence has an end."""

import ipaddress
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.reports.certificates import Certificate, issue
from tests.support.reports.server import MailServer
from troupe.actors.analytics.reports import smtp
from troupe.actors.analytics.reports.outcomes import Reply, Step
from troupe.actors.analytics.reports.smtp import MailLine, Withdrawn
from troupe.common.connections import SmtpConfig
from troupe.common.outbound import OutboundGuard

MESSAGE = b"Subject: x\r\n\r\nhello\r\n.\r\nmore\r\n"
LOOPBACK = OutboundGuard([ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")])
Start = Callable[..., MailServer]


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[MailServer] = []

    def begin(**options: Any) -> MailServer:
        servers.append(MailServer(**options).start())
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return issue(tmp_path, "localhost")


def line_to(
    server: MailServer,
    *,
    secret: bytes | None = None,
    context: ssl.SSLContext | None = None,
    guard: OutboundGuard = LOOPBACK,
    **config: Any,
) -> MailLine:
    values = {
        "host": "127.0.0.1", "port": server.port, "security": "none",
        "sender": "reports@shop.example",
    } | config  # fmt: skip
    return MailLine(SmtpConfig(**values), secret, guard, context=context)


async def offer(line: MailLine, address: str = "ada@branch.example") -> Reply:
    async def yes() -> bool:
        return True

    try:
        return await line.offer(address, MESSAGE, yes)
    finally:
        await line.close()


async def test_a_line_of_a_single_dot_does_not_end_the_mail(bridge: None, start: Start) -> None:
    server = start()
    assert (await offer(line_to(server))).code == 250
    assert server.rules.taken[0].content == MESSAGE


BOTH = pytest.mark.parametrize("security", ["starttls", "tls"])


@BOTH
async def test_encryption_is_verified_against_the_tenants_name(
    bridge: None, start: Start, certificate: Certificate, security: str
) -> None:
    server = start(context=certificate.server(), implicit=security == "tls", password="right")
    told = {"host": "localhost", "security": security, "username": "shop"}
    good = line_to(server, secret=b"right", context=certificate.client(), **told)
    assert (await offer(good)).code == 250
    assert server.rules.logins == 1
    stranger = line_to(server, secret=b"right", **told)
    assert_refused(await offer(stranger), "unable to get local issuer certificate")
    assert len(server.rules.taken) == 1
    assert server.rules.logins == 1  # the password was not shown


@BOTH
async def test_a_certificate_for_another_name_is_refused(
    bridge: None, start: Start, tmp_path: Path, security: str
) -> None:
    other = issue(tmp_path, "mail.other.example")
    server = start(context=other.server(), implicit=security == "tls")
    reply = await offer(
        line_to(server, context=other.client(), host="localhost", security=security)
    )
    assert_refused(reply, "not valid for 'localhost'")
    assert server.rules.seen.total() == 0


@BOTH
async def test_an_expired_certificate_is_refused(
    bridge: None, start: Start, tmp_path: Path, security: str
) -> None:
    old = issue(tmp_path, "localhost", expired=True)
    server = start(context=old.server(), implicit=security == "tls")
    reply = await offer(line_to(server, context=old.client(), host="localhost", security=security))
    assert_refused(reply, "expired")
    assert server.rules.seen.total() == 0


def assert_refused(reply: Reply, why: str) -> None:
    assert (reply.step, reply.code) == (Step.CONNECT, None)
    assert "certificate does not hold" in reply.text
    assert why in reply.text


async def test_tls_is_not_spoken_with_a_server_that_has_none(bridge: None, start: Start) -> None:
    server = start()
    told = {"host": "localhost", "security": "tls", "username": "shop", "secret": b"right"}
    reply = await offer(line_to(server, **told))
    assert (reply.step, reply.code) == (Step.CONNECT, None)
    assert "does not speak TLS" in reply.text


async def test_a_server_that_speaks_tls_from_the_start_is_not_asked_for_starttls(
    bridge: None, start: Start, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either waits for the other to begin."""
    monkeypatch.setattr(smtp, "CONNECT_DEADLINE", 1.0)
    server = start(context=certificate.server(), implicit=True)
    reply = await offer(
        line_to(server, context=certificate.client(), host="localhost", security="starttls")
    )
    assert (reply.step, reply.code) == (Step.CONNECT, None)
    assert server.rules.taken == []


async def test_a_server_without_starttls_is_not_spoken_to(bridge: None, start: Start) -> None:
    server = start()
    reply = await offer(line_to(server, security="starttls", username="shop", secret=b"right"))
    assert reply.step is Step.CONNECT
    assert server.rules.taken == []


async def test_a_wrong_password_is_the_line_s_fault(
    bridge: None, start: Start, certificate: Certificate
) -> None:
    server = start(context=certificate.server(), password="right")
    reply = await offer(
        line_to(
            server, secret=b"wrong", context=certificate.client(), host="localhost",
            security="starttls", username="shop",
        )
    )  # fmt: skip
    assert (reply.step, reply.code) == (Step.CONNECT, None)
    assert "535" in reply.text
    assert "wrong" not in reply.text


async def test_no_encryption_needs_the_operator_s_word(bridge: None, start: Start) -> None:
    server = start()
    reply = await offer(line_to(server, guard=OutboundGuard()))
    assert reply.step is Step.CONNECT
    assert "private" in reply.text
    assert server.rules.connections == 0


async def test_a_withdrawn_mail_is_not_sent(bridge: None, start: Start) -> None:
    server = start()
    line = line_to(server)

    async def no() -> bool:
        return False

    with pytest.raises(Withdrawn):
        await line.offer("ada@branch.example", MESSAGE, no)
    assert (await offer(line)).code == 250
    assert len(server.rules.taken) == 1
    assert server.rules.connections == 1


async def test_a_session_that_the_server_ends_is_no_reason_to_give_up(
    bridge: None, start: Start
) -> None:
    server = start()
    server.rules.mails_per_session = 2
    line = line_to(server)

    async def yes() -> bool:
        return True

    for number in range(5):
        reply = await line.offer(f"p{number}@branch.example", MESSAGE, yes)
        assert reply.code == 250
    await line.close()
    assert len(server.rules.taken) == 5
    assert server.rules.connections == 3


async def test_a_silent_server_is_given_up(bridge: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "CONNECT_DEADLINE", 0.3)
    async with trio.open_nursery() as nursery:

        async def silent(stream: trio.SocketStream) -> None:
            await trio.sleep_forever()

        serve = partial(trio.serve_tcp, silent, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        config = SmtpConfig(
            host="127.0.0.1",
            port=listeners[0].socket.getsockname()[1],
            security="none",
            sender="reports@shop.example",
        )
        with trio.fail_after(5):
            reply = await offer(MailLine(config, None, LOOPBACK))
        assert (reply.step, reply.code) == (Step.CONNECT, None)
        nursery.cancel_scope.cancel()
