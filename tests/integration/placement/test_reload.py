"""Another configuration while it runs: nobody is refused, no job loses an attempt.

The storm is the short version; ``make chaos`` has a hundred reloads.
"""

import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from tests.support.load import Load
from tests.support.reloads import (
    Site,
    assert_nothing_lost,
    enqueue_steps,
    finished,
    site,
    storm,
)
from troupe.common.bridge import open_bridge
from troupe.common.database import open_database
from troupe.common.errors import CallerError, ConfigurationError
from troupe.common.postgres import running_server
from troupe.control import AskReload, AskScale, AskStatus, ask
from troupe.reload import NotApplied

PROCESS = {"placement": "process", "processes": 1}


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    with trio.fail_after(400):  # a tenth of it on a machine that has nothing else to do
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests that leave no trace."""
    with site(tmp_path_factory.mktemp("shared")) as running:
        yield running
    assert "Traceback" not in running.troupe.text()


@pytest.fixture
async def running(shared: Site) -> AsyncIterator[Site]:
    """The shared one, as it began."""
    yield shared
    shared.configure()
    await shared.reload()


def told(running: Site, event: str, since: int = 0) -> list[dict[str, Any]]:
    """Events of that name after the first so many."""
    return [e for e in running.events() if e["event"] == event][since:]


async def group(running: Site, name: str = "data") -> dict[str, Any]:
    """A group as the supervisor sees it."""
    tree: dict[str, Any] = (await ask(running.state, AskStatus(), deadline=10))["groups"][name]
    return tree


async def pids(running: Site) -> list[int]:
    """Processes of the data group that run."""
    children = (await group(running))["children"]
    return [c["details"]["pid"] for c in children if c["state"] == "running"]


def runs(pid: int) -> bool:
    """Whether it is there and not merely unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1][1] != "Z"
    except OSError:
        return False


async def test_reloads_under_load_fail_no_request_and_lose_no_attempt(tmp_path: Path) -> None:
    with site(tmp_path) as running:
        done = await storm(
            running, reloads=25, jobs=8, steps=20, pause=0.08, between=0.1, placement_every=5
        )
        done.books["live"].assert_spotless(at_least=500)
        done.books["database"].assert_spotless(at_least=10)
        done.books["neighbour"].assert_spotless(at_least=50)
        assert done.resumed >= 8  # the jobs did move
        assert running.troupe.stop() == 0
    assert "Traceback" not in running.troupe.text()


async def test_sizes_change_in_the_process_that_is_there_already(tmp_path: Path) -> None:
    with site(tmp_path, data=PROCESS) as running:
        before = await pids(running)
        running.configure(
            data={**PROCESS, "tasks": 7, "database_connections": 2, "mailbox": 9},
            log={"level": "debug"},
        )
        outcome = await running.reload()
        assert outcome["groups"] == {"data": "resize"}
        assert {change["effect"] for change in outcome["changes"]} == {"at once"}
        assert await pids(running) == before
        told = next(e for e in running.events() if e["event"] == "bounds_changed")
        assert told["process"] == before[0]
        assert (told["tasks"], told["database_connections"], told["log_level"]) == (7, 2, "debug")
        while True:  # the process tells about itself twice a second
            (instance,) = (await group(running))["children"]
            if instance["details"].get("tasks_limit") == 7:
                break
            await trio.sleep(0.1)
        # What it starts with after a crash is the same.
        os.kill(before[0], signal.SIGKILL)
        while not (after := await pids(running)) or after == before:
            await trio.sleep(0.1)
        while (await group(running))["children"][0]["details"].get("tasks_limit") != 7:
            await trio.sleep(0.1)


async def test_a_job_that_does_not_heed_is_cut_off_and_goes_on_elsewhere(tmp_path: Path) -> None:
    short: dict[str, Any] = {"shutdown": {"grace": 2}}
    with site(tmp_path, data=PROCESS, **short) as running:
        tenant, _token = running.tenant()
        url = running_server(running.state).runtime
        async with open_bridge(), open_database(url, connections=2) as database:
            await enqueue_steps(database, tenant, 4, steps=50, pause=0.1, heeds=False)
            await trio.sleep(0.5)
            running.configure(data={"placement": "inline"}, **short)
            await running.reload()
            jobs = await finished(database, tenant, 4)
        assert assert_nothing_lost(jobs, 50) == 4


