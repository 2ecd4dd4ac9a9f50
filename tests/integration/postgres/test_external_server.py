"""Preparing a server of the operator's own."""

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tests.support.embedded import QUICK, fetch, value
from troupe.common.errors import ConfigurationError
from troupe.common.migrate import migrate_in_asyncio
from troupe.common.postgres import EmbeddedPostgres, prepare_external, start_embedded_sync
from troupe.common.postgres.roles import connection_url

OURS = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'troupe%'"
OWNERS = """
SELECT DISTINCT relowner::regrole::text
FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname IN ('platform', 'auth', 'data')
"""
RUNTIME_PASSWORD = "a pass:word/with@signs%"


@dataclass(frozen=True)
class Server:
    """A server on which an operator made one role and one database.

    Attributes:
        embedded: What it really is.
        url: Of the operator's role in the operator's database.
        runtime_url: Of `troupe_runtime` there, with a password of the operator's choice.
    """

    embedded: EmbeddedPostgres
    url: str
    runtime_url: str

    def admin(self, sql: str) -> None:
        asyncio.run(execute(self.embedded.admin_url, sql))


async def execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture
def external(tmp_path: Path) -> Iterator[Server]:
    """As if nothing of ours were there: the roles that starting made are removed again."""
    with start_embedded_sync(tmp_path, QUICK) as server:
        password = secrets.token_urlsafe()
        for sql in (
            "DROP DATABASE troupe",
            "DROP ROLE troupe_owner, troupe_runtime, troupe_system",
            f"CREATE ROLE operator LOGIN CREATEROLE PASSWORD '{password}'",
            "CREATE DATABASE shop OWNER operator",
        ):
            asyncio.run(execute(server.admin_url, sql))
        yield Server(
            server,
            connection_url("operator", password, "127.0.0.1", server.port, "shop"),
            connection_url("troupe_runtime", RUNTIME_PASSWORD, "127.0.0.1", server.port, "shop"),
        )


def test_it_makes_what_is_missing(external: Server) -> None:
    asyncio.run(prepare_external(external.url, external.runtime_url))
    assert asyncio.run(migrate_in_asyncio(external.url))
    assert value(external.runtime_url, "SELECT current_user::text") == "troupe_runtime"
    owners = asyncio.run(fetch(external.url, OWNERS))
    assert [row[0] for row in owners] == ["troupe_owner"]
    # Again changes nothing.
    asyncio.run(prepare_external(external.url, external.runtime_url))
    assert asyncio.run(migrate_in_asyncio(external.url)) == []
    log = (external.embedded.log_directory / "postgres.log").read_text()
    assert RUNTIME_PASSWORD not in log


def test_everything_made_by_an_administrator(external: Server) -> None:
    asyncio.run(prepare_external(external.url, external.runtime_url))
    external.admin("ALTER ROLE operator NOCREATEROLE")
    asyncio.run(prepare_external(external.url, external.runtime_url))
    assert asyncio.run(migrate_in_asyncio(external.url))


def test_a_role_without_the_right(external: Server) -> None:
    external.admin("ALTER ROLE operator NOCREATEROLE")
    with pytest.raises(
        ConfigurationError, match=r"may not prepare the server .* give it CREATEROLE"
    ):
        asyncio.run(prepare_external(external.url, external.runtime_url))
    assert value(external.embedded.admin_url, OURS) == 0


def test_a_role_that_could_see_all_tenants(external: Server) -> None:
    asyncio.run(prepare_external(external.url, external.runtime_url))
    external.admin("ALTER ROLE troupe_runtime BYPASSRLS")
    with pytest.raises(ConfigurationError, match="troupe_runtime is a superuser or bypasses"):
        asyncio.run(prepare_external(external.url, external.runtime_url))


def test_urls_that_do_not_fit(external: Server) -> None:
    with pytest.raises(ConfigurationError, match="runtime_url must name the role troupe_runtime"):
        asyncio.run(prepare_external(external.url, external.url))
    bare = external.runtime_url.replace(external.runtime_url.split(":")[2].split("@")[0], "")
    with pytest.raises(ConfigurationError, match="lacks the password"):
        asyncio.run(prepare_external(external.url, bare))
    asyncio.run(prepare_external(external.url, external.runtime_url))
    wrong = external.runtime_url.replace("word", "wort")
    with pytest.raises(ConfigurationError, match="refuses the connection: password authentication"):
        asyncio.run(prepare_external(external.url, wrong))
