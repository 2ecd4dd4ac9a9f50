"""The supervisor against Erlang/OTP's rules, on a clock that never waits."""

import math

import pytest
import trio
import trio.testing

from tests.unit.platform.stage import MANY, Boom, Stage, serving, states
from troupe.platform.errors import (
    ChildFailedToStart,
    RestartsExhausted,
    SupervisionError,
    UnknownChild,
)
from troupe.platform.supervision import (
    KILL_GRACE,
    Backoff,
    ChildContext,
    ChildSpec,
    Intensity,
    Observation,
    Readiness,
    Restart,
    State,
    Strategy,
    Supervisor,
)


async def test_children_start_in_order_once_the_one_before_is_ready_and_stop_in_reverse():
    stage = Stage()
    supervisor = Supervisor(
        "root", [stage.child("a", ready_after=5), stage.child("b", ready_after=1), stage.child("c")]
    )
    async with serving(supervisor):
        assert stage.take() == ["a starts", "a ready", "b starts", "b ready", "c starts", "c ready"]
        assert supervisor.snapshot().ready
    assert stage.take() == ["c stops", "b stops", "a stops"]
    assert supervisor.snapshot().state is State.STOPPED


async def test_a_child_that_drains_in_time_is_not_cancelled_and_holds_up_those_before_it():
    stage = Stage()
    times: dict[str, float] = {}

    def draining(name: str, seconds: float) -> ChildSpec:
        async def start(context: ChildContext) -> None:
            context.started()
            await context.stopping.wait()
            stage.trace.append(f"{name} drains")
            await trio.sleep(seconds)
            times[name] = trio.current_time()
            stage.trace.append(f"{name} done")

        return ChildSpec(name=name, start=start, shutdown=5)

    async with serving(Supervisor("root", [draining("a", 1), draining("b", 4)])):
        stopped = trio.current_time()
    assert stage.take() == ["b drains", "b done", "a drains", "a done"]
    assert times["b"] == pytest.approx(stopped + 4)
    assert times["a"] == pytest.approx(stopped + 5)


async def test_a_child_that_does_not_drain_is_cancelled_at_its_deadline():
    stage = Stage()

    async def deaf(context: ChildContext) -> None:
        context.started()
        try:
            await trio.sleep_forever()
        finally:
            stage.trace.append("cancelled")

    begun = 0.0
    async with serving(Supervisor("root", [ChildSpec(name="deaf", start=deaf, shutdown=3)])):
        begun = trio.current_time()
    assert stage.take() == ["cancelled"]
    assert trio.current_time() == pytest.approx(begun + 3)


async def test_shutdown_zero_cancels_at_once():
    async def deaf(context: ChildContext) -> None:
        context.started()
        await trio.sleep_forever()

    async with serving(Supervisor("root", [ChildSpec(name="deaf", start=deaf, shutdown=0)])):
        begun = trio.current_time()
    assert trio.current_time() == begun


async def test_a_child_that_shields_itself_is_called_stuck_and_the_others_still_stop_in_order():
    stage = Stage()

    async def shielded(context: ChildContext) -> None:
        context.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(60)
        stage.trace.append("shielded ends")

    supervisor = Supervisor(
        "root", [stage.child("a"), ChildSpec(name="shielded", start=shielded, shutdown=1)]
    )
    async with serving(supervisor):
        stage.take()
        supervisor.request_stop()
        await trio.sleep(1 + KILL_GRACE + 0.5)
        assert states(supervisor) == {"a": State.STOPPED, "shielded": State.STOPPING}
    assert stage.take()[-1] == "shielded ends"


