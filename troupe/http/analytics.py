"""The analytics group's application, port 8001: figures of the shop, and the dashboard at ``/``.

Every answer is a function of the tenant's settings, its data version, the days that were meant
(``7d`` is another question tomorrow) and the request; its entity tag is made of just these. A
client that repeats a question while nothing has changed is answered 304 after one short read.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final, TypeVar, cast

from troupe.actors.analytics.answers import Answers, BranchSummaries, Reporting, Snapshot
from troupe.actors.analytics.metrics import METRICS
from troupe.actors.analytics.ranking import NAME, Place, Ranking
from troupe.actors.analytics.series import read_series
from troupe.common.dates import DateRange, Granularity
from troupe.common.errors import InvalidInput
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

_RELEASE: Final = version("troupe")
_SORTABLE: Final = {name: name for name in (*METRICS, NAME)}
_BY_NAME: Final = "locations"

Clock = Callable[[], datetime]
Found = TypeVar("Found")


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's dates, resolved for its tenant.

    Attributes:
        reporting: The tenant's settings and version.
        days: The range that is meant.
        comparison: The range that it is compared with.
    """

    reporting: Reporting
    days: DateRange
    comparison: DateRange | None

    @classmethod
    def of(cls, reporting: Reporting, query: CompareQuery, clock: Clock) -> "Asked":
        """Turn presets and comparisons into days of the tenant's reporting zone.

        Raises:
            InvalidInput: The query means no range.
        """
        today = today_in(reporting.zone, clock())
        days = query.resolve(today, earliest=reporting.first_day)
        return cls(reporting, days, days.compared(query.compare))

    @property
    def periods(self) -> list[DateRange]:
        """The range, and the one that it is compared with if there is one."""
        return [self.days] if self.comparison is None else [self.days, self.comparison]

    def about(self) -> dict[str, object]:
        """The members of `models.About`."""
        return {
            "range": models.Days.of(self.days),
            "comparison": models.Days.of(self.comparison) if self.comparison else None,
            "time_zone": self.reporting.time_zone,
            "currency": self.reporting.currency,
            "data_version": self.reporting.data_version,
            "data_until": self.reporting.data_until,
        }


def declare(api: Api, answers: Answers, clock: Clock = utc_now) -> None:
    """Declare the routes under ``/api/v1``.

    Args:
        api: Of the application.
        answers: Over the group's database pool.
        clock: The present instant; tests bring their own.
    """
    _declare_locations(api, answers)
    _declare_stats(api, answers, clock)
    _declare_chart(api, answers, clock)
    _declare_location_stats(api, answers, clock)


async def _answer(
    answers: Answers,
    principal: Principal,
    query: CompareQuery,
    clock: Clock,
    read: Callable[[Snapshot, Asked], Awaitable[Found]],
    write: Callable[[Asked, Found], object],
) -> Answer:
    """Answer from one snapshot, or with its tag alone when the client has that answer already.

    Args:
        answers: To be asked.
        principal: Who asks.
        query: What for; it is part of the tag.
        clock: The present instant.
        read: Reads the figures, inside the snapshot.
        write: Makes the body of them, outside.
    """

    async def question(snapshot: Snapshot) -> tuple[Asked, str, Found | None]:
        asked = Asked.of(snapshot.reporting, query, clock)
        tag = entity_tag(_RELEASE, asked, type(query).__name__, query)
        return asked, tag, None if is_unmodified(tag) else await read(snapshot, asked)

    asked, tag, found = await answers.ask(principal.tenant_id, question)
    return Answer(None if found is None else write(asked, found), etag=tag)


def _declare_locations(api: Api, answers: Answers) -> None:
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
        after = decode_cursor(query.cursor, _BY_NAME, (str, str)) if query.cursor else None
        page = await answers.locations(
            principal.tenant_id,
            after=(str(after[0]), str(after[1])) if after else None,
            limit=query.limit,
        )
        return ListAnswer[models.Location](
            data=[models.Location(**dataclasses.asdict(row)) for row in page.locations],
            next_cursor=encode_cursor(_BY_NAME, page.place) if page.place else None,
            total=page.total,
        )


