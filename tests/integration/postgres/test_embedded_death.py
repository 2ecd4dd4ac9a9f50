"""Every way in which one of the three processes can go, and what must be left of the others."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import trio

from tests.support.embedded import QUICK, fetch, refuses, value
from troupe.common.bridge import aio, open_bridge
from troupe.common.errors import DatabaseUnavailable
from troupe.common.postgres import (
    ClusterSettings,
    EmbeddedPostgres,
    PostgresDied,
    start_embedded,
    start_embedded_sync,
)
from troupe.common.postgres._layout import Layout
from troupe.common.postgres._processes import processes_at
from troupe.common.units import SECONDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
INSERT = "INSERT INTO public.t SELECT FROM generate_series(1, 100)"
COMPUTE = "SELECT count(*) FROM generate_series(1, 100000000000)"

SUPERVISOR = """
import sys, trio
from pathlib import Path
from troupe.common.bridge import open_bridge
from troupe.common.postgres import start_embedded

async def main():
    async with open_bridge(), start_embedded(Path(sys.argv[1])) as server:
        print(server.pid, server.owner_url, server.data_directory, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_gone(process: int, deadline: float = 15 * SECONDS) -> None:
    """Wait until the process behind a pidfd has ended."""
    assert select.select([process], [], [], deadline)[0], "it is still there"
    os.close(process)


@contextmanager
def supervisor(state: Path) -> Iterator[tuple[subprocess.Popen[str], int, str, Path]]:
    """A program of its own that runs a server; process, postmaster, owner URL, data."""
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            # Start-up events are on standard output too until logging is configured.
            line = next(line for line in process.stdout if "postgresql://" in line)
            pid, url, data = line.split()
            yield process, int(pid), url, Path(data)
        finally:
            process.kill()


def test_the_supervisor_is_killed(tmp_path: Path) -> None:
    with supervisor(tmp_path) as (process, postmaster, url, data):
        value(url, "CREATE TABLE public.kept ()")
        gone = [os.pidfd_open(pid) for pid in (postmaster, parent_of(postmaster))]
        process.kill()
        for one in gone:
            wait_gone(one)
        assert processes_at(data) == []
    with start_embedded_sync(tmp_path, QUICK) as server:
        assert value(server.owner_url, "SELECT 1 FROM public.kept") is None
        assert server.owner_url == url  # passwords and port are kept


async def test_the_supervisor_is_killed_under_load(tmp_path: Path) -> None:
    async with open_bridge(), trio.open_nursery() as nursery:
        with supervisor(tmp_path) as (process, postmaster, url, data):

            async def insert() -> None:
                connection = await asyncpg.connect(url)
                with contextlib.suppress(*LOST):
                    while True:
                        await connection.execute(INSERT)
                connection.terminate()

            async def compute() -> None:
                with pytest.raises(LOST):
                    await fetch(url, COMPUTE)

            await aio(fetch(url, "CREATE TABLE public.t ()"))
            nursery.start_soon(aio, insert())
            nursery.start_soon(aio, compute())
            await until_active(url, 2)
            gone = os.pidfd_open(postmaster)
            process.kill()
            await trio.to_thread.run_sync(wait_gone, gone)
        async with start_embedded(tmp_path, QUICK) as server:
            rows = await aio(fetch(server.owner_url, "SELECT count(*) % 100 FROM public.t"))
            assert rows[0][0] == 0
        assert processes_at(data) == []


async def until_active(url: str, wanted: int) -> None:
    """Wait until so many other sessions run a statement."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query !~ 'pg_stat'"
    with trio.fail_after(10 * SECONDS):
        while (await aio(fetch(url, others)))[0][0] < wanted:
            await trio.lowlevel.checkpoint()


def test_the_supervisor_is_killed_while_the_cluster_is_made(tmp_path: Path) -> None:
    building = tmp_path / "postgres" / "data.new"
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        end = time.monotonic() + 10 * SECONDS
        while not (building / "global").exists():
            assert time.monotonic() < end
        process.kill()
    assert not (tmp_path / "postgres" / "data").exists()
    with start_embedded_sync(tmp_path, QUICK) as server:
        assert value(server.owner_url, "SELECT 1") == 1
    assert not building.exists()


def test_the_next_start_waits_for_the_last_shutdown(tmp_path: Path) -> None:
    with supervisor(tmp_path) as (process, postmaster, _, _):
        gone = os.pidfd_open(postmaster)
        process.kill()
        process.wait()
        with start_embedded_sync(tmp_path, QUICK) as server:
            wait_gone(gone, 0)
            assert value(server.owner_url, "SELECT 1") == 1


def test_interrupt_in_the_terminal_is_for_the_supervisor_alone(tmp_path: Path) -> None:
    with supervisor(tmp_path) as (process, postmaster, _, _):
        assert os.getsid(postmaster) != os.getsid(process.pid)
        assert os.getpgid(parent_of(postmaster)) != os.getpgid(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(15 * SECONDS) != 0
    log = (tmp_path / "postgres" / "log" / "postgres.log").read_text()
    assert log.count("received fast shutdown request") == 1
    assert log.rstrip().endswith("database system is shut down")


async def watch(server: EmbeddedPostgres) -> str:
    with trio.fail_after(20 * SECONDS):
        death = await server.wait_death()
    assert isinstance(death, PostgresDied)
    return str(death)


async def test_the_postmaster_is_killed_while_a_backend_computes(tmp_path: Path) -> None:
    async with open_bridge(), trio.open_nursery() as nursery:
        async with start_embedded(tmp_path, QUICK) as server:

            async def compute() -> None:
                with pytest.raises(LOST):
                    await fetch(server.owner_url, COMPUTE)

            nursery.start_soon(aio, compute())
            await until_active(server.owner_url, 1)
            os.kill(server.pid, signal.SIGKILL)
            assert await watch(server) == "PostgreSQL stopped: ended by SIGKILL."
            assert processes_at(server.data_directory) == []
            port = server.port
        async with start_embedded(tmp_path, QUICK) as server:
            assert server.port == port
            assert await aio(fetch(server.owner_url, "SELECT 1"))


async def test_the_keeper_is_killed(tmp_path: Path) -> None:
    async with open_bridge():
        async with start_embedded(tmp_path, QUICK) as server:
            gone = os.pidfd_open(server.pid)
            os.kill(parent_of(server.pid), signal.SIGKILL)
            assert await watch(server) == (
                "PostgreSQL stopped: the process that keeps it was killed."
            )
            await trio.to_thread.run_sync(wait_gone, gone)
        async with start_embedded(tmp_path, QUICK) as server:
            assert await aio(fetch(server.owner_url, "SELECT 1"))


async def test_a_backend_is_killed(tmp_path: Path) -> None:
    """PostgreSQL recovers by itself, also below a directory that its account cannot enter."""
    async with open_bridge(), start_embedded(tmp_path, QUICK) as server:

        async def kill_backend() -> None:
            connection = await asyncpg.connect(server.owner_url)
            os.kill(connection.get_server_pid(), signal.SIGKILL)
            with pytest.raises(LOST):
                await connection.fetch("SELECT pg_sleep(60)")
            connection.terminate()

        await aio(kill_backend())
        with trio.fail_after(10 * SECONDS):
            while True:
                try:
                    rows = await aio(fetch(server.admin_url, "SELECT pg_reload_conf()"))
                except (asyncpg.PostgresError, OSError):
                    await trio.lowlevel.checkpoint()
                else:
                    assert rows[0][0] is True
                    break
        assert server.pid in (processes_at(server.data_directory) or ())


async def test_several_may_watch_and_a_stop_is_no_death(tmp_path: Path) -> None:
    async with open_bridge(), trio.open_nursery() as nursery:
        said = []

        async def note() -> None:
            said.append(str(await server.wait_death()))

        async with start_embedded(tmp_path, QUICK) as server:
            nursery.start_soon(note)
            nursery.start_soon(note)
            await trio.testing.wait_all_tasks_blocked()
    assert said == ["PostgreSQL was stopped."] * 2


async def test_a_session_that_does_not_end_delays_the_stop_only_so_long(tmp_path: Path) -> None:
    settings = ClusterSettings(durable=False, fast_deadline=1 * SECONDS)
    async with open_bridge():
        async with start_embedded(tmp_path, settings) as server:
            # A stopped process handles no signal, so the fast shutdown would wait for ever.
            connection = await aio(asyncpg.connect(server.owner_url))
            os.kill(connection.get_server_pid(), signal.SIGSTOP)
            started = trio.current_time()
        assert 1 * SECONDS <= trio.current_time() - started < 15 * SECONDS
        assert processes_at(server.data_directory) == []
        connection.terminate()


def test_who_still_works_on_the_cluster_is_named(tmp_path: Path) -> None:
    with start_embedded_sync(tmp_path, QUICK) as server:
        data = server.data_directory
    layout = Layout(tmp_path)
    hurried = ClusterSettings(durable=False, lock_deadline=0)
    with (
        layout.lock_cluster(0, lambda: None) as lock,
        subprocess.Popen(
            ["/bin/cat"], stdin=subprocess.PIPE, cwd=data, pass_fds=[lock.descriptor]
        ) as orphan,
    ):
        lock.close()
        words = rf"stop process {orphan.pid}\."
        refuses(tmp_path, words, settings=hurried, kind=DatabaseUnavailable)
        orphan.communicate()
    with start_embedded_sync(tmp_path, hurried):
        pass