@pytest.mark.parametrize(
    ("restart", "abnormal", "comes_back"),
    [
        (Restart.PERMANENT, True, True),
        (Restart.PERMANENT, False, True),
        (Restart.TRANSIENT, True, True),
        (Restart.TRANSIENT, False, False),
        (Restart.TEMPORARY, True, False),
        (Restart.TEMPORARY, False, False),
    ],
)
async def test_restart_kinds(restart, abnormal, comes_back):
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a", restart=restart)], intensity=MANY)
    async with serving(supervisor):
        stage.take()
        await (stage.crash("a") if abnormal else stage.finish("a"))
        assert ("a ready" in stage.take()) is comes_back
        down = State.FAILED if abnormal else State.STOPPED
        assert states(supervisor) == {"a": State.RUNNING if comes_back else down}
        node = supervisor.snapshot().find("a")
        assert node.restarts == (1 if comes_back else 0)
        assert node.last_error == ("a is broken" if abnormal else None)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["b crashes", "b starts", "b ready"]),
        (
            Strategy.REST_FOR_ONE,
            ["b crashes", "c stops", "b starts", "b ready", "c starts", "c ready"],
        ),
        (
            Strategy.ONE_FOR_ALL,
            [
                *["b crashes", "c stops", "a stops"],
                *["a starts", "a ready", "b starts", "b ready", "c starts", "c ready"],
            ],
        ),
    ],
)
async def test_strategies(strategy, expected):
    stage = Stage()
    children = [stage.child(name) for name in "abc"]
    supervisor = Supervisor("root", children, strategy=strategy, intensity=MANY)
    async with serving(supervisor):
        stage.take()
        await stage.crash("b")
        assert stage.take() == expected
        assert supervisor.snapshot().ready


async def test_a_temporary_child_does_not_come_back_with_its_siblings():
    stage = Stage()
    children = [stage.child("a"), stage.child("b", restart=Restart.TEMPORARY)]
    supervisor = Supervisor("root", children, strategy=Strategy.ONE_FOR_ALL, intensity=MANY)
    async with serving(supervisor):
        await stage.crash("a")
        assert states(supervisor) == {"a": State.RUNNING, "b": State.STOPPED}


async def test_a_finished_transient_child_starts_afresh_with_its_siblings():
    stage = Stage()
    children = [stage.child("a"), stage.child("b", restart=Restart.TRANSIENT)]
    supervisor = Supervisor("root", children, strategy=Strategy.REST_FOR_ONE, intensity=MANY)
    async with serving(supervisor):
        await stage.finish("b")
        assert states(supervisor)["b"] is State.STOPPED
        await stage.crash("a")
        assert states(supervisor)["b"] is State.RUNNING


async def test_a_child_kept_down_by_an_operator_stays_down_when_its_siblings_restart():
    stage = Stage()
    children = [stage.child("a"), stage.child("b")]
    supervisor = Supervisor("root", children, strategy=Strategy.ONE_FOR_ALL, intensity=MANY)
    async with serving(supervisor):
        await supervisor.terminate_child("b")
        await stage.crash("a")
        assert states(supervisor) == {"a": State.RUNNING, "b": State.STOPPED}


async def test_a_sibling_that_fails_while_all_are_being_restarted_is_not_counted_again():
    stage = Stage()
    children = [stage.child("a"), stage.child("b", drain=2), stage.child("c", drain=2)]
    supervisor = Supervisor(
        "root", children, strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(restarts=1, period=60)
    )
    async with serving(supervisor):
        await stage.crash("a")  # c is asked to stop and drains, b waits for its turn
        await stage.crash("b")
        await trio.sleep(5)
        assert supervisor.snapshot().ready


async def test_intensity_counts_restarts_within_the_period_only():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a")], intensity=Intensity(restarts=2, period=10))
    async with serving(supervisor):
        for _ in range(6):
            await stage.crash("a")
            await stage.crash("a")
            assert states(supervisor) == {"a": State.RUNNING}
            await trio.sleep(10.5)


async def test_one_failure_too_many_stops_everything_and_fails_the_supervisor():
    stage = Stage()
    supervisor = Supervisor(
        "root",
        [stage.child("a"), stage.child("b")],
        intensity=Intensity(restarts=2, period=10),
    )
    with pytest.RaisesGroup(RestartsExhausted) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            for _ in range(3):
                await stage.crash("b")
    assert "b is broken" in str(caught.value.exceptions[0])
    assert stage.take()[-2:] == ["b crashes", "a stops"]
    assert supervisor.snapshot().state is State.FAILED


