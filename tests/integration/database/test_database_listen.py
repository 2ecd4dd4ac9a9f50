"""Notifications arrive; when some may have been lost, the reader is told so once."""

from collections.abc import AsyncIterator

import pytest
import structlog
import trio

from tests.integration.database.conftest import Onlooker
from tests.integration.database.proxy import open_proxy
from tests.support.postgres import TestDatabase
from troupe.common.database import MISSED, Database, PoolSettings, open_database
from troupe.common.errors import DatabaseError
from troupe.common.units import MILLISECONDS

LISTENING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE application_name = 'troupe listen' AND datname = current_database()"
)


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    with trio.fail_after(20):
        yield


async def test_payloads_arrive_in_order(database: Database, onlooker: Onlooker) -> None:
    async with database.listen("jobs") as payloads:
        for payload in ("one", "two", ""):
            await onlooker.execute("SELECT pg_notify('jobs', $1)", payload)
        assert [await payloads.receive() for _ in range(3)] == ["one", "two", ""]


async def test_a_unit_notifies_when_it_commits(database: Database) -> None:
    async with database.listen("jobs") as payloads:
        await database.execute("SELECT pg_notify('jobs', 'from a unit')")
        assert await payloads.receive() == "from a unit"


async def test_only_the_named_channel_is_heard(database: Database, onlooker: Onlooker) -> None:
    async with database.listen('odd "Name"') as payloads:
        await onlooker.execute("NOTIFY jobs, 'not for us'")
        await onlooker.execute("SELECT pg_notify('odd \"Name\"', 'for us')")
        assert await payloads.receive() == "for us"


async def test_it_takes_no_connection_of_the_pool(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    async with open_database(playground.runtime_url, connections=1) as database:
        async with database.listen("jobs"), database.listen("other"):
            assert await database.fetch_value("SELECT 1") == 1
            assert await onlooker.value(LISTENING) == 2
        await onlooker.becomes(0, LISTENING)


async def test_equal_payloads_that_wait_are_one(database: Database, onlooker: Onlooker) -> None:
    async with database.listen("jobs") as payloads:
        for _ in range(50):
            await onlooker.execute("NOTIFY jobs, 'again'")
        await onlooker.execute("NOTIFY jobs, 'last'")
        await trio.sleep(1)  # what comes while we read is no longer what waits
        heard: list[str] = []
        while not heard or heard[-1] != "last":
            heard.append(await payloads.receive())
        # One may be in the channel and one on its way when the others arrive.
        assert heard[-1] == "last"
        assert 2 <= len(heard) <= 4


async def test_a_reader_that_is_too_slow_is_told_to_poll(
    database: Database, onlooker: Onlooker
) -> None:
    async with database.listen("jobs") as payloads:
        await onlooker.execute(
            "SELECT count(pg_notify('jobs', n::text)) FROM generate_series(1, 5000) n"
        )
        await onlooker.execute("NOTIFY jobs, 'last'")
        heard: list[str] = []
        while not heard or heard[-1] != "last":
            heard.append(await payloads.receive())
        assert MISSED in heard
        assert len(heard) < 2500


async def test_a_lost_connection_is_replaced_and_the_reader_told(
    database: Database, onlooker: Onlooker
) -> None:
    async with database.listen("jobs") as payloads:
        with structlog.testing.capture_logs() as logs:
            await onlooker.kill("troupe listen")
            assert await payloads.receive() == MISSED
        assert [entry["event"] for entry in logs] == [
            "database_listener_lost",
            "database_listener_back",
        ]
        await onlooker.execute("NOTIFY jobs, 'heard again'")
        assert await payloads.receive() == "heard again"


async def test_a_silent_connection_is_found_out(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    settings = PoolSettings(probe_interval=100 * MILLISECONDS, begin_deadline=100 * MILLISECONDS)
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(
            playground.runtime_url, connections=1, listen_url=proxy.url, settings=settings
        ) as database,
        database.listen("jobs") as payloads,
        trio.open_nursery() as nursery,
    ):

        async def release_when_reconnecting() -> None:
            while proxy.accepted < 2:
                await trio.sleep(0.01)
            proxy.release()

        proxy.hold()
        nursery.start_soon(release_when_reconnecting)
        with structlog.testing.capture_logs() as logs:
            assert await payloads.receive() == MISSED
        assert logs[0]["event"] == "database_listener_lost"
        assert logs[0]["reason"] == "silent"
        await onlooker.execute("NOTIFY jobs, 'heard again'")
        assert await payloads.receive() == "heard again"


async def test_a_quiet_connection_is_not_a_silent_one(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    settings = PoolSettings(probe_interval=20 * MILLISECONDS)
    async with (
        open_database(playground.runtime_url, connections=1, settings=settings) as database,
        database.listen("jobs") as payloads,
    ):
        probed = (
            "SELECT query FROM pg_stat_activity"
            " WHERE application_name = 'troupe listen' AND datname = current_database()"
        )
        await onlooker.becomes(
            "SELECT 1", f"SELECT split_part(query, E'\\n', -1) FROM ({probed}) q"
        )
        await onlooker.execute("NOTIFY jobs, 'still there'")
        assert await payloads.receive() == "still there"


async def test_a_reader_may_leave_early(database: Database, onlooker: Onlooker) -> None:
    async with database.listen("jobs") as payloads:
        payloads.close()
        await onlooker.execute("NOTIFY jobs, 'unheard'")
        await onlooker.execute("NOTIFY jobs, 'unheard too'")
    await onlooker.becomes(0, LISTENING)


async def test_an_exception_of_the_body_is_not_wrapped(database: Database) -> None:
    with pytest.raises(LookupError):
        async with database.listen("jobs"):
            raise LookupError


async def test_listening_that_cannot_begin_fails_in_time(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=1) as database,
    ):
        proxy.hold()
        started = trio.current_time()
        with pytest.raises(DatabaseError):
            async with database.listen("jobs", deadline=0.2):
                pass
        assert trio.current_time() - started < 1


async def test_listening_is_tried_again_until_it_begins(
    playground: TestDatabase, onlooker: Onlooker
) -> None:
    async with (
        open_proxy(playground.runtime_url) as proxy,
        open_database(proxy.url, connections=1) as database,
    ):
        proxy.cut_before = b"LISTEN"

        async def mend() -> None:
            while proxy.accepted < 2:
                await trio.sleep(0.005)
            proxy.cut_before = None

        async with trio.open_nursery() as nursery:
            nursery.start_soon(mend)
            with structlog.testing.capture_logs() as logs:
                async with database.listen("jobs") as payloads:
                    await onlooker.execute("NOTIFY jobs, 'heard'")
                    assert await payloads.receive() == "heard"
        assert logs[0]["event"] == "database_listen_failed"
