"""What is in the database: version, roles, row-level security, migrations, keys, audit log."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Final

from troupe.actors.auth.audit import broken_entry
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.relying_party import RelyingParty
from troupe.cli.doctor._findings import Finding, State
from troupe.common.bridge import aio
from troupe.common.config import Configuration
from troupe.common.database import Database
from troupe.common.errors import ConfigurationError, PeerError
from troupe.common.migrate import MigrationsDiffer, Phase, pending, read_migrations
from troupe.common.outbound import OutboundGuard
from troupe.common.postgres import running_server
from troupe.common.postgres.roles import OLDEST_SERVER, RUNTIME, SYSTEM, connected
from troupe.common.secrets import KeyRing, UnreadableSecret
from troupe.common.sql import load
from troupe.common.tenants import all_tenants
from troupe.common.units import SECONDS
from troupe.placement import connections_needed

QUERIES: Final = load("troupe.cli.doctor", "database.sql")
CLOCK_DIFFERS: Final = 2 * SECONDS
CLOCK_IS_WRONG: Final = 60 * SECONDS
SHOWN: Final = 5


async def check_server(
    configuration: Configuration, database: Database
) -> AsyncGenerator[Finding, None]:
    """Version, connections, and the difference of the clocks."""
    before = datetime.now(UTC)
    row = await database.fetch_row(QUERIES["server"], read_only=True)
    after = datetime.now(UTC)
    assert row is not None  # noqa: S101  # it selects no table
    major = row["version"] // 10_000
    if major < OLDEST_SERVER:
        yield Finding(
            "database",
            State.FAILED,
            f"PostgreSQL is version {major}.",
            f"It must be at least {OLDEST_SERVER}.",
        )
    else:
        yield Finding("database", State.OK, f"PostgreSQL {major} answers.")
    needed, limit = connections_needed(configuration), row["max_connections"]
    if needed > limit:
        yield Finding(
            "connections",
            State.FAILED,
            f"Troupe may use {needed} connections; the server has {limit}.",
            "Raise max_connections, or lower database_connections or processes of the groups.",
        )
    else:
        yield Finding("connections", State.OK, f"{needed} of {limit} connections may be used.")
    middle = before + (after - before) / 2
    apart = abs((row["now"] - middle).total_seconds())
    told = f"Its clock and this host's are {apart:.1f} s apart."
    if apart > CLOCK_IS_WRONG:
        yield Finding("clock", State.FAILED, told, "Tokens and sessions fail: run a time service.")
    elif apart > CLOCK_DIFFERS:
        yield Finding("clock", State.WARNING, told, "Run a time service on both.")
    else:
        yield Finding("clock", State.OK, told)


async def check_roles(database: Database) -> AsyncGenerator[Finding, None]:
    """What keeps tenants apart: roles that cannot get around it, tables that demand it."""
    rows = {row["rolname"]: row for row in await database.fetch(QUERIES["roles"], read_only=True)}
    unbound = [name for name, row in rows.items() if row["unbound"]]
    if unbound:
        yield Finding(
            "roles",
            State.FAILED,
            f"{', '.join(unbound)} can get around row-level security.",
            f"Run: ALTER ROLE {unbound[0]} NOSUPERUSER NOBYPASSRLS",
        )
    elif SYSTEM in rows and rows[SYSTEM]["rolcanlogin"]:
        yield Finding(
            "roles", State.FAILED, f"{SYSTEM} can log in.", f"Run: ALTER ROLE {SYSTEM} NOLOGIN"
        )
    else:
        yield Finding("roles", State.OK, f"{RUNTIME} sees the rows of one tenant at a time.")
    open_tables = [row["name"] for row in await database.fetch(QUERIES["unguarded"])]
    if open_tables:
        shown = ", ".join(open_tables[:SHOWN])
        yield Finding(
            "row-level security",
            State.FAILED,
            f"{len(open_tables)} tables show rows of every tenant: {shown}.",
            "Run ALTER TABLE … ENABLE and FORCE ROW LEVEL SECURITY, and find out who took it away.",
        )
    else:
        yield Finding("row-level security", State.OK, "It guards every table of tenants.")


async def check_migrations(configuration: Configuration) -> AsyncGenerator[Finding, None]:
    """The files are those that the database was migrated with, and all are applied."""
    url = configuration.database.url.get_secret_value()
    if not url:
        url = running_server(configuration.state_directory).owner

    async def read() -> list[tuple[int, Phase, str]]:
        async with connected(url) as connection, connection.transaction():
            await connection.execute(QUERIES["become_owner"])
            rows = await connection.fetch(QUERIES["ledger"])
            return [(row["number"], Phase(row["phase"]), row["sha256"]) for row in rows]

    try:
        waiting = pending(read_migrations(), await aio(read()))
    except MigrationsDiffer as error:
        yield Finding(
            "migrations", State.FAILED, str(error), "Install the release that the database is of."
        )
        return
    if waiting:
        names = ", ".join(map(str, waiting[:SHOWN]))
        yield Finding(
            "migrations",
            State.FAILED,
            f"{len(waiting)} are not applied: {names}.",
            "Run 'troupe migrate', or start 'troupe up'.",
        )
    else:
        yield Finding("migrations", State.OK, "All are applied.")


async def check_data_keys(database: Database, ring: KeyRing) -> AsyncGenerator[Finding, None]:
    """The key file opens the data key of every tenant."""
    closed: list[str] = []
    tenants = await all_tenants(database)
    for tenant in tenants:
        for row in await database.fetch(QUERIES["data_keys"], tenant=tenant, read_only=True):
            try:
                ring.unwrap(tenant, row["key_id"], row["wrapped_key"])
            except UnreadableSecret:
                closed.append(str(tenant))
                break
    if closed:
        yield Finding(
            "key ring",
            State.FAILED,
            f"The secrets of {len(closed)} tenants do not open: {', '.join(closed[:SHOWN])}.",
            "Put the missing key back into the key file, from its backup.",
        )
    else:
        yield Finding("key ring", State.OK, f"It opens the secrets of {len(tenants)} tenants.")


async def check_audit(database: Database) -> AsyncGenerator[Finding, None]:
    """Every tenant's audit log is as it was written."""
    broken: list[str] = []
    tenants = await all_tenants(database)
    for tenant in tenants:
        entry = await broken_entry(database, tenant)
        if entry is not None:
            broken.append(f"{tenant} from entry {entry} on")
    if broken:
        yield Finding(
            "audit log",
            State.FAILED,
            f"It was tampered with: {'; '.join(broken[:SHOWN])}.",
            "Compare with a backup, and find out who could write to the database past Troupe.",
        )
    else:
        yield Finding("audit log", State.OK, f"The logs of {len(tenants)} tenants are whole.")


async def check_providers(
    database: Database, guard: OutboundGuard
) -> AsyncGenerator[Finding, None]:
    """Every identity provider tells about itself what a login needs."""
    found = 0
    async with PeerHttp(guard) as http:
        party = RelyingParty(http)
        for tenant, state in (await all_tenants(database)).items():
            if state != "active":
                continue
            for row in await database.fetch(QUERIES["providers"], tenant=tenant, read_only=True):
                found += 1
                name = f"{row['label']} of tenant {tenant}"
                try:
                    await party.metadata(row["issuer"])
                except (PeerError, ConfigurationError) as error:
                    yield Finding(
                        "identity provider",
                        State.FAILED,
                        f"{name}: {error}",
                        "Check the issuer's address, the network, and auth.allow_private_peers.",
                    )
                else:
                    yield Finding("identity provider", State.OK, f"{name} answers.")
    if not found:
        yield Finding(
            "identity provider",
            State.WARNING,
            "No tenant has one.",
            "Nobody can log in with a browser; tokens work.",
        )