async def test_a_failure_escalates_to_the_parent_which_restarts_the_whole_branch_alone():
    stage = Stage()
    left = Supervisor("left", [stage.child("a"), stage.child("b")])  # OTP's default: one in 5 s
    right = Supervisor("right", [stage.child("c")])
    root = Supervisor("root", [left.as_child(), right.as_child()])
    async with serving(root):
        stage.take()
        await stage.crash("b")
        assert stage.take() == ["b crashes", "b starts", "b ready"]
        await stage.crash("b")
        assert stage.take() == [
            *["b crashes", "a stops"],
            *["a starts", "a ready", "b starts", "b ready"],
        ]
        node = root.snapshot().find("left")
        assert node.restarts == 1
        assert node.last_error is not None
        assert "b is broken" in node.last_error
        assert root.snapshot().find("right").restarts == 0


async def test_a_failing_first_start_stops_those_before_it_and_fails_the_supervisor():
    stage = Stage()
    supervisor = Supervisor(
        "root",
        [
            stage.child("a"),
            stage.child("b", fail_start=lambda _n: Boom("no port")),
            stage.child("c"),
        ],
        intensity=MANY,
    )
    with pytest.RaisesGroup(pytest.RaisesExc(ChildFailedToStart, match="no port")):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
    assert stage.take() == ["a starts", "a ready", "b starts", "a stops"]


async def test_a_failing_start_during_a_restart_counts_and_is_tried_again():
    stage = Stage()
    broken = {2, 3}
    supervisor = Supervisor(
        "root",
        [stage.child("a", fail_start=lambda n: Boom("not yet") if n in broken else None)],
        intensity=Intensity(restarts=3, period=10),
    )
    async with serving(supervisor):
        await stage.crash("a")
        await trio.testing.wait_all_tasks_blocked()
        assert states(supervisor) == {"a": State.RUNNING}
        assert supervisor.snapshot().find("a").restarts == 3


async def test_a_child_that_is_not_ready_in_time_has_failed():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("slow", ready_after=10, start_deadline=3)])
    begun = trio.current_time()
    with pytest.RaisesGroup(pytest.RaisesExc(ChildFailedToStart, match="not ready within 3 s")):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
    assert trio.current_time() == pytest.approx(begun + 3)


async def test_a_permanent_child_that_ends_before_it_is_ready_has_failed():
    async def nothing(_context: ChildContext) -> None:
        await trio.lowlevel.checkpoint()

    with pytest.RaisesGroup(pytest.RaisesExc(ChildFailedToStart, match="ended before")):
        async with trio.open_nursery() as nursery:
            await nursery.start(Supervisor("root", [ChildSpec(name="a", start=nothing)]).serve)


async def test_a_transient_child_may_finish_without_ever_being_ready():
    stage = Stage()

    async def migrate(_context: ChildContext) -> None:
        await trio.sleep(1)
        stage.trace.append("migrated")

    children = [
        ChildSpec(name="migrate", start=migrate, restart=Restart.TRANSIENT),
        stage.child("a"),
    ]
    async with serving(Supervisor("root", children)):
        assert stage.take() == ["migrated", "a starts", "a ready"]


async def test_immediate_readiness_needs_no_signal():
    async def silent(context: ChildContext) -> None:
        await context.stopping.wait()

    child = ChildSpec(name="silent", start=silent, readiness=Readiness.IMMEDIATE)
    supervisor = Supervisor("root", [child])
    async with serving(supervisor):
        assert states(supervisor) == {"silent": State.RUNNING}


