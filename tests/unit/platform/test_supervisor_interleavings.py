"""What happens to a supervisor while something else is under way; most were found by the model."""

import math

import pytest
import trio
import trio.testing

from tests.unit.platform.stage import MANY, Boom, Stage, serving, states
from troupe.platform.errors import ChildFailedToStart, RestartsExhausted, SupervisionError
from troupe.platform.supervision import (
    Backoff,
    ChildContext,
    ChildSpec,
    Intensity,
    Restart,
    State,
    Strategy,
    Supervisor,
)


async def test_a_restart_that_fails_during_the_first_start_is_still_a_restart():
    stage = Stage()
    broken = {2}
    first = stage.child("a", fail_start=lambda n: Boom("not yet") if n in broken else None)
    supervisor = Supervisor("root", [first, stage.child("b", ready_after=5)], intensity=MANY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.serve)
        await trio.testing.wait_all_tasks_blocked()
        await stage.crash("a")
        await supervisor.wait_ready()
        assert supervisor.snapshot().find("a").restarts == 2
        supervisor.request_stop()


async def test_a_failing_child_added_during_the_first_start_is_its_callers_alone():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a", ready_after=5)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.serve)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ChildFailedToStart, match="no port"):
            await supervisor.add_child(stage.child("b", fail_start=lambda _n: Boom("no port")))
        await supervisor.wait_ready()
        assert states(supervisor) == {"a": State.RUNNING}
        supervisor.request_stop()


async def test_a_supervisor_that_gives_up_is_stopping_not_running():
    stage = Stage()
    children = [stage.child("a", drain=3), stage.child("b")]
    supervisor = Supervisor("root", children, intensity=Intensity(restarts=0))
    with pytest.RaisesGroup(RestartsExhausted):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            await stage.crash("b")
            assert supervisor.snapshot().state is State.STOPPING
            assert states(supervisor) == {"a": State.STOPPING, "b": State.FAILED}


async def test_giving_up_names_the_exit_that_was_too_much_and_no_older_failure():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a")], intensity=Intensity(restarts=1))
    with pytest.RaisesGroup(pytest.RaisesExc(RestartsExhausted, match="a: ended$")):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            await stage.crash("a")
            await stage.finish("a")


async def test_whoever_terminates_a_child_is_told_although_another_has_it_started_again():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a", drain=2)])
    async with serving(supervisor), trio.open_nursery() as nursery:
        begun = trio.current_time()
        ended = trio.Event()

        @nursery.start_soon
        async def terminate() -> None:
            await supervisor.terminate_child("a")
            ended.set()

        await trio.testing.wait_all_tasks_blocked()
        assert await supervisor.start_child("a") == "A"
        with trio.fail_after(1):
            await ended.wait()
        assert trio.current_time() == begun + 2
        assert states(supervisor) == {"a": State.RUNNING}


async def test_a_child_that_was_started_again_is_not_removed():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a", drain=2)])
    async with serving(supervisor):
        with pytest.RaisesGroup(pytest.RaisesExc(SupervisionError, match="was started again")):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervisor.remove_child, "a")
                await trio.testing.wait_all_tasks_blocked()
                await supervisor.start_child("a")
        assert states(supervisor) == {"a": State.RUNNING}


async def test_a_sibling_waits_for_a_child_on_its_way_down_also_when_that_shall_come_back():
    stage = Stage()
    children = [stage.child("a"), stage.child("b", drain=2, ready_after=2)]
    supervisor = Supervisor("root", children, strategy=Strategy.ONE_FOR_ALL, intensity=MANY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.serve)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(supervisor.terminate_child, "b")
        await trio.testing.wait_all_tasks_blocked()
        stage.take()
        await stage.crash("a")
        nursery.start_soon(supervisor.start_child, "b")
        await trio.sleep(10)
        assert stage.take() == [
            *["a crashes", "b ready", "b stops"],
            *["a starts", "a ready", "b starts", "b ready"],
        ]
        supervisor.request_stop()


