"""Deadlines reach the server, come back at once, and cost the pool nothing."""

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest
import structlog
import trio

from tests.integration.database.conftest import Onlooker
from tests.integration.database.proxy import open_proxy
from tests.support.postgres import TestDatabase
from troupe.common.database import (
    CommitUnknown,
    Database,
    PoolSettings,
    PoolStatistics,
    open_database,
)
from troupe.common.errors import DatabaseError, DatabaseUnavailable, DeadlineExceeded
from troupe.common.units import MILLISECONDS, SECONDS

ACTIVE = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE application_name = 'troupe' AND datname = current_database() AND state <> 'idle'"
)


async def test_a_deadline_returns_at_once_and_stops_the_server(
    database: Database, onlooker: Onlooker
) -> None:
    await database.fetch("SELECT 1")
    pid = await database.fetch_value("SELECT pg_backend_pid()")
    started = trio.current_time()
    with pytest.raises(DeadlineExceeded):
        await database.fetch("SELECT pg_sleep(5)", deadline=0.2)
    assert trio.current_time() - started < 0.2 + 0.3
    assert await onlooker.value(ACTIVE) == 0, "the server was told, and is done by now"
    assert database.statistics().idle == 1
    assert await database.fetch_value("SELECT pg_backend_pid()") == pid, "the connection is whole"


async def test_a_callers_own_scope_works_the_same_way(
    database: Database, onlooker: Onlooker
) -> None:
    with trio.move_on_after(0.2) as scope:
        await database.fetch("SELECT pg_sleep(5)")
    assert scope.cancelled_caught
    assert await onlooker.value(ACTIVE) == 0
    assert database.statistics().idle == 1


async def test_a_cancelled_unit_is_rolled_back(database: Database, onlooker: Onlooker) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        await connection.execute("INSERT INTO staging VALUES (1)")
        async with connection.transaction():
            await connection.execute("SELECT pg_sleep(5)")

    with pytest.raises(DeadlineExceeded):
        await database.run(unit, deadline=0.2)
    assert await onlooker.value("SELECT count(*) FROM staging") == 0
    assert database.statistics().idle == 1


async def test_500_random_deadlines_leave_a_pool_of_4_whole(
    database: Database, onlooker: Onlooker
) -> None:
    dice = random.Random(4)
    ends = {"in time": 0, "late": 0}

    async def one(nursery_slot: trio.Semaphore) -> None:
        async with nursery_slot:
            try:
                await database.fetch(
                    "SELECT pg_sleep($1)",
                    dice.uniform(0, 4 * MILLISECONDS),
                    # Most are near the end; some are in time on the slowest machine.
                    deadline=dice.choice([dice.uniform(0, 12 * MILLISECONDS)] * 3 + [30 * SECONDS]),
                )
            except DeadlineExceeded:
                ends["late"] += 1
            else:
                ends["in time"] += 1

    slots = trio.Semaphore(6)
    async with trio.open_nursery() as nursery:
        for _ in range(500):
            nursery.start_soon(one, slots)
    assert sum(ends.values()) == 500
    assert min(ends.values()) > 50, f"the dice should give both ends: {ends}"
    statistics = database.statistics()
    assert (statistics.busy, statistics.waiting) == (0, 0)
    assert statistics.idle <= 4
    assert await onlooker.value(ACTIVE) == 0
    assert await onlooker.backends() <= 4

    together = 0

    async def meet(connection: asyncpg.Connection) -> None:
        nonlocal together
        together += 1
        while together < 4:
            await asyncio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(database.run, meet)
    assert together == 4


async def test_waiting_for_a_connection_counts(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    async with (
        open_database(playground.runtime_url, connections=1) as database,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(database.fetch, "SELECT pg_sleep(0.6)")
        await onlooker.becomes(1, ACTIVE)
        started = trio.current_time()
        with pytest.raises(DeadlineExceeded):
            await database.fetch("SELECT 1", deadline=0.1)
        assert trio.current_time() - started < 0.4
        assert database.statistics().waiting == 0


async def test_connecting_counts(playground: TestDatabase, onlooker: Onlooker) -> None:
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=1) as database,
    ):
        proxy.hold()
        started = trio.current_time()
        with pytest.raises(DatabaseError):
            await database.fetch("SELECT 1", deadline=0.3)
        assert trio.current_time() - started < 1
        proxy.release()
        assert await database.fetch_value("SELECT 1") == 1


