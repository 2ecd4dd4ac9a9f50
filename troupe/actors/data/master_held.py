"""Files that are held in PostgreSQL until a job takes them.

Two kinds are held: an upload, from the request that brought it until its job has ended, and what
has arrived of a transfer that broke, until the next attempt goes on from there. The attempt may run
in another process or on another host, so a local disk would not do; and a file that is written in
the transaction that enqueues its job cannot be lost between the two.

A file is held in pieces of 1 MiB, so that neither side needs it in one message. What nobody has
come for within a week goes (`upkeep.py` looks once a minute); when a person is erased, everything
goes that no job waits for, because nobody can look into half a file.
"""

import io
from dataclasses import dataclass
from typing import BinaryIO, Final
from uuid import UUID

import asyncpg

from troupe.actors.data.master_selection import Found
from troupe.common.database import Database
from troupe.common.errors import Conflict, NotFound
from troupe.common.ids import TenantId, new_id
from troupe.common.sql import load
from troupe.common.units import DAYS, MINUTES, SECONDS, MiB

MAX_UPLOADS: Final = 20
"""Uploads of one tenant that may wait at a time."""
HELD_FOR: Final = 7 * DAYS
HOLD_DEADLINE: Final = 2 * MINUTES
READ_DEADLINE: Final = 10 * SECONDS
PIECE: Final = 1 * MiB

QUERIES: Final = load(__package__, "master_data.sql")
"""Every statement about master data."""


@dataclass(frozen=True, slots=True)
class HeldUpload:
    """An upload that waits.

    Attributes:
        file_id: Names it.
        content: What it is about.
        name: That the client gave it; for messages only.
        size: Bytes.
        sha256: Of the whole.
    """

    file_id: UUID
    content: str
    name: str
    size: int
    sha256: bytes


async def hold_upload(
    connection: asyncpg.Connection,
    tenant: TenantId,
    *,
    content: str,
    name: str,
    body: BinaryIO,
    size: int,
    sha256: bytes,
) -> UUID:
    """Hold an upload, inside a unit of work; returns its identifier.

    Raises:
        Conflict: Too many uploads wait already.
    """
    await release_old(connection, tenant)
    await connection.execute(QUERIES["lock_uploads"], tenant)
    if await connection.fetchval(QUERIES["held_uploads"], tenant) >= MAX_UPLOADS:
        raise Conflict(f"{MAX_UPLOADS} uploads wait already; try again when one has been loaded.")
    file_id = new_id()
    await connection.execute(
        QUERIES["hold"], tenant, file_id, "upload", content, name, size, sha256, None
    )
    body.seek(0)
    await _write(connection, tenant, file_id, body)
    return file_id


async def find_upload(database: Database, tenant: TenantId, file_id: UUID) -> HeldUpload:
    """An upload that waits.

    Raises:
        NotFound: It does not, or no longer.
    """
    row = await database.fetch_row(QUERIES["held_upload"], tenant, file_id, tenant=tenant)
    if row is None:
        raise NotFound("The uploaded file is no longer held; upload it again.")
    return HeldUpload(**dict(row.items()))


async def read_held(database: Database, tenant: TenantId, file_id: UUID) -> io.BytesIO:
    """All that is held of a file."""
    content = io.BytesIO()
    number = 0
    while True:
        piece = await database.fetch_value(
            QUERIES["held_piece"], tenant, file_id, number, tenant=tenant, deadline=READ_DEADLINE
        )
        if piece is None:
            return content
        content.write(piece)
        number += 1


async def release(connection: asyncpg.Connection, tenant: TenantId, file_id: UUID) -> None:
    """Hold a file no longer; inside a unit of work."""
    await connection.execute(QUERIES["release"], tenant, file_id)


async def release_old(connection: asyncpg.Connection, tenant: TenantId) -> None:
    """Hold nothing any more that nobody has come for within `HELD_FOR`; inside a unit of work."""
    await connection.execute(QUERIES["release_old"], tenant, HELD_FOR)


async def hold_transfer(
    connection: asyncpg.Connection,
    tenant: TenantId,
    *,
    content: str,
    path: str,
    found: Found,
    arrived: io.BytesIO,
) -> None:
    """Hold what has arrived of a transfer, in place of what is held of it; in a unit of work."""
    await connection.execute(QUERIES["release_transfer"], tenant, path)
    size = arrived.seek(0, io.SEEK_END)
    file_id = new_id()
    await connection.execute(
        QUERIES["hold"], tenant, file_id, "transfer", content, path, size, None, _as_text(found)
    )
    arrived.seek(0)
    await _write(connection, tenant, file_id, arrived)


async def resume_transfer(
    database: Database, tenant: TenantId, path: str, found: Found
) -> io.BytesIO:
    """What has arrived of a transfer before; empty unless the file looks as it did then."""
    row = await database.fetch_row(
        QUERIES["held_transfer"], tenant, path, _as_text(found), tenant=tenant
    )
    if row is None:
        return io.BytesIO()
    arrived = await read_held(database, tenant, row["file_id"])
    return arrived if arrived.tell() == row["size"] else io.BytesIO()


async def release_transfer(connection: asyncpg.Connection, tenant: TenantId, path: str) -> None:
    """Hold nothing of a transfer any more; inside a unit of work."""
    await connection.execute(QUERIES["release_transfer"], tenant, path)


async def _write(
    connection: asyncpg.Connection, tenant: TenantId, file_id: UUID, body: BinaryIO
) -> None:
    number = 0
    while piece := body.read(PIECE):
        await connection.execute(QUERIES["hold_piece"], tenant, file_id, number, piece)
        number += 1


def _as_text(found: Found) -> str:
    return f"{found.size} {found.modified.isoformat() if found.modified else None}"
