"""Groups in processes: who is hurt by what, how soon it is over, and what is told about it."""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import trio

from tests.integration.placement.conftest import Install, instances, pids, until_replaced
from troupe.platform.errors import ChildFailedToStart
from troupe.platform.supervision import State

REPLACED = 5
"""Seconds after the watchdog's limit within which a stuck process is replaced, unless the machine
is so busy that the imports alone take most of that."""
WORKERS = 4


@asynccontextmanager
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    # A connection for each request, so that both processes get some.
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(timeout=30, limits=limits) as opened:
        yield opened


class Load:
    """Requests to one URL from several workers, until it is told to finish."""

    def __init__(self, url: str, *, pause: float = 0.005) -> None:
        self._url = url
        self._pause = pause
        self.answered: Counter[str] = Counter()
        self.failed = 0
        self._finished = False

    def finish(self) -> None:
        """Begin no more requests; those under way are answered."""
        self._finished = True

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        async with client() as http:
            while not self._finished:
                try:
                    answer = await http.get(self._url)
                except httpx2.HTTPError:
                    self.failed += 1
                else:
                    assert answer.status_code == 200
                    self.answered[answer.text] += 1
                await trio.sleep(self._pause)

    async def more(self, count: int) -> None:
        goal = self.answered.total() + count
        while self.answered.total() < goal:
            await trio.sleep(0.01)


async def held_by(url: str, outcomes: list[int | None]) -> None:
    """One request; who answered it, None if nobody did."""
    async with client() as http:
        try:
            outcomes.append(int((await http.get(url)).text))
        except httpx2.HTTPError:
            outcomes.append(None)


async def imports_take() -> float:
    """Seconds for the largest part of a start, now."""
    begun = trio.current_time()
    await trio.run_process([sys.executable, "-c", "import troupe.instance, troupe.wiring.data"])
    return trio.current_time() - begun


async def test_a_killed_process_takes_along_what_it_held_and_nothing_else(install: Install) -> None:
    with trio.fail_after(120):
        async with install(processes=2) as installation:
            url = installation.urls["data"]
            victim, survivor = pids(installation)
            outcomes: list[int | None] = []
            load = Load(f"{url}/fault/pid")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                await load.more(40)
                assert set(load.answered) == {str(victim), str(survivor)}
                for _ in range(8):
                    nursery.start_soon(held_by, f"{url}/fault/hold", outcomes)
                await trio.sleep(0.5)
                os.kill(victim, signal.SIGKILL)
                await until_replaced(installation, victim, 2)
                await load.more(100)
                while len(outcomes) < 8:
                    await trio.sleep(0.05)
                load.finish()
            assert set(outcomes) <= {None, survivor}
            # Each worker has at most one request under way, and it is quick.
            assert load.failed <= WORKERS
            replaced = instances(installation)[0]
            assert replaced.restarts == 1
            assert "SIGKILL" in str(replaced.last_error)
            assert instances(installation)[1].restarts == 0


