"""The checker of tenancy: walks the catalogue and tries to see what belongs to others.

It knows no table by name but the few that belong to no tenant; a table, view or partition that
somebody adds is checked without anyone thinking of it. It also complains about tables that have no
rows of both tenants: a table without data would pass every question.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from troupe.common.sql import parse

_QUERIES = parse(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"), origin="tenancy")

WITHOUT_TENANT: Final = frozenset(
    {
        "auth.login_sessions",  # a browser; knows its active tenant but is found by its hash alone
        "auth.login_states",  # a login under way
        "auth.users",  # a person, who may belong to several tenants
        "platform.hosts",  # the supervisors that share the database
        "platform.leaders",  # whose term it is, one row for each kind of work
        "platform.job_kinds",  # what is known of a kind of job, for all tenants
        "platform.job_ring",  # which table takes new tickets
        "platform.migrations",  # the ledger
        "platform.processes",  # who is alive
    }
)
"""Reviewed: rows here belong to no tenant, and troupe_runtime has no right on the table."""


async def structure(admin: asyncpg.Connection) -> list[str]:
    """What the catalogue alone tells, as sentences; empty when all is well."""
    found: list[str] = []
    for row in await admin.fetch(_QUERIES["relations"]):
        found += _about_relation(row)
    for row in await admin.fetch(_QUERIES["doors"]):
        if not row["pinned"]:
            found.append(f"{row['name']}: a SECURITY DEFINER function without its own search_path")
        if row["public"]:
            found.append(f"{row['name']}: a SECURITY DEFINER function that PUBLIC may call")
        if row["owner"] not in {"troupe_system", "troupe_owner"}:
            found.append(f"{row['name']}: a SECURITY DEFINER function of {row['owner']}")
    for row in await admin.fetch(_QUERIES["roles"]):
        if row["rolsuper"] or row["rolbypassrls"]:
            found.append(f"{row['rolname']} can bypass row-level security")
        if row["rolname"] == "troupe_system" and row["rolcanlogin"]:
            found.append("troupe_system can log in")
    for row in await admin.fetch(_QUERIES["memberships"]):
        if row["member"] == "troupe_runtime" or row["inherits"]:
            found.append(f"{row['member']} has the rights of {row['role']}")
    return found


def _about_relation(row: asyncpg.Record) -> list[str]:
    name, found = row["name"], []
    if row["truncatable"]:
        found.append(f"{name}: troupe_runtime may truncate it, which no policy filters")
    if not row["readable"] and not row["writable"]:
        if not row["has_tenant"] and name not in WITHOUT_TENANT and row["kind"] in {"r", "p"}:
            found.append(f"{name}: has no tenant_id and is not known as a table without a tenant")
        return found
    match row["kind"]:
        case "v":
            if not row["invoker"]:
                found.append(f"{name}: a view without security_invoker")
        case "m":
            found.append(f"{name}: a materialized view that troupe_runtime may read")
        case _:
            if row["readable"] and not (row["enabled"] and row["forced"] and row["has_policy"]):
                found.append(f"{name}: readable without forced row-level security and a policy")
            if not row["has_tenant"]:
                found.append(f"{name}: troupe_runtime has rights on a table without tenant_id")
            if row["leading_key"] not in {"", "tenant_id"}:
                found.append(f"{name}: its primary key does not start with tenant_id")
            if row["owner"] == "troupe_runtime":
                found.append(f"{name}: belongs to troupe_runtime, which could drop its policy")
    return found


async def behaviour(
    admin: asyncpg.Connection,
    runtime: asyncpg.Connection,
    tenants: Sequence[UUID],
    *,
    may_be_empty: frozenset[str] = frozenset(),
) -> list[str]:
    """What troupe_runtime really sees and can do, for each tenant and for none.

    Args:
        admin: A superuser, who knows what is there.
        runtime: A connection as troupe_runtime.
        tenants: Two, each with rows everywhere.
        may_be_empty: Tables that need no rows; partitions never do.
    """
    found: list[str] = []
    for row in await admin.fetch(_QUERIES["relations"]):
        name, quoted = row["name"], row["quoted"]
        if not row["readable"] or not row["has_tenant"]:
            continue
        if row["kind"] in {"r", "p"}:
            present = {
                record["tenant_id"]
                for record in await admin.fetch(f"SELECT DISTINCT tenant_id FROM {quoted}")
            }
            is_partition = name.startswith("data.events_") or "_y" in name
            if not set(tenants) <= present and name not in may_be_empty and not is_partition:
                found.append(f"{name}: has no rows of both tenants, so nothing was proven")
        found += await _attempts(runtime, name, quoted, tenants, writable=row["writable"])
    return found


async def _attempts(
    runtime: asyncpg.Connection, name: str, quoted: str, tenants: Sequence[UUID], *, writable: bool
) -> list[str]:
    found: list[str] = []
    if await _visible(runtime, quoted, None):
        found.append(f"{name}: shows rows when no tenant is set")
    for tenant, other in zip(tenants, reversed(tenants), strict=True):
        seen = await _visible(runtime, quoted, tenant)
        if seen - {tenant}:
            found.append(f"{name}: shows rows of another tenant")
        if writable and seen and await _can_give_away(runtime, quoted, tenant, other):
            found.append(f"{name}: a row can be moved to another tenant")
    return found


async def _visible(runtime: asyncpg.Connection, quoted: str, tenant: UUID | None) -> set[UUID]:
    async with runtime.transaction(readonly=True):
        await runtime.execute(
            "SELECT set_config('troupe.tenant_id', $1, true)", str(tenant) if tenant else ""
        )
        return {
            row["tenant_id"]
            for row in await runtime.fetch(f"SELECT DISTINCT tenant_id FROM {quoted}")
        }


async def _can_give_away(
    runtime: asyncpg.Connection, quoted: str, tenant: UUID, other: UUID
) -> bool:
    transaction = runtime.transaction()
    await transaction.start()
    try:
        await runtime.execute("SELECT set_config('troupe.tenant_id', $1, true)", str(tenant))
        status = await runtime.execute(f"UPDATE {quoted} SET tenant_id = $1", other)
    except asyncpg.PostgresError:
        return False
    else:
        return status != "UPDATE 0"
    finally:
        await transaction.rollback()
