"""The roles and the database that migrations and the program need on a server.

Three roles (docs/adr/0004-embedded-postgresql.md): `troupe_owner` owns and migrates,
`troupe_runtime` is what the program runs as, `troupe_system` owns the functions that look across
tenants and cannot log in. None is a superuser and none may bypass row-level security; a role of
that name which may is refused, since every guarantee between tenants would silently be void.

On the embedded server its superuser makes them, once, and is not used again. On a server of the
operator's own the role of `database.url` makes what is missing; it needs CREATEROLE for that, or
nothing when an administrator has made them. Everything here can run again at every start.

The functions are asyncio coroutines: call them through `troupe.common.bridge.aio`.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import asyncpg

from troupe.common.dialing import dial, hosts_of
from troupe.common.errors import ConfigurationError, DatabaseUnavailable, StorageFull
from troupe.common.logs import get_logger
from troupe.common.postgres._scram import scram_verifier
from troupe.common.sql import load
from troupe.common.units import SECONDS

ADMIN: Final = "postgres"
"""Superuser of an embedded cluster, used to make roles and databases only."""
OWNER: Final = "troupe_owner"
RUNTIME: Final = "troupe_runtime"
SYSTEM: Final = "troupe_system"
DATABASE: Final = "troupe"
OLDEST_SERVER: Final = 15
"""Major version: the first with `security_invoker` views."""

_QUERIES: Final = load(__package__, "roles.sql")
_CONNECT_DEADLINE: Final = 10 * SECONDS
_STATEMENT_DEADLINE: Final = 60 * SECONDS
# The last one is how asyncpg says that a connection ended between two statements.
_TROUBLE: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_log = get_logger(__name__)


def connection_url(role: str, password: str, host: str, port: int, database: str) -> str:
    """URL of a role on the embedded server, which has no TLS; parts are escaped."""
    account = f"{quote(role, safe='')}:{quote(password, safe='')}"
    return f"postgresql://{account}@{host}:{port}/{quote(database, safe='')}?sslmode=disable"


@asynccontextmanager
async def connected(
    url: str, *, statement_deadline: float = _STATEMENT_DEADLINE
) -> AsyncIterator[asyncpg.Connection]:
    """One direct connection, for preparing and migrating.

    No statement is prepared by name, so it also works through a transaction pooler.

    Raises:
        ConfigurationError: The server refuses the role, its password or the database, or the role
            lacks a privilege.
        DatabaseUnavailable: The server does not answer, or fails in the body.
        StorageFull: It has no room for what the body does.
    """
    where = _describe(url)
    try:
        connection = await dial(
            url,
            deadline=_CONNECT_DEADLINE,
            command_timeout=statement_deadline,
            statement_cache_size=0,
        )
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.InsufficientPrivilegeError,
        asyncpg.exceptions.ClientConfigurationError,
    ) as error:
        raise ConfigurationError(
            f"PostgreSQL at {where} refuses the connection: {said(error)}."
        ) from error
    except (*_TROUBLE, OSError) as error:
        raise DatabaseUnavailable(
            f"PostgreSQL at {where} cannot be reached: {said(error) or 'no answer in time'}."
        ) from error
    try:
        with _server_problems():
            yield connection
    finally:
        await connection.close(timeout=_CONNECT_DEADLINE)


@contextmanager
def _server_problems() -> Iterator[None]:
    """What the server or the connection raises while preparing and migrating, as our own errors."""
    try:
        yield
    except asyncpg.DiskFullError as error:
        raise StorageFull("The database has no space left; nothing was changed.") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(f"The role lacks a privilege: {said(error)}.") from error
    except (*_TROUBLE, OSError) as error:
        raise DatabaseUnavailable(f"PostgreSQL failed meanwhile: {said(error)}.") from error


def said(error: Exception) -> str:
    """What an error says, in its first line: asyncpg appends the server's detail and hint."""
    return str(error).partition("\n")[0]


def _describe(url: str) -> str:
    """Hosts, role and database of a URL, without its password."""
    parts = urlsplit(url)
    hosts = " or ".join(
        host if ":" in host.rpartition("]")[2] else f"{host or 'the default host'}:5432"
        for host in hosts_of(url)
    )
    return f"{hosts} (role {unquote(parts.username or '')}{parts.path})"


