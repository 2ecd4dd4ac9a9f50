"""What is known of a tenant's files of master data, and how an upload comes in."""

from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO
from uuid import UUID

import asyncpg

from troupe.actors.data.job_requests import upload_job
from troupe.actors.data.master_held import HOLD_DEADLINE, QUERIES, hold_upload
from troupe.actors.data.master_rows import Content
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.platform.jobs import Job, enqueue


@dataclass(frozen=True, slots=True)
class KnownFile:
    """One file, as it was last looked at.

    Attributes:
        content: What it is about.
        path: On the server, or ``uploads/`` and its name.
        size: Bytes, as of `imported_at`, as the others up to there; None: never imported.
        modified_at: When it was written.
        loaded_rows: Rows that were taken.
        bad_rows: Rows that were not.
        imported_at: When it was last imported.
        checked_at: When it was last looked at.
        problem: Why that did not import it; None: it did, or there was nothing new.
    """

    content: Content
    path: str
    size: int | None
    modified_at: datetime | None
    loaded_rows: int | None
    bad_rows: int | None
    imported_at: datetime | None
    checked_at: datetime
    problem: str | None


async def known_files(database: Database, tenant: TenantId, *, limit: int) -> list[KnownFile]:
    """A tenant's files, the last one looked at first."""
    rows = await database.fetch(QUERIES["files"], tenant, limit, tenant=tenant, read_only=True)
    return [KnownFile(**dict(row.items())) for row in rows]


async def take_upload(
    database: Database,
    tenant: TenantId,
    *,
    content: Content,
    name: str,
    body: BinaryIO,
    size: int,
    sha256: bytes,
) -> tuple[UUID, Job]:
    """Hold an upload and enqueue the job that loads it, both or neither.

    Args:
        database: Where.
        tenant: Whose.
        content: What it is about.
        name: Of the file; for messages only.
        body: All of it.
        size: Bytes.
        sha256: Of all of it.

    Raises:
        Conflict: Too many uploads of the tenant wait already.
    """

    async def unit(connection: asyncpg.Connection) -> tuple[UUID, Job]:
        file_id = await hold_upload(
            connection, tenant, content=content, name=name, body=body, size=size, sha256=sha256
        )
        return file_id, await enqueue(connection, upload_job(file_id))

    return await database.run(unit, tenant=tenant, deadline=HOLD_DEADLINE)
