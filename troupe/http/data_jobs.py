"""Jobs over HTTP: look at them, act on them, follow one.

**Following.** A stream of server-sent events shows a job as it is, again whenever it has changed.
Each event's id is a digest of what it says. A client that lost its connection sends the last one
as ``Last-Event-ID`` (browsers do it by themselves) and hears nothing twice; one that has seen the
end of the job is answered 204, which tells a browser to stop coming back. Changes in between are
not replayed: progress is a state, not a log, and the newest is what counts.

A follower costs a look at one row twice a second. Their number is bounded twice: per application,
by `event_stream`, and per tenant here, so that one tenant's open tabs do not shut out the others.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final
from uuid import UUID

import trio
from quart import Response

from troupe.common.errors import DatabaseError, NotFound, TooManyRequests
from troupe.common.ids import TenantId
from troupe.common.units import SECONDS
from troupe.http import data_models as models
from troupe.http import exact_json
from troupe.http.conventions import ListAnswer
from troupe.http.declaration import Answer
from troupe.http.event_stream import EVENT_STREAM, ServerEvent, event_stream, last_event_id
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.platform.jobs import Job, JobStore

FOLLOW_PAUSE: Final = 0.5 * SECONDS
TENANT_FOLLOWERS: Final = 16
"""Streams that one tenant may have open in one process."""


def declare(api: Api, store: JobStore) -> None:
    """Declare the routes of jobs.

    Args:
        api: Of the application.
        store: Over the group's pool.
    """
    _declare_looking(api, store)
    _declare_acting(api, store)
    _declare_following(api, _Followers(store))


def _declare_looking(api: Api, store: JobStore) -> None:
    @api.get(
        "/api/v1/jobs",
        requires=Role.VIEWER,
        query=models.JobsQuery,
        answers={200: ListAnswer[models.JobAnswer]},
        summary="Jobs, newest first",
    )
    async def list_jobs(
        *, principal: Principal, query: models.JobsQuery
    ) -> ListAnswer[models.JobAnswer]:
        page = await store.list(
            principal.tenant_id,
            kind=query.kind,
            state=query.state,
            since=query.created_from,
            before=query.created_before,
            cursor=query.cursor,
            limit=query.limit,
        )
        return ListAnswer[models.JobAnswer](
            data=[models.JobAnswer.of(job) for job in page.data],
            next_cursor=page.next_cursor,
            total=page.total,
        )

    @api.get(
        "/api/v1/jobs/<uuid:job_id>",
        requires=Role.VIEWER,
        answers={200: models.JobAnswer},
        summary="One job and how far it is",
    )
    async def get_job(*, principal: Principal, job_id: UUID) -> models.JobAnswer:
        return models.JobAnswer.of(await store.get(principal.tenant_id, job_id))


def _declare_acting(api: Api, store: JobStore) -> None:
    @api.post(
        "/api/v1/jobs/<uuid:job_id>/cancel",
        requires=Role.ANALYST,
        answers={202: models.JobAnswer},
        problems=[409],
        summary="Ask for a job's end",
    )
    async def cancel_job(*, principal: Principal, job_id: UUID) -> models.JobAnswer:
        """A job that waits is cancelled at once, one that runs within a second."""
        return models.JobAnswer.of(await store.request_cancel(principal.tenant_id, job_id))

    @api.post(
        "/api/v1/jobs/<uuid:job_id>/retry",
        requires=Role.ANALYST,
        answers={202: models.JobAnswer},
        problems=[409],
        summary="Run a job again that failed, was cancelled or is dead",
    )
    async def retry_job(*, principal: Principal, job_id: UUID) -> models.JobAnswer:
        """It goes on from its checkpoint."""
        return models.JobAnswer.of(await store.retry(principal.tenant_id, job_id))

    @api.post(
        "/api/v1/jobs/redrive",
        requires=Role.ANALYST,
        body=models.RedriveBody,
        answers={202: models.RedriveAnswer},
        problems=[409],
        summary="Run all jobs again that are dead or failed",
    )
    async def redrive_jobs(
        *, principal: Principal, body: models.RedriveBody
    ) -> models.RedriveAnswer:
        """Oldest first, each from its checkpoint; of several for the same thing the newest."""
        jobs = await store.redrive(principal.tenant_id, kind=body.kind, limit=body.limit)
        return models.RedriveAnswer(data=[models.JobAnswer.of(job) for job in jobs])


def _declare_following(api: Api, followers: "_Followers") -> None:
    @api.get(
        "/api/v1/jobs/<uuid:job_id>/events",
        requires=Role.VIEWER,
        answers={200: EVENT_STREAM, 204: None},
        problems=[429, 503],
        summary="Follow a job",
        deadline=None,
    )
    async def follow_job(*, principal: Principal, job_id: UUID) -> Response | Answer:
        """Events `progress`, each with the job as it is then; the last one has it finished.

        After a lost connection send the last event's id as `Last-Event-ID`: what you have seen is
        not told again, and a job whose end you have seen is answered 204.
        """
        return await followers.follow(principal.tenant_id, job_id, last_event_id())


class _Followers:
    """Who follows jobs in this process."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._open: Counter[TenantId] = Counter()

    async def follow(self, tenant: TenantId, job_id: UUID, seen: str | None) -> Response | Answer:
        if self._open[tenant] >= TENANT_FOLLOWERS:
            raise TooManyRequests(
                f"At most {TENANT_FOLLOWERS} jobs can be followed at a time.", retry_after=3
            )
        job = await self._store.get(tenant, job_id)
        if job.state.finished and _event(job).id == seen:
            return Answer(None, 204)
        return event_stream(self._changes(tenant, job, seen))

    async def _changes(
        self, tenant: TenantId, job: Job, seen: str | None
    ) -> AsyncGenerator[ServerEvent, None]:
        self._open[tenant] += 1
        try:
            while True:
                event = _event(job)
                if event.id != seen:
                    yield event
                    seen = event.id
                if job.state.finished:
                    return
                await trio.sleep(FOLLOW_PAUSE)
                job = await self._store.get(tenant, job.id)
        except (DatabaseError, NotFound):
            return  # the stream ends; the client comes back and hears what is wrong, if it still is
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]


def _event(job: Job) -> ServerEvent:
    answer = models.JobAnswer.of(job)
    digest = hashlib.blake2b(exact_json.dumps(answer), digest_size=12).hexdigest()
    return ServerEvent(answer, event="progress", id=digest)
