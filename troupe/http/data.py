"""The data group's application, port 8002: ingestions, jobs, and what data is there."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import trio
from quart import Response

from troupe.actors.data.availability import Coverage, read_coverage, read_days
from troupe.actors.data.days import ingest_job
from troupe.actors.data.master_data import import_job
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import InvalidInput
from troupe.common.ids import TenantId
from troupe.common.units import SECONDS
from troupe.http import data_models as models
from troupe.http.conventions import ListAnswer, RangeQuery, today_in
from troupe.http.declaration import Answer
from troupe.http.event_stream import EVENT_STREAM, ServerEvent, event_stream
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.platform.jobs import Job, JobStore

MAX_LISTED_DAYS: Final = 3660
FOLLOW_PAUSE: Final = 0.5 * SECONDS

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


def declare(api: Api, database: Database, *, maximum_days: int, clock: Clock = utc_now) -> None:
    """Declare the group's routes.

    Args:
        api: Of the application.
        database: The group's pool.
        maximum_days: Days that one ingestion may ask for.
        clock: The present instant; tests bring their own.
    """
    store = JobStore(database)
    _declare_ingestions(api, database, store, maximum_days, clock)
    _declare_jobs(api, store)
    _declare_availability(api, database)


def _declare_ingestions(
    api: Api, database: Database, store: JobStore, maximum_days: int, clock: Clock
) -> None:
    @api.post(
        "/api/v1/ingestions",
        requires=Role.ANALYST,
        body=models.NewIngestion,
        answers={202: models.JobAnswer},
        creates=True,
        summary="Load days of the export",
    )
    async def start_ingestion(*, principal: Principal, body: models.NewIngestion) -> Answer:
        """While a job for the same days waits or runs, that one is answered.

        Days that have not changed at the source are not read again.
        """
        tenant = principal.tenant_id
        coverage = await read_coverage(database, tenant)
        days = wanted_days(body, coverage, clock(), maximum_days)
        return _accepted(await store.enqueue(tenant, ingest_job(days.start, days.end)))

    @api.post(
        "/api/v1/imports",
        requires=Role.ANALYST,
        body=models.NewImport,
        answers={202: models.JobAnswer},
        creates=True,
        summary="Import customers and locations from the tenant's SFTP server",
    )
    async def start_import(*, principal: Principal, body: models.NewImport) -> Answer:
        """Files that have not changed are not read again, unless that is asked for."""
        return _accepted(await store.enqueue(principal.tenant_id, import_job(again=body.again)))


def _accepted(job: Job) -> Answer:
    return Answer(models.JobAnswer.of(job), 202, {"Location": f"/api/v1/jobs/{job.id}"})


def wanted_days(
    body: models.NewIngestion, coverage: Coverage, now: datetime, maximum_days: int
) -> DateRange:
    """The days that a request means.

    Raises:
        InvalidInput: No days, dates mixed with a preset, backwards, too many, or in the future.
    """
    if body.start_date is None and body.end_date is None and body.preset is None:
        raise InvalidInput(
            "Say which days to load.", [("/start_date", "is needed, or a preset instead")]
        )
    today = today_in(coverage.zone, now)
    try:
        days = RangeQuery(
            start_date=body.start_date, end_date=body.end_date, preset=body.preset
        ).resolve(today, earliest=coverage.first_day, limit_days=maximum_days)
    except InvalidInput as error:
        # The same rules as for a query, pointed at the body's members.
        pointers = [(pointer.replace("?", "/", 1), text) for pointer, text in error.errors]
        raise InvalidInput(str(error), pointers) from None
    # The property may lie in a zone where tomorrow has begun.
    if days.end > today + timedelta(days=1):
        raise InvalidInput(
            "The range lies in the future.", [("/end_date", f"must not be after {today}")]
        )
    return days


def _declare_jobs(api: Api, store: JobStore) -> None:
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

    @api.get(
        "/api/v1/jobs/<uuid:job_id>/events",
        requires=Role.VIEWER,
        answers={200: EVENT_STREAM},
        summary="Follow a job",
        deadline=None,
    )
    async def follow_job(*, principal: Principal, job_id: UUID) -> Response:
        """Events `progress`, each with the job as it is then; the last one has it finished."""
        job = await store.get(principal.tenant_id, job_id)
        return event_stream(_changes(store, principal.tenant_id, job))


async def _changes(
    store: JobStore, tenant: TenantId, job: Job
) -> AsyncGenerator[ServerEvent, None]:
    told: models.JobAnswer | None = None
    while True:
        answer = models.JobAnswer.of(job)
        if answer != told:
            yield ServerEvent(answer, event="progress")
            told = answer
        if job.state.finished:
            return
        await trio.sleep(FOLLOW_PAUSE)
        job = await store.get(tenant, job.id)


def _declare_availability(api: Api, database: Database) -> None:
    @api.get(
        "/api/v1/availability",
        requires=Role.VIEWER,
        query=models.AvailabilityQuery,
        answers={200: models.AvailabilityAnswer},
        summary="Which days are loaded, stale, failed or missing",
    )
    async def availability(
        *, principal: Principal, query: models.AvailabilityQuery
    ) -> models.AvailabilityAnswer:
        if query.start_date and query.end_date and query.end_date < query.start_date:
            raise InvalidInput(
                "The date range is not valid.", [("?end_date", "must not be before start_date")]
            )
        coverage = await read_coverage(database, principal.tenant_id)
        days = await read_days(
            database,
            principal.tenant_id,
            first=query.start_date,
            last=query.end_date,
            limit=MAX_LISTED_DAYS,
        )
        return models.AvailabilityAnswer(
            data=[models.SourceDay(**asdict(day)) for day in days],
            data_version=coverage.data_version,
            data_until=coverage.data_until,
        )
