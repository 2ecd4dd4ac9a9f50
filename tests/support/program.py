"""The real program beside a database of its own, with two tenants whose people are made by hand.

``troupe up`` runs as a process, as everywhere; sessions and tokens are rows, so that a test can be
whoever it wants to be without logging in hundreds of times.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from tests.support.postgres import TestDatabase
from tests.support.processes import Running, running
from troupe.actors.auth.access_tokens import new_token
from troupe.actors.auth.login_secrets import hash_of, new_handle
from troupe.actors.auth.sessions import csrf_token

READY: Final = 90
ISSUER: Final = "https://idp.example"


@dataclass
class Party:
    """One tenant and what is there."""

    name: str
    tenant_id: UUID = field(default_factory=uuid4)
    provider_id: UUID = field(default_factory=uuid4)
    users: dict[str, UUID] = field(default_factory=dict)


@dataclass
class Program:
    """The running program."""

    process: Running
    urls: Mapping[str, str]
    database: TestDatabase
    state: Path
    here: Party
    there: Party
    admin: "Admin"

    def sql(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows of a statement of the superuser."""
        return self.admin.fetch(query, *arguments)

    def session(self, party: Party, role: str) -> dict[str, str]:
        """Headers of a fresh session of a member of this role, unsafe methods included."""
        cookie = new_handle()
        self.sql(
            "INSERT INTO auth.login_sessions (session_hash, session_id, user_id, tenant_id,"
            " provider_tenant_id, provider_id, issuer, client_id, idle_limit, expires_at)"
            " VALUES ($1, gen_random_uuid(), $2, $3, $3, $4, $5, 'troupe', '1 h', now() + '1 h')",
            hash_of(cookie),
            party.users[role],
            party.tenant_id,
            party.provider_id,
            ISSUER,
        )
        return {
            "Cookie": f"troupe_session={cookie}",
            "X-CSRF-Token": csrf_token(cookie),
            "Sec-Fetch-Site": "same-origin",
        }

    def token(self, party: Party, role: str, scope: str = "*") -> dict[str, str]:
        """Headers of a fresh token of the operator's."""
        token = new_token()
        self.sql(
            "INSERT INTO auth.access_tokens"
            " (tenant_id, token_id, token_hash, hint, name, role, scopes)"
            " VALUES ($1, gen_random_uuid(), $2, 'trp_', 'test', $3, $4)",
            party.tenant_id,
            hash_of(token),
            role,
            [scope],
        )
        return {"Authorization": f"Bearer {token}"}

    def digest(self, party: Party) -> dict[str, str]:
        """Every table's rows of a tenant, each table as one hash.

        Left out are sessions, uses, and how far tasks follow: these change by themselves.
        """
        found = {}
        tables = self.sql(
            "SELECT t.relation::text AS name FROM platform.tenant_tables() AS t"
            " WHERE t.name NOT IN ('login_sessions', 'access_tokens', 'followed')"
        )
        for table in tables:
            (row,) = self.sql(
                "SELECT md5(coalesce(string_agg(x::text, E'\\n' ORDER BY x::text), '')) AS hash"
                f" FROM {table['name']} AS x WHERE tenant_id = $1",
                party.tenant_id,
            )
            found[table["name"]] = row["hash"]
        return found

    def values(self, party: Party) -> dict[str, Any]:
        """What variables of paths may stand for: one of the tenant's, for each kind of identifier.

        Found in the catalogue, so that a route with a new kind of thing in its path needs no entry.
        """
        values: dict[str, Any] = {}
        columns = self.sql(
            "SELECT t.relation::text AS name, a.attname AS column"
            " FROM platform.tenant_tables() AS t"
            " JOIN pg_attribute AS a ON a.attrelid = t.relation AND a.attnum > 0"
            " AND a.atttypid IN ('uuid'::regtype, 'bigint'::regtype, 'text'::regtype)"
            " AND a.attname LIKE '%\\_id' AND NOT a.attisdropped ORDER BY t.schema_name DESC"
        )
        for column in columns:
            rows = self.sql(
                f'SELECT "{column["column"]}" AS value FROM {column["name"]}'
                f' WHERE tenant_id = $1 AND "{column["column"]}" IS NOT NULL LIMIT 1',
                party.tenant_id,
            )
            if rows:
                values.setdefault(column["column"], rows[0]["value"])
        return values


