"""One generation of a child follows another: ready before the other drains, and never half done."""

import pytest
import trio

from tests.unit.platform.stage import MANY, Boom, Stage, serving, states
from troupe.platform.errors import ChildFailedToStart, SupervisionError, UnknownChild
from troupe.platform.supervision import Backoff, State, Strategy, Supervisor


def trio_of(old: Stage, **options) -> Supervisor:
    """a, b and c, of which b takes 2 s to drain."""
    return Supervisor(
        "root",
        [old.child("a"), old.child("b", drain=2), old.child("c", abreast=True)],
        intensity=MANY,
        **options,
    )


async def test_the_successor_is_ready_before_the_predecessor_is_asked_to_leave():
    old, new = Stage(), Stage()
    supervisor = trio_of(old)
    async with serving(supervisor):
        old.take()
        begun = trio.current_time()
        succession = await supervisor.succeed(new.child("b", ready_after=3))
        assert trio.current_time() - begun == pytest.approx(3)
        assert new.take() == ["b starts", "b ready"]
        assert old.take() == []
        await succession.complete()
        assert trio.current_time() - begun == pytest.approx(3 + 2)
        assert old.take() == ["b stops"]
        assert [child.name for child in supervisor.snapshot().children] == ["a", "b", "c"]
        assert not any(child.restarts for child in supervisor.snapshot().children)


async def test_both_generations_show_and_only_the_present_one_counts():
    old, new = Stage(), Stage()
    supervisor = trio_of(old)
    async with serving(supervisor), trio.open_nursery() as nursery:
        succession = await supervisor.succeed(new.child("b"))
        shown = [(c.name, c.details.get("generation")) for c in supervisor.snapshot().children]
        assert shown == [("a", None), ("b", None), ("b", "next"), ("c", None)]
        nursery.start_soon(succession.complete)
        await trio.sleep(1)
        shown = [(c.name, c.details.get("generation")) for c in supervisor.snapshot().children]
        assert shown == [("a", None), ("b", None), ("b", "last"), ("c", None)]
        assert supervisor.snapshot().find("b").state is State.RUNNING
        assert supervisor.snapshot().ready
        await supervisor.wait_ready(deadline=0.1)


async def test_a_successor_that_does_not_start_leaves_everything_as_it_was():
    old, new = Stage(), Stage()
    supervisor = trio_of(old)
    async with serving(supervisor):
        old.take()
        with pytest.raises(ChildFailedToStart, match="unfit"):
            await supervisor.succeed(new.child("b", fail_start=lambda _n: Boom("unfit")))
        with pytest.raises(ChildFailedToStart, match="not ready within 5 s"):
            await supervisor.succeed(new.child("b", ready_after=100, start_deadline=5))
        assert old.take() == []
        assert states(supervisor) == dict.fromkeys("abc", State.RUNNING)
        await (await supervisor.succeed(Stage().child("b"))).complete()  # it can be tried again


async def test_one_that_is_abandoned_is_gone_and_the_predecessor_never_knew():
    old, new = Stage(), Stage()
    supervisor = trio_of(old)
    async with serving(supervisor):
        old.take()
        succession = await supervisor.succeed(new.child("b"))
        with pytest.raises(SupervisionError, match="successor already"):
            await supervisor.succeed(Stage().child("b"))
        await succession.abandon()
        assert new.take() == ["b starts", "b ready", "b stops"]
        assert old.take() == []
        assert len(supervisor.snapshot().children) == 3


async def test_an_attempt_that_is_cancelled_leaves_nothing_behind():
    old, new = Stage(), Stage()
    supervisor = trio_of(old)
    async with serving(supervisor):
        with trio.move_on_after(1):
            await supervisor.succeed(new.child("b", ready_after=10))
        await trio.sleep(6)
        assert len(supervisor.snapshot().children) == 3
        assert new.take()[-1] == "b cancelled"


async def test_a_successor_that_crashes_while_it_stands_by_says_so():
    old, new = Stage(), Stage()
    supervisor = trio_of(old)
    async with serving(supervisor):
        succession = await supervisor.succeed(new.child("b", backoff=Backoff(first=5)))
        assert succession.ready
        await new.crash("b")
        assert not succession.ready
        await succession.abandon()
        assert states(supervisor) == dict.fromkeys("abc", State.RUNNING)


async def test_a_predecessor_that_keeps_crashing_is_succeeded_all_the_same():
    old, new = Stage(), Stage()
    broken = old.child(
        "b", backoff=Backoff(first=30, limit=60), fail_start=lambda n: Boom("no") if n > 1 else None
    )
    supervisor = Supervisor("root", [old.child("a"), broken], intensity=MANY)
    async with serving(supervisor):
        await old.crash("b")
        assert states(supervisor)["b"] is State.BACKING_OFF
        begun = trio.current_time()
        await (await supervisor.succeed(new.child("b"))).complete()
        assert trio.current_time() == begun
        assert states(supervisor) == {"a": State.RUNNING, "b": State.RUNNING}
        await new.crash("b")
        await trio.sleep(100)
        assert supervisor.snapshot().find("b").last_error == "b is broken"
        assert len(supervisor.snapshot().children) == 2


@pytest.mark.parametrize("after", ["prepared", "completing"])
async def test_a_stop_in_the_middle_takes_no_longer_than_a_drain(after):
    old, new = Stage(), Stage()
    supervisor = trio_of(old)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.serve)
        succession = await supervisor.succeed(new.child("b", drain=2))
        if after == "completing":
            nursery.start_soon(succession.complete)
            await trio.sleep(1)
        begun = trio.current_time()
        supervisor.request_stop()
    assert trio.current_time() - begun <= 2.1
    assert new.take()[-1] == "b stops"
    assert old.take()[-3:] == ["c stops", "b stops", "a stops"]


async def test_later_runs_start_from_the_generation_that_took_over():
    old, new = Stage(), Stage()
    supervisor = trio_of(old)
    async with serving(supervisor):
        await (await supervisor.succeed(new.child("b"))).complete()
        await supervisor.add_child(new.child("d"), for_good=True)
        await supervisor.remove_child("c", for_good=True)
    old.take(), new.take()
    async with serving(supervisor):
        assert old.take() == ["a starts", "a ready"]
        assert new.take() == ["b starts", "b ready", "d starts", "d ready"]


async def test_there_is_no_succession_where_children_stand_on_one_another():
    old = Stage()
    supervisor = trio_of(old, strategy=Strategy.REST_FOR_ONE)
    async with serving(supervisor):
        with pytest.raises(SupervisionError, match="takes no successors"):
            await supervisor.succeed(Stage().child("b"))
        with pytest.raises(UnknownChild):
            await supervisor.succeed(Stage().child("x"))