def _declare_stats(api: Api, answers: Answers, clock: Clock) -> None:
    @api.get(
        "/api/v1/stats",
        requires=Role.VIEWER,
        query=models.StatsQuery,
        answers={200: models.StatsAnswer},
        etag=True,
        summary="Key figures of a range, and of what it is compared with",
    )
    async def stats(*, principal: Principal, query: models.StatsQuery) -> Answer:
        return await _answer(
            answers,
            principal,
            query,
            clock,
            lambda snapshot, asked: snapshot.summaries(asked.periods, query.location or None),
            lambda asked, found: {
                **asked.about(),
                "metrics": models.metric_answers(
                    found[0], found[1] if asked.comparison else None, asked.reporting.currency
                ),
                "other_currencies": [
                    models.OtherCurrencyAnswer.of(other) for other in found[0].other_currencies
                ],
            },
        )


def _declare_chart(api: Api, answers: Answers, clock: Clock) -> None:
    @api.get(
        "/api/v1/stats/chart",
        requires=Role.VIEWER,
        query=models.StatsChartQuery,
        answers={200: models.ChartAnswer},
        etag=True,
        summary="Figures along the hours, days, weeks or months of a range",
    )
    async def stats_chart(*, principal: Principal, query: models.StatsChartQuery) -> Answer:
        _refuse_hours_of_visitors(query)
        return await _answer(
            answers,
            principal,
            query,
            clock,
            lambda snapshot, asked: read_series(
                snapshot, asked.days, query.granularity, query.compare, query.location or None
            ),
            lambda asked, series: {
                **asked.about(),
                "granularity": query.granularity,
                "points": [models.ChartPoint.of(point, query.metric) for point in series.points],
                "comparison_points": [
                    models.ChartPoint.of(point, query.metric)
                    for point in series.comparison
                    if point is not None
                ],
            },
        )


def _refuse_hours_of_visitors(query: models.StatsChartQuery) -> None:
    if query.granularity is not Granularity.HOUR:
        return
    unknown = [name for name in query.metric if not METRICS[name].hourly]
    if unknown:
        raise InvalidInput(
            "Not every metric exists by the hour.",
            [("?metric", f"{', '.join(unknown)}: visitors are counted per day")],
        )


def _declare_location_stats(api: Api, answers: Answers, clock: Clock) -> None:
    @api.get(
        "/api/v1/stats/locations",
        requires=Role.VIEWER,
        query=models.LocationStatsQuery,
        answers={200: models.LocationStatsAnswer},
        etag=True,
        summary="Key figures of every branch",
    )
    async def stats_locations(*, principal: Principal, query: models.LocationStatsQuery) -> Answer:
        ranking = _ranking(query.sort)
        order = f"stats/locations {query.sort}"
        place: Place | None = None
        if query.cursor:
            place = cast("Place", decode_cursor(query.cursor, order, ranking.place_types))

        def write(asked: Asked, found: list[BranchSummaries]) -> dict[str, object]:
            now, before = found[0], found[1] if asked.comparison else None
            listed = ranking.order(now, after=place)
            page = listed[: query.limit]
            return {
                **asked.about(),
                "data": [
                    models.LocationStats.of(
                        branch,
                        now[branch],
                        before[branch] if before is not None else None,
                        asked.reporting.currency,
                    )
                    for branch in page
                ],
                "next_cursor": encode_cursor(order, ranking.place(page[-1], now[page[-1]]))
                if len(listed) > len(page)
                else None,
                "total": len(now),
            }

        return await _answer(
            answers,
            principal,
            query,
            clock,
            lambda snapshot, asked: snapshot.branches(asked.periods, query.location or None),
            write,
        )


def _ranking(sort: str) -> Ranking:
    orders = parse_sort(sort, _SORTABLE, "-gross_revenue")
    if len(orders) != 1:
        raise InvalidInput("The list cannot be sorted like this.", [("?sort", "takes one field")])
    return Ranking(orders[0].column, orders[0].descending)