async def test_a_silent_server_costs_no_more_than_the_clean_up_deadline(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    settings = PoolSettings(clean_up_deadline=0.3 * SECONDS)
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=1, settings=settings) as database,
    ):

        async def unit(connection: asyncpg.Connection) -> None:
            proxy.hold()
            await connection.execute("SELECT 1")

        started = trio.current_time()
        with pytest.raises(DeadlineExceeded):
            await database.run(unit, deadline=0.2)
        assert trio.current_time() - started < 0.2 + 0.3 + 0.5
        assert database.statistics().busy == 0
        assert database.statistics().idle == 0, "the connection is given up"
        proxy.release()
        assert await database.fetch_value("SELECT 1") == 1


async def test_a_silent_connection_is_replaced_before_the_unit_begins(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    settings = PoolSettings(begin_deadline=0.3 * SECONDS)
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=2, settings=settings) as database,
        trio.open_nursery() as nursery,
    ):
        await database.fetch("SELECT 1")
        proxy.hold()
        begun = 0

        async def unit(connection: asyncpg.Connection) -> int:
            nonlocal begun
            begun += 1
            value: int = await connection.fetchval("SELECT 7")
            return value

        async def release_when_reconnecting() -> None:
            while proxy.accepted < 2:
                await trio.sleep(0.01)
            proxy.release()

        nursery.start_soon(release_when_reconnecting)
        with structlog.testing.capture_logs() as logs:
            assert await database.run(unit) == 7
        assert begun == 1
        assert any(
            entry["event"] == "database_connection_lost" and entry["silent"] for entry in logs
        )


async def test_a_commit_is_not_interrupted(playground: TestDatabase, onlooker: Onlooker) -> None:
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=1) as database,
        trio.open_nursery() as nursery,
    ):
        scope = trio.CancelScope()

        async def unit(connection: asyncpg.Connection) -> str:
            await connection.execute("INSERT INTO staging VALUES (5)")
            proxy.hold()  # what follows is the COMMIT
            return "committed"

        async def cancel_then_release() -> None:
            await trio.testing.wait_all_tasks_blocked(0.05)
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked(0.05)
            proxy.release()

        nursery.start_soon(cancel_then_release)
        result = None
        with scope:
            result = await database.run(unit)
        assert result == "committed"
        assert await onlooker.value("SELECT count(*) FROM staging WHERE id = 5") == 1
        assert database.statistics().idle == 1


async def test_a_commit_that_is_never_answered_is_unknown(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    settings = PoolSettings(clean_up_deadline=0.2 * SECONDS)
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=1, settings=settings) as database,
    ):

        async def unit(connection: asyncpg.Connection) -> None:
            await connection.execute("INSERT INTO staging VALUES (1)")
            proxy.hold()

        with structlog.testing.capture_logs(), pytest.raises(CommitUnknown):
            await database.run(unit, deadline=0.3)
        with pytest.raises(DatabaseError) as caught:
            await database.run(unit, deadline=0.3, read_only=True)
        assert not isinstance(caught.value, CommitUnknown)
        assert database.statistics().busy == 0


async def test_nobody_waits_for_the_end_of_what_only_read(
    bridge: None, playground: TestDatabase
) -> None:
    settings = PoolSettings(clean_up_deadline=0.5 * SECONDS)
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=1, settings=settings) as database,
    ):

        async def unit(connection: asyncpg.Connection) -> int:
            found: int = await connection.fetchval("SELECT pg_backend_pid()")
            proxy.hold()  # what follows is the COMMIT
            return found

        with trio.fail_after(0.4):
            first = await database.run(unit, read_only=True, isolation="repeatable_read")
        assert database.statistics() == PoolStatistics(size=1, busy=1, idle=0, waiting=0)
        proxy.release()
        assert await database.fetch_value("SELECT pg_backend_pid()") == first

        await database.run(unit, read_only=True)
        with trio.fail_after(2):  # it is never answered: the connection goes
            while database.statistics().busy:
                await trio.sleep(0.01)
        proxy.release()
        assert await database.fetch_value("SELECT pg_backend_pid()") != first


