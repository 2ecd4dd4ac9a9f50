"""The process backend against children of every kind, good and strange."""

import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from troupe.common.errors import DatabaseUnavailable, TroupeError
from troupe.platform.errors import (
    ChildFailedToStart,
    ProcessEnded,
    ProcessError,
    ProcessStuck,
    ProtocolBroken,
    RestartsExhausted,
)
from troupe.platform.processes import ProcessBackend, ProcessSettings
from troupe.platform.processes._backend import KILLED_AFTER
from troupe.platform.supervision import (
    Backoff,
    ChildContext,
    ChildSpec,
    Intensity,
    State,
    Supervisor,
)

STRANGE = Path(__file__).parents[2] / "support" / "strange_child.py"
NO_WAIT = Backoff()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    with trio.fail_after(60):
        yield


def backend(listener: socket.socket, mode: str, **settings: Any) -> ProcessBackend:
    given = {"grace": 1.0, "start_deadline": 20.0} | settings
    return ProcessBackend(
        ProcessSettings(group="data", command=(sys.executable, "-I", str(STRANGE), mode), **given),
        sockets={"listener": listener},
        assignment=lambda name: {"name": name},
        database_url=lambda: "postgresql://somewhere",
        group=lambda: {"children": []},
    )


async def fate(listener: socket.socket, mode: str, **settings: Any) -> Exception | None:
    """How one incarnation ends by itself."""
    specification = backend(listener, mode, **settings).child_spec(
        "data-1", backoff=NO_WAIT, abreast=False
    )
    try:
        await specification.backend.run(specification, ChildContext("data-1"))
    except TroupeError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("mode", "kind", "says"),
    [
        ("crash", ProcessEnded, "ended with code 3"),
        ("garbage", ProtocolBroken, "not a message"),
        ("endless", ProtocolBroken, "more than"),
        ("no_tree", ProtocolBroken, "no tree"),
        ("wrong_pong", ProtocolBroken, "nobody sent"),
        ("mute", ProcessStuck, "did not turn for 0.5 s"),
        ("blame_database", DatabaseUnavailable, "data-1: PostgreSQL is not there"),
        ("parent", ProcessEnded, "SIGKILL"),
    ],
)
async def test_a_failure_is_told_as_what_it_is(
    listener: socket.socket, mode: str, kind: type[Exception], says: str
) -> None:
    error = await fate(listener, mode, watchdog=0.5)
    assert type(error) is kind
    assert says in str(error)
    assert "canary" not in str(error)


async def test_one_that_hangs_up_and_goes_on_is_killed(listener: socket.socket) -> None:
    begun = trio.current_time()
    error = await fate(listener, "hang_up", watchdog=0)
    assert type(error) is ProtocolBroken
    assert trio.current_time() - begun < 10


async def test_an_end_is_noticed_where_the_system_has_no_descriptors_of_processes(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_pid: int) -> int:
        raise PermissionError(1, "not here")

    monkeypatch.setattr(os, "pidfd_open", refused)
    error = await fate(listener, "late_crash")
    assert "ended with code 3" in str(error)


async def test_a_normal_exit_is_one(listener: socket.socket) -> None:
    assert await fate(listener, "finish") is None


async def test_a_child_of_a_child_does_not_outlive_it(listener: socket.socket) -> None:
    with structlog.testing.capture_logs() as events:
        await fate(listener, "parent")
    (text,) = (event["text"] for event in events if event["event"] == "process_output")
    grandchild = int(text.split()[1])
    while _runs(grandchild):
        await trio.sleep(0.02)


async def test_one_that_does_not_stop_is_killed_after_its_grace(listener: socket.socket) -> None:
    async with running(listener, "deaf_to_stop", grace=0.5) as supervisor:
        pid = supervisor.snapshot().find("data-1").details["pid"]
        begun = trio.current_time()
    assert 0.5 <= trio.current_time() - begun <= 0.5 + KILLED_AFTER + 0.3
    assert not _runs(int(str(pid)))


async def test_a_good_one_is_stopped_at_once_and_leaves_nothing_open(
    listener: socket.socket,
) -> None:
    async with running(listener, "good"):
        pass
    before = _open_descriptors()
    async with running(listener, "good") as supervisor:
        begun = trio.current_time()
        assert supervisor.snapshot().ready
        assert _open_descriptors() > before
    assert trio.current_time() - begun < 0.9
    assert _open_descriptors() == before


