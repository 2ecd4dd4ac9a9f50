"""The child's end of the conversation, against a supervisor that a test plays."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from troupe.common.errors import ConfigurationError, DatabaseUnavailable, PeerUnavailable
from troupe.platform.errors import ProcessEnded, ProtocolBroken
from troupe.platform.processes._channel import Channel
from troupe.platform.processes._instance import BEGIN_DEADLINE, SCRAPE_DEADLINE, converse
from troupe.platform.processes._messages import (
    Adapt,
    Adapted,
    Begin,
    DatabaseMoved,
    Failed,
    Figures,
    Measure,
    Measured,
    Ping,
    Pong,
    Ready,
    Report,
    Scrape,
    Stop,
    Survey,
    encode,
    from_child,
)
from troupe.platform.supervision import Snapshot, State

BEGIN = Begin(
    instance="data-1", descriptors={"listener": 5}, memory_limit=64, assignment={"group": "data"}
)


@asynccontextmanager
async def conversation():
    """The instance, and the supervisor's end of its stream."""
    theirs, ours = trio.testing.memory_stream_pair()
    supervisor = Channel(theirs, from_child)
    await supervisor.send(BEGIN)
    async with converse(ours) as instance:
        yield instance, supervisor


async def test_it_hears_who_it_is_and_says_that_it_is_ready():
    async with conversation() as (instance, supervisor):
        assert (instance.name, instance.memory_limit) == ("data-1", 64)
        assert instance.descriptors == {"listener": 5}
        assert instance.assignment == {"group": "data"}
        await instance.ready()
        assert await supervisor.receive() == Ready()


def test_a_pong_tells_how_late_the_loop_was_since_the_last_one():
    clock = trio.testing.MockClock()

    async def main():
        async with conversation() as (_, supervisor):
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(3.1)  # 0.1 of it is the next tick
            await trio.testing.wait_all_tasks_blocked()
            await supervisor.send(Ping(sequence=1))
            late = await supervisor.receive()
            await supervisor.send(Ping(sequence=2))
            assert await supervisor.receive() == Pong(sequence=2, lag=0.0)
            assert late.sequence == 1
            assert late.lag == pytest.approx(3.0)

    trio.run(main, clock=clock)


async def test_a_survey_tells_and_asks():
    tree = Snapshot(name="data", kind="group", state=State.RUNNING, since=datetime.now(UTC))
    async with conversation() as (instance, supervisor):
        assert instance.group is None
        await supervisor.send(Survey(group={"children": []}))
        first = await supervisor.receive()
        assert first.tree["state"] == "starting"
        assert instance.group == {"children": []}
        instance.report_from(lambda: tree)
        await supervisor.send(Survey(group={"children": [1]}))
        assert await supervisor.receive() == Report(tree=tree.as_dict())


async def test_it_hears_where_the_database_is_and_when_to_stop():
    async with conversation() as (instance, supervisor):
        assert instance.database_url is None
        await supervisor.send(DatabaseMoved(url="postgresql://elsewhere"))
        await supervisor.send(Stop(grace=2.5))
        await instance.stopping.wait()
        assert instance.database_url == "postgresql://elsewhere"
        instance.stop(60)  # whoever comes second does not lengthen it
        assert instance.grace == 2.5


@pytest.mark.parametrize(
    ("error", "fault", "reason"),
    [
        (ConfigurationError("no key"), "configuration", "no key"),
        (DatabaseUnavailable("gone"), "database", "gone"),
        (PeerUnavailable("away"), "peer", "away"),
        (ValueError("canary"), "ours", "ValueError"),
        (ExceptionGroup("", [DatabaseUnavailable("gone")]), "database", "gone"),
    ],
)
async def test_it_says_why_it_fails_and_quotes_nobody_else(error, fault, reason):
    async with conversation() as (instance, supervisor):
        await instance.fail(error)
        assert await supervisor.receive() == Failed(fault=fault, reason=reason)


async def test_it_does_not_outlive_the_conversation():
    with pytest.RaisesGroup(ProcessEnded):
        async with conversation() as (_, supervisor):
            await supervisor.aclose()
            await trio.sleep_forever()


