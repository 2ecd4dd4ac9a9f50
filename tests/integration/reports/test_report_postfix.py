"""Against Debian's postfix and dovecot: STARTTLS, AUTH, IMAP, reports of non-delivery."""

from collections.abc import Iterator
from email import message_from_bytes, policy

import pytest
import trio

from tests.integration.reports.conftest import LOOPBACK, Office, soon
from tests.support.reports.postfix import HOST, SENDER, PostOffice, post_office
from troupe.actors.analytics.reports.bounces import Collector, bounce_kind
from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.statements import COLLECT, GROUP
from troupe.platform.jobs import NewJob, enqueue

READERS = [f"{name}@branch.example" for name in ("ada", "bob", "cleo", "dan", "eve")]


@pytest.fixture(scope="module")
def post() -> Iterator[PostOffice]:
    with post_office([*READERS, SENDER]) as office:
        yield office


async def test_mail_arrives_once_and_comes_back_undelivered(
    office: Office, post: PostOffice
) -> None:
    await office.connect_mail(
        host=HOST,
        port=post.port,
        security="starttls",
        sender=SENDER,
        username=SENDER,
        secret=post.password.encode(),
        bounce_host=HOST,
        bounce_port=post.imap_port,
    )
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