async def test_a_mistake_changes_nothing_and_is_told_with_its_line(running: Site) -> None:
    before, refused = await group(running), len(told(running, "configuration_refused"))
    text = running.file.read_text(encoding="utf-8")
    line = text.splitlines().index("[groups.data]") + 2
    running.file.write_text(text.replace("[groups.data]", "[groups.data]\ntasks = 0"))
    result = running.command("reload")
    assert result.returncode == 3
    assert f"{running.file}: line {line}: groups.data.tasks" in result.stderr
    running.file.write_text(text + "[groups.data]\n")
    with pytest.raises(ConfigurationError, match=r"troupe\.toml: .*line \d+"):
        await running.reload()
    running.file.write_text(text.replace('style = "json"', 'style = "json"\nlevel = "loud"'))
    with pytest.raises(ConfigurationError, match=r"line \d+: log\.level"):
        await running.reload()
    assert (await group(running))["since"] == before["since"]
    assert len(told(running, "configuration_refused", refused)) == 3
    running.file.write_text(text)
    assert (await running.reload())["changes"] == []


async def test_what_needs_a_restart_is_refused_together_with_what_does_not(running: Site) -> None:
    running.configure(data={"port": 1, "tasks": 5})
    with pytest.raises(ConfigurationError, match=r"groups\.data\.port cannot be changed while"):
        await running.reload()
    running.configure(data={"placement": "elsewhere"})
    with pytest.raises(ConfigurationError, match="several hosts share one PostgreSQL"):
        await running.reload()
    running.configure(data={"database_connections": 100, "placement": "process"})
    with pytest.raises(ConfigurationError, match="embedded PostgreSQL was started for"):
        await running.reload()
    assert (await group(running))["details"]["tasks_limit"] == 32


async def test_sighup_reloads_and_the_log_says_what_came_of_it(running: Site) -> None:
    changed = len(told(running, "configuration_changed"))
    refused = len(told(running, "configuration_refused"))
    running.configure(data={"tasks": 5})
    running.troupe.process.send_signal(signal.SIGHUP)
    while not told(running, "configuration_changed", changed):
        await trio.sleep(0.05)
    assert (await group(running))["details"]["tasks_limit"] == 5
    (event,) = told(running, "configuration_changed", changed)
    assert event["changes"] == ["groups.data.tasks: 32 → 5 (at once)"]
    running.file.write_text("[groups.data\n")
    running.troupe.process.send_signal(signal.SIGHUP)
    while not told(running, "configuration_refused", refused):
        await trio.sleep(0.05)
    (event,) = told(running, "configuration_refused", refused)
    assert "line 1" in event["reason"]
    assert running.troupe.process.poll() is None


async def test_a_reload_during_a_reload_waits_for_its_turn_and_sees_the_file_as_it_is_then(
    running: Site,
) -> None:
    outcomes: list[dict[str, Any]] = []

    async def reload() -> None:
        outcomes.append(await running.reload())

    running.configure(data=PROCESS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reload)
        await trio.sleep(0.3)
        running.configure(data={**PROCESS, "tasks": 5})
        nursery.start_soon(reload)
        nursery.start_soon(reload)
        await trio.sleep(0.3)
        running.configure(data={**PROCESS, "tasks": 6})
        running.troupe.process.send_signal(signal.SIGHUP)
    first, *waited = outcomes
    assert len(first["changes"]) == 1
    # Of the two that waited whichever came first applied the file; we hear of them in any order.
    assert sorted(len(outcome["changes"]) for outcome in waited) == [0, 1]
    assert [change["after"] for outcome in waited for change in outcome["changes"]] == [6]
    assert len(await pids(running)) == 1


