"""Against Debian's postfix and dovecot: STARTTLS, AUTH, IMAP, reports of non-delivery."""

import ssl
from collections.abc import Iterator
from email import message_from_bytes, policy

import pytest
import trio

from tests.integration.reports.conftest import LOOPBACK, Office, mail, office, soon
from tests.support.reports.postfix import HOST, SENDER, PostOffice, post_office
from troupe.actors.analytics.reports.bounces import Collector, bounce_kind
from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.statements import COLLECT, GROUP
from troupe.platform.jobs import NewJob, enqueue

__all__ = ["mail", "office"]  # fixtures

READERS = [f"{name}@branch.example" for name in ("ada", "bob", "cleo", "dan", "eve")]
"""Of the first test; tess reads what the others send."""


@pytest.fixture(scope="module")
def post() -> Iterator[PostOffice]:
    with post_office([*READERS, "tess@branch.example", SENDER]) as office:
        yield office


async def connect(
    office: Office, post: PostOffice, *, security: str, password: str = "", **more: object
) -> None:
    settings: dict[str, object] = {
        "host": HOST,
        "port": post.port if security == "starttls" else post.tls_port,
        "security": security,
        "sender": SENDER,
        "username": SENDER,
        "secret": (password or post.password).encode(),
    }
    await office.connect_mail(**(settings | more))


async def test_mail_arrives_once_and_comes_back_undelivered(
    office: Office, post: PostOffice
) -> None:
    await connect(office, post, security="starttls", bounce_host=HOST, bounce_port=post.imap_port)
    for address in [*READERS, "nobody@branch.example", "gone@branch.example"]:
        await office.add(address, name=address.partition("@")[0].title())
    run = await office.send()
    context = post.certificate.client()
    collector = Collector(office.database, office.vault, LOOPBACK, office.threads, context=context)
    more = {COLLECT: bounce_kind(collector)}
    async with office.running(office.dispatch(context=context), more):
        await office.becomes(run, "done")
        found = {one.address: one for one in await office.deliveries(run)}
        unknown = found.pop("nobody@branch.example")
        assert unknown.state is State.BOUNCED
        assert "5.1.1" in (unknown.server_answer or "")
        assert {one.state for one in found.values()} == {State.SENT}, post.log
        assert all("queued as" in (one.server_answer or "") for one in found.values())
        await trio.to_thread.run_sync(post.wait_for, SENDER, 1)

        async def collected() -> bool:
            await office.database.run(
                lambda c: enqueue(c, NewJob(group=GROUP, kind=COLLECT, unique_key="bounces")),
                tenant=office.shop.tenant,
            )
            await trio.sleep(0.3)
            states = {one.address: one.state for one in await office.deliveries(run)}
            return states["gone@branch.example"] is State.BOUNCED

        await soon(collected, "the report of non-delivery is read")
    gone = await office.value(
        "SELECT hard_bounces FROM analytics.report_addresses WHERE address = 'gone@branch.example'"
    )
    assert gone == 1
    for address in READERS:
        (raw,) = await trio.to_thread.run_sync(post.wait_for, address, 1)
        message = message_from_bytes(raw, policy=policy.default)
        assert message["Delivered-To"] == address
        assert message["Subject"].startswith("Daily report: Branch b1")
        html = message.get_body(("html",))
        assert html is not None
        assert "Key figures" in html.get_content()
        assert message["Received"] is not None


async def test_mail_goes_over_tls_from_the_start(office: Office, post: PostOffice) -> None:
    await connect(office, post, security="tls")
    await office.add("tess@branch.example", format="text", workbook=False)
    run = await office.send()
    async with office.running(office.dispatch(context=post.certificate.client())):
        await office.becomes(run, "done")
    assert [one.state for one in await office.deliveries(run)] == [State.SENT], post.log
    (raw,) = await trio.to_thread.run_sync(post.wait_for, "tess@branch.example", 1)
    message = message_from_bytes(raw, policy=policy.default)
    assert message.get_content_type() == "text/plain"
    assert "with ESMTPSA" in " ".join(message["Received"].split())


async def problem_of_the_line(office: Office, context: ssl.SSLContext | None) -> str:
    """Why nothing can be sent; which costs nobody a mail."""
    await office.add("tess@branch.example")
    run = await office.send()

    async def problem() -> str:
        return (await office.store.runs.one(office.shop.tenant, run.id)).problem or ""

    async def said() -> bool:
        return bool(await problem())

    async with office.running(office.dispatch(context=context)):
        await soon(said, "the run says why it does not go on")
    (delivery,) = await office.deliveries(run)
    assert (delivery.state, delivery.attempts) == (State.QUEUED, 0)
    return await problem()


async def test_a_wrong_password_is_said_and_costs_nobody_a_mail(
    office: Office, post: PostOffice
) -> None:
    await connect(office, post, security="starttls", password="of somebody else")
    problem = await problem_of_the_line(office, post.certificate.client())
    assert problem == "The mail server does not accept the account and its password (535)."


async def test_a_server_of_an_unknown_authority_is_not_trusted(
    office: Office, post: PostOffice
) -> None:
    """It is verified as in life, by the system's authorities, which do not know this one."""
    await connect(office, post, security="tls")
    problem = await problem_of_the_line(office, None)
    assert problem.startswith("The mail server's certificate does not hold: unable to get local")


async def test_a_server_of_another_name_is_not_trusted(office: Office, post: PostOffice) -> None:
    await connect(office, post, security="tls", host="127.0.0.1")
    problem = await problem_of_the_line(office, post.certificate.client())
    assert problem.startswith("The mail server's certificate does not hold: IP address mismatch")
