"""The analytics group's application, port 8001: figures of the shop, and the dashboard at ``/``.

Every answer is a function of the tenant's settings, its data version, the days that were meant
(``7d`` is another question tomorrow) and the request; its entity tag is made of just these. What is
asked stands in `troupe.http.inquiries`, how it is answered in `troupe.http.answering`.
"""

import dataclasses
from typing import Any, Final

from pydantic import BaseModel

from troupe.actors.analytics.answers import Answers
from troupe.http import analytics_models as models
from troupe.http import funnel_models, inquiries, top_models
from troupe.http.answering import Answering, Inquiry
from troupe.http.conventions import CompareQuery, ListAnswer, decode_cursor, encode_cursor
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

_BY_NAME: Final = "locations"

_ROUTES: Final[tuple[tuple[Inquiry[Any, Any], type[BaseModel], str], ...]] = (
    (
        inquiries.STATS,
        models.StatsQuery,
        "Key figures of a range, and of what it is compared with",
    ),
    (
        inquiries.CHART,
        models.StatsChartQuery,
        "Figures along the hours, days, weeks or months of a range",
    ),
    (inquiries.LOCATIONS, models.LocationStatsQuery, "Key figures of every branch"),
    (
        inquiries.COMPLETE,
        funnel_models.CompleteQuery,
        "Key figures, chart and tables of a range, all of one moment",
    ),
    (inquiries.FUNNEL, funnel_models.FunnelQuery, "How far sessions get, from view to purchase"),
    (inquiries.CHANNELS, models.PartStatsQuery, "Key figures of every channel"),
    (inquiries.DEVICES, models.PartStatsQuery, "Key figures of every device category"),
    (inquiries.COUNTRIES, models.PartStatsQuery, "Key figures of every country"),
    (inquiries.TOP_PRODUCTS, top_models.TopQuery, "Products: viewed, put into carts, sold"),
    (inquiries.TOP_PAGES, top_models.TopQuery, "Pages: viewed, and entered by"),
    (inquiries.TOP_TERMS, top_models.TopQuery, "Search terms: searched, failed, followed by sales"),
)


def declare(api: Api, answering: Answering) -> None:
    """Declare the routes under ``/api/v1``.

    Args:
        api: Of the application.
        answering: Over the group's database pool.
    """
    _declare_locations(api, answering.answers)
    for inquiry, query, summary in _ROUTES:
        _declare_inquiry(api, answering, inquiry, query, summary)


def _declare_inquiry(
    api: Api,
    answering: Answering,
    inquiry: Inquiry[Any, Any],
    query_model: type[BaseModel],
    summary: str,
) -> None:
    @api.get(
        f"/api/v1/{inquiry.name}",
        requires=Role.VIEWER,
        query=query_model,
        answers={200: inquiry.model},
        etag=True,
        summary=summary,
        endpoint=inquiry.name.replace("/", "_"),
    )
    async def answer(*, principal: Principal, query: CompareQuery) -> Answer:
        return await answering.answer(principal.tenant_id, inquiry, query)


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
