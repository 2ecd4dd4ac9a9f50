"""The data group's application, port 8002: ingestions, jobs, and what data is there."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from troupe.actors.data.availability import Coverage, read_coverage, read_gaps
from troupe.actors.data.job_requests import (
    SCHEDULABLE,
    import_job,
    ingest_days_job,
    ingest_job,
    reconcile_job,
)
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import InvalidInput
from troupe.http import data_days, data_jobs, schedules
from troupe.http import data_models as models
from troupe.http.conventions import RangeQuery, today_in
from troupe.http.data_days import MAX_RECONCILED_DAYS
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.platform.jobs import Job, JobStore
from troupe.platform.schedules import SchedulableKinds

MAXIMUM_SCHEDULES: Final = 50

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


def declare(
    api: Api,
    database: Database,
    *,
    maximum_days: int,
    maximum_schedules: int = MAXIMUM_SCHEDULES,
    kinds: SchedulableKinds = SCHEDULABLE,
    clock: Clock = utc_now,
) -> None:
    """Declare the group's routes.

    Args:
        api: Of the application.
        database: The group's pool.
        maximum_days: Days that one ingestion may ask for.
        maximum_schedules: Schedules that a tenant may have.
        kinds: What may be scheduled, of all groups.
        clock: The present instant; tests bring their own.
    """
    store = JobStore(database)
    _declare_ingestions(api, database, store, maximum_days, clock)
    data_jobs.declare(api, store)
    data_days.declare(api, database, clock)
    schedules.declare(api, database, kinds=kinds, most=maximum_schedules, clock=clock)


def _declare_ingestions(
    api: Api, database: Database, store: JobStore, maximum_days: int, clock: Clock
) -> None:
    @api.post(
        "/api/v1/ingestions",
        requires=Role.ANALYST,
        body=models.NewIngestion,
        answers={202: models.JobAnswer},
        problems=[409],
        creates=True,
        summary="Load days of the export",
    )
    async def start_ingestion(*, principal: Principal, body: models.NewIngestion) -> Answer:
        """While a job for the same days waits or runs, that one is answered.

        Days that have not changed at the source are not read again. With `gaps` only the days are
        loaded that `/api/v1/availability` lists as gaps; 409 if there are none.
        """
        tenant = principal.tenant_id
        coverage = await read_coverage(database, tenant)
        if body.gaps:
            wanted = None
            if (body.start_date, body.end_date, body.preset) != (None, None, None):
                wanted = wanted_days(body, coverage, clock(), maximum_days)
            gaps = await read_gaps(
                database, tenant, coverage, wanted, now=clock(), most=maximum_days
            )
            return _accepted(await store.enqueue(tenant, ingest_days_job(gaps)))
        days = wanted_days(body, coverage, clock(), maximum_days)
        return _accepted(await store.enqueue(tenant, ingest_job(days.start, days.end)))

    @api.post(
        "/api/v1/reconciliations",
        requires=Role.ANALYST,
        body=models.NewReconciliation,
        answers={202: models.JobAnswer},
        creates=True,
        summary="Count days at the source, event by event",
    )
    async def start_reconciliation(
        *, principal: Principal, body: models.NewReconciliation
    ) -> Answer:
        """`GET /api/v1/reconciliation` then shows the differences.

        It reads one column of each day's table, which BigQuery bills.
        """
        tenant = principal.tenant_id
        coverage = await read_coverage(database, tenant)
        days = wanted_days(body, coverage, clock(), min(maximum_days, MAX_RECONCILED_DAYS))
        return _accepted(await store.enqueue(tenant, reconcile_job(days)))

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
    body: models.DaysBody, coverage: Coverage, now: datetime, maximum_days: int
) -> DateRange:
    """The days that a request means; of a range with a name those that are kept.

    Raises:
        InvalidInput: No days, dates mixed with a preset, backwards, too many, in the future, or
            older than the tenant keeps.
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
    if body.preset is not None:
        return DateRange(max(days.start, coverage.kept_from(now)), days.end)
    coverage.refuse_removed(days, now, "/start_date")
    return days