async def test_backoff_grows_and_is_forgotten_after_a_good_while():
    stage = Stage()
    backoff = Backoff(first=1, factor=3, limit=5, jitter=0.5, reset_after=60)
    supervisor = Supervisor(
        "root",
        [stage.child("a", backoff=backoff), stage.child("b")],
        intensity=MANY,
        chance=lambda: 1.0,
    )
    async with serving(supervisor):
        for expected in (0.5, 1.5, 2.5, 2.5):
            await stage.crash("a")
            failed = trio.current_time()
            assert states(supervisor) == {"a": State.BACKING_OFF, "b": State.RUNNING}
            assert not supervisor.snapshot().ready
            await supervisor.wait_ready()
            assert trio.current_time() == pytest.approx(failed + expected)
        await trio.sleep(60)
        await stage.crash("a")
        failed = trio.current_time()
        await supervisor.wait_ready()
        assert trio.current_time() == pytest.approx(failed + 0.5)


async def test_an_operator_may_end_a_backoff_either_way():
    stage = Stage()
    told: list[str] = []
    patient = Backoff(first=60, limit=60, jitter=0)
    child = stage.child("a", backoff=patient, retired=lambda: told.append("a"))
    supervisor = Supervisor("root", [child], intensity=MANY)
    async with serving(supervisor):
        await stage.crash("a")
        begun = trio.current_time()
        await supervisor.start_child("a")
        await stage.crash("a")
        await supervisor.terminate_child("a")
        await trio.testing.wait_all_tasks_blocked()
        assert states(supervisor) == {"a": State.STOPPED}
        assert told == ["a"]
        assert trio.current_time() - begun < 1


async def test_a_slow_restart_does_not_hold_up_a_siblings():
    stage = Stage()
    slow = stage.child("slow", ready_after=20)
    supervisor = Supervisor("root", [slow, stage.child("b")], intensity=MANY)
    async with serving(supervisor):
        await stage.crash("slow")
        begun = trio.current_time()
        await stage.crash("b")
        assert states(supervisor) == {"slow": State.STARTING, "b": State.RUNNING}
        assert trio.current_time() == begun


async def test_a_stop_request_interrupts_a_slow_start():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("slow", ready_after=20, shutdown=1)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.serve)
        await trio.sleep(2)
        begun = trio.current_time()
        supervisor.request_stop()
    assert trio.current_time() == pytest.approx(begun + 1)


async def test_one_exception_never_touches_a_sibling_even_in_a_group_with_a_cancellation():
    stage = Stage()

    async def tangled(context: ChildContext) -> None:
        context.started()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def fail_while_being_cancelled() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise Boom("in clean-up")

            await context.stopping.wait()
            await trio.sleep_forever()

    supervisor = Supervisor(
        "root", [stage.child("a"), ChildSpec(name="tangled", start=tangled, shutdown=1)]
    )
    async with serving(supervisor):
        await supervisor.terminate_child("tangled")
        assert states(supervisor) == {"a": State.RUNNING, "tangled": State.STOPPED}
        assert supervisor.snapshot().find("tangled").last_error == "in clean-up"


async def test_an_outer_cancellation_passes_through_and_leaves_no_child():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a")])
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            scope.cancel()
    assert scope.cancelled_caught
    assert stage.take()[-1] == "a cancelled"
    assert states(supervisor) == {"a": State.STOPPED}


async def test_operations_by_name():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a"), stage.child("b")])
    async with serving(supervisor):
        stage.take()
        assert await supervisor.restart_child("a") == "A"
        assert stage.take() == ["a stops", "a starts", "a ready"]
        assert await supervisor.start_child("a") == "A"
        assert stage.take() == []
        await supervisor.terminate_child("a")
        await supervisor.terminate_child("a")
        assert states(supervisor)["a"] is State.STOPPED
        assert await supervisor.start_child("a") == "A"
        assert await supervisor.add_child(stage.child("c")) == "C"
        with pytest.raises(SupervisionError, match="already"):
            await supervisor.add_child(stage.child("c"))
        await supervisor.remove_child("c")
        assert list(states(supervisor)) == ["a", "b"]
        with pytest.raises(UnknownChild):
            await supervisor.start_child("z")
        assert supervisor.snapshot().find("a").restarts == 0
    with pytest.raises(SupervisionError, match="not running"):
        await supervisor.start_child("a")


