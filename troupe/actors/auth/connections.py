"""Writing a tenant's connections; who uses them reads `troupe.common.connections`.

The secret goes in and never comes out here: an answer says only whether there is one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from troupe.actors.auth.audit import OPERATOR, QUERIES, Actor, append
from troupe.common.connections import (
    CONFIGS,
    TEST_CONNECTION,
    ConnectionKind,
    NotConnected,
    secret_place,
)
from troupe.common.database import Database
from troupe.common.errors import InvalidInput, NotFound, PreconditionFailed
from troupe.common.ids import TenantId
from troupe.common.secrets import MAX_SECRET_BYTES, Vault
from troupe.platform.jobs import Job, JobStore, NewJob, enqueue

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True, slots=True)
class StoredConnection:
    """What may be shown of a connection."""

    kind: ConnectionKind
    config: Mapping[str, Any]
    has_secret: bool
    version: int
    updated_at: datetime


async def show_connection(
    database: Database, tenant: TenantId, kind: ConnectionKind
) -> StoredConnection:
    """A connection without its secret.

    Raises:
        NotConnected: The tenant has none of this kind.
    """
    row = await database.fetch_row(QUERIES["connection"], tenant, kind, tenant=tenant)
    if row is None:
        raise NotConnected(f"The tenant has no {kind} connection yet.")
    config = json.loads(row["config"])
    return StoredConnection(kind, config, row["has_secret"], row["version"], row["updated_at"])


async def put_connection(
    database: Database,
    vault: Vault,
    tenant: TenantId,
    kind: ConnectionKind,
    config: Mapping[str, Any],
    secret: bytes | None,
    *,
    version: int | None = None,
    actor: Actor = OPERATOR,
) -> int:
    """Create a connection or replace it.

    Args:
        database: Where.
        vault: Seals the secret.
        tenant: Whose connection.
        kind: Which.
        config: In the form that `troupe.common.connections` gives the kind.
        secret: None keeps the present one.
        version: What is to be replaced, 0 for nothing; None replaces whatever is there.
        actor: Who does this.

    Returns:
        The new version.

    Raises:
        InvalidInput: The configuration or the secret is not of the right form.
        PreconditionFailed: Another version is there.
    """
    checked = _check(kind, config, secret)

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
        present: int = await connection.fetchval(QUERIES["lock_connection"], tenant, kind) or 0
        if version is not None and version != present:
            raise PreconditionFailed("The connection was changed since you have read it.")
        sealed = (
            None
            if secret is None
            else await vault.seal(connection, tenant, secret_place(kind), secret)
        )
        written: int = await connection.fetchval(
            QUERIES["put_connection"], tenant, kind, checked, sealed
        )
        if version == 0 and written != 1:
            raise PreconditionFailed("The connection was made by somebody else just now.")
        detail = {"version": written, "secret_changed": secret is not None}
        await append(connection, actor, "connection.put", kind, detail)
        return written

    return await database.run(unit, tenant=tenant)


async def drop_connection(
    database: Database, tenant: TenantId, kind: ConnectionKind, *, actor: Actor
) -> None:
    """Forget a connection and its secret.

    Raises:
        NotConnected: The tenant has none of this kind.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        if await connection.fetchval(QUERIES["drop_connection"], tenant, kind) is None:
            raise NotConnected(f"The tenant has no {kind} connection.")
        await append(connection, actor, "connection.dropped", kind)

    await database.run(unit, tenant=tenant)


async def start_test(
    database: Database, tenant: TenantId, kind: ConnectionKind, *, actor: Actor
) -> Job:
    """Have a connection tried; while a try waits or runs, that one is given back.

    Raises:
        NotConnected: The tenant has none of this kind.
    """
    await show_connection(database, tenant, kind)

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> Job:
        job = await enqueue(
            connection,
            NewJob(
                group="data",
                kind=TEST_CONNECTION,
                arguments={"connection": kind},
                unique_key=kind,
                max_attempts=2,
            ),
        )
        if not job.deduplicated:
            await append(connection, actor, "connection.tested", kind, {"job_id": str(job.id)})
        return job

    return await database.run(unit, tenant=tenant)


async def last_test(database: Database, tenant: TenantId, kind: ConnectionKind) -> Job:
    """The newest try of a connection, as far as it is.

    Raises:
        NotFound: It was never tried, or not within the time for which jobs are remembered.
    """
    job_id = await database.fetch_value(
        QUERIES["last_test"], tenant, TEST_CONNECTION, kind, tenant=tenant, read_only=True
    )
    if job_id is None:
        raise NotFound(f"The {kind} connection was not tested yet.")
    return await JobStore(database).get(tenant, job_id)


def _check(kind: ConnectionKind, config: Mapping[str, Any], secret: bytes | None) -> dict[str, Any]:
    try:
        checked = CONFIGS[kind].model_validate(config)
    except ValidationError as error:
        pointers = [
            ("/config/" + "/".join(map(str, finding["loc"])), finding["msg"])
            for finding in error.errors(include_url=False, include_input=False)
        ]
        raise InvalidInput("The connection is not valid.", pointers) from None
    if secret is not None:
        if not 0 < len(secret) <= MAX_SECRET_BYTES:
            raise InvalidInput(
                "The secret is not valid.", [("/secret", f"1 to {MAX_SECRET_BYTES} bytes")]
            )
        if kind == "bigquery" and not _is_service_account(secret):
            raise InvalidInput(
                "The secret is not valid.",
                [("/secret", "must be the JSON file of a service account")],
            )
    return checked.model_dump(mode="json")


def _is_service_account(secret: bytes) -> bool:
    try:
        document = json.loads(secret)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("type") == "service_account"
