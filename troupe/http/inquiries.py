"""The questions of the analytics port: how each is read and written.

The routes (`troupe.http.analytics`) and the warming of presets (`troupe.http.warming`) ask the
same.
"""

from decimal import Decimal
from typing import Final, cast

from troupe.actors.analytics.answers import (
    Branch,
    BranchSummaries,
    Dimension,
    FunnelCounts,
    PartSummaries,
    Snapshot,
    Summary,
)
from troupe.actors.analytics.metrics import METRICS
from troupe.actors.analytics.ranking import NAME, Place, Ranking
from troupe.actors.analytics.series import Series, read_series
from troupe.actors.analytics.subjects import Kind, SubjectPage, read_subjects, sortable
from troupe.common.dates import Granularity
from troupe.common.errors import InvalidInput
from troupe.http import analytics_models as models
from troupe.http import funnel_models, top_models
from troupe.http.answering import Inquiry
from troupe.http.asked import Asked
from troupe.http.conventions import decode_cursor, encode_cursor, parse_sort

_SORTABLE: Final = {name: name for name in (*METRICS, NAME)}
_SECONDS_A_MINUTE: Final = 60
_SUBJECT_PLACE: Final = (Decimal, str)


# --- key figures ------------------------------------------------------------------------------


async def _read_stats(snapshot: Snapshot, asked: Asked, query: models.StatsQuery) -> list[Summary]:
    return await snapshot.summaries(asked.periods, query.filters)


def _figures(asked: Asked, found: list[Summary]) -> dict[str, object]:
    now, *before = found
    return models.written_figures(now, before[0] if before else None, asked.reporting.currency)


STATS: Final = Inquiry(
    "stats",
    models.StatsAnswer,
    _read_stats,
    lambda asked, _, found: {**asked.about(), **_figures(asked, found)},
)


# --- charts -----------------------------------------------------------------------------------


def _refuse_hours_of_visitors(
    query: models.StatsChartQuery | funnel_models.CompleteQuery,
) -> None:
    if query.granularity is not Granularity.HOUR:
        return
    unknown = [name for name in query.metric if not METRICS[name].hourly]
    if unknown:
        raise InvalidInput(
            "Not every metric exists by the hour.",
            [("?metric", f"{', '.join(unknown)}: visitors are counted per day")],
        )


async def _read_chart(
    snapshot: Snapshot,
    asked: Asked,
    query: models.StatsChartQuery | funnel_models.CompleteQuery,
) -> Series:
    return await read_series(
        snapshot,
        asked.days,
        query.granularity,
        query.compare,
        query.filters,
        asked.comparison_until,
    )


def _points(
    query: models.StatsChartQuery | funnel_models.CompleteQuery, series: Series
) -> dict[str, object]:
    return {
        "granularity": query.granularity,
        "points": [models.ChartPoint.of(point, query.metric) for point in series.points],
        "comparison_points": [
            models.ChartPoint.of(point, query.metric)
            for point in series.comparison
            if point is not None
        ],
    }


async def _read_chart_alone(
    snapshot: Snapshot, asked: Asked, query: models.StatsChartQuery
) -> Series:
    return await _read_chart(snapshot, asked, query)


CHART: Final = Inquiry(
    "stats/chart",
    models.ChartAnswer,
    _read_chart_alone,
    lambda asked, query, series: {**asked.about(), **_points(query, series)},
    _refuse_hours_of_visitors,
)


# --- branches, channels, devices, countries ---------------------------------------------------


def _ranking(sort: str, default: str) -> Ranking:
    orders = parse_sort(sort, _SORTABLE, default)
    if len(orders) != 1:
        raise InvalidInput("The list cannot be sorted like this.", [("?sort", "takes one field")])
    return Ranking(orders[0].column, orders[0].descending)


def _branch_place(query: models.LocationStatsQuery) -> tuple[Ranking, Place | None]:
    return _place_in("stats/locations", query.sort, query.cursor, "-gross_revenue")