async def test_a_new_generation_that_does_not_start_leaves_the_old_one_in_force(
    tmp_path: Path,
) -> None:
    fault = tmp_path / "fault"
    extra = {"STEPPING_CRASH_START": str(fault)}
    with site(tmp_path, extra=extra) as running:
        load = Load(f"{running.urls['data']}/health/live", loyal=2, fickle=2)
        fault.touch()
        running.configure(data={**PROCESS, "tasks": 5}, auth={"session_idle": 77.0})
        async with load.running():
            with pytest.raises(NotApplied, match=r"data-1 did not start.*SIGABRT"):
                await running.reload()
            await load.more(20)
        load.books.assert_spotless(at_least=20)
        tree = await group(running)
        names = [child["name"] for child in tree["children"]]
        assert names == ["database", "peers", "actors", "http"]
        assert tree["details"]["tasks_limit"] == 32
        result = running.command("reload")
        assert (result.returncode, "the old one is" in result.stderr) == (8, True)
        fault.unlink()
        assert set((await running.reload())["groups"]) == {"auth", "data", "analytics"}
        assert len(await pids(running)) == 1


async def test_a_group_whose_process_crashes_over_and_over_can_be_reloaded(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    extra = {"STEPPING_CRASH_LATER": str(fault)}
    with site(tmp_path, data=PROCESS, extra=extra) as running:
        fault.touch()
        (pid,) = await pids(running)
        os.kill(pid, signal.SIGKILL)
        while (await group(running))["children"][0]["restarts"] < 3:
            await trio.sleep(0.1)
        running.configure(data={**PROCESS, "tasks": 5})  # what it starts with next time
        assert (await running.reload())["groups"] == {"data": "resize"}
        running.configure(data={"tasks": 5})
        assert (await running.reload())["groups"] == {"data": "move"}
        tree = await group(running)
        assert tree["ready"]
        assert tree["details"]["tasks_limit"] == 5


async def test_a_group_that_was_scaled_is_so_after_a_restart(tmp_path: Path) -> None:
    with site(tmp_path) as running:
        with pytest.raises(ConfigurationError, match="add --placement process"):
            await ask(running.state, AskScale(group="data", processes=2), deadline=30)
        with pytest.raises(ConfigurationError, match=r"groups\.data\.tasks"):
            await ask(running.state, AskScale(group="data", tasks=0), deadline=30)
        with pytest.raises(CallerError, match="no group nobody"):
            await ask(running.state, AskScale(group="nobody", tasks=4), deadline=30)
        result = running.command(
            *("scale", "data", "--tasks", "7", "--processes", "2", "--placement", "process"),
            "--json",
        )
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["groups"] == {"data": "move"}
        assert len(await pids(running)) == 2
        assert (await running.reload())["changes"] == []
        shown = json.loads(running.command("config", "show").stdout)
        assert shown["groups"]["data"]["tasks"] == 7
        assert running.troupe.stop() == 0
    with site(tmp_path) as running:
        assert len(await pids(running)) == 2
        result = running.command("scale", "data", "--reset")
        assert "groups.data.placement: process → inline" in result.stdout
        assert (await group(running))["details"]["tasks_limit"] == 32


async def test_a_scaled_key_that_the_environment_sets_is_refused(tmp_path: Path) -> None:
    extra = {"TROUPE_GROUPS__DATA__TASKS": "9"}
    with site(tmp_path, extra=extra) as running:
        with pytest.raises(ConfigurationError, match="TROUPE_GROUPS__DATA__TASKS in the environ"):
            await ask(running.state, AskScale(group="data", tasks=5), deadline=30)
        assert not (running.state / "scaled.json").exists()


async def test_the_state_can_be_seen_and_changed_while_no_process_of_a_group_answers(
    tmp_path: Path,
) -> None:
    short: dict[str, Any] = {"shutdown": {"grace": 2}}
    with site(tmp_path, data={**PROCESS, "watchdog": 0}, **short) as running:
        (pid,) = await pids(running)
        os.kill(pid, signal.SIGSTOP)
        result = running.command("status")
        assert result.returncode == 0, result.stderr
        assert f"pid {pid}" in result.stdout
        running.configure(data={"tasks": 5}, **short)
        begun = time.monotonic()
        outcome = await running.reload()
        assert outcome["groups"] == {"data": "move"}
        assert time.monotonic() - begun < 2 + 4  # the grace, and the start of what follows
        assert not runs(pid)


@pytest.mark.parametrize("moment", ["starting", "draining"])
async def test_a_stop_during_a_reload_takes_no_longer_than_any(tmp_path: Path, moment: str) -> None:
    grace = 2
    both: dict[str, Any] = {"shutdown": {"grace": grace}}
    with site(tmp_path, data=PROCESS, **both) as running:
        tenant, _token = running.tenant()
        url = running_server(running.state).runtime
        async with open_bridge(), open_database(url, connections=1) as database:
            await enqueue_steps(database, tenant, 2, steps=900, pause=0.1, heeds=False)
            await trio.sleep(0.5)
        old = await pids(running)
        running.configure(data={**PROCESS, "memory_limit": 2000}, **both)
        running.troupe.process.send_signal(signal.SIGHUP)
        events = [event["event"] for event in running.events()]
        if moment == "draining":
            while (await group(running))["children"][0]["details"].get("pid") in {None, *old}:
                await trio.sleep(0.02)
        else:
            while events.count("process_started") < 2:
                await trio.sleep(0.02)
                events = [event["event"] for event in running.events()]
        begun = time.monotonic()
        running.troupe.process.send_signal(signal.SIGTERM)
        started = [e["process"] for e in running.events() if e["event"] == "process_started"]
        while any(runs(pid) for pid in started):
            await trio.sleep(0.02)
        assert time.monotonic() - begun <= grace + 1
        assert running.troupe.stop() == 0
    assert "Traceback" not in running.troupe.text()


async def test_a_scrape_of_any_process_tells_the_figures_of_all(tmp_path: Path) -> None:
    with site(tmp_path, data={**PROCESS, "processes": 2}) as running:
        address = ("127.0.0.1", urlsplit(running.urls["data"]).port or 0)
        load = Load(f"{running.urls['data']}/api/v1/nothing", fickle=4)
        async with load.running():
            await load.more(50)
        text = await scraped(address)
        asked = load.books.answers.total()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert len({line.rsplit(" ", 1)[0] for line in lines}) == len(lines)  # no series twice
        counted = {
            replica: sum(
                float(line.rsplit(" ", 1)[1])
                for line in lines
                if line.startswith("troupe_http_requests_total{") and f'"{replica}"' in line
            )
            for replica in ("data-1", "data-2")
        }
        assert sum(counted.values()) == asked
        assert all(counted.values())
        assert 'troupe_replica_up{group="data",replica="data-2"} 1.0' in lines
        children = (await group(running))["children"]
        second = children[1]["details"]["pid"]
        os.kill(second, signal.SIGSTOP)
        while 'troupe_replica_up{group="data",replica="data-2"} 0.0' not in await scraped(address):
            await trio.sleep(0.05)
        os.kill(second, signal.SIGCONT)


async def scraped(address: tuple[str, int]) -> str:
    """What the one who takes the connection tells; asked again if that is nobody."""
    while True:
        with trio.move_on_after(5):
            async with await trio.open_tcp_stream(*address) as stream:
                request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                await stream.send_all(request)
                return b"".join([chunk async for chunk in stream]).decode()


async def test_the_door_is_private_and_withstands_nonsense(running: Site) -> None:
    path = running.state / "control.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    assert running.state.stat().st_mode & 0o777 == 0o700
    for nonsense in (b"\n", b"{}\n", b'{"version":2,"type":"status"}\n', b"x" * 2_000_000):
        stream = await trio.open_unix_socket(path)
        with trio.move_on_after(10):
            try:
                await stream.send_all(nonsense)
                assert await stream.receive_some() == b""
            except trio.BrokenResourceError:
                pass
        await stream.aclose()
    mute = [await trio.open_unix_socket(path) for _ in range(16)]
    await ask(running.state, AskStatus(), deadline=20)  # once the mute were sent away
    for stream in mute:
        await stream.aclose()
    assert running.troupe.process.poll() is None


async def test_a_path_of_any_length_will_do(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    with site(deep) as running:
        assert (await ask(running.state, AskStatus(), deadline=10))["state"] == "running"
        await ask(running.state, AskReload(), deadline=10)
