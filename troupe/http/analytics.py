"""The analytics group's application, port 8001: figures of the shop, and the dashboard at ``/``.

Every answer carries an entity tag made of the tenant, the data version and the days that were meant
(``7d`` is another question tomorrow). A client that repeats a question while no load has landed is
answered 304 after one short read of the version.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from troupe.actors.analytics.answers import Answers, Branch, Reporting, Summary
from troupe.actors.analytics.metrics import METRICS, Figure, Measures
from troupe.common.dates import DateRange, Granularity
from troupe.common.errors import InvalidInput
from troupe.common.ids import TenantId
from troupe.http import analytics_models as models
from troupe.http.conventions import (
    CompareQuery,
    ListAnswer,
    decode_cursor,
    encode_cursor,
    entity_tag,
    is_unmodified,
    parse_sort,
    today_in,
)
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

_SORTABLE: Final = {name: name for name in (*METRICS, "name")}
_LOWEST: Final = Decimal("-Infinity")

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's dates, resolved for its tenant."""

    tenant: TenantId
    reporting: Reporting
    days: DateRange
    comparison: DateRange | None

    def tag(self, version: int, *rest: object) -> str:
        """The entity tag of an answer to this at a data version."""
        return entity_tag(self.tenant, version, self.days, self.comparison, *rest)


async def resolve(
    answers: Answers, principal: Principal, query: CompareQuery, clock: Clock
) -> Asked:
    """Turn presets and comparisons into days of the tenant's reporting zone."""
    reporting = await answers.reporting(principal.tenant_id)
    today = today_in(ZoneInfo(reporting.time_zone), clock())
    days = query.resolve(today, earliest=reporting.first_day)
    return Asked(principal.tenant_id, reporting, days, days.compared(query.compare))


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


def declare(api: Api, answers: Answers, clock: Clock = utc_now) -> None:
    """Declare the routes under ``/api/v1``.

    Args:
        api: Of the application.
        answers: Over the group's database pool.
        clock: The present instant; tests bring their own.
    """

    @api.get(
        "/api/v1/locations",
        requires=Role.VIEWER,
        query=models.LocationsQuery,
        answers={200: ListAnswer[models.Location]},
        summary="The branches of the master data, by name",
    )
    async def locations(
        *, principal: Principal, query: models.LocationsQuery
    ) -> ListAnswer[models.Location]:
        after = decode_cursor(query.cursor, "name", (str, str)) if query.cursor else None
        page, total = await answers.locations(
            principal.tenant_id,
            after=(str(after[0]), str(after[1])) if after else None,
            limit=query.limit + 1,
        )
        shown = page[: query.limit]
        last = shown[-1] if len(page) > query.limit else None
        return ListAnswer[models.Location](
            data=[models.Location(**dataclasses.asdict(row)) for row in shown],
            next_cursor=encode_cursor("name", (last.name, last.location_id)) if last else None,
            total=total,
        )

    @api.get(
        "/api/v1/stats",
        requires=Role.VIEWER,
        query=models.StatsQuery,
        answers={200: models.StatsAnswer},
        etag=True,
        summary="Key figures of a range, and of what it is compared with",
    )
    async def stats(*, principal: Principal, query: models.StatsQuery) -> Answer:
        asked = await resolve(answers, principal, query, clock)
        tag = asked.tag(asked.reporting.data_version, "stats", query.location)
        if is_unmodified(tag):
            return Answer(etag=tag)
        periods = [days for days in (asked.days, asked.comparison) if days is not None]
        figures = await answers.summaries(
            asked.tenant,
            periods,
            currency=asked.reporting.currency,
            branches=query.location or None,
        )
        now, *rest = figures.value
        body = models.StatsAnswer.model_validate(
            {
                **models.about(asked.reporting, asked.days, asked.comparison, figures.data_version),
                "metrics": models.metric_answers(
                    now.measures, rest[0].measures if rest else None, asked.reporting.currency
                ),
                "other_currencies": [
                    models.OtherCurrencyAnswer.of(other) for other in now.other_currencies
                ],
            }
        )
        return Answer(body, etag=asked.tag(figures.data_version, "stats", query.location))

    @api.get(
        "/api/v1/stats/chart",
        requires=Role.VIEWER,
        query=models.StatsChartQuery,
        answers={200: models.ChartAnswer},
        etag=True,
        summary="Figures along the hours, days, weeks or months of a range",
    )
    async def stats_chart(*, principal: Principal, query: models.StatsChartQuery) -> Answer:
        asked = await resolve(answers, principal, query, clock)
        request = ("chart", query.granularity, query.metric, query.location)
        tag = asked.tag(asked.reporting.data_version, *request)
        if is_unmodified(tag):
            return Answer(etag=tag)
        charted = _by_hour if query.granularity is Granularity.HOUR else _by_step
        now, before, version = await charted(answers, asked, query)
        body = models.ChartAnswer.model_validate(
            {
                **models.about(asked.reporting, asked.days, asked.comparison, version),
                "granularity": query.granularity,
                "points": now,
                "comparison_points": before,
            }
        )
        return Answer(body, etag=asked.tag(version, *request))

    @api.get(
        "/api/v1/stats/locations",
        requires=Role.VIEWER,
        query=models.LocationStatsQuery,
        answers={200: models.LocationStatsAnswer},
        etag=True,
        summary="Key figures of every branch",
    )
    async def stats_locations(*, principal: Principal, query: models.LocationStatsQuery) -> Answer:
        orders = parse_sort(query.sort, _SORTABLE, "-gross_revenue")
        if len(orders) != 1:
            raise InvalidInput(
                "The list cannot be sorted like this.", [("?sort", "takes one field")]
            )
        asked = await resolve(answers, principal, query, clock)
        request = ("locations", query.location, query.sort, query.limit, query.cursor)
        tag = asked.tag(asked.reporting.data_version, *request)
        if is_unmodified(tag):
            return Answer(etag=tag)
        periods = [days for days in (asked.days, asked.comparison) if days is not None]
        found = await answers.branches(
            asked.tenant,
            periods,
            currency=asked.reporting.currency,
            branches=query.location or None,
        )
        now, *rest = found.value
        field, descending = orders[0].column, orders[0].descending
        listed = sorted(now, key=lambda branch: branch.location_id)
        listed.sort(key=lambda branch: _sort_key(branch, now[branch], field), reverse=descending)
        start = _place_after(query.cursor, query.sort, listed)
        page = listed[start : start + query.limit]
        body = models.LocationStatsAnswer.model_validate(
            {
                **models.about(asked.reporting, asked.days, asked.comparison, found.data_version),
                "data": [
                    models.LocationStats(
                        location_id=branch.location_id,
                        name=branch.name,
                        city=branch.city,
                        metrics=models.metric_answers(
                            now[branch].measures,
                            rest[0][branch].measures if rest else None,
                            asked.reporting.currency,
                        ),
                    )
                    for branch in page
                ],
                "next_cursor": encode_cursor(query.sort, (page[-1].location_id,))
                if start + len(page) < len(listed)
                else None,
                "total": len(listed),
            }
        )
        return Answer(body, etag=asked.tag(found.data_version, *request))