def _place_in(
    name: str, sort: str, cursor: str | None, default: str
) -> tuple[Ranking, Place | None]:
    ranking = _ranking(sort, default)
    if not cursor:
        return ranking, None
    return ranking, cast("Place", decode_cursor(cursor, f"{name} {sort}", ranking.place_types))


async def _read_branches(
    snapshot: Snapshot, asked: Asked, query: models.LocationStatsQuery
) -> list[BranchSummaries]:
    return await snapshot.branches(asked.periods, query.filters)


def _branch_rows(
    asked: Asked, found: list[BranchSummaries], branches: list[Branch]
) -> list[dict[str, object]]:
    now, *before = found
    currency = asked.reporting.currency
    return [
        models.written_branch(branch, now[branch], before[0][branch] if before else None, currency)
        for branch in branches
    ]


def _write_branches(
    asked: Asked, query: models.LocationStatsQuery, found: list[BranchSummaries]
) -> dict[str, object]:
    ranking, place = _branch_place(query)
    listed = ranking.order(found[0], after=place)
    page = listed[: query.limit]
    cursor = None
    if len(listed) > len(page):
        last = ranking.place(page[-1], found[0][page[-1]])
        cursor = encode_cursor(f"stats/locations {query.sort}", last)
    return {
        **asked.about(),
        "data": _branch_rows(asked, found, page),
        "next_cursor": cursor,
        "total": len(found[0]),
    }


def _check_branches(query: models.LocationStatsQuery) -> None:
    _branch_place(query)


LOCATIONS: Final = Inquiry(
    "stats/locations", models.LocationStatsAnswer, _read_branches, _write_branches, _check_branches
)


def _part_rows(asked: Asked, found: list[PartSummaries], limit: int) -> list[dict[str, object]]:
    now, *before = found
    ranking = Ranking("sessions", descending=True)
    currency = asked.reporting.currency
    return [
        models.written_part(part, now[part], before[0][part] if before else None, currency)
        for part in ranking.order(now)[:limit]
    ]


def _inquiry_of_parts(
    name: str, dimension: Dimension
) -> Inquiry[models.PartStatsQuery, list[PartSummaries]]:
    def placed(query: models.PartStatsQuery) -> tuple[Ranking, Place | None]:
        return _place_in(name, query.sort, query.cursor, "-sessions")

    async def read(
        snapshot: Snapshot, asked: Asked, query: models.PartStatsQuery
    ) -> list[PartSummaries]:
        return await snapshot.parts(dimension, asked.periods, query.filters)

    def write(
        asked: Asked, query: models.PartStatsQuery, found: list[PartSummaries]
    ) -> dict[str, object]:
        ranking, place = placed(query)
        now, *before = found
        listed = ranking.order(now, after=place)
        page = listed[: query.limit]
        cursor = None
        if len(listed) > len(page):
            cursor = encode_cursor(f"{name} {query.sort}", ranking.place(page[-1], now[page[-1]]))
        currency = asked.reporting.currency
        return {
            **asked.about(),
            "data": [
                models.written_part(part, now[part], before[0][part] if before else None, currency)
                for part in page
            ],
            "next_cursor": cursor,
            "total": len(now),
        }

    def check(query: models.PartStatsQuery) -> None:
        placed(query)

    return Inquiry(name, models.PartStatsAnswer, read, write, check)


CHANNELS: Final = _inquiry_of_parts("channels", Dimension.CHANNEL)
DEVICES: Final = _inquiry_of_parts("devices", Dimension.DEVICE)
COUNTRIES: Final = _inquiry_of_parts("countries", Dimension.COUNTRY)


# --- the funnel -------------------------------------------------------------------------------


async def _read_funnel(
    snapshot: Snapshot, asked: Asked, query: funnel_models.FunnelQuery
) -> list[FunnelCounts]:
    return await snapshot.funnels(
        asked.periods, query.window_minutes * _SECONDS_A_MINUTE, query.filters
    )


def _write_funnel(
    asked: Asked, query: funnel_models.FunnelQuery, found: list[FunnelCounts]
) -> dict[str, object]:
    now, *before = found
    return {
        **asked.about(),
        "window_minutes": query.window_minutes,
        "sessions": now.sessions,
        "steps": funnel_models.funnel_steps(now, before[0] if before else None),
    }


