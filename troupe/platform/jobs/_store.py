"""Jobs as one tenant's people see them: look, list, cancel, retry."""

import base64
import binascii
import uuid
from datetime import datetime
from typing import Final

import asyncpg

from troupe.common.database import Database
from troupe.common.errors import Conflict, InvalidInput, NotFound
from troupe.common.ids import TenantId
from troupe.platform.jobs._enqueue import QUERIES, enqueue
from troupe.platform.jobs._model import Job, JobPage, JobState, NewJob

LARGEST_PAGE: Final = 1000


def encode_cursor(last: uuid.UUID) -> str:
    """The opaque form of "after this job"."""
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> uuid.UUID:
    """Read `encode_cursor` back.

    Raises:
        InvalidInput: It was not made here.
    """
    try:
        return uuid.UUID(bytes=base64.b64decode(cursor + "==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        problem = ("?cursor", "is not one that a list of jobs gave out")
        raise InvalidInput("The cursor cannot be used.", [problem]) from None


class JobStore:
    """Jobs of one tenant at a time. Every call is one transaction of the tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def enqueue(self, tenant: TenantId, new: NewJob) -> Job:
        """Make a job in a transaction of its own; otherwise as `enqueue`."""
        return await self._database.run(lambda connection: enqueue(connection, new), tenant=tenant)

    async def get(self, tenant: TenantId, job_id: uuid.UUID) -> Job:
        """One job.

        Raises:
            NotFound: The tenant has no such job.
        """
        row = await self._database.fetch_row(
            QUERIES["get"], tenant, job_id, tenant=tenant, read_only=True
        )
        if row is None:
            raise NotFound("There is no such job.")
        return Job.from_row(row)

    async def list(
        self,
        tenant: TenantId,
        *,
        kind: str | None = None,
        state: JobState | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """Jobs, newest first (to the millisecond; what is enqueued together has no order).

        Args:
            tenant: Whose.
            kind: Of this kind only.
            state: In this state only.
            since: Enqueued at this instant or later.
            before: Enqueued before this instant.
            cursor: `JobPage.next_cursor` of the page before.
            limit: At most this many, up to 1000.

        Raises:
            InvalidInput: The cursor or the limit cannot be used.
        """
        if not 1 <= limit <= LARGEST_PAGE:
            problem = ("?limit", f"must lie between 1 and {LARGEST_PAGE}")
            raise InvalidInput("The limit cannot be used.", [problem])
        after = decode_cursor(cursor) if cursor is not None else None
        filters = (tenant, kind, state.value if state else None, since, before)

        async def unit(connection: asyncpg.Connection) -> JobPage:
            rows = await connection.fetch(QUERIES["list"], *filters, after, limit + 1)
            total = await connection.fetchval(QUERIES["count"], *filters)
            jobs = tuple(Job.from_row(row) for row in rows[:limit])
            more = len(rows) > limit
            return JobPage(jobs, encode_cursor(jobs[-1].id) if more else None, total)

        return await self._database.run(unit, tenant=tenant, read_only=True)

    async def request_cancel(self, tenant: TenantId, job_id: uuid.UUID) -> Job:
        """Ask for a job's end. One that waits is cancelled at once; one that runs ends soon.

        Asking again does no harm.

        Raises:
            NotFound: The tenant has no such job.
            Conflict: It has finished already.
        """
        row = await self._database.fetch_row(QUERIES["request_cancel"], job_id, tenant=tenant)
        if row is not None:
            return Job.from_row(row)
        job = await self.get(tenant, job_id)
        if job.state is JobState.CANCELLED:
            return job
        raise Conflict(f"The job cannot be cancelled: it is {job.state.value}.")

    async def retry(self, tenant: TenantId, job_id: uuid.UUID) -> Job:
        """Run a job again that failed, was cancelled or is dead; it resumes from its checkpoint.

        Raises:
            NotFound: The tenant has no such job.
            Conflict: It waits, runs or is done, or another job has taken its unique key.
        """
        try:
            row = await self._database.fetch_row(QUERIES["retry"], job_id, tenant=tenant)
        except asyncpg.UniqueViolationError as error:
            raise Conflict("Another job of the same kind and key waits or runs.") from error
        if row is not None:
            return Job.from_row(row)
        job = await self.get(tenant, job_id)
        raise Conflict(f"The job cannot be run again: it is {job.state.value}.")

    async def redrive(
        self, tenant: TenantId, *, kind: str | None = None, limit: int = LARGEST_PAGE
    ) -> tuple[Job, ...]:
        """Run jobs again that are dead or failed, oldest first; they resume from their checkpoints.

        Of several with one unique key the newest is taken, and none whose key a live job has.

        Args:
            tenant: Whose.
            kind: Of this kind only.
            limit: At most this many.

        Raises:
            Conflict: A job that was enqueued at the same moment has taken a unique key; try again.
        """
        try:
            rows = await self._database.fetch(QUERIES["redrive"], kind, limit, tenant=tenant)
        except asyncpg.UniqueViolationError as error:
            raise Conflict("Another job of the same kind and key waits or runs.") from error
        return tuple(Job.from_row(row) for row in rows)
