"""Every outcome of a mail is reached, its history is right, and nobody gets two."""

from collections import Counter

import trio

from tests.integration.reports.conftest import Office, soon
from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.records import Delivery

STEPS = {
    "fine": "queued sending sent",
    "slow": "queued sending sent",
    "later-1": "queued deferred",
    "full": "queued sending deferred",
    "hangup": "queued deferred",
    "policy": "queued deferred",
    "spam": "queued sending deferred",
    "nobody": "queued bounced",
    "drop": "queued sending ambiguous",
    "lost": "queued sending ambiguous",
}
"""What becomes of each address's mail when it is offered once; see tests/support/reports/server."""


async def test_a_report_arrives_with_all_its_parts(office: Office) -> None:
    await office.add("ada@branch.example", name="Ada", language="de")
    run = await office.send()
    async with office.running():
        await office.becomes(run, "done")
    (taken,) = office.mail.rules.taken
    message = taken.message
    assert message["To"] == "Ada <ada@branch.example>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    kinds = [part.get_content_type() for part in message.walk() if not part.is_multipart()]
    assert kinds == [
        "text/plain",
        "text/html",
        "image/png",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ]
    html = message.get_body(("html",)).get_content()
    assert "Tagesbericht: Branch b1" in html
    assert len(html.encode()) < 100_000
    (delivery,) = await office.deliveries(run)
    assert (delivery.state, delivery.attempts) == (State.SENT, 1)
    assert await steps_of(office, delivery) == "queued sending sent"


async def test_every_outcome_is_reached(office: Office) -> None:
    await office.add_many([f"{name}@branch.example" for name in STEPS])
    await office.settle(connections=1)
    run = await office.send()
    async with office.running():

        async def offered() -> bool:
            states = {one.address: one.state for one in await office.deliveries(run)}
            return State.QUEUED not in states.values() and State.SENDING not in states.values()

        await soon(offered, "every mail was offered once")
        found = {one.address.partition("@")[0]: one for one in await office.deliveries(run)}
        assert {name: await steps_of(office, one) for name, one in found.items()} == STEPS
        assert all(STEPS[name].endswith(one.state.value) for name, one in found.items())
        await soon(office.came_back, "the job has made its successor")
        await office.hurry()

        async def again() -> bool:
            states = {one.address: one.state for one in await office.deliveries(run)}
            second = [f"{name}@branch.example" for name in ("later-1", "full", "hangup")]
            return {states[address] for address in second} == {State.SENT}

        await soon(again, "what was only put off was sent")
    assert found["nobody"].server_answer == "550 5.1.1 No such user here"
    got = Counter(mail.recipient.partition("@")[0] for mail in office.mail.rules.taken)
    assert got == Counter(["fine", "slow", "lost", "later-1", "full", "hangup"])


async def steps_of(office: Office, delivery: Delivery) -> str:
    history = await office.store.deliveries.history(office.shop.tenant, delivery.id)
    return " ".join(step.state.value for step in history)


async def test_a_mail_that_is_deferred_is_offered_again(office: Office) -> None:
    await office.add("later-2@branch.example")
    run = await office.send()
    async with office.running():
        for attempt in (1, 2):

            async def deferred(attempt: int = attempt) -> bool:
                (found,) = await office.deliveries(run)
                return (found.state, found.attempts) == (State.DEFERRED, attempt)

            await soon(deferred, f"it is deferred {attempt} times")
            await soon(office.came_back, "the job has made its successor")
            await office.hurry()
        await office.becomes(run, "done")
    (delivery,) = await office.deliveries(run)
    history = await office.store.deliveries.history(office.shop.tenant, delivery.id)
    assert [step.state.value for step in history] == [
        "queued", "deferred", "deferred", "sending", "sent",
    ]  # fmt: skip
    assert history[1].server_answer == "451 4.7.1 Greylisted, come back"
    assert len(office.mail.rules.taken) == 1


async def test_connections_are_reused(office: Office) -> None:
    await office.add_many([f"p{number}@branch.example" for number in range(30)])
    await office.settle(connections=2)
    run = await office.send()
    with trio.fail_after(60):
        async with office.running():
            await office.becomes(run, "done")
    assert len(office.mail.rules.taken) == 30
    assert office.mail.rules.connections <= 2
