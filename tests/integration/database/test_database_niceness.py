"""Sessions that give way."""

import os
from pathlib import Path

import pytest

from tests.support.postgres import TestDatabase
from troupe.common.database import PoolSettings, open_database
from troupe.common.database import _niceness as niceness
from troupe.common.niceness import keep_off, reserved

PID = "SELECT pg_backend_pid()"


def session_niceness(pid: int) -> int | None:
    """That of the session which it leads; None where the kernel does not divide by sessions."""
    told = Path(f"/proc/{pid}/autogroup")
    return int(told.read_text().split()[-1]) if told.exists() else None


async def test_the_servers_process_of_a_session_gives_way(
    bridge: None, fresh_database: TestDatabase
) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    for wanted in (0, 7):
        settings = PoolSettings(niceness=wanted)
        async with open_database(
            fresh_database.runtime_url, connections=1, settings=settings
        ) as database:
            pid = await database.fetch_value(PID)
            assert os.getpriority(os.PRIO_PROCESS, pid) == (wanted or ours)
            assert session_niceness(pid) in (None, wanted)


async def test_the_servers_process_of_a_session_leaves_processors_to_others(
    bridge: None, fresh_database: TestDatabase
) -> None:
    kept_free = reserved(1)
    for wanted, expected in ((0, frozenset()), (7, kept_free)):
        settings = PoolSettings(niceness=wanted, keep_off=kept_free)
        async with open_database(
            fresh_database.runtime_url, connections=1, settings=settings
        ) as database:
            pid = await database.fetch_value(PID)
            assert os.sched_getaffinity(pid) == os.sched_getaffinity(0) - expected


async def test_sessions_that_give_way_to_nobody_run_where_the_server_does_not(
    bridge: None, fresh_database: TestDatabase
) -> None:
    kept_free = reserved(1)
    async with open_database(fresh_database.runtime_url, connections=1) as database:
        pid = await database.fetch_value(PID)
        keep_off(pid, kept_free)  # as if its server did
        assert os.sched_getaffinity(pid) == os.sched_getaffinity(0) - kept_free

        async def unit(connection: object) -> bool:
            return await niceness.place(connection, 0, kept_free)  # type: ignore[arg-type]

        assert await database.run(unit) is False
        assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)


@pytest.mark.parametrize("title", [b"postgres: me db 10.0.0.7(1) idle", b"vim", b""])
async def test_a_process_that_is_not_beyond_doubt_ours_is_left_alone(
    bridge: None,
    fresh_database: TestDatabase,
    monkeypatch: pytest.MonkeyPatch,
    title: bytes,
) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _: title)
    monkeypatch.setattr(os, "setpriority", lambda *_: pytest.fail("touched"))
    async with open_database(
        fresh_database.runtime_url, connections=1, settings=PoolSettings(niceness=7)
    ) as database:

        async def unit(connection: object) -> bool:
            return await niceness.place(connection, 7)  # type: ignore[arg-type]

        assert await database.run(unit) is False
