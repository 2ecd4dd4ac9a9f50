"""Failures of the database arrive in Troupe's words, with the cause; a unit is never run twice."""

from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
import structlog
import trio

from tests.integration.database.conftest import Onlooker
from tests.integration.database.proxy import Proxy, open_proxy
from tests.support.postgres import TestDatabase
from troupe.common.database import CommitUnknown, Database, open_database
from troupe.common.errors import (
    DatabaseError,
    DatabaseUnavailable,
    DeadlineExceeded,
    StorageFull,
)


@pytest.fixture
async def proxy(onlooker: Onlooker, playground: TestDatabase) -> AsyncIterator[Proxy]:
    async with open_proxy(playground.runtime_url) as proxy:
        yield proxy


@pytest.fixture
async def proxied(proxy: Proxy) -> AsyncIterator[Database]:
    async with open_database(proxy.url, connections=2) as database:
        yield database


async def insert(connection: asyncpg.Connection) -> str:
    await connection.execute("INSERT INTO staging VALUES (1)")
    return "inserted"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("53100", StorageFull),
        ("53300", DatabaseUnavailable),
        ("57P01", DatabaseUnavailable),
        ("57P03", DatabaseUnavailable),
        ("08006", DatabaseUnavailable),
        ("57014", DeadlineExceeded),
    ],
)
async def test_the_databases_own_failures_are_translated(
    database: Database, state: str, expected: type[DatabaseError]
) -> None:
    with pytest.raises(expected) as caught:
        await database.fetch("SELECT fail_with($1)", state)
    assert isinstance(caught.value.__cause__, asyncpg.PostgresError)
    assert caught.value.__cause__.sqlstate == state
    assert database.statistics().idle == 1


@pytest.mark.parametrize("state", ["23514", "40001", "40P01", "42601", "55P03", "P0001"])
async def test_a_statements_failures_are_not(database: Database, state: str) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await database.fetch("SELECT fail_with($1)", state)
    assert caught.value.sqlstate == state