def _sort_key(branch: Branch, summary: Summary, field: str) -> tuple[Decimal, str]:
    if field == "name":
        return Decimal(0), (branch.name or branch.location_id).casefold()
    value: Figure = METRICS[field].compute(summary.measures)
    return (_LOWEST if value is None else Decimal(value)), ""


def _place_after(cursor: str | None, sort: str, listed: Sequence[Branch]) -> int:
    """Where the page begins: after the branch that the page before ended with.

    Raises:
        InvalidInput: Not a cursor of this list, or its branch is gone.
    """
    if cursor is None:
        return 0
    (location_id,) = decode_cursor(cursor, sort, (str,))
    for index, branch in enumerate(listed):
        if branch.location_id == location_id:
            return index + 1
    raise InvalidInput(
        "The list has changed; read it from the start.", [("?cursor", "its branch is gone")]
    )


def _values(summary: Summary, names: Sequence[str]) -> dict[str, int | float | Decimal | None]:
    return {
        name: models.plain(METRICS[name].compute(summary.measures), METRICS[name]) for name in names
    }


_Points = tuple[list[models.ChartPoint], list[models.ChartPoint], int]


async def _by_step(answers: Answers, asked: Asked, query: models.StatsChartQuery) -> _Points:
    week_start = asked.reporting.week_start
    steps = asked.days.cut(query.granularity, week_start)
    earlier = asked.comparison.cut(query.granularity, week_start) if asked.comparison else []
    figures = await answers.summaries(
        asked.tenant,
        [*steps, *earlier],
        currency=asked.reporting.currency,
        branches=query.location or None,
    )
    points = [
        models.ChartPoint(start=step.start, end=step.end, values=_values(summary, query.metric))
        for step, summary in zip([*steps, *earlier], figures.value, strict=True)
    ]
    return points[: len(steps)], points[len(steps) :], figures.data_version


def clock_hours(days: DateRange, zone: ZoneInfo) -> list[datetime]:
    """The beginning of every clock hour of the days, as instants.

    A day of a clock change has 23 or 25 of them; a zone whose offset is not whole hours begins its
    hours at its own full hours.
    """
    start = datetime.combine(days.start, datetime.min.time(), zone).astimezone(UTC)
    after = days.end + timedelta(days=1)
    end = datetime.combine(after, datetime.min.time(), zone).astimezone(UTC)
    hours = []
    while start < end:
        hours.append(start)
        start += timedelta(hours=1)
    return hours


async def _by_hour(answers: Answers, asked: Asked, query: models.StatsChartQuery) -> _Points:
    unknown = [name for name in query.metric if not METRICS[name].hourly]
    if unknown:
        raise InvalidInput(
            "Not every metric exists by the hour.",
            [("?metric", f"{', '.join(unknown)}: visitors are counted per day")],
        )
    zone = ZoneInfo(asked.reporting.time_zone)
    nothing = Summary(Measures())
    answer: list[list[models.ChartPoint]] = []
    versions = [asked.reporting.data_version]
    for days in (asked.days, asked.comparison):
        if days is None:
            answer.append([])
            continue
        found = await answers.hours(
            asked.tenant,
            days,
            currency=asked.reporting.currency,
            branches=query.location or None,
        )
        versions.append(found.data_version or asked.reporting.data_version)
        answer.append(
            [
                models.ChartPoint(
                    start=hour,
                    end=hour + timedelta(hours=1),
                    values=_values(found.value.get(hour, nothing), query.metric),
                )
                for hour in clock_hours(days, zone)
            ]
        )
    return answer[0], answer[1], min(versions)