FUNNEL: Final = Inquiry("funnel", funnel_models.FunnelAnswer, _read_funnel, _write_funnel)


# --- pages, products, terms -------------------------------------------------------------------

_DEFAULT_SORT: Final = {Kind.PAGE: "views", Kind.PRODUCT: "revenue", Kind.TERM: "views"}


def _inquiry_of_subjects(name: str, kind: Kind) -> Inquiry[top_models.TopQuery, SubjectPage]:
    def sort_of(query: top_models.TopQuery) -> str:
        sort = query.sort or _DEFAULT_SORT[kind]
        if sort not in sortable(kind):
            raise InvalidInput(
                "The list cannot be sorted like this.",
                [("?sort", f"one of {', '.join(sortable(kind))}")],
            )
        return sort

    def order_of(query: top_models.TopQuery) -> str:
        return f"{name} {sort_of(query)}"

    def after(query: top_models.TopQuery) -> tuple[Decimal, str] | None:
        if not query.cursor:
            return None
        place = decode_cursor(query.cursor, order_of(query), _SUBJECT_PLACE)
        return cast("tuple[Decimal, str]", place)

    def check(query: top_models.TopQuery) -> None:
        sort_of(query)
        after(query)

    async def read(snapshot: Snapshot, asked: Asked, query: top_models.TopQuery) -> SubjectPage:
        return await read_subjects(
            snapshot,
            kind,
            asked.periods,
            query.filters,
            by=sort_of(query),
            after=after(query),
            limit=query.limit,
        )

    def write(asked: Asked, query: top_models.TopQuery, found: SubjectPage) -> dict[str, object]:
        currency = asked.reporting.currency
        return {
            **asked.about(),
            "data": [top_models.written_subject(kind, one, currency) for one in found.subjects],
            "next_cursor": encode_cursor(order_of(query), found.place) if found.place else None,
            "total": found.total,
        }

    return Inquiry(name, top_models.TopAnswer, read, write, check)


TOP_PRODUCTS: Final = _inquiry_of_subjects("top/products", Kind.PRODUCT)
TOP_PAGES: Final = _inquiry_of_subjects("top/pages", Kind.PAGE)
TOP_TERMS: Final = _inquiry_of_subjects("top/terms", Kind.TERM)


# --- everything -------------------------------------------------------------------------------

Complete = tuple[
    list[Summary], Series, list[BranchSummaries], dict[Dimension, list[PartSummaries]],
    list[FunnelCounts],
]  # fmt: skip


async def _read_complete(
    snapshot: Snapshot, asked: Asked, query: funnel_models.CompleteQuery
) -> Complete:
    periods, filters = asked.periods, query.filters
    return (
        await snapshot.summaries(periods, filters),
        await _read_chart(snapshot, asked, query),
        await snapshot.branches(periods, filters),
        {one: await snapshot.parts(one, periods, filters) for one in Dimension},
        await snapshot.funnels(periods, funnel_models.LONGEST_WINDOW * _SECONDS_A_MINUTE, filters),
    )


def _write_complete(
    asked: Asked, query: funnel_models.CompleteQuery, found: Complete
) -> dict[str, object]:
    summaries, series, branches, parts, funnels = found
    by_revenue = Ranking("gross_revenue", descending=True).order(branches[0])
    return {
        **asked.about(),
        **_figures(asked, summaries),
        **_points(query, series),
        "locations": _branch_rows(asked, branches, by_revenue[: query.limit]),
        "channels": _part_rows(asked, parts[Dimension.CHANNEL], query.limit),
        "devices": _part_rows(asked, parts[Dimension.DEVICE], query.limit),
        "countries": _part_rows(asked, parts[Dimension.COUNTRY], query.limit),
        "funnel": funnel_models.funnel_steps(funnels[0], funnels[1] if funnels[1:] else None),
    }


COMPLETE: Final = Inquiry(
    "stats/complete",
    funnel_models.CompleteAnswer,
    _read_complete,
    _write_complete,
    _refuse_hours_of_visitors,
)