async def test_an_error_of_the_operating_system_is_the_units_own(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        raise FileNotFoundError("a file of the unit's")

    with pytest.raises(FileNotFoundError):
        await database.run(unit)


async def test_a_killed_backend_means_unavailable(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.fetch("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)")
    assert caught.value.__cause__ is not None
    assert await database.fetch_value("SELECT 1") == 1


async def test_a_connection_that_breaks_under_a_unit_means_unavailable(
    proxy: Proxy, proxied: Database, onlooker: Onlooker
) -> None:
    runs = 0

    async def unit(connection: asyncpg.Connection) -> None:
        nonlocal runs
        runs += 1
        await insert(connection)
        proxy.cut()
        await connection.execute("SELECT pg_sleep(5)")

    with pytest.raises(DatabaseUnavailable):
        await proxied.run(unit)
    assert runs == 1
    assert await onlooker.value("SELECT count(*) FROM staging") == 0
    assert await proxied.fetch_value("SELECT 1") == 1


async def test_connections_that_died_while_idle_are_replaced_unseen(
    database: Database, onlooker: Onlooker
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(database.fetch, "SELECT pg_sleep(0.05)")
    assert database.statistics().idle == 4
    await onlooker.kill()
    for _ in range(8):
        assert await database.fetch_value("SELECT 1") == 1


async def test_a_connection_that_dies_at_begin_is_replaced_unseen(
    proxy: Proxy, proxied: Database, onlooker: Onlooker
) -> None:
    await proxied.fetch("SELECT 1")
    runs = 0

    async def unit(connection: asyncpg.Connection) -> str:
        nonlocal runs
        runs += 1
        return await insert(connection)

    proxy.cut_before = b"BEGIN"

    async def mend() -> None:
        while proxy.accepted < 2:
            await trio.sleep(0.005)
        proxy.cut_before = None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mend)
        with structlog.testing.capture_logs():
            assert await proxied.run(unit) == "inserted"
    assert runs == 1
    assert await onlooker.value("SELECT count(*) FROM staging") == 1


async def test_a_server_that_never_lets_a_unit_begin_is_unavailable(
    proxy: Proxy, proxied: Database
) -> None:
    proxy.cut_before = b"BEGIN"
    with structlog.testing.capture_logs() as logs, pytest.raises(DatabaseUnavailable):
        await proxied.fetch("SELECT 1", deadline=1)
    attempts = [entry for entry in logs if entry["event"] == "database_connection_lost"]
    assert 2 <= len(attempts) <= 8, "it paused between attempts"


@pytest.mark.parametrize("arrives", [False, True])
async def test_a_connection_lost_in_the_commit_leaves_it_unknown(
    proxy: Proxy, proxied: Database, onlooker: Onlooker, arrives: bool
) -> None:
    if arrives:
        proxy.cut_after = b"COMMIT;"
    else:
        proxy.cut_before = b"COMMIT;"
    with pytest.raises(CommitUnknown) as caught:
        await proxied.run(insert)
    assert caught.value.__cause__ is not None
    await onlooker.becomes(int(arrives), "SELECT count(*) FROM staging")
    assert proxied.statistics().busy == 0


async def test_a_read_needs_no_commit(proxy: Proxy, proxied: Database) -> None:
    proxy.cut_before = b"COMMIT;"
    assert await proxied.fetch_value("SELECT 7", read_only=True) == 7
    assert proxied.statistics().idle == 0


async def test_a_commit_that_is_refused_is_not_unknown(database: Database) -> None:
    async def unit(connection: asyncpg.Connection) -> None:
        await connection.execute(
            "CREATE TEMPORARY TABLE t (a int);"
            "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$;"
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse();"
            "INSERT INTO t VALUES (1)"
        )

    with pytest.raises(StorageFull):
        await database.run(unit)
    assert database.statistics().idle == 1


async def test_connecting_is_tried_again_until_the_server_is_there(
    onlooker: Onlooker, playground: TestDatabase
) -> None:
    proxy = Proxy(playground.runtime_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        port = int(proxy.url.rsplit(":", 1)[1].split("/")[0])
        nursery.cancel_scope.cancel()  # the port is known to be free now
    async with trio.open_nursery() as nursery, open_database(proxy.url, connections=1) as database:
        answers: list[object] = []

        async def ask() -> None:
            with structlog.testing.capture_logs():
                answers.append(await database.fetch_value("SELECT 1", deadline=10))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert answers == []
        await nursery.start(proxy.serve, port)
        with trio.fail_after(5):
            while not answers:
                await trio.sleep(0.005)
        assert answers == [1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("troupe_runtime:", "troupe_runtime:x"), "password"),
        (lambda url: url.replace("/test_", "/nowhere_"), "does not exist"),
    ],
)
async def test_what_waiting_cannot_mend_fails_at_once(
    onlooker: Onlooker, playground: TestDatabase, change: Callable[[str], str], words: str
) -> None:
    async with open_database(change(playground.runtime_url), connections=1) as database:
        with (
            structlog.testing.capture_logs() as logs,
            pytest.raises(DatabaseUnavailable, match=words),
        ):
            await database.fetch("SELECT 1", deadline=10)
    assert len(logs) == 1
    secret = playground.runtime_url.split(":")[2].split("@")[0]
    assert secret not in repr(logs)


async def test_too_many_connections_are_waited_for(
    onlooker: Onlooker, playground: TestDatabase
) -> None:
    limit = "ALTER DATABASE " + playground.name + " CONNECTION LIMIT {}"
    async with (
        open_database(playground.runtime_url, connections=1, application_name="first") as first,
        open_database(playground.runtime_url, connections=1) as second,
    ):
        await first.fetch("SELECT 1")
        await onlooker.execute(limit.format(1))
        try:
            with (
                structlog.testing.capture_logs(),
                pytest.raises(DatabaseUnavailable, match="no connection left"),
            ):
                await second.fetch("SELECT 1", deadline=0.5)
        finally:
            await onlooker.execute(limit.format(-1))
        assert await second.fetch_value("SELECT 1") == 1
