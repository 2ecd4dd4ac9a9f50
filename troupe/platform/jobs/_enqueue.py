"""Enqueueing, inside the caller's own transaction: the job exists exactly if the caller commits.

These are asyncio coroutines for use in a unit of work (``db.run``). A process that waits for work
is notified by PostgreSQL at the commit, once per statement and group, and finds the job by polling
if the notification is lost.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import asyncpg

from troupe.common.database import dumps, loads
from troupe.common.errors import Conflict
from troupe.common.ids import TenantId, new_id, new_ids
from troupe.common.sql import load
from troupe.platform.jobs._model import Job, JobState, NewJob

QUERIES: Final = load(__package__, "jobs.sql")
_ATTEMPTS: Final = 10
_RESTLESS: Final = "Jobs with the same unique key come and go too fast; try again."


class Enqueued(NamedTuple):
    """A job that `enqueue_many` made or found.

    Attributes:
        id: Its identifier.
        deduplicated: Whether it was there before.
    """

    id: uuid.UUID
    deduplicated: bool


async def enqueue(connection: asyncpg.Connection, new: NewJob) -> Job:
    """Make a job, or find the one that its keys name (`Job.deduplicated` says which).

    Args:
        connection: In a transaction whose tenant is set.
        new: What to do.

    Raises:
        Conflict: The idempotency key was used before with other arguments.
        asyncpg.NotNullViolationError: The transaction has no tenant.
        asyncpg.ForeignKeyViolationError: There is no such tenant.
        TypeError: The arguments have no JSON form.
    """
    job_id = new_id()
    columns = _columns([job_id], [new])
    for _ in range(_ATTEMPTS):
        if rows := await _insert(connection, columns):
            return _made(rows[0], new, columns["arguments"][0])
        # A key is taken. Should its holder finish before we look, we simply try again.
        if found := await _find(connection, columns):
            return replace(Job.from_row(found[job_id]), deduplicated=True)
    raise Conflict(_RESTLESS)


async def enqueue_many(connection: asyncpg.Connection, news: Sequence[NewJob]) -> list[Enqueued]:
    """As `enqueue`, for many jobs in one statement; the answer has their order.

    Jobs of one tenant, priority and time that are enqueued together run in their order.
    """
    identifiers = new_ids(len(news))
    if not any(new.unique_key or new.idempotency_key for new in news):
        *columns, _ = _columns(identifiers, news).values()
        await connection.execute(QUERIES["enqueue_without_keys"], *columns)
        return [Enqueued(job_id, deduplicated=False) for job_id in identifiers]
    wanted = dict(zip(identifiers, news, strict=True))
    found: dict[uuid.UUID, Enqueued] = {}
    for _ in range(_ATTEMPTS):
        missing = [job_id for job_id in identifiers if job_id not in found]
        if not missing:
            return [found[job_id] for job_id in identifiers]
        made = {
            row["job_id"]: Enqueued(row["job_id"], deduplicated=False)
            for row in await _insert(
                connection, _columns(missing, [wanted[job_id] for job_id in missing])
            )
        }
        found |= made
        left = [job_id for job_id in missing if job_id not in made]
        if left:
            columns_left = _columns(left, [wanted[job_id] for job_id in left])
            for job_id, row in (await _find(connection, columns_left)).items():
                found[job_id] = Enqueued(row["job_id"], deduplicated=True)
    raise Conflict(_RESTLESS)


_Columns = dict[str, list[Any]]


async def _insert(connection: asyncpg.Connection, columns: _Columns) -> list[asyncpg.Record]:
    """Insert what no key forbids; rows of identifier and times."""
    *plain, idempotency_keys = columns.values()
    if any(idempotency_keys):
        query, arguments = "enqueue_with_idempotency_keys", [*plain, idempotency_keys]
    else:
        query, arguments = "enqueue", plain
    rows: list[asyncpg.Record] = await connection.fetch(QUERIES[query], *arguments)
    return rows


async def _find(
    connection: asyncpg.Connection, columns: _Columns
) -> dict[uuid.UUID, asyncpg.Record]:
    """The jobs that hold the keys of jobs that were not inserted."""
    await connection.execute(QUERIES["drop_unused_keys"], columns["job_id"])
    keys = ("job_id", "kind", "arguments", "unique_key", "idempotency_key")
    rows = await connection.fetch(QUERIES["existing"], *(columns[key] for key in keys))
    for row in rows:
        if row["by_idempotency_key"] and not row["same_arguments"]:
            raise Conflict(
                f"The idempotency key was used before for a {row['kind']} job with other arguments."
            )
    return {row["asked_for"]: row for row in rows}


def _columns(identifiers: list[uuid.UUID], values: Sequence[NewJob]) -> _Columns:
    """The values of new jobs, one list for each column of the statement, in its order."""
    return {
        "job_id": identifiers,
        "group_name": [new.group for new in values],
        "kind": [new.kind for new in values],
        "priority": [new.priority for new in values],
        "run_at": [new.run_at for new in values],
        "delay": [new.delay for new in values],
        "arguments": [dumps(dict(new.arguments)) if new.arguments else "{}" for new in values],
        "unique_key": [new.unique_key for new in values],
        "max_attempts": [new.max_attempts for new in values],
        "idempotency_key": [new.idempotency_key for new in values],
    }


def _made(row: asyncpg.Record, new: NewJob, arguments: str) -> Job:
    return Job(
        tenant_id=TenantId(row["tenant_id"]),
        id=row["job_id"],
        group=new.group,
        kind=new.kind,
        state=JobState.AVAILABLE,
        priority=new.priority,
        run_at=row["run_at"],
        arguments=loads(arguments),
        unique_key=new.unique_key,
        idempotency_key=new.idempotency_key,
        max_attempts=new.max_attempts,
        created_at=row["created_at"],
    )
