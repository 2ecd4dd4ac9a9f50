"""Days of the export over HTTP: what is there, how it compares with the source."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any, Final

from troupe.actors.data.availability import (
    MAX_LISTED_DAYS,
    Reconciliation,
    gaps_of,
    read_coverage,
    read_days,
    reconcile,
    stretches,
)
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import InvalidInput
from troupe.http import data_models as models
from troupe.http.conventions import Preset, today_in
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

MAX_RECONCILED_DAYS: Final = 92


def declare(api: Api, database: Database, clock: Callable[[], datetime]) -> None:
    """Declare the routes of days.

    Args:
        api: Of the application.
        database: The group's pool.
        clock: The present instant.
    """

    @api.get(
        "/api/v1/availability",
        requires=Role.VIEWER,
        query=models.AvailabilityQuery,
        answers={200: models.AvailabilityAnswer},
        summary="Which days are loaded, stale, failed, missing or removed",
    )
    async def availability(
        *, principal: Principal, query: models.AvailabilityQuery
    ) -> models.AvailabilityAnswer:
        if query.start_date and query.end_date:
            _check(DateRange(query.start_date, query.end_date))
        now = clock()
        coverage = await read_coverage(database, principal.tenant_id)
        days = await read_days(
            database,
            principal.tenant_id,
            first=query.start_date,
            last=query.end_date,
            limit=MAX_LISTED_DAYS,
        )
        kept = coverage.kept_from(now)
        yesterday = today_in(coverage.zone, now) - timedelta(days=1)
        gaps = gaps_of(days, first=kept, last=yesterday)
        missing = set(gaps)
        stale = sum(day.state == "stale" for day in days)
        return models.AvailabilityAnswer(
            data=[models.SourceDay(**asdict(day)) for day in days],
            gaps=[
                models.Gap(first_day=gap.start, last_day=gap.end, days=gap.days)
                for gap in stretches(gaps)
            ],
            missing_days=sum(day.day in missing and day.state != "stale" for day in days),
            stale_days=stale,
            data_version=coverage.data_version,
            data_until=coverage.data_until,
            kept_from=kept,
        )

    @api.get(
        "/api/v1/reconciliation",
        requires=Role.VIEWER,
        query=models.ReconciliationQuery,
        answers={200: models.ReconciliationAnswer},
        summary="What the source has and what is loaded, per day and event",
    )
    async def reconciliation(
        *, principal: Principal, query: models.ReconciliationQuery
    ) -> models.ReconciliationAnswer:
        """Rows loaded are counted with every load, the source's by `POST /api/v1/reconciliations`.

        Differences are not always wrong: a table that has been written since the day was loaded
        (`stale`, or `source_changed`) has other rows.
        """
        coverage = await read_coverage(database, principal.tenant_id)
        days = query.resolve(
            today_in(coverage.zone, clock()),
            earliest=coverage.first_day,
            default=Preset.LAST_7_DAYS,
            limit_days=MAX_RECONCILED_DAYS,
        )
        if days.days > MAX_RECONCILED_DAYS:
            raise InvalidInput(
                "The range is too long.", [("?preset", f"at most {MAX_RECONCILED_DAYS} days")]
            )
        found = await reconcile(database, principal.tenant_id, days, coverage.currency)
        return models.ReconciliationAnswer(data=_reconciled(found))


def _check(days: DateRange) -> None:
    if days.days < 1:
        wrong = "must not be before start_date"
    elif days.days > MAX_LISTED_DAYS:
        wrong = f"the range must not be longer than {MAX_LISTED_DAYS} days"
    else:
        return
    raise InvalidInput("The date range is not valid.", [("?end_date", wrong)])


_DAY = ("day", "state", "source_rows", "loaded_rows", "difference", "counted_at", "source_changed")


def _reconciled(found: Reconciliation) -> list[models.ReconciledDay]:
    events: dict[date, list[models.EventQuality]] = defaultdict(list)
    for row in found.events:
        values: dict[str, Any] = {name: row[name] for name in models.EventQuality.model_fields}
        events[row["source_day"]].append(models.EventQuality(**values))
    return [
        models.ReconciledDay(
            **{name: row[name] for name in _DAY},
            events=events[row["day"]],
            money=models.MoneyQuality(
                **{name: row[name] for name in models.MoneyQuality.model_fields}
            ),
        )
        for row in found.days
    ]
