"""PostgreSQL for tests: one embedded server per test run, fresh databases in milliseconds.

Fixtures, for every test below ``tests/`` (its ``conftest.py`` names this module as a plugin):

- ``postgres_server`` (session): the running `EmbeddedPostgres`.
- ``fresh_database`` (function): a `TestDatabase` of its own, migrated and empty of rows.
- ``module_database`` (module): the same, shared by the tests of one module.
- ``make_database`` (session): ``with make_database() as database:``, for other life times.
- ``make_empty_database`` (session): the same without any migration.
- ``bridge`` (async): an open asyncio bridge.
- ``database`` (async): a pool on ``fresh_database`` as ``troupe_runtime``.

A database is a copy of a template that was migrated once; copying takes about 20 ms. The server
runs without fsync, otherwise exactly as the program runs it.

It lies in memory where there is room. A database is some nine hundred files, and ext4 gives no
inode away that was freed within the last minute: who makes and drops databases all the time waits
until it has looked through all of these, up to half a second for each.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from troupe.common.bridge import open_bridge
from troupe.common.database import Database, open_database
from troupe.common.migrate import migrate_in_asyncio
from troupe.common.postgres import ClusterSettings, EmbeddedPostgres, start_embedded_sync
from troupe.common.postgres.roles import ADMIN, OWNER, RUNTIME, connected, create_database
from troupe.common.units import GiB

TEMPLATE: Final = "troupe_template"
MEMORY: Final = Path("/dev/shm")
OURS: Final = "troupe-tests-"
ROOM: Final = 6 * GiB
"""Free at least: several servers may run, and each may come to a GiB."""


@dataclass(frozen=True)
class TestDatabase:
    """Where one database is.

    Attributes:
        name: On the server.
        owner_url: For `troupe_owner`.
        runtime_url: For `troupe_runtime`.
        admin_url: For the superuser, to look behind row-level security.
    """

    __test__ = False  # not a test class, whatever its name says

    name: str
    owner_url: str
    runtime_url: str
    admin_url: str


MakeDatabase = Callable[[], AbstractContextManager[TestDatabase]]


def locate(server: EmbeddedPostgres, name: str) -> TestDatabase:
    """URLs of the database ``name``."""
    return TestDatabase(name, *(server.url_of(role, name) for role in (OWNER, RUNTIME, ADMIN)))


async def _copy(admin_url: str, name: str, template: str) -> None:
    async with connected(admin_url) as connection:
        await create_database(connection, name, template=template)


async def _drop(admin_url: str, name: str) -> None:
    async with connected(admin_url) as connection:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def directory_in_memory() -> Iterator[Path | None]:
    """A directory in memory, if there is enough; those of runs that were killed are removed."""
    if not MEMORY.is_dir():
        yield None
        return
    for left in MEMORY.glob(f"{OURS}*"):
        if not Path(f"/proc/{left.name.removeprefix(OURS).partition('-')[0]}").exists():
            shutil.rmtree(left, ignore_errors=True)  # it may be somebody else's
    if shutil.disk_usage(MEMORY).free < ROOM:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix=f"{OURS}{os.getpid()}-", dir=MEMORY) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    settings = ClusterSettings(durable=False, max_connections=80)
    with (
        directory_in_memory() as directory,
        start_embedded_sync(directory or tmp_path_factory.mktemp("state"), settings) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def make_empty_database(postgres_server: EmbeddedPostgres) -> MakeDatabase:
    """Databases without any migration."""
    return lambda: _database(postgres_server, "template1")


@pytest.fixture(scope="session")
def make_database(postgres_server: EmbeddedPostgres) -> MakeDatabase:
    """Migrated databases."""
    asyncio.run(_copy(postgres_server.admin_url, TEMPLATE, "template1"))
    asyncio.run(migrate_in_asyncio(postgres_server.url_of(OWNER, TEMPLATE)))
    return lambda: _database(postgres_server, TEMPLATE)


@contextmanager
def _database(server: EmbeddedPostgres, template: str) -> Iterator[TestDatabase]:
    name = f"test_{secrets.token_hex(6)}"
    asyncio.run(_copy(server.admin_url, name, template))
    try:
        yield locate(server, name)
    finally:
        asyncio.run(_drop(server.admin_url, name))


@pytest.fixture
def fresh_database(make_database: MakeDatabase) -> Iterator[TestDatabase]:
    with make_database() as database:
        yield database


@pytest.fixture
async def bridge() -> AsyncIterator[None]:
    async with open_bridge():
        yield


@pytest.fixture
async def database(bridge: None, fresh_database: TestDatabase) -> AsyncIterator[Database]:
    async with open_database(fresh_database.runtime_url, connections=4) as pool:
        yield pool


@pytest.fixture(scope="module")
def module_database(make_database: MakeDatabase) -> Iterator[TestDatabase]:
    with make_database() as database:
        yield database
