"""A process that sends is killed at each step: no duplicate, nothing unsaid. Long: make chaos."""

import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.integration.reports.conftest import PATIENCE, Office, soon
from tests.support.reports.crashes import Verdict, die, fates, judge, worker

CONNECTIONS = 2


@asynccontextmanager
async def hurrying(office: Office) -> AsyncIterator[None]:
    """A job that has failed is tried again at once; only the waiting between is left out."""

    over = trio.Event()

    async def hurry() -> None:
        while not over.is_set():
            await office.hurry_jobs()
            with trio.move_on_after(0.25):
                await over.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hurry)
        yield
        over.set()


async def deliver_among_deaths(office: Office, mails: int, kills: int, seed: int) -> Verdict:
    addresses = [f"p{number}@branch.example" for number in range(mails)]
    await office.add_many(addresses)
    await office.settle(connections=CONNECTIONS)
    run = await office.send()
    url = office.where.runtime_url
    died = 0

    async def over() -> bool:
        return (await office.store.runs.one(office.shop.tenant, run.id)).state == "done"

    async with hurrying(office):
        for step, count in fates(mails, kills, random.Random(seed)):
            if await over():
                break
            died += await die(url, step, count)
        with worker(url):
            await soon(over, "the run ends", 10 * PATIENCE)
    states = {one.address: one.state.value for one in await office.deliveries(run)}
    taken = [mail.recipient for mail in office.mail.rules.taken]
    verdict = judge(addresses, taken, states, kills=died, connections=CONNECTIONS)
    assert verdict.problems == []
    assert died > 0
    return verdict


async def test_nobody_has_two_mails_after_a_death_at_each_step(office: Office) -> None:
    await deliver_among_deaths(office, mails=16, kills=5, seed=1)


async def test_a_sender_that_slept_past_its_lease_sends_nothing_twice(office: Office) -> None:
    await deliver_beside_a_sleeper(office, "handed")


async def deliver_beside_a_sleeper(office: Office, step: str) -> None:
    """It is stopped in the middle of a mail, another takes over, and then it wakes up."""
    addresses = [f"p{number}@branch.example" for number in range(12)]
    await office.add_many(addresses)
    await office.settle(connections=1)
    run = await office.send()
    url = office.where.runtime_url
    with worker(url, step, 3, int(signal.SIGSTOP)) as sleeper:

        async def asleep() -> bool:
            stat = await trio.Path(f"/proc/{sleeper.pid}/stat").read_text()
            return stat.rpartition(")")[2].split()[0] == "T"

        await soon(asleep, "the sender is stopped")
        with worker(url):

            async def over() -> bool:
                return (await office.store.runs.one(office.shop.tenant, run.id)).state == "done"

            await soon(over, "the other one ends the run")
            sleeper.send_signal(signal.SIGCONT)
            await trio.sleep(2)
    states = {one.address: one.state.value for one in await office.deliveries(run)}
    taken = [mail.recipient for mail in office.mail.rules.taken]
    assert judge(addresses, taken, states, kills=1, connections=1).problems == []


def test_the_checker_finds_what_must_not_be() -> None:
    """Its broken twins."""

    def problems(mails: list[str], state: str) -> list[str]:
        return judge(["a"], mails, {"a": state}, kills=1, connections=1).problems

    assert problems(["a"], "sent") == []
    assert problems([], "ambiguous") == problems(["a"], "ambiguous") == []
    assert problems(["a", "a"], "sent") != []
    assert problems([], "sent") != []
    assert problems([], "queued") != []
    assert problems(["a"], "deferred") != []
    many = judge(["a", "b"], [], dict.fromkeys("ab", "ambiguous"), kills=1, connections=1)
    assert many.problems != []