async def test_the_end_of_serializable_reading_may_fail_and_is_waited_for(
    bridge: None, playground: TestDatabase
) -> None:
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=1) as database,
    ):

        async def unit(connection: asyncpg.Connection) -> None:
            await connection.fetchval("SELECT 1")
            proxy.hold()

        with pytest.raises(DeadlineExceeded):
            await database.run(unit, deadline=0.3, read_only=True, isolation="serializable")


async def test_a_pool_that_closes_waits_for_the_end_of_what_only_read(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    async with open_database(playground.runtime_url, connections=1) as database:
        with structlog.testing.capture_logs() as logs:
            await database.fetch_value("SELECT 1", read_only=True)
            await database.close()
    assert logs == []
    await onlooker.becomes(
        0,
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'troupe'",
    )


async def test_cancelling_before_anything_ran_costs_no_connection(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=1) as database,
        trio.open_nursery() as nursery,
    ):
        await database.fetch("SELECT 1")
        proxy.hold()  # BEGIN is not answered
        begun = False

        async def unit(connection: asyncpg.Connection) -> None:
            nonlocal begun
            begun = True

        async def cancel_then_release() -> None:
            await trio.testing.wait_all_tasks_blocked(0.05)
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked(0.05)
            proxy.release()

        nursery.start_soon(cancel_then_release)
        with trio.CancelScope() as scope:
            await database.run(unit)
        assert scope.cancelled_caught
        assert not begun
        assert database.statistics().idle == 1
        assert proxy.accepted == 1


async def test_a_cancelled_copy_leaves_nothing_and_breaks_nothing(
    database: Database, onlooker: Onlooker
) -> None:
    fed = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal fed
        while True:
            fed += 1
            yield b"1\t{}\t1\n" * 1000
            await asyncio.sleep(0)

    async def unit(connection: asyncpg.Connection) -> None:
        await connection.copy_to_table("staging", source=endless())

    pid = await database.fetch_value("SELECT pg_backend_pid()")
    with pytest.raises(DeadlineExceeded):
        await database.run(unit, deadline=0.3)
    assert fed > 1
    assert await onlooker.value("SELECT count(*) FROM staging") == 0
    assert await database.fetch_value("SELECT pg_backend_pid()") == pid


async def test_a_unit_that_ignores_its_cancellation_loses_its_connection(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    settings = PoolSettings(clean_up_deadline=0.2 * SECONDS)
    async with open_database(playground.runtime_url, connections=1, settings=settings) as database:
        released = asyncio.Event()

        async def unit(connection: asyncpg.Connection) -> None:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue

        with structlog.testing.capture_logs() as logs, pytest.raises(DeadlineExceeded):
            await database.run(unit, deadline=0.1)
        assert [entry["event"] for entry in logs] == ["asyncio_task_abandoned"]
        assert database.statistics().idle == 0
        assert await database.fetch_value("SELECT 1") == 1
        with structlog.testing.capture_logs():
            released.set()
            await trio.testing.wait_all_tasks_blocked()


async def test_the_servers_limit_holds_when_ours_does_not(
    database: Database, onlooker: Onlooker
) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        await connection.execute("SET LOCAL statement_timeout = 50")
        await connection.execute("SELECT pg_sleep(5)")

    with pytest.raises(DeadlineExceeded, match="cancelled the statement"):
        await database.run(unit)


async def test_a_lost_connection_is_not_a_late_one(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    refused = playground.runtime_url.replace(f":{_port(playground)}/", ":1/")
    async with open_database(refused, connections=1) as database:
        started = trio.current_time()
        with structlog.testing.capture_logs() as logs, pytest.raises(DatabaseUnavailable):
            await database.fetch("SELECT 1", deadline=0.5)
        assert trio.current_time() - started < 1
        assert len([e for e in logs if e["event"] == "database_connect_failed"]) > 1, "it retried"


def _port(playground: TestDatabase) -> str:
    return playground.runtime_url.rsplit(":", 1)[1].split("/")[0]
