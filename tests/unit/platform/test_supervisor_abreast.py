"""Children that stand beside one another go up and down together; those before and after wait."""

import pytest
import trio

from tests.unit.platform.stage import Boom, Stage, serving, states
from troupe.platform.errors import ChildFailedToStart
from troupe.platform.supervision import KILL_GRACE, Intensity, State, Strategy, Supervisor


def row(stage: Stage, **options) -> Supervisor:
    """a, then b and c and d at the same time, then e."""
    return Supervisor(
        "root",
        [
            stage.child("a", ready_after=1, drain=1),
            stage.child("b", ready_after=3, drain=2),
            stage.child("c", ready_after=1, drain=3, abreast=True),
            stage.child("d", ready_after=2, drain=1, abreast=True),
            stage.child("e", ready_after=1, drain=1),
        ],
        **options,
    )


async def test_they_start_together_and_stop_together():
    stage = Stage()
    begun = trio.current_time()
    async with serving(row(stage)):
        assert trio.current_time() - begun == pytest.approx(1 + 3 + 1)
        trace = stage.take()
        assert trace[:2] == ["a starts", "a ready"]
        assert set(trace[2:5]) == {"b starts", "c starts", "d starts"}  # in no order
        assert trace[5:] == ["c ready", "d ready", "b ready", "e starts", "e ready"]
        begun = trio.current_time()
    assert trio.current_time() - begun == pytest.approx(1 + 3 + 1)
    assert stage.take() == ["e stops", "d stops", "b stops", "c stops", "a stops"]


async def test_one_that_fails_to_start_takes_its_neighbours_down_before_the_first():
    stage = Stage()
    supervisor = Supervisor(
        "root",
        [
            stage.child("a", drain=1),
            stage.child("b", drain=1),
            stage.child("c", ready_after=1, fail_start=lambda _n: Boom("no"), abreast=True),
        ],
    )
    with pytest.RaisesGroup(ChildFailedToStart):
        async with serving(supervisor):
            pytest.fail("it cannot be ready")
    assert stage.take()[-2:] == ["b stops", "a stops"]
    assert states(supervisor) == {
        "a": State.STOPPED,
        "b": State.STOPPED,
        "c": State.FAILED,
    }


async def test_they_are_restarted_together_where_all_are_restarted():
    stage = Stage()
    supervisor = row(stage, strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(restarts=5))
    async with serving(supervisor):
        stage.take()
        begun = trio.current_time()
        await stage.crash("c")
        await supervisor.wait_ready()
        assert trio.current_time() - begun == pytest.approx((1 + 2 + 1) + (1 + 3 + 1))
        down = [word for word in stage.take() if word.endswith("stops")]
        assert down == ["e stops", "d stops", "b stops", "a stops"]


async def test_their_deadlines_do_not_add_up():
    stage = Stage()
    children = [
        stage.child("a", shutdown=3, start_deadline=10),
        stage.child("b", shutdown=7, start_deadline=20, abreast=True),
        stage.child("c", shutdown=2, start_deadline=5),
    ]
    specification = Supervisor("root", children).as_child(abreast=True)
    assert specification.abreast
    assert specification.shutdown == 7 + 2 + KILL_GRACE
    assert specification.start_deadline == 20 + 5 + 1
