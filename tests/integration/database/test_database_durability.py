"""What need not be durable waits for no disk; all else does.

A standby that never answers takes the disk's part: what waits for it waits for ever.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import trio

from tests.support.embedded import value
from troupe.actors.auth.access_tokens import issue_token, resolve_token
from troupe.actors.auth.login_secrets import hash_of, new_handle
from troupe.actors.auth.sessions import resolve_session
from troupe.actors.auth.tenants import create_tenant
from troupe.common.bridge import aio
from troupe.common.database import CommitUnknown, Database, open_database
from troupe.common.ids import TenantId, new_id
from troupe.common.migrate import migrate_in_asyncio
from troupe.common.postgres import EmbeddedPostgres, start_embedded_sync

DEADLINE = 10.0
HELD = 0.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    with start_embedded_sync(tmp_path) as server:
        for setting in ("wal_level = replica", "max_wal_senders = 1"):
            value(server.admin_url, f"ALTER SYSTEM SET {setting}")
    with start_embedded_sync(tmp_path) as server:
        yield server


@pytest.fixture
async def database(bridge: None, server: EmbeddedPostgres) -> AsyncIterator[Database]:
    await aio(migrate_in_asyncio(server.url_of("troupe_owner")))
    async with open_database(server.url_of("troupe_runtime"), connections=1) as database:
        yield database


@pytest.fixture
async def admin(
    bridge: None, server: EmbeddedPostgres, database: Database
) -> AsyncIterator[asyncpg.Connection]:
    connection = await aio(asyncpg.connect(server.url_of("postgres")))
    await aio(connection.execute("CREATE TABLE notes (); GRANT INSERT ON notes TO troupe_runtime"))
    yield connection
    await aio(connection.close())


async def note(database: Database, *, durable: bool) -> None:
    await database.run(
        lambda connection: connection.execute("INSERT INTO notes DEFAULT VALUES"),
        durable=durable,
        deadline=HELD,
    )


async def wait_for_nobody(database: Database, admin: asyncpg.Connection) -> None:
    """From here on nothing that must be durable is answered."""
    await aio(admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'"))
    await aio(admin.fetch("SELECT pg_reload_conf()"))
    with trio.fail_after(DEADLINE):
        try:
            while True:  # the server takes a moment to hear of it
                await note(database, durable=True)
        except CommitUnknown:
            return


async def test_each_unit_waits_as_it_says(database: Database, admin: asyncpg.Connection) -> None:
    await wait_for_nobody(database, admin)
    for _ in range(3):
        await note(database, durable=False)
        await note(database, durable=False)
        with pytest.raises(CommitUnknown):
            await note(database, durable=True)


async def make_session(admin: asyncpg.Connection, tenant: TenantId) -> str:
    """One that was used an hour ago."""
    handle, one = new_handle(), new_id()
    person = "INSERT INTO auth.users (user_id, issuer, subject) VALUES ($1, 'https://idp', 'ada')"
    provider = """
        INSERT INTO auth.identity_providers (tenant_id, provider_id, label, issuer, client_id)
        VALUES ($1, $2, 'Provider', 'https://idp', 'client')"""
    session = """
        INSERT INTO auth.login_sessions (
            session_hash, session_id, user_id, tenant_id, provider_tenant_id, provider_id, issuer,
            client_id, last_seen_at, idle_limit, expires_at)
        VALUES ($3, $2, $2, $1, $1, $2, 'https://idp', 'client', now() - interval '1 hour',
                interval '1 day', now() + interval '1 day')"""
    await aio(admin.execute(person, one))
    await aio(admin.execute(provider, tenant, one))
    await aio(admin.execute(session, tenant, one, hash_of(handle)))
    return handle


async def test_nobody_waits_until_the_use_of_a_credential_is_noted(
    database: Database, admin: asyncpg.Connection
) -> None:
    tenant = await create_tenant(database, "Shop")
    token = (await issue_token(database, tenant, name="tests", role="viewer")).token
    session = await make_session(admin, tenant)
    await wait_for_nobody(database, admin)
    with trio.fail_after(DEADLINE):
        assert await resolve_token(database, token) is not None
        assert await resolve_session(database, session) is not None
        noted = await aio(
            admin.fetchval(
                "SELECT (SELECT bool_and(last_used_at IS NOT NULL) FROM auth.access_tokens)"
                " AND (SELECT bool_and(last_seen_at > now() - interval '1 minute')"
                " FROM auth.login_sessions)"
            )
        )
    assert noted