async def prepare_embedded(admin_url: str, owner_url: str, runtime_url: str) -> None:
    """Make roles and database on the embedded server, as its superuser.

    Args:
        admin_url: URL of the superuser.
        owner_url: URL whose role, password and database `troupe_owner` gets.
        runtime_url: The same for `troupe_runtime`.
    """
    async with connected(admin_url) as connection:
        async with connection.transaction():
            await connection.execute(_QUERIES["lock"])
            made = await _make_roles(connection)
            for role, url in ((OWNER, owner_url), (RUNTIME, runtime_url)):
                if role in made:
                    await _set_password(connection, role, _password(url))
        name = unquote(urlsplit(owner_url).path.removeprefix("/"))
        if not await connection.fetchval(_QUERIES["database_exists"], name):
            await create_database(connection, name)
    _log.debug("database_prepared", database=name)


async def prepare_external(url: str, runtime_url: str) -> None:
    """Make what is missing on a server of the operator's own, as the role of `url`.

    Args:
        url: URL of an existing database; its role needs CREATEROLE unless all is there.
        runtime_url: URL for `troupe_runtime` in the same database, with the password it shall have.

    Raises:
        ConfigurationError: The server is too old, the URLs do not fit, a role could bypass
            row-level security, or the role of `url` lacks a privilege; one sentence says which.
    """
    if unquote(urlsplit(runtime_url).username or "") != RUNTIME:
        raise ConfigurationError(f"database.runtime_url must name the role {RUNTIME}.")
    async with connected(url) as connection:
        version = connection.get_server_version().major
        if version < OLDEST_SERVER:
            raise ConfigurationError(
                f"The PostgreSQL of database.url is version {version}; it must be at least"
                f" {OLDEST_SERVER}."
            )
        try:
            async with connection.transaction():
                await connection.execute(_QUERIES["lock"])
                made = await _make_roles(connection)
                if RUNTIME in made:
                    await _set_password(connection, RUNTIME, _password(runtime_url))
                becoming = "SET" if version >= 16 else "MEMBER"
                if not await connection.fetchval(_QUERIES["may_become_owner"], becoming):
                    await connection.execute(_QUERIES["grant_owner"])
                await _grant_database(connection)
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigurationError(
                f"The role of database.url may not prepare the server ({said(error)}): give it"
                f" CREATEROLE and the ownership of the database, or make {OWNER}, {RUNTIME} and"
                f" {SYSTEM} beforehand."
            ) from error
    async with connected(runtime_url):
        pass  # says now, and clearly, when the kept password is not the given one


async def _make_roles(connection: asyncpg.Connection) -> set[str]:
    """Make the roles that are missing; returns their names."""
    statements = {OWNER: "create_owner", RUNTIME: "create_runtime", SYSTEM: "create_system"}
    there = await connection.fetch(_QUERIES["roles"], list(statements))
    for role in there:
        if role["unbound"]:
            raise ConfigurationError(
                f"The role {role['rolname']} is a superuser or bypasses row-level security, which"
                " would void the separation of tenants: take that away from it."
            )
    missing = statements.keys() - {role["rolname"] for role in there}
    for name in sorted(missing):
        await connection.execute(_QUERIES[statements[name]])
        _log.info("database_role_made", role=name)
    if not await connection.fetchval(_QUERIES["is_member"], OWNER, SYSTEM):
        await connection.execute(_QUERIES["grant_system"])
    return missing


async def _set_password(connection: asyncpg.Connection, role: str, password: str) -> None:
    verifier = scram_verifier(password)
    await connection.execute(
        await connection.fetchval(_QUERIES["password_statement"], role, verifier)
    )


async def _grant_database(connection: asyncpg.Connection) -> None:
    if not await connection.fetchval(_QUERIES["has_owner_privileges"]):
        await connection.execute(await connection.fetchval(_QUERIES["own_schemas_statement"]))
    if not await connection.fetchval(_QUERIES["has_runtime_privileges"]):
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(
            await connection.fetchval(_QUERIES["open_database_statement"], name)
        )


async def create_database(
    connection: asyncpg.Connection, name: str, *, template: str = "template1"
) -> None:
    """Make a database that belongs to `troupe_owner` and is closed to everybody else.

    Args:
        connection: A superuser's, outside a transaction.
        name: Of the new database.
        template: Database to copy, with nobody connected to it; by default an empty one.
    """
    create = await connection.fetchval(_QUERIES["create_database_statement"], name, template)
    await connection.execute(create)
    for statement in ("close_database_statement", "open_database_statement"):
        await connection.execute(await connection.fetchval(_QUERIES[statement], name))


def _password(url: str) -> str:
    password = urlsplit(url).password
    if not password:
        raise ConfigurationError("A database URL lacks the password of its role.")
    return unquote(password)
