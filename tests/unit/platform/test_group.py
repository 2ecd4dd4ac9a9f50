"""A group: who restarts whom, in which order things stop, and what its status shows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from troupe.common.errors import TroupeError
from troupe.platform.actor import Behaviour, Request
from troupe.platform.errors import AskDeadlineExceeded, ResourceUnavailable
from troupe.platform.group import Group, Sizes
from troupe.platform.supervision import ChildContext, ChildSpec, Intensity, State, Supervisor


class Boom(TroupeError):
    pass


class Slow(Request[None]):
    pass


class Fragile(Behaviour[str | Slow]):
    def __init__(self, trace: list[str]) -> None:
        self.trace = trace

    async def opened(self) -> None:
        self.trace.append("actor opened")

    async def closed(self) -> None:
        self.trace.append("actor closed")

    async def handle(self, message: str | Slow) -> None:
        match message:
            case "break":
                raise Boom("a bad message")
            case Slow():
                await trio.sleep(10)
            case text:
                self.trace.append(text)


class World:
    """One group with a resource, an actor and a service that write down what happens."""

    def __init__(self, name: str) -> None:
        self.trace: list[str] = []
        self.break_resource = trio.Event()
        self.group = Group(name, tasks=3, threads=2)
        self.database = self.group.resource("database", self.open_database)
        self.actor = self.group.actor("fragile", lambda: Fragile(self.trace))
        self.group.add_service(ChildSpec(name="http", start=self.serve, kind="service"))

    @asynccontextmanager
    async def open_database(self) -> AsyncIterator[str]:
        self.trace.append("database opened")
        self.break_resource = trio.Event()
        try:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def guard() -> None:
                    await self.break_resource.wait()
                    raise Boom("connection lost")

                yield "the database"
                nursery.cancel_scope.cancel()
        finally:
            self.trace.append("database closed")

    async def serve(self, context: ChildContext) -> None:
        self.trace.append("http serves " + self.database.get())
        context.started()
        await context.stopping.wait()
        self.trace.append("http drained")

    def take(self) -> list[str]:
        taken, self.trace[:] = list(self.trace), []
        return taken


@asynccontextmanager
async def serving(*worlds: World) -> AsyncIterator[Supervisor]:
    root = Supervisor(
        "troupe",
        [world.group.as_child() for world in worlds],
        intensity=Intensity(restarts=100, period=1),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.serve)
        yield root
        root.request_stop()


FRAGILE = ("actors", "fragile")
UP = ["database opened", "actor opened", "http serves the database"]
DOWN = ["http drained", "actor closed", "database closed"]


async def test_resources_first_services_last_and_the_reverse_on_the_way_down():
    world = World("data")
    with pytest.raises(ResourceUnavailable):
        world.database.get()
    async with serving(world):
        assert world.take() == UP
    assert world.take() == DOWN
    with pytest.raises(ResourceUnavailable):
        world.database.get()


async def test_an_actor_comes_back_alone():
    world = World("data")
    async with serving(world) as root:
        world.take()
        await world.actor.tell("break")
        await world.actor.tell("hello")
        await trio.sleep(1)
        assert world.take() == ["actor closed", "actor opened", "hello"]
        assert root.snapshot().ready


async def test_a_resource_takes_down_what_stands_on_it_and_no_other_group():
    world, other = World("data"), World("auth")
    async with serving(world, other) as root:
        world.take()
        other.take()
        world.break_resource.set()
        await trio.sleep(1)
        assert world.take() == ["database closed", "http drained", "actor closed", *UP]
        assert other.take() == []
        assert root.snapshot().ready


async def test_too_many_failures_restart_the_group_and_no_other():
    world, other = World("data"), World("auth")
    async with serving(world, other) as root:
        other.take()
        for _ in range(50):
            world.break_resource.set()
            await trio.sleep(0.5)
        await trio.sleep(60)
        group = root.snapshot().find("data")
        assert group.restarts > 0
        assert group.ready
        assert "connection lost" in str(group.last_error)
        assert root.snapshot().find("auth").restarts == 0
        assert other.take() == []
        await world.actor.tell("still the same address")
        await trio.testing.wait_all_tasks_blocked()
        assert world.take()[-1] == "still the same address"


async def test_the_status_shows_pool_threads_mailboxes_and_dead_letters():
    world = World("data")
    async with serving(world) as root, trio.open_nursery() as nursery:
        nursery.start_soon(world.group.pool.run, trio.sleep, 1.0)
        await trio.testing.wait_all_tasks_blocked()
        group = root.snapshot().find("data")
        assert group.kind == "group"
        assert group.details == {
            "tasks_running": 1,
            "tasks_limit": 3,
            "tasks_waiting": 0,
            "threads_running": 0,
            "threads_limit": 2,
            "dead_letters": 0,
        }
        actor = group.find("actors", "fragile")
        assert (actor.kind, actor.state) == ("actor", State.RUNNING)
        assert actor.details == {
            "mailbox_depth": 0,
            "mailbox_capacity": 256,
            "mailbox_waiting": 0,
            "delivered": 0,
            "busy": False,
            "dead_letters": 0,
        }
        assert [child.name for child in group.children] == ["database", "actors", "http"]


async def test_the_status_tells_why_messages_reached_nobody():
    world = World("data")
    async with serving(world) as root:
        with pytest.raises(AskDeadlineExceeded):
            await world.actor.ask(Slow(), deadline=1)  # in hand: not a dead letter
        with pytest.raises(AskDeadlineExceeded):
            await world.actor.ask(Slow(), deadline=1)
        for node in (root.snapshot().find("data"), root.snapshot().find("data", *FRAGILE)):
            dead = {key: n for key, n in node.details.items() if key.startswith("dead")}
            assert dead == {"dead_letters": 1, "dead_letters_abandoned": 1}


async def test_bounds_change_while_it_runs_and_nothing_is_interrupted():
    group = Group("data", tasks=2, mailbox=2, database_connections=3)
    actor = group.actor("one", lambda: Fragile([]))
    told = []
    group.when_resized(lambda: told.append(group.sizes))
    slots = [await group.pool.acquire() for _ in range(2)]
    waited = trio.Event()

    async def wait_for_a_slot() -> None:
        await group.pool.acquire()
        waited.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_a_slot)
        await trio.testing.wait_all_tasks_blocked()
        assert not waited.is_set()
        sizes = Sizes(tasks=3, mailbox=5, database_connections=1)
        group.resize(sizes)
        await waited.wait()
    assert told == [sizes]
    assert group.sizes.database_connections == 1
    assert actor.statistics().mailbox.capacity == 5
    group.resize(Sizes(tasks=1, mailbox=1, database_connections=1))
    assert group.pool.statistics().running == 3
    for slot in slots:
        slot.release()
    assert group.pool.free == 0


async def test_a_mailbox_that_grows_lets_those_in_who_wait():
    group = Group("data", tasks=2, mailbox=1)
    actor = group.actor("one", lambda: Fragile([]))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(actor.tell, "nothing")
        await trio.testing.wait_all_tasks_blocked()
        assert (actor.statistics().mailbox.depth, actor.statistics().mailbox.waiting) == (1, 2)
        group.resize(Sizes(tasks=2, mailbox=2))
        await trio.testing.wait_all_tasks_blocked()
        assert (actor.statistics().mailbox.depth, actor.statistics().mailbox.waiting) == (2, 1)
        group.resize(Sizes(tasks=2, mailbox=1))
        assert actor.statistics().mailbox.depth == 2
        nursery.cancel_scope.cancel()
