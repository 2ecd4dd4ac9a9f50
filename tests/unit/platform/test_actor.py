"""Actors: one message at a time, bounded mailboxes, honest books, restarts that keep the queue."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from troupe.common.errors import InvalidInput
from troupe.platform.actor import Actor, Behaviour, Request
from troupe.platform.dead_letters import DeadLetters, Reason
from troupe.platform.errors import (
    ActorCrashed,
    ActorUnavailable,
    AskDeadlineExceeded,
    MailboxFull,
)
from troupe.platform.mailbox import MailboxSettings, Overflow
from troupe.platform.supervision import Backoff, Intensity, Restart, Strategy, Supervisor

MANY = Intensity(restarts=1000, period=1.0)


@dataclass(frozen=True)
class Add(Request[int]):
    amount: int


@dataclass(frozen=True)
class Work:
    number: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Break:
    pass


@dataclass(frozen=True)
class BreakWhenAsked(Request[None]):
    pass


class Counter(Behaviour[Add | Work | Break | BreakWhenAsked]):
    """Adds up; remembers in a list shared by all incarnations."""

    def __init__(self, seen: list[object]) -> None:
        self.seen = seen
        self.total = 0
        self.busy = False

    async def opened(self) -> None:
        self.seen.append("opened")

    async def closed(self) -> None:
        self.seen.append("closed")

    async def handle(self, message: Add | Work | Break | BreakWhenAsked) -> object:
        assert not self.busy
        self.busy = True
        try:
            match message:
                case Add(amount):
                    if amount < 0:
                        raise InvalidInput("amounts are not negative")
                    self.total += amount
                    return self.total
                case Work(number, seconds):
                    await trio.sleep(seconds)
                    self.seen.append(number)
                    return None
                case _:
                    raise ValueError("broken")
        finally:
            self.busy = False


def make(capacity=4, overflow=Overflow.WAIT, patience=5.0):
    seen: list[object] = []
    settings = MailboxSettings(capacity=capacity, overflow=overflow, patience=patience)
    dead = DeadLetters()
    actor = Actor("counter", lambda: Counter(seen), mailbox=settings, dead_letters=dead)
    return actor, seen, dead


@asynccontextmanager
async def running(*actors, strategy=Strategy.ONE_FOR_ONE, **options) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(
        "root",
        [actor.child_spec(**options) for actor in actors],
        intensity=MANY,
        strategy=strategy,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.serve)
        yield supervisor
        supervisor.request_stop()


def balanced(actor) -> bool:
    books = actor.statistics().mailbox
    return books.sent == books.delivered + books.dead + books.depth + books.waiting


async def test_ask_returns_what_the_handler_returns():
    actor, seen, _ = make()
    async with running(actor):
        assert await actor.ask(Add(2), deadline=1) == 2
        assert await actor.ask(Add(3), deadline=1) == 5
    assert seen == ["opened", "closed"]


async def test_messages_are_handled_one_at_a_time_in_order():
    actor, seen, _ = make(capacity=10)
    async with running(actor):
        for number in range(10):
            await actor.tell(Work(number, seconds=0.1))
    assert seen == ["opened", *range(10), "closed"]


async def test_a_callers_mistake_answers_the_caller_and_hurts_nobody():
    actor, _, _ = make()
    async with running(actor) as supervisor:
        with pytest.raises(InvalidInput):
            await actor.ask(Add(-1), deadline=1)
        await actor.tell(Add(-1))
        assert await actor.ask(Add(1), deadline=1) == 1
        assert actor.statistics().refused == 2
        assert supervisor.snapshot().find("counter").restarts == 0


async def test_waiting_senders_are_served_in_order_and_give_up_at_their_deadline():
    actor, seen, dead = make(capacity=1, patience=5)
    outcomes: dict[int, float] = {}

    async def sender(number: int, deadline: float | None) -> None:
        try:
            await actor.tell(Work(number), deadline=deadline)
        except MailboxFull:
            outcomes[number] = trio.current_time() - begun

    async with running(actor):
        await actor.tell(Work(1, seconds=10))
        await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number, deadline in [(2, None), (3, 20), (4, None), (5, 7), (6, 20)]:
                nursery.start_soon(sender, number, deadline)
                await trio.testing.wait_all_tasks_blocked()
            assert actor.statistics().mailbox.waiting == 4
            assert balanced(actor)
    assert seen == ["opened", 1, 2, 3, 6, "closed"]
    assert outcomes == {4: pytest.approx(5), 5: pytest.approx(7)}
    assert dead.counts() == {Reason.EXPIRED: 2}


async def test_a_sender_cancelled_in_line_leaves_an_abandoned_message():
    actor, _, dead = make(capacity=1)
    async with running(actor):
        await actor.tell(Work(1, seconds=10))
        await trio.testing.wait_all_tasks_blocked()
        await actor.tell(Work(2))
        with trio.move_on_after(1):
            await actor.tell(Work(3))
        assert dead.counts() == {Reason.ABANDONED: 1}
        assert balanced(actor)


async def test_reject_refuses_at_once():
    actor, _, dead = make(capacity=1, overflow=Overflow.REJECT)
    async with running(actor):
        await actor.tell(Work(1, seconds=1))
        await trio.testing.wait_all_tasks_blocked()
        await actor.tell(Work(2))
        with pytest.raises(MailboxFull):
            await actor.tell(Work(3))
    assert dead.counts() == {Reason.REJECTED: 1}
    assert balanced(actor)


async def test_drop_oldest_keeps_the_newest():
    actor, seen, dead = make(capacity=2, overflow=Overflow.DROP_OLDEST)
    async with running(actor):
        await actor.tell(Work(0, seconds=1))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(1, 6):
            await actor.tell(Work(number))
    assert seen == ["opened", 0, 4, 5, "closed"]
    assert dead.counts() == {Reason.DROPPED: 3}
    assert dead.last()[-1].message == "Work"


async def test_an_asker_whose_message_was_dropped_learns_it_at_once():
    actor, _, _ = make(capacity=1, overflow=Overflow.DROP_OLDEST)
    async with running(actor):
        await actor.tell(Work(0, seconds=10))
        await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
        with pytest.RaisesGroup(MailboxFull):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def asker() -> None:
                    await actor.ask(Add(1), deadline=60)

                await trio.testing.wait_all_tasks_blocked()
                await actor.tell(Work(1))
        assert trio.current_time() == pytest.approx(begun, abs=0.1)


async def test_a_question_whose_deadline_passes_in_the_queue_is_never_carried_out():
    actor, _, dead = make()
    async with running(actor):
        await actor.tell(Work(0, seconds=10))
        with pytest.raises(AskDeadlineExceeded):
            await actor.ask(Add(100), deadline=1)
        assert dead.counts() == {Reason.ABANDONED: 1}
        await trio.sleep(20)
        assert await actor.ask(Add(1), deadline=1) == 1
        assert balanced(actor)


async def test_a_late_answer_is_counted_and_harms_nobody():
    class Slow(Behaviour[Add]):
        async def handle(self, message: Add) -> int:
            await trio.sleep(5)
            return message.amount

    actor = Actor("slow", Slow)
    async with running(actor):
        with pytest.raises(AskDeadlineExceeded, match="within 1 s"):
            await actor.ask(Add(1), deadline=1)
        await trio.sleep(10)
        assert actor.statistics().late == 1


async def test_a_crash_keeps_the_queue_but_not_the_message_that_broke_it():
    actor, seen, dead = make(capacity=10)
    async with running(actor, backoff=Backoff(first=2, jitter=0)) as supervisor:
        await actor.tell(Break())
        await actor.tell(Work(1))
        await actor.tell(Work(2))
        await trio.testing.wait_all_tasks_blocked()
        assert supervisor.snapshot().find("counter").state.value == "backing_off"
        await actor.tell(Work(3))
        await supervisor.wait_ready()
        await trio.testing.wait_all_tasks_blocked()
    assert seen == ["opened", "closed", "opened", 1, 2, 3, "closed"]
    assert dead.total() == 0
    books = actor.statistics()
    assert (books.failed, books.mailbox.delivered) == (1, 4)


async def test_questions_fail_at_once_when_the_actor_crashes_and_while_it_restarts():
    actor, _, dead = make(capacity=10)
    outcomes: dict[str, type[Exception]] = {}

    async def asking(label: str, request: Request[object]) -> None:
        try:
            await actor.ask(request, deadline=60)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared below
            outcomes[label] = type(error)

    async with running(actor, backoff=Backoff(first=2, jitter=0)):
        begun = trio.current_time()
        await actor.tell(Work(0, seconds=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asking, "in hand", BreakWhenAsked())
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(asking, "queued", Add(1))
        await asking("while restarting", Add(1))
        assert trio.current_time() == pytest.approx(begun + 1, abs=0.1)
        await trio.sleep(5)
        assert await actor.ask(Add(1), deadline=1) == 1
    await asking("after the stop", Add(1))
    assert outcomes == {
        "in hand": ActorCrashed,
        "queued": ActorUnavailable,
        "while restarting": ActorUnavailable,
        "after the stop": ActorUnavailable,
    }
    assert dead.counts() == {Reason.RESTARTING: 2, Reason.STOPPED: 1}
    assert balanced(actor)


async def test_a_question_that_stands_in_line_fails_with_those_in_the_queue():
    actor, _, dead = make(capacity=1)
    outcomes: list[type[Exception]] = []

    async def asking() -> None:
        try:
            await actor.ask(Add(1), deadline=60)
        except ActorUnavailable as error:
            outcomes.append(type(error))

    async with running(actor, backoff=Backoff(first=2, jitter=0)):
        await actor.tell(Work(0, seconds=1))
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(actor.tell, Break())
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(2):
                nursery.start_soon(asking)
            await trio.sleep(1.5)
            assert outcomes == [ActorUnavailable, ActorUnavailable]
            assert actor.statistics().mailbox.waiting == 0
    assert dead.counts() == {Reason.RESTARTING: 2}
    assert balanced(actor)


async def test_questions_left_at_the_stop_deadline_are_told_that_it_stopped():
    actor, _, dead = make()
    async with running(actor, shutdown=1) as supervisor:
        await actor.tell(Work(0, seconds=10))
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def asker() -> None:
                with pytest.raises(ActorUnavailable, match="has stopped"):
                    await actor.ask(Add(1), deadline=60)

            await trio.testing.wait_all_tasks_blocked()
            supervisor.request_stop()
    assert dead.counts() == {Reason.STOPPED: 1}


async def test_an_actor_asked_to_stop_while_it_opens_takes_no_more():
    class SlowToOpen(Counter):
        async def opened(self) -> None:
            await trio.sleep(3)

    seen: list[object] = []
    actor = Actor("counter", lambda: SlowToOpen(seen))
    supervisor = Supervisor("root", [actor.child_spec(shutdown=60)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.serve)
        await actor.tell(Work(1, seconds=2))
        await trio.sleep(1)
        supervisor.request_stop()
        await trio.sleep(3)
        with pytest.raises(ActorUnavailable):
            await actor.tell(Work(2))
    assert seen == [1, "closed"]


async def test_a_stopping_actor_works_through_its_mailbox_and_takes_no_more():
    actor, seen, dead = make(capacity=10)
    async with running(actor, shutdown=60) as supervisor:
        for number in range(3):
            await actor.tell(Work(number, seconds=1))
        supervisor.request_stop()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ActorUnavailable):
            await actor.tell(Work(99))
    assert seen == ["opened", 0, 1, 2, "closed"]
    assert dead.counts() == {Reason.STOPPED: 1}


async def test_what_is_left_at_the_deadline_becomes_dead_letters():
    actor, _, dead = make(capacity=10)
    async with running(actor, shutdown=1.5):
        for number in range(4):
            await actor.tell(Work(number, seconds=1))
    assert dead.counts() == {Reason.STOPPED: 2}
    assert balanced(actor)


async def test_a_restart_along_with_siblings_keeps_the_queue_too():
    first, first_seen, _ = make(capacity=10)
    second, seen, dead = make(capacity=10)
    second.name = "second"
    async with running(first, second, strategy=Strategy.ONE_FOR_ALL, shutdown=10):
        await second.tell(Work(0, seconds=1))
        await second.tell(Work(1))
        await trio.testing.wait_all_tasks_blocked()
        await first.tell(Break())
        await trio.sleep(5)
    assert first_seen == ["opened", "closed", "opened", "closed"]
    assert seen == ["opened", 0, "closed", "opened", 1, "closed"]
    assert dead.total() == 0


async def test_a_temporary_actor_that_crashed_takes_no_more():
    actor, _, dead = make()
    async with running(actor, restart=Restart.TEMPORARY):
        await actor.tell(Break())
        await actor.tell(Work(1))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ActorUnavailable):
            await actor.tell(Work(2))
    assert dead.counts() == {Reason.STOPPED: 2}


@pytest.mark.parametrize("overflow", list(Overflow))
async def test_overload_is_accounted_for_to_the_last_message(overflow):
    """Ten times more than the actor can do, for a minute, with crashes: nothing is unaccounted."""
    actor, _, dead = make(capacity=8, overflow=overflow, patience=0.3)
    deepest = 0

    async def sender(number: int) -> None:
        nonlocal deepest
        for turn in range(60):
            with trio.move_on_after(1):
                try:
                    if number == 0 and turn % 20 == 19:
                        await actor.tell(Break())
                    elif number % 3 == 0:
                        await actor.ask(Add(1), deadline=0.5)
                    else:
                        await actor.tell(Work(turn, seconds=0.5))
                except (MailboxFull, ActorUnavailable, AskDeadlineExceeded):
                    await trio.lowlevel.checkpoint()
            deepest = max(deepest, actor.statistics().mailbox.depth)
            assert balanced(actor)
            await trio.sleep(1)

    async with running(actor, backoff=Backoff(first=0.5)) as supervisor:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(sender, number)
        assert supervisor.snapshot().find("counter").restarts > 0
    books = actor.statistics().mailbox
    assert books.depth == books.waiting == 0
    assert books.sent == books.delivered + books.dead == 1200
    assert books.dead == dead.total()
    assert deepest <= 8
    assert len(dead.last()) <= 64