async def test_a_failing_start_by_name_is_the_callers_and_costs_no_restart():
    stage = Stage()
    bad = stage.child("bad", fail_start=lambda _n: Boom("no port"))
    supervisor = Supervisor("root", [stage.child("a")], intensity=Intensity(restarts=0))
    async with serving(supervisor):
        with pytest.raises(ChildFailedToStart, match="no port"):
            await supervisor.add_child(bad)
        assert states(supervisor) == {"a": State.RUNNING}


async def test_a_dynamic_temporary_child_is_forgotten_when_it_ends():
    stage = Stage()
    supervisor = Supervisor("root")
    async with serving(supervisor):
        await supervisor.add_child(stage.child("once", restart=Restart.TEMPORARY))
        await stage.finish("once")
        assert states(supervisor) == {}


async def test_the_specification_is_told_once_when_a_child_will_not_come_back():
    stage = Stage()
    told: list[str] = []
    children = [
        stage.child(name, restart=kind, retired=lambda name=name: told.append(name))
        for name, kind in [("a", Restart.PERMANENT), ("b", Restart.TEMPORARY)]
    ]
    async with serving(Supervisor("root", children, intensity=MANY)):
        await stage.crash("a")
        await stage.crash("b")
        assert told == ["b"]
    assert told == ["b", "a"]


async def test_a_child_learns_whether_its_stop_is_part_of_a_restart():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a")])
    async with serving(supervisor):
        first = stage.contexts["a"]
        await supervisor.restart_child("a")
        assert first.restarting
        second = stage.contexts["a"]
        assert second.incarnation == 2
    assert not second.restarting


async def test_the_snapshot_shows_what_children_tell_and_survives_json():
    async def busy(context: ChildContext) -> None:
        context.observe(lambda: Observation(details={"depth": 3}))
        context.started()
        await context.stopping.wait()

    inner = Supervisor("inner", [ChildSpec(name="busy", start=busy, kind="actor")], kind="group")
    root = Supervisor("root", [inner.as_child()])
    async with serving(root):
        node = root.snapshot().find("inner", "busy")
        assert node.details == {"depth": 3}
        assert [path for path, _ in root.snapshot().walk()] == [
            *["root", "root/inner", "root/inner/busy"]
        ]
        tree = root.snapshot().as_dict()
        assert tree["children"][0]["kind"] == "group"
        assert tree["children"][0]["children"][0]["state"] == "running"


async def test_unforeseen_errors_show_their_place_but_not_their_words():
    async def leaky(context: ChildContext) -> None:
        context.started()
        raise RuntimeError("postgresql://user:hunter2@host/")

    supervisor = Supervisor(
        "root", [ChildSpec(name="leaky", start=leaky, restart=Restart.TEMPORARY)]
    )
    async with serving(supervisor):
        await trio.testing.wait_all_tasks_blocked()
        shown = supervisor.snapshot().find("leaky").last_error
        assert shown is not None
        assert shown.startswith("RuntimeError in test_supervisor.leaky")
        assert "hunter2" not in shown


async def test_a_supervisor_runs_again_from_its_own_list():
    stage = Stage()
    supervisor = Supervisor("root", [stage.child("a")])
    async with serving(supervisor):
        await supervisor.add_child(stage.child("b"))
    async with serving(supervisor):
        assert states(supervisor) == {"a": State.RUNNING}


def test_specifications_are_checked():
    with pytest.raises(ValueError, match="share a name"):
        Supervisor("root", [Stage().child("a"), Stage().child("a")])
    with pytest.raises(ValueError, match="slash"):
        Stage().child("a/b")
    with pytest.raises(ValueError, match="jitter"):
        Backoff(jitter=2)
    with pytest.raises(ValueError, match="period"):
        Intensity(period=0)
    assert Backoff(first=1, factor=1.0001, limit=9, jitter=0).delay(10**9, 0) <= 9
    assert Backoff(first=1, limit=math.inf, jitter=0).delay(10**9, 0) < math.inf