async def test_whoever_starts_a_child_waits_through_a_siblings_restart():
    stage = Stage()
    children = [stage.child("a"), stage.child("b", ready_after=5), stage.child("c", drain=1)]
    supervisor = Supervisor("root", children, strategy=Strategy.ONE_FOR_ALL, intensity=MANY)
    async with serving(supervisor):
        await supervisor.terminate_child("b")
        async with trio.open_nursery() as nursery:
            started: list[object] = []

            @nursery.start_soon
            async def start() -> None:
                started.append(await supervisor.start_child("b"))

            await trio.sleep(1)
            await stage.crash("a")  # b goes down first and comes back with its siblings
            await trio.sleep(1)
            assert started == []
        assert started == ["B"]
        assert states(supervisor)["b"] is State.RUNNING


async def test_an_operators_wish_ends_with_the_child_that_had_nothing_to_do():
    """A later restart of it is the supervisor's business, not that operator's."""
    stage = Stage()

    async def sometimes(context: ChildContext) -> None:
        await trio.lowlevel.checkpoint()
        if context.incarnation == 1:
            return
        if context.incarnation == 2:
            raise Boom("not yet")
        context.started()
        await context.stopping.wait()

    children = [
        stage.child("a", ready_after=1),
        ChildSpec(name="b", start=sometimes, restart=Restart.TRANSIENT),
    ]
    supervisor = Supervisor("root", children, strategy=Strategy.ONE_FOR_ALL, intensity=MANY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.serve)
        await trio.testing.wait_all_tasks_blocked()
        assert await supervisor.start_child("b") is None
        await stage.crash("a")
        await trio.sleep(5)
        assert states(supervisor) == {"a": State.RUNNING, "b": State.RUNNING}
        supervisor.request_stop()


async def test_what_waits_to_be_started_again_is_down_at_once_when_all_shall_stop():
    stage = Stage()
    told: list[str] = []
    patient = Backoff(first=60, limit=60, jitter=0)
    children = [
        stage.child("a", backoff=patient, retired=lambda: told.append("a")),
        stage.child("b", drain=3),
    ]
    supervisor = Supervisor("root", children, intensity=MANY)
    async with serving(supervisor):
        await stage.crash("a")
        supervisor.request_stop()
        await trio.testing.wait_all_tasks_blocked()
        assert states(supervisor) == {"a": State.STOPPED, "b": State.STOPPING}
        assert told == ["a"]


async def test_a_child_that_hangs_in_its_start_is_waited_for_no_longer_because_it_shall_stop():
    async def hanging(_context: ChildContext) -> None:
        await trio.sleep_forever()

    child = ChildSpec(name="a", start=hanging, start_deadline=3, shutdown=math.inf)
    supervisor = Supervisor("root", [child])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.serve)
        await trio.sleep(1)
        supervisor.request_stop()
    assert trio.current_time() == 3


async def test_a_child_asked_to_stop_while_it_starts_has_its_time_for_stopping():
    stage = Stage()
    child = stage.child("a", ready_after=2, drain=4, start_deadline=3, shutdown=10)
    supervisor = Supervisor("root", [child])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.serve)
        await trio.sleep(1)
        supervisor.request_stop()
    assert stage.take() == ["a starts", "a ready", "a stops"]
    assert trio.current_time() == 6


async def test_once_the_first_start_is_over_children_do_not_wait_for_each_other():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a"), stage.child("b", ready_after=5)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.serve)
        await trio.testing.wait_all_tasks_blocked()
        # Nobody is wanted any more, so that nothing is left to become ready.
        nursery.start_soon(supervisor.terminate_child, "a")
        nursery.start_soon(supervisor.terminate_child, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert states(supervisor) == {"a": State.STOPPED, "b": State.STOPPING}
        supervisor.request_stop()


async def test_a_stuck_child_is_shown_as_such():
    async def shielded(context: ChildContext) -> None:
        context.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(20)

    supervisor = Supervisor("root", [ChildSpec(name="a", start=shielded, shutdown=1)])
    async with serving(supervisor):
        supervisor.request_stop()
        await trio.sleep(5)
        assert "stuck" not in supervisor.snapshot().find("a").details
        await trio.sleep(5)
        assert supervisor.snapshot().find("a").details["stuck"] is True
