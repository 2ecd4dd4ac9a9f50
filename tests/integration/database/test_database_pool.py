"""The pool: bounded, fair, lazy, and able to change its size."""

import asyncio
from contextlib import suppress

import asyncpg
import trio

from tests.integration.database.conftest import Onlooker
from tests.support.postgres import TestDatabase
from troupe.common.database import Database, PoolSettings, PoolStatistics, open_database
from troupe.common.units import MILLISECONDS

PID = "SELECT pg_backend_pid()"


class Gate:
    """Units that hold their connections until told."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._opened = asyncio.Event()
        self.inside = 0

    async def hold(self) -> None:
        async def unit(connection: asyncpg.Connection) -> None:
            self.inside += 1
            await self._opened.wait()

        await self._database.run(unit)

    async def filled(self, count: int) -> None:
        with trio.fail_after(5):
            while self.inside < count:
                await trio.sleep(0.002)

    def open(self) -> None:
        self._opened.set()


async def test_it_connects_when_first_used(playground: TestDatabase, onlooker: Onlooker) -> None:
    async with open_database(playground.runtime_url, connections=4) as database:
        assert database.statistics() == PoolStatistics(size=4, busy=0, idle=0, waiting=0)
        assert await onlooker.backends() == 0
        await database.fetch("SELECT 1")
        assert database.statistics() == PoolStatistics(size=4, busy=0, idle=1, waiting=0)
    await onlooker.becomes(
        0,
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'troupe'",
    )


async def test_it_never_has_more_connections_than_it_may(
    database: Database, onlooker: Onlooker
) -> None:
    gate = Gate(database)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(gate.hold)
        await gate.filled(4)
        assert database.statistics() == PoolStatistics(size=4, busy=4, idle=0, waiting=6)
        assert await onlooker.backends() == 4
        gate.open()
    assert gate.inside == 10
    assert database.statistics() == PoolStatistics(size=4, busy=0, idle=4, waiting=0)


async def test_first_come_first_served(playground: TestDatabase, onlooker: Onlooker) -> None:
    async with open_database(playground.runtime_url, connections=1) as database:
        gate = Gate(database)
        served: list[int] = []

        async def visit(number: int) -> None:
            await database.fetch("SELECT 1")
            served.append(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.hold)
            await gate.filled(1)
            for number in range(5):
                nursery.start_soon(visit, number)
                await trio.testing.wait_all_tasks_blocked(0.01)
            gate.open()
        assert served == [0, 1, 2, 3, 4]


async def test_the_most_recently_used_connection_is_used_again(database: Database) -> None:
    gate = Gate(database)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(gate.hold)
        await gate.filled(4)
        gate.open()
    assert len({await database.fetch_value(PID) for _ in range(4)}) == 1


async def test_it_grows_in_place(playground: TestDatabase, onlooker: Onlooker) -> None:
    async with open_database(playground.runtime_url, connections=1) as database:
        gate = Gate(database)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(gate.hold)
            await gate.filled(1)
            assert database.statistics().waiting == 2
            database.resize(3)
            await gate.filled(3)
            gate.open()


async def test_it_shrinks_as_connections_come_back(database: Database, onlooker: Onlooker) -> None:
    gate = Gate(database)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(gate.hold)
        await gate.filled(4)
        database.resize(2)
        gate.open()
    assert database.statistics().idle == 2
    database.resize(1)
    assert database.statistics() == PoolStatistics(size=1, busy=0, idle=1, waiting=0)
    await onlooker.becomes(
        1,
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'troupe'",
    )


async def test_connections_retire_at_different_ages(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    settings = PoolSettings(max_age=100 * MILLISECONDS, age_jitter=0.5)
    async with open_database(playground.runtime_url, connections=4, settings=settings) as database:
        first = await database.fetch_value(PID)
        assert await database.fetch_value(PID) == first
        with trio.fail_after(5):
            while await database.fetch_value(PID) == first:
                await trio.sleep(0.01)
        gate = Gate(database)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(gate.hold)
            await gate.filled(4)
            retirements = [session.retires for session in database._busy]
            gate.open()
        assert len(set(retirements)) == 4
        assert max(retirements) - min(retirements) < 5


async def test_what_is_idle_for_too_long_is_not_used(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    settings = PoolSettings(max_idle=20 * MILLISECONDS)
    async with open_database(playground.runtime_url, connections=1, settings=settings) as database:
        first = await database.fetch_value(PID)
        idle_for = (
            "SELECT clock_timestamp() - state_change > '30 ms' FROM pg_stat_activity WHERE pid = $1"
        )
        await onlooker.becomes(True, idle_for, first)
        assert await database.fetch_value(PID) != first


async def test_a_failing_unit_gives_its_place_back(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        raise LookupError

    for _ in range(10):
        with suppress(LookupError):
            await database.run(unit)
    assert database.statistics().busy == 0


async def test_each_group_is_seen_by_its_name(playground: TestDatabase, onlooker: Onlooker) -> None:
    async with open_database(
        playground.runtime_url, connections=1, application_name="troupe data"
    ) as database:
        await database.fetch("SELECT 1")
        assert await onlooker.backends("troupe data") == 1