async def test_a_stuck_loop_is_replaced_in_time_while_the_others_answer(install: Install) -> None:
    limit = 2
    with trio.fail_after(120):
        async with install(processes=2, watchdog=limit) as installation:
            url = installation.urls["data"]
            before = set(pids(installation))
            others = Load(f"{installation.urls['auth']}/health/live", pause=0.1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(others.run)
                begun = trio.current_time()
                nursery.start_soon(held_by, f"{url}/fault/spin", [])
                while sum(instance.restarts for instance in instances(installation)) == 0:
                    await trio.sleep(0.02)
                found_out = trio.current_time() - begun
                while len(pids(installation)) < 2:
                    await trio.sleep(0.02)
                replaced = trio.current_time() - begun
                await others.more(20)
                others.finish()
            assert limit <= found_out <= limit + 2.5
            assert replaced <= limit + max(REPLACED, 2.5 + 2 * await imports_take())
            assert others.failed == 0
            (stuck,) = (i for i in instances(installation) if i.restarts)
            assert "did not turn" in str(stuck.last_error)
            assert len(before & set(pids(installation))) == 1


async def test_a_start_that_computes_for_longer_than_the_limit_is_left_alone(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT_START", os.environ.get("TROUPE_TEST_HARD_START", "6"))
    with trio.fail_after(180):
        async with install(watchdog=1) as installation:
            (instance,) = instances(installation)
            assert instance.restarts == 0
            assert instance.state is State.RUNNING


async def test_a_start_that_never_ends_is_given_up(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT_START", "600")
    expected = pytest.RaisesExc(ChildFailedToStart, match="not ready within 4 s")
    with trio.fail_after(120), pytest.RaisesGroup(expected, flatten_subgroups=True):
        async with install(start_deadline=4):
            pytest.fail("it cannot be ready")


async def test_one_that_eats_memory_is_replaced_while_the_other_groups_answer(
    install: Install,
) -> None:
    with trio.fail_after(120):
        async with install(memory_limit=400) as installation:
            (eater,) = pids(installation)
            others = Load(f"{installation.urls['analytics']}/health/live")
            outcomes: list[int | None] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(others.run)
                nursery.start_soon(held_by, f"{installation.urls['data']}/fault/eat", outcomes)
                await until_replaced(installation, eater, 1)
                await others.more(20)
                others.finish()
            assert outcomes == [None]
            assert others.failed == 0
            (instance,) = instances(installation)
            assert "more than its 400 MiB" in str(instance.last_error)


@pytest.mark.parametrize("what", ["spin", "hang"])
async def test_it_stops_in_time_although_a_loop_is_stuck_or_a_thread_hangs(
    install: Install, what: str
) -> None:
    grace = 2
    with trio.fail_after(120):
        async with (
            install(processes=2, grace=grace, watchdog=0) as installation,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(held_by, f"{installation.urls['data']}/fault/{what}", [])
            await trio.sleep(1)
            running = pids(installation)
            begun = time.monotonic()
            installation.request_stop()
            while not all(_is_gone(pid) for pid in running):
                await trio.sleep(0.02)
            took = time.monotonic() - begun
        assert grace <= took <= grace + 1


async def test_a_first_start_that_crashes_fails_the_whole_start_and_says_how(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT_CRASH", "1")
    expected = pytest.RaisesExc(ChildFailedToStart, match="SIGABRT")
    with trio.fail_after(120), pytest.RaisesGroup(expected, flatten_subgroups=True):
        async with install():
            pytest.fail("it cannot be ready")


async def test_the_tree_shows_processes_with_their_parts_to_whoever_asks_the_port(
    install: Install,
) -> None:
    with trio.fail_after(120):
        async with install(processes=2) as installation, client() as http:
            while True:
                answer = (await http.get(f"{installation.urls['data']}/health/ready")).json()
                children = answer["parts"]["children"]
                if all(child["children"] and "pid" in child["details"] for child in children):
                    break
                await trio.sleep(0.1)
            assert answer["status"] == "ready"
            assert [child["name"] for child in children] == ["data-1", "data-2"]
            assert {child["details"]["pid"] for child in children} == set(pids(installation))
            for child in children:
                assert child["kind"] == "process"
                assert child["details"]["lag_ms"] >= 0
                assert [part["name"] for part in child["children"]] == [
                    "database",
                    "peers",
                    "actors",
                    "http",
                ]


async def test_an_operator_recycles_a_process_with_sigterm_and_no_request_fails(
    install: Install,
) -> None:
    with trio.fail_after(120):
        async with install() as installation:
            (old,) = pids(installation)
            load = Load(f"{installation.urls['data']}/health/live")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                await load.more(20)
                os.kill(old, signal.SIGTERM)
                await until_replaced(installation, old, 1)
                await load.more(20)
                load.finish()
            assert load.failed == 0
            (instance,) = instances(installation)
            assert instance.last_error is None


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
