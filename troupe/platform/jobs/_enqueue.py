"""Enqueueing, inside the caller's own transaction: the job exists exactly if the caller commits.

These are asyncio coroutines for use in a unit of work (``db.run``). Whoever waits for the work is
notified by PostgreSQL at the commit, once per statement and group, and finds it by polling if the
notification is lost.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import asyncpg

from troupe.common.errors import Conflict
from troupe.common.ids import new_id
from troupe.common.sql import load
from troupe.platform.jobs._model import Job, NewJob

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
    """
    (job,) = await enqueue_many(connection, [new])
    return job


async def enqueue_many(connection: asyncpg.Connection, news: Sequence[NewJob]) -> list[Job]:
    """As `enqueue`, for many jobs in one statement; the answer has their order."""
    wanted = {new_id(): new for new in news}
    found: dict[uuid.UUID, Job] = {}
    for _ in range(_ATTEMPTS):
        missing = [_row(job_id, new) for job_id, new in wanted.items() if job_id not in found]
        if not missing:
            return [found[job_id] for job_id in wanted]
        for row in await connection.fetch(QUERIES["enqueue"], missing):
            found[row["job_id"]] = Job.from_row(row)
        left = [row for row in missing if uuid.UUID(row["job_id"]) not in found]
        if left:
            # A key is taken. Should its holder finish before we look, we simply try again.
            for row in await connection.fetch(QUERIES["existing"], left):
                found[row["asked_for"]] = _existing(row)
    raise Conflict("Jobs with the same unique key come and go too fast; try again.")


def _existing(row: asyncpg.Record) -> Job:
    if row["by_idempotency_key"] and not row["same_arguments"]:
        raise Conflict(
            f"The idempotency key was used before for a {row['kind']} job with other arguments."
        )
    return replace(Job.from_row(row), deduplicated=True)


def _row(job_id: uuid.UUID, new: NewJob) -> dict[str, Any]:
    return {
        "job_id": str(job_id),
        "group_name": new.group,
        "kind": new.kind,
        "priority": new.priority,
        "run_at": new.run_at.isoformat() if new.run_at else None,
        "delay": new.delay,
        "arguments": dict(new.arguments),
        "unique_key": new.unique_key,
        "idempotency_key": new.idempotency_key,
        "max_attempts": new.max_attempts,
    }