class Admin:
    """One connection of the superuser, for code that is not asynchronous."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(url, statement_cache_size=0))

    def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows of a statement."""
        rows: list[asyncpg.Record] = self._runner.run(self._connection.fetch(query, *arguments))
        return rows

    def close(self) -> None:
        """End it."""
        self._runner.run(self._connection.close())
        self._runner.close()


@contextmanager
def program(
    database: TestDatabase, directory: Path, extra: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Run the program on this database, with two tenants of four members each."""
    state = directory / "state"
    options = {f"TROUPE_GROUPS__{name}__PORT": "0" for name in ("AUTH", "DATA", "ANALYTICS")} | {
        "TROUPE_DATABASE__URL": database.owner_url,
        "TROUPE_DATABASE__RUNTIME_URL": database.runtime_url,
        "TROUPE_AUTH__ALLOW_PRIVATE_PEERS": "127.0.0.0/8",
        "TROUPE_LOG__STYLE": "json",
        **(extra or {}),
    }
    arguments = ["--state-dir", str(state), "up"]
    with running(arguments, directory / "log", extra=options) as process:
        urls = process.wait_for_file(state / "run.json", READY)["urls"]
        parties = [Party("Here"), Party("There")]
        admin = Admin(database.admin_url)
        try:
            started = Program(process, urls, database, state, *parties, admin)
            for party in parties:
                furnish(started, party)
            yield started
        finally:
            admin.close()


def furnish(started: Program, party: Party) -> None:
    """A tenant with a row of everything that has an identifier of its own."""
    tenant = party.tenant_id
    started.sql(
        "INSERT INTO platform.tenants (tenant_id, name) VALUES ($1, $2)", tenant, party.name
    )
    started.sql(
        "INSERT INTO auth.identity_providers (tenant_id, provider_id, label, issuer, client_id)"
        " VALUES ($1, $2, 'Test', $3, 'troupe')",
        tenant,
        party.provider_id,
        ISSUER,
    )
    for role in ("viewer", "analyst", "admin", "owner"):
        user = party.users[role] = uuid4()
        started.sql(
            "INSERT INTO auth.users (user_id, issuer, subject, email, name)"
            " VALUES ($1, $2, $3, $4, $5)",
            user,
            ISSUER,
            f"{party.name}-{role}",
            f"{role}@{party.name.lower()}.example",
            f"{role} of {party.name}",
        )
        started.sql("INSERT INTO auth.members VALUES ($1, $2, $3)", tenant, user, role)
    started.sql(
        "INSERT INTO auth.invitations"
        " (tenant_id, invitation_id, provider_id, email, role, expires_at)"
        " VALUES ($1, gen_random_uuid(), $2, $3, 'viewer', now() + '1 day')",
        tenant,
        party.provider_id,
        f"guest@{party.name.lower()}.example",
    )
    # Nobody runs this kind, and not before tomorrow.
    started.sql(
        "INSERT INTO platform.jobs (tenant_id, job_id, group_name, kind, max_attempts, run_at)"
        " VALUES ($1, gen_random_uuid(), 'data', 'waiting', 1, now() + '1 day')",
        tenant,
    )
    started.sql(
        "INSERT INTO data.locations (tenant_id, location_id, name) VALUES ($1, 'l-1', 'Branch')",
        tenant,
    )
    started.sql(
        "INSERT INTO data.customers (tenant_id, customer_id, company) VALUES ($1, 'c-1', 'Ltd')",
        tenant,
    )
    started.token(party, "viewer")
