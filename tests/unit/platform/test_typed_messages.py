"""The contract of typed messages: mypy reads this file too (``make types``), and strictly.

A wrong type of an answer fails `assert_type`; a message that must be refused carries an ignore,
which mypy reports as unused once it is accepted.
"""

from dataclasses import dataclass
from typing import assert_type

import trio

from troupe.platform.actor import Actor, Behaviour, Request
from troupe.platform.group import Group
from troupe.platform.supervision import Supervisor


@dataclass(frozen=True)
class Deposit:
    amount: int


@dataclass(frozen=True)
class Balance(Request[int]):
    pass


@dataclass(frozen=True)
class Owner(Request[str | None]):
    pass


AccountMessage = Deposit | Balance | Owner


class Account(Behaviour[AccountMessage]):
    def __init__(self) -> None:
        self.balance = 0

    async def handle(self, message: AccountMessage) -> object:
        match message:
            case Deposit(amount):
                self.balance += amount
                return None
            case Balance():
                return self.balance
            case Owner():
                return None


async def test_an_answer_has_the_type_that_its_question_names() -> None:
    actor = Actor("account", Account)
    assert_type(actor, Actor[AccountMessage])
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor("root", [actor.child_spec()])
        await nursery.start(supervisor.serve)
        await actor.tell(Deposit(7))
        balance = await actor.ask(Balance(), deadline=1)
        assert_type(balance, int)
        assert balance == 7
        owner = await actor.ask(Owner(), deadline=1)
        assert_type(owner, str | None)
        assert owner is None
        supervisor.request_stop()


def test_a_groups_actor_knows_its_messages() -> None:
    actor = Group("bank", tasks=1).actor("account", Account)
    assert_type(actor, Actor[AccountMessage])


async def what_mypy_refuses(actor: Actor[AccountMessage]) -> None:
    """Never called."""
    await actor.tell("money")  # type: ignore[arg-type]
    await actor.ask(Deposit(1), deadline=1)  # type: ignore[arg-type]
    await actor.ask(Balance())  # type: ignore[call-arg]
    answer: str = await actor.ask(Balance(), deadline=1)  # type: ignore[arg-type]
    Actor[Balance]("account", Account)  # type: ignore[arg-type]
    del answer