async def test_one_that_is_cancelled_is_gone(listener: socket.socket) -> None:
    specification = backend(listener, "good").child_spec("x", backoff=NO_WAIT, abreast=False)
    ready = trio.Event()
    context = ChildContext("x", on_started=lambda _pid: ready.set())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(specification.backend.run, specification, context)
        await ready.wait()
        pid = int(str(context.observation().details["pid"]))
        nursery.cancel_scope.cancel()
    assert not _runs(pid)


async def test_one_that_ends_before_it_is_ready_fails_the_start(listener: socket.socket) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(ChildFailedToStart, match="before it was ready"), flatten_subgroups=True
    ):
        async with running(listener, "never_ready"):
            pytest.fail("it cannot be ready")


async def test_intensity_and_backoff_are_those_of_any_child(listener: socket.socket) -> None:
    """The same fate in a task and in a process leaves the same trace in the log."""

    async def late_crash(context: ChildContext) -> None:
        context.started()
        await trio.sleep(0.3)
        raise ProcessError("it crashes")

    backoff = Backoff(first=0.05, factor=3, jitter=0)
    task = ChildSpec(name="data-1", start=late_crash, backoff=backoff, shutdown=1)
    process = backend(listener, "late_crash").child_spec("data-1", backoff=backoff, abreast=False)
    traces = [await _trace_of(child) for child in (task, process)]
    assert traces[0] == traces[1]
    assert [event for event in traces[0] if event[0] == "child_restarting"] == [
        ("child_restarting", 0.05),
        ("child_restarting", 0.15),
        ("child_restarting", 0.45),
    ]
    assert ("supervisor_failed", None) in traces[0]


async def _trace_of(child: ChildSpec) -> list[tuple[str, Any]]:
    supervisor = Supervisor("data", [child], intensity=Intensity(restarts=3, period=60))
    with structlog.testing.capture_logs() as events, pytest.raises(RestartsExhausted):
        await supervisor.serve()
    return [
        (event["event"], event.get("delay"))
        for event in events
        if event["event"].startswith(("child_", "supervisor_"))
    ]


async def test_what_it_writes_is_attributed_and_structured_lines_stay_structured(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    with structlog.testing.capture_logs() as events:
        async with running(listener, "talkative") as supervisor:
            pid = supervisor.snapshot().find("data-1").details["pid"]
            with trio.fail_after(10):
                while not any("broken" in str(event.get("text")) for event in events):
                    await trio.sleep(0.02)
    whose = {"group": "data", "instance": "data-1", "process": pid}
    (structured,) = (record.msg for record in caplog.records if isinstance(record.msg, dict))
    assert structured == whose | {
        "event": "something_happened",
        "level": "error",
        "logger": "their.logger",
        "key": 7,
    }
    plain = [event for event in events if event["event"] == "process_output"]
    assert all(event.items() >= whose.items() for event in plain)
    texts = [(event["stream"], event["text"]) for event in plain]
    out = [text for stream, text in texts if stream == "stdout"]
    assert out[:2] == ["plain", r"\xff\xfe"]
    assert "".join(out[2:]) == "y" * 200_000
    assert max(map(len, out)) <= 65536
    err = [text for stream, text in texts if stream == "stderr"]
    assert err == [json.dumps({"neither": "event", "nor": "level"}), "{broken"]


async def test_a_killed_one_is_replaced_under_its_name(listener: socket.socket) -> None:
    async with running(listener, "good") as supervisor:
        old = supervisor.snapshot().find("data-1").details["pid"]
        os.kill(int(str(old)), signal.SIGKILL)
        while True:
            await trio.sleep(0.02)
            node = supervisor.snapshot().find("data-1")
            if node.state is State.RUNNING and node.details["pid"] != old:
                break
        assert node.restarts == 1
        assert "SIGKILL" in str(node.last_error)


@asynccontextmanager
async def running(listener: socket.socket, mode: str, **settings: Any) -> AsyncIterator[Supervisor]:
    """One such child under a supervisor while the context is open."""
    child = backend(listener, mode, **settings).child_spec("data-1", backoff=NO_WAIT, abreast=False)
    supervisor = Supervisor("data", [child], intensity=Intensity(restarts=5))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.serve)
        yield supervisor
        supervisor.request_stop()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1][1] != "Z"
    except OSError:
        return False


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