@pytest.mark.parametrize("said", [encode(BEGIN), b"nonsense\n", encode(Ready())])
async def test_what_makes_no_sense_ends_it(said):
    with pytest.RaisesGroup(ProtocolBroken):
        async with conversation() as (_, supervisor):
            await supervisor._stream.send_all(said)
            await trio.sleep_forever()


async def test_a_supervisor_that_says_nothing_or_something_else_first_is_not_served():
    theirs, ours = trio.testing.memory_stream_pair()
    begun = trio.current_time()
    with pytest.raises(ProtocolBroken, match="did not say"):
        async with converse(ours):
            pytest.fail("it does not know who it is")
    assert trio.current_time() - begun == pytest.approx(BEGIN_DEADLINE)
    await theirs.send_all(encode(Ping(sequence=1)))
    with pytest.raises(ProtocolBroken, match="did not say"):
        async with converse(ours):
            pytest.fail("it does not know who it is")


async def test_other_bounds_hold_before_it_says_so_also_those_that_came_too_early():
    async with conversation() as (instance, supervisor):
        await supervisor.send(Adapt(number=1, settings={"tasks": 1}))
        assert await supervisor.receive() == Adapted(number=1)
        heard = []
        instance.adapt_with(heard.append)
        assert heard == [{"tasks": 1}]
        await supervisor.send(Adapt(number=2, settings={"tasks": 2}))
        assert await supervisor.receive() == Adapted(number=2)
        assert heard == [{"tasks": 1}, {"tasks": 2}]


async def test_it_tells_its_figures_and_asks_for_those_of_the_others_once_at_a_time():
    async with conversation() as (instance, supervisor), trio.open_nursery() as nursery:
        await supervisor.send(Measure(number=7))
        assert await supervisor.receive() == Measured(number=7, figures=[])
        instance.measure_from(lambda: [["mine"]])
        await supervisor.send(Measure(number=8))
        assert await supervisor.receive() == Measured(number=8, figures=[["mine"]])

        found = []

        async def scrape() -> None:
            found.append(await instance.others())

        nursery.start_soon(scrape)
        nursery.start_soon(scrape)
        question = await supervisor.receive()
        assert isinstance(question, Scrape)
        for name, figures in (("data-2", [["theirs"]]), ("data-3", None), ("", None)):
            await supervisor.send(Figures(number=question.number, instance=name, figures=figures))
        await trio.testing.wait_all_tasks_blocked()
        assert found == [{"data-2": [["theirs"]], "data-3": None}] * 2


async def test_an_answer_may_be_there_before_the_question_is_off_our_hands():
    theirs, ours = trio.testing.memory_stream_pair()
    supervisor = Channel(theirs, from_child)
    await supervisor.send(BEGIN)
    async with converse(ours) as instance:
        pump = ours.send_stream.send_all_hook

        async def answered() -> None:
            await pump()
            question = await supervisor.receive()
            figures = Figures(number=question.number, instance="data-2", figures=[["theirs"]])
            await supervisor.send(figures)
            await supervisor.send(Figures(number=question.number, instance="", figures=None))
            await trio.testing.wait_all_tasks_blocked()

        ours.send_stream.send_all_hook = answered
        assert await instance.others() == {"data-2": [["theirs"]]}


async def test_a_scrape_does_not_wait_for_a_supervisor_that_says_nothing(autojump_clock):
    async with conversation() as (instance, supervisor):
        begun = trio.current_time()
        assert await instance.others() == {}
        assert trio.current_time() - begun == pytest.approx(SCRAPE_DEADLINE)
        question = await supervisor.receive()
        await supervisor.send(Figures(number=question.number, instance="", figures=None))


async def test_figures_that_nobody_asked_for_end_the_conversation():
    with pytest.RaisesGroup(pytest.RaisesExc(ProtocolBroken, match="nobody asked")):
        async with conversation() as (_, supervisor):
            await supervisor.send(Figures(number=1, instance="data-2", figures=[]))
            await trio.sleep_forever()
