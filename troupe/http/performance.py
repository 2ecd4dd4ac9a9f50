"""How pages and branches do: the questions of the lists ``tasks/performance``.

They are answers like all others: a function of tenant, data version and request, kept as bytes.
They have no status, because nobody is done with a page.
"""

from decimal import Decimal
from typing import Final, cast

from troupe.actors.analytics.answers import BranchSummaries, Snapshot
from troupe.actors.analytics.entry_pages import EntryPages, read_entry_pages
from troupe.actors.analytics.ranking import Place, Ranking
from troupe.http import performance_models as models
from troupe.http.analytics_models import written_branch
from troupe.http.answering import Answering, Inquiry
from troupe.http.asked import Asked
from troupe.http.conventions import decode_cursor, encode_cursor
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

TOP_PRODUCTS: Final = 3
"""Of each branch."""
_PAGES: Final = "tasks/performance/pages"
_BRANCHES: Final = "tasks/performance/locations"
_BY_REVENUE: Final = Ranking("gross_revenue", descending=True)


def _page_place(query: models.PerformanceQuery) -> tuple[Decimal, str] | None:
    if not query.cursor:
        return None
    return cast("tuple[Decimal, str]", decode_cursor(query.cursor, _PAGES, (Decimal, str)))


async def _read_pages(
    snapshot: Snapshot, asked: Asked, query: models.PerformanceQuery
) -> EntryPages:
    return await read_entry_pages(
        snapshot, asked.periods, query.filters, after=_page_place(query), limit=query.limit
    )


def _write_pages(
    asked: Asked, _query: models.PerformanceQuery, found: EntryPages
) -> dict[str, object]:
    site = found.site
    rows = [] if site is None else [models.written_page(page, site) for page in found.pages]
    return {
        **asked.about(),
        "data": rows,
        "next_cursor": encode_cursor(_PAGES, found.place) if found.place else None,
        "total": found.total,
    }


def _check_pages(query: models.PerformanceQuery) -> None:
    _page_place(query)


PAGES: Final = Inquiry(_PAGES, models.EntryPagesAnswer, _read_pages, _write_pages, _check_pages)

Branches = tuple[list[BranchSummaries], dict[str, list[dict[str, object]]]]


def _branch_place(query: models.PerformanceQuery) -> Place | None:
    if not query.cursor:
        return None
    return cast("Place", decode_cursor(query.cursor, _BRANCHES, _BY_REVENUE.place_types))


async def _read_branches(
    snapshot: Snapshot, asked: Asked, query: models.PerformanceQuery
) -> Branches:
    summaries = await snapshot.branches(asked.periods, query.filters)
    page = _BY_REVENUE.order(summaries[0], after=_branch_place(query))[: query.limit]
    rows = await snapshot.fetch(
        "sold_by_branch",
        asked.periods[:1],
        query.filters,
        snapshot.reporting.currency,
        [branch.location_id for branch in page],
        TOP_PRODUCTS,
    )
    sold: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        product = {
            "name": row["product"],
            "label": row["label"],
            "revenue": row["revenue"],
            "quantity": int(row["quantity"]),
        }
        sold.setdefault(row["location_id"], []).append(product)
    return summaries, sold


def _write_branches(
    asked: Asked, query: models.PerformanceQuery, found: Branches
) -> dict[str, object]:
    (now, *before), sold = found
    currency = asked.reporting.currency
    listed = _BY_REVENUE.order(now, after=_branch_place(query))
    page = listed[: query.limit]
    rows = [
        {
            **written_branch(branch, now[branch], before[0][branch] if before else None, currency),
            "top_products": sold.get(branch.location_id, []),
        }
        for branch in page
    ]
    cursor = None
    if len(listed) > len(page):
        cursor = encode_cursor(_BRANCHES, _BY_REVENUE.place(page[-1], now[page[-1]]))
    return {**asked.about(), "data": rows, "next_cursor": cursor, "total": len(now)}


def _check_branches(query: models.PerformanceQuery) -> None:
    _branch_place(query)


BRANCHES: Final = Inquiry(
    _BRANCHES, models.BranchPerformanceAnswer, _read_branches, _write_branches, _check_branches
)


def declare(api: Api, answering: Answering) -> None:
    """Declare the routes of performance.

    Args:
        api: Of the application.
        answering: To be asked.
    """

    @api.get(
        f"/api/v1/{_PAGES}",
        requires=Role.VIEWER,
        query=models.PerformanceQuery,
        answers={200: models.EntryPagesAnswer},
        etag=True,
        summary="Pages by which people come in, and whether they stay",
        tag="tasks",
    )
    async def performance_pages(*, principal: Principal, query: models.PerformanceQuery) -> Answer:
        return await answering.answer(principal.tenant_id, PAGES, query)

    @api.get(
        f"/api/v1/{_BRANCHES}",
        requires=Role.VIEWER,
        query=models.PerformanceQuery,
        answers={200: models.BranchPerformanceAnswer},
        etag=True,
        summary="How every branch does, against the period before, and what it sells most",
        tag="tasks",
    )
    async def performance_locations(
        *, principal: Principal, query: models.PerformanceQuery
    ) -> Answer:
        return await answering.answer(principal.tenant_id, BRANCHES, query)
