"""Enqueueing, inside the caller's own transaction: the job exists exactly if the caller commits.

These are asyncio coroutines for use in a unit of work (``db.run``). A process that waits for work
is notified by PostgreSQL at the commit, once per statement and group, and finds the job by polling
if the notification is lost.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import asyncpg

from troupe.common.database import dumps, loads
from troupe.common.errors import Conflict
from troupe.common.ids import TenantId, new_id
from troupe.common.sql import load
from troupe.platform.jobs._model import Job, JobState, NewJob

QUERIES: Final = load(__package__, "jobs.sql")
_ATTEMPTS: Final = 10


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
    (job,) = await enqueue_many(connection, [new])
    return job


async def enqueue_many(connection: asyncpg.Connection, news: Sequence[NewJob]) -> list[Job]:
    """As `enqueue`, for many jobs in one statement; the answer has their order."""
    wanted = {new_id(): new for new in news}
    found: dict[uuid.UUID, Job] = {}
    for _ in range(_ATTEMPTS):
        missing = {job_id: new for job_id, new in wanted.items() if job_id not in found}
        if not missing:
            return [found[job_id] for job_id in wanted]
        columns = _columns(missing)
        made = await _insert(connection, missing, columns)
        found |= made
        if len(made) < len(missing):
            # A key is taken. Should its holder finish before we look, we simply try again.
            found |= await _find(connection, missing, columns, made)
    raise Conflict("Jobs with the same unique key come and go too fast; try again.")


async def _insert(
    connection: asyncpg.Connection,
    news: Mapping[uuid.UUID, NewJob],
    columns: Mapping[str, list[Any]],
) -> dict[uuid.UUID, Job]:
    *plain, idempotency_keys = columns.values()
    if any(idempotency_keys):
        query, arguments = "enqueue_with_idempotency_keys", [*plain, idempotency_keys]
    else:
        query, arguments = "enqueue", plain
    rows = await connection.fetch(QUERIES[query], *arguments)
    if not rows:
        return {}
    tenant = TenantId(rows[0]["tenant_id"])
    times = {row["job_id"]: (row["run_at"], row["created_at"]) for row in rows}
    return {
        job_id: _made(tenant, job_id, new, text, *times[job_id])
        for (job_id, new), text in zip(news.items(), columns["arguments"], strict=True)
        if job_id in times
    }


async def _find(
    connection: asyncpg.Connection,
    news: Mapping[uuid.UUID, NewJob],
    columns: Mapping[str, list[Any]],
    made: Mapping[uuid.UUID, Job],
) -> dict[uuid.UUID, Job]:
    left = [job_id not in made for job_id in news]
    identifiers, *keys = (
        [value for value, is_left in zip(columns[name], left, strict=True) if is_left]
        for name in ("job_id", "kind", "arguments", "unique_key", "idempotency_key")
    )
    await connection.execute(QUERIES["drop_unused_keys"], identifiers)
    rows = await connection.fetch(QUERIES["existing"], identifiers, *keys)
    return {row["asked_for"]: _existing(row) for row in rows}


def _existing(row: asyncpg.Record) -> Job:
    if row["by_idempotency_key"] and not row["same_arguments"]:
        raise Conflict(
            f"The idempotency key was used before for a {row['kind']} job with other arguments."
        )
    return replace(Job.from_row(row), deduplicated=True)


def _columns(news: Mapping[uuid.UUID, NewJob]) -> dict[str, list[Any]]:
    """The values of `news`, one list for each column of the statement, in its order."""
    values = news.values()
    return {
        "job_id": list(news),
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


def _made(
    tenant: TenantId,
    job_id: uuid.UUID,
    new: NewJob,
    arguments: str,
    run_at: datetime,
    created_at: datetime,
) -> Job:
    return Job(
        tenant_id=tenant,
        id=job_id,
        group=new.group,
        kind=new.kind,
        state=JobState.AVAILABLE,
        priority=new.priority,
        run_at=run_at,
        arguments=loads(arguments),
        unique_key=new.unique_key,
        idempotency_key=new.idempotency_key,
        max_attempts=new.max_attempts,
        created_at=created_at,
    )
