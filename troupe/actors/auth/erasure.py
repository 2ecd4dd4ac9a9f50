"""Asking for an erasure: who may, what is written down, and the job that does it.

The audit log names the request, never the person: what it says of an erased member is an identifier
(a UUID) that leads to nobody any more.
"""

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from troupe.actors.auth.audit import OPERATOR, QUERIES, Actor, append
from troupe.actors.auth.members import Role, erasable_member
from troupe.common.database import Database
from troupe.common.erasure import ERASE_PERSON, ERASE_TENANT, request_place
from troupe.common.errors import InvalidInput, NotFound
from troupe.common.ids import TenantId, new_id
from troupe.common.secrets import Vault
from troupe.platform.jobs import Job, NewJob, enqueue

if TYPE_CHECKING:
    import asyncpg

MAX_IDENTIFIERS: Final = 20
MAX_IDENTIFIER: Final = 255
ATTEMPTS: Final = 20


def _check(identifiers: Sequence[str]) -> None:
    problems = [
        (f"/identifiers/{place}", f"must have 1 to {MAX_IDENTIFIER} printable characters")
        for place, text in enumerate(identifiers)
        if not 1 <= len(text) <= MAX_IDENTIFIER or not text.isprintable() or text != text.strip()
    ]
    if len(identifiers) > MAX_IDENTIFIERS:
        problems.append(("/identifiers", f"at most {MAX_IDENTIFIERS} at a time"))
    if problems:
        raise InvalidInput("The person is not described well.", problems)


async def erase_person(
    database: Database,
    vault: Vault,
    tenant: TenantId,
    *,
    identifiers: Sequence[str],
    user: UUID | None,
    by: Role,
    actor: Actor,
) -> Job:
    """Have a person forgotten; a member is out at once, the data follow as a job.

    Args:
        database: Where.
        vault: Seals the identifiers while the job waits.
        tenant: Who forgets them.
        identifiers: Of a customer or visitor: number, address, telephone number, visitor's id.
        user: Of a member; erased beside the identifiers.
        by: Role of whoever asks.
        actor: Who that is.

    Raises:
        InvalidInput: Nobody is named, or an identifier cannot be one.
        NotFound: There is no such member.
        Forbidden: The member outranks whoever asks.
        Conflict: The member is the last owner.
    """
    _check(identifiers)
    if not identifiers and user is None:
        raise InvalidInput("Nobody is named.", [("/identifiers", "or user_id is needed")])
    request = new_id()

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> Job:
        named = list(identifiers)
        if user is not None:
            await erasable_member(connection, tenant, user, by=by)
            named += await connection.fetchval(QUERIES["erase_member"], user) or []
            await append(connection, actor, "member.erased", str(user))
        sealed = await vault.seal(
            connection, tenant, request_place(request), json.dumps(named).encode()
        )
        job = await enqueue(
            connection,
            NewJob(
                group="data",
                kind=ERASE_PERSON,
                arguments={"request": str(request), "sealed": base64.b64encode(sealed).decode()},
                max_attempts=ATTEMPTS,
            ),
        )
        await append(connection, actor, "person.erased", str(request), {"job_id": str(job.id)})
        return job

    return await database.run(unit, tenant=tenant)


async def erase_tenant(
    database: Database, tenant: TenantId, *, name: str, actor: Actor = OPERATOR
) -> Job:
    """Close a tenant to everybody, at once and for good, and have everything of it deleted.

    Args:
        database: Where.
        tenant: Which.
        name: What it is called, so that nobody deletes the wrong one.
        actor: Who asks.

    Raises:
        NotFound: There is no such tenant.
        InvalidInput: It is called otherwise.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> Job:
        row = await connection.fetchrow(QUERIES["lock_tenant"], tenant)
        if row is None:
            raise NotFound("There is no such tenant.")
        if row["name"] != name:
            raise InvalidInput(
                "The tenant is not called so.", [("/tenant_name", "must be the tenant's name")]
            )
        await connection.fetchrow(QUERIES["set_tenant_state"], tenant, "deactivated")
        await append(connection, actor, "tenant.erased", str(tenant))
        return await enqueue(
            connection,
            NewJob(group="data", kind=ERASE_TENANT, unique_key="tenant", max_attempts=ATTEMPTS),
        )

    return await database.run(unit, tenant=tenant)
