"""URLs of several servers, some of which are gone, silent, or take no changes."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest
import trio

from tests.support.postgres import TestDatabase
from troupe.common import dialing
from troupe.common.database import PoolSettings, open_database
from troupe.common.errors import DatabaseUnavailable
from troupe.common.units import SECONDS

PATIENCE = PoolSettings(connect_deadline=2 * SECONDS)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that lets everybody in and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def gone() -> str:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def with_hosts(url: str, *before: str) -> str:
    parts = urlsplit(url)
    account, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{account}@{','.join((*before, host))}").geturl()


async def test_servers_that_are_gone_or_silent_do_not_keep_the_good_one_from_being_found(
    bridge: None, fresh_database: TestDatabase, silent: str, gone: str
) -> None:
    url = with_hosts(fresh_database.runtime_url, gone, silent)
    async with open_database(url, connections=2, settings=PATIENCE) as database:
        with trio.fail_after(PATIENCE.connect_deadline + 5):
            assert await database.fetch_value("SELECT 1") == 1
    assert dialing._PREFERRED[dialing.hosts_of(url)] == dialing.hosts_of(url)[-1]


async def test_when_none_is_good_it_is_said_what_the_last_one_said(
    bridge: None, fresh_database: TestDatabase, gone: str
) -> None:
    wrong = fresh_database.runtime_url.replace("troupe_runtime:", "troupe_runtime:not")
    url = with_hosts(wrong, gone)
    async with open_database(url, connections=1, settings=PATIENCE) as database:
        with pytest.raises(DatabaseUnavailable, match="password"):
            await database.fetch_value("SELECT 1")


async def test_a_server_that_takes_no_changes_is_not_used(
    bridge: None, fresh_database: TestDatabase, gone: str
) -> None:
    url = with_hosts(fresh_database.runtime_url, gone)
    settings = PoolSettings(
        connect_deadline=2 * SECONDS, server_settings={"default_transaction_read_only": "on"}
    )
    async with open_database(url, connections=1, settings=settings) as database:
        with pytest.raises(DatabaseUnavailable):
            await database.fetch_value("SELECT 1", deadline=1)


async def test_a_session_whose_server_became_a_standby_is_given_up(
    bridge: None, fresh_database: TestDatabase
) -> None:
    async with open_database(fresh_database.runtime_url, connections=1) as database:

        async def change(connection: asyncpg.Connection) -> None:
            await connection.execute("SET TRANSACTION READ ONLY")  # as everything is on a standby
            await connection.execute("INSERT INTO platform.tenants (name) VALUES ('x')")

        with pytest.raises(DatabaseUnavailable, match="standby"):
            await database.run(change)
        assert database.statistics().idle == 0
        assert await database.fetch_value("SELECT 1") == 1
