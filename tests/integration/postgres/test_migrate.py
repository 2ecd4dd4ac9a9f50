"""The migration runner against a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.support.embedded import fetch, value
from tests.support.postgres import MakeDatabase, TestDatabase
from troupe.common.bridge import aio, open_bridge
from troupe.common.database import Database
from troupe.common.errors import ConfigurationError, DatabaseUnavailable
from troupe.common.migrate import (
    Migration,
    MigrationFailed,
    MigrationsDiffer,
    Phase,
    migrate,
    migrate_in_asyncio,
    read_migrations,
)


@pytest.fixture
def empty(make_empty_database: MakeDatabase) -> Iterator[TestDatabase]:
    with make_empty_database() as database:
        yield database


def run(url: str, *migrations: Migration, phases: tuple[Phase, ...] = tuple(Phase)) -> list[str]:
    return [
        str(one)
        for one in asyncio.run(migrate_in_asyncio(url, migrations=migrations, phases=phases))
    ]


def before(number: int, sql: str, name: str = "one") -> Migration:
    return Migration(number, Phase.BEFORE, name, sql)


def after(number: int, sql: str, name: str = "one") -> Migration:
    return Migration(number, Phase.AFTER, name, sql)


def ledger(database: TestDatabase) -> int:
    """Rows of the ledger; none when there is no ledger."""
    if value(database.owner_url, "SELECT to_regclass('platform.migrations')") is None:
        return 0
    return int(str(value(database.owner_url, "SELECT count(*) FROM platform.migrations")))


CATALOGUE = """
SELECT string_agg(line, chr(10) ORDER BY line) FROM (
    SELECT concat_ws('|', n.nspname, c.relname, c.relkind, c.relowner::regrole, c.relacl,
        c.relrowsecurity, c.relforcerowsecurity, a.attname, a.attnum,
        format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attacl) AS line
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE n.nspname IN ('platform', 'auth', 'data', 'staging', 'analytics')
    UNION ALL
    SELECT concat_ws('|', p.oid::regprocedure, p.proowner::regrole, p.proacl, md5(p.prosrc))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('platform', 'auth', 'data', 'staging', 'analytics')
) AS lines
"""


async def test_the_fixture_that_others_use(database: Database) -> None:
    assert await database.fetch_value("SELECT current_user::text") == "troupe_runtime"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.fetch_value("SELECT count(*) FROM platform.migrations")


async def test_migrating_again_changes_nothing_and_equals_a_fresh_database(
    make_empty_database: MakeDatabase,
) -> None:
    every = read_migrations()
    assert every
    with make_empty_database() as fresh, make_empty_database() as stepwise:
        async with open_bridge():
            for end in range(1, len(every) + 1):
                assert await migrate(stepwise.owner_url, migrations=every[:end]) == [every[end - 1]]
            shape = (await aio(fetch(stepwise.owner_url, CATALOGUE)))[0][0]
            assert await migrate(stepwise.owner_url) == []
            assert (await aio(fetch(stepwise.owner_url, CATALOGUE)))[0][0] == shape
            # Not a copy of the tests' template, whose partitions may be of the day before.
            assert await migrate(fresh.owner_url) == list(every)
            assert (await aio(fetch(fresh.owner_url, CATALOGUE)))[0][0] == shape


def test_order_and_phases(empty: TestDatabase) -> None:
    first = (before(1, "CREATE TABLE public.a ()"), after(1, "ALTER TABLE public.b ADD x int"))
    second = (before(2, "CREATE TABLE public.b ()"), after(2, "DROP TABLE public.a"))
    files = (*first, *second)
    assert run(empty.owner_url, *files, phases=(Phase.BEFORE,)) == ["0001_one.sql", "0002_one.sql"]
    assert run(empty.owner_url, *files) == ["0001_one.after.sql", "0002_one.after.sql"]
    assert run(empty.owner_url, *files) == []


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("CREATE TABLE public.a ();\nCREATE TABL public.b ()", "0002_two.sql, line 2, failed: syn"),
        ("CREATE TABLE public.a ();\nSELECT 1/0", "0002_two.sql failed: division by zero; nothing"),
        ("CREATE TABLE public.a ();\nCREATE ROLE x", "0002_two.sql failed: permission denied"),
        ("CREATE TABLE public.a (); END", "ended the transaction that it runs in"),
    ],
)
def test_a_broken_migration_leaves_nothing(empty: TestDatabase, sql: str, words: str) -> None:
    kept = before(1, "CREATE TABLE public.kept ()")
    broken = before(2, sql, "two")
    with pytest.raises(MigrationFailed, match=words):
        run(empty.owner_url, kept, broken, before(3, "SELECT 1"))
    assert ledger(empty) == 1
    assert value(empty.owner_url, "SELECT to_regclass('public.kept')::text") == "kept"
    if "END" not in sql:
        assert value(empty.owner_url, "SELECT to_regclass('public.a')") is None
    assert run(empty.owner_url, kept) == []


def test_what_was_applied_is_frozen(empty: TestDatabase) -> None:
    kept = before(2, "CREATE TABLE public.a ()", "two")
    assert run(empty.owner_url, kept) == ["0002_two.sql"]
    with pytest.raises(MigrationsDiffer, match=r"0002_two.sql was changed after it had been"):
        run(empty.owner_url, before(2, kept.sql + "\n", "two"))
    with pytest.raises(MigrationsDiffer, match=r"Migration 0002 \(before\) .* file is missing"):
        run(empty.owner_url)
    with pytest.raises(MigrationsDiffer, match=r"0001_one.sql is new, but 0002 was applied before"):
        run(empty.owner_url, before(1, "CREATE TABLE public.b ()"), kept)
    assert value(empty.owner_url, "SELECT to_regclass('public.b')") is None


def test_two_runners_apply_each_file_once(empty: TestDatabase) -> None:
    files = [
        before(number, f"CREATE TABLE public.t{number} (); SELECT pg_sleep(0.02)")
        for number in range(1, 11)
    ]

    async def both() -> list[list[Migration]]:
        runners = [migrate_in_asyncio(empty.owner_url, migrations=files) for _ in range(3)]
        return list(await asyncio.gather(*runners))

    applied = [str(one) for runner in asyncio.run(both()) for one in runner]
    assert sorted(applied) == sorted(map(str, files))
    assert ledger(empty) == len(files)


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE public.busy")
            yield
    finally:
        await connection.close()


def test_a_lock_that_does_not_come_is_not_waited_for(empty: TestDatabase) -> None:
    busy = before(1, "CREATE TABLE public.busy ()")
    change = before(2, "ALTER TABLE public.busy ADD x int", "two")

    async def blocked() -> None:
        async with locked(empty.owner_url):
            with pytest.raises(MigrationFailed, match="did not get a lock within 4 s"):
                await migrate_in_asyncio(empty.owner_url, migrations=[busy, change])

    assert run(empty.owner_url, busy) == ["0001_one.sql"]
    asyncio.run(blocked())
    assert run(empty.owner_url, busy, change) == ["0002_two.sql"]


def test_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "0002_drop_it.after.sql").write_text("SELECT 2")
    (tmp_path / "0002_make_it.sql").write_text("SELECT 1")
    (tmp_path / "0001_first.sql").write_text("SELECT 0")
    (tmp_path / "README.md").write_text("not a migration")
    assert list(map(str, read_migrations(tmp_path))) == [
        "0001_first.sql",
        "0002_make_it.sql",
        "0002_drop_it.after.sql",
    ]
    (tmp_path / "0001_twin.sql").write_text("SELECT 0")
    with pytest.raises(ConfigurationError, match="have the same number"):
        read_migrations(tmp_path)
    (tmp_path / "0001_twin.sql").rename(tmp_path / "1_twin.sql")
    with pytest.raises(ConfigurationError, match=r"1_twin.sql: migrations are named"):
        read_migrations(tmp_path)
    (tmp_path / "1_twin.sql").rename(tmp_path / "0003_third.sql")
    (tmp_path / "0003_third.sql").write_text("SELECT 1;\n  commit work;")
    with pytest.raises(ConfigurationError, match="must leave transactions to the runner"):
        read_migrations(tmp_path)


def test_no_server_and_no_database(empty: TestDatabase) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"127.0.0.1:1 \(role x/y\) cannot be reached"):
        asyncio.run(migrate_in_asyncio("postgresql://x:secret@127.0.0.1:1/y?sslmode=disable"))
    wrong = empty.owner_url.replace(empty.name, "nowhere")
    with pytest.raises(ConfigurationError, match='database "nowhere" does not exist') as caught:
        asyncio.run(migrate_in_asyncio(wrong))
    assert wrong.split(":")[2].split("@")[0] not in str(caught.value)


def test_a_role_that_may_not_migrate(empty: TestDatabase) -> None:
    with pytest.raises(
        ConfigurationError, match="lacks a privilege: permission denied to set role"
    ):
        asyncio.run(migrate_in_asyncio(empty.runtime_url))
