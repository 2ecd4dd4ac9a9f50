"""Exports: every list as a file, with the very rows that its route answers.

An export asks for the list page by page and writes each page as it comes. Neither the server nor
the database holds more than a page, and between two pages no connection is held: who reads slowly
costs nothing but patience. What is sent is chunked and has no length beforehand; an export that
fails on the way is broken off, so that nobody takes half of a list for the whole.

Figures come of one data version: if a load changes them while an export is under way, it is broken
off too. Lists of tasks go on by their place, like somebody who turns pages.
"""

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

from pydantic import BaseModel, create_model
from quart import Response

from troupe.actors.analytics.answers import LocationPage
from troupe.actors.analytics.following import TaskKind
from troupe.actors.analytics.subjects import Kind as SubjectKind
from troupe.actors.analytics.tasks import TaskPage, Tasks
from troupe.common.dates import Granularity
from troupe.common.errors import Conflict, InvalidInput, TooManyRequests
from troupe.http import (
    analytics_models,
    export_tables,
    inquiries,
    performance,
    performance_models,
    task_models,
    top_models,
)
from troupe.http.answering import Answering, Inquiry
from troupe.http.conventions import CompareQuery, PageQuery, QueryModel
from troupe.http.declaration import Media
from troupe.http.export_formats import CONTENT_TYPES, Format, new_writer
from troupe.http.export_tables import Table
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.http.tasks import sorting_of, wanted_of

TAG: Final = "exports"
MAX_ROWS: Final = 1_000_000
"""Of an export; a spreadsheet holds 1,048,576."""
PAGE: Final = 1000
"""Rows that are asked for at once."""
MOST_AT_ONCE: Final = 8
"""Exports under way in one process."""
_RETRY: Final = 5.0

_FILE: Final = Media(
    "text/csv", "The file", (CONTENT_TYPES[Format.XLSX], CONTENT_TYPES[Format.PARQUET])
)

Rows = AsyncIterator[Sequence[BaseModel]]


class FormatQuery(QueryModel):
    """What the file shall be."""

    format: Format = Format.CSV
    """`csv`, `xlsx` or `parquet`."""


class TaskExportQuery(task_models.TaskQuery, FormatQuery):
    """Which tasks, and as what."""


class Exports:
    """How many exports are under way."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._most = most
        self._running = 0

    def answer(self, name: str, wanted: Format, table: Table, rows: Rows) -> Response:
        """The current request's answer: the rows as a file.

        Args:
            name: Of the file, without an ending.
            wanted: As what.
            table: The columns.
            rows: Page by page.

        Raises:
            TooManyRequests: So many are under way already.
        """
        if self._running >= self._most:
            raise TooManyRequests("Too many exports are under way.", _RETRY)
        response = Response(
            self._written(wanted, table, rows),
            200,
            {
                "Content-Disposition": f'attachment; filename="{name}.{wanted}"',
                "Cache-Control": "no-store",
            },
            content_type=CONTENT_TYPES[wanted],
        )
        response.timeout = None
        return response

    async def _written(
        self, wanted: Format, table: Table, rows: Rows
    ) -> AsyncGenerator[bytes, None]:
        self._running += 1
        try:
            writer = new_writer(wanted, table.headings)
            async for page in rows:
                piece = writer.write(table.lines(page))
                if piece:
                    yield piece
            yield writer.finish()
        finally:
            self._running -= 1


def declare(api: Api, answering: Answering, tasks: Tasks) -> None:
    """Declare the routes of exports.

    Args:
        api: Of the application.
        answering: To be asked for figures.
        tasks: To be asked for tasks.
    """
    exports = Exports()
    for kind in TaskKind:
        _declare_tasks(api, answering, tasks, exports, kind)
    for inquiry, model, table in _FIGURES:
        _declare_figures(api, answering, exports, inquiry, model, table)
    _declare_chart(api, answering, exports)
    _declare_locations(api, answering, exports)


def _declare_tasks(
    api: Api, answering: Answering, tasks: Tasks, exports: Exports, kind: TaskKind
) -> None:
    @api.get(
        f"/api/v1/exports/tasks/{kind}",
        requires=Role.VIEWER,
        query=TaskExportQuery,
        answers={200: _FILE},
        problems=[429],
        summary=f"Export the list of {kind.value.replace('-', ' ')}",
        tag=TAG,
        endpoint=f"export_tasks_{kind.name.lower()}",
    )
    async def export_tasks(*, principal: Principal, query: TaskExportQuery) -> Response:
        tenant = principal.tenant_id
        reporting = await answering.standing.of(tenant)
        wanted = wanted_of(kind, query, reporting, principal, answering)
        sorting = sorting_of(query)
        now = answering.clock()

        async def turn(after: Any) -> TaskPage:
            return await tasks.page(
                tenant, wanted, sorting=sorting, now=now, after=after, limit=PAGE
            )

        first = await turn(None)
        _refuse_too_many(first.total)

        async def rows() -> AsyncGenerator[Sequence[BaseModel], None]:
            page = first
            while True:
                yield [task_models.TaskAnswer.of(task) for task in page.tasks]
                if page.place is None:
                    return
                page = await turn(page.place)

        days = wanted.days
        return exports.answer(
            f"{kind}_{days.start}_{days.end}", query.format, export_tables.TASKS, rows()
        )


def _refuse_too_many(total: int) -> None:
    if total > MAX_ROWS:
        raise InvalidInput(
            f"The list has {total} rows, an export at most {MAX_ROWS}.",
            [("?end_date", "choose a shorter range, or filter")],
        )


_FIGURES: Final[tuple[tuple[Inquiry[Any, Any], type[CompareQuery], Table], ...]] = (
    (inquiries.LOCATIONS, analytics_models.LocationStatsQuery, export_tables.LOCATION_STATS),
    (inquiries.CHANNELS, analytics_models.PartStatsQuery, export_tables.PART_STATS),
    (inquiries.DEVICES, analytics_models.PartStatsQuery, export_tables.PART_STATS),
    (inquiries.COUNTRIES, analytics_models.PartStatsQuery, export_tables.PART_STATS),
    (inquiries.TOP_PRODUCTS, top_models.TopQuery, export_tables.TOP[SubjectKind.PRODUCT]),
    (inquiries.TOP_PAGES, top_models.TopQuery, export_tables.TOP[SubjectKind.PAGE]),
    (inquiries.TOP_TERMS, top_models.TopQuery, export_tables.TOP[SubjectKind.TERM]),
    (performance.PAGES, performance_models.PerformanceQuery, export_tables.ENTRY_PAGES),
    (
        performance.BRANCHES,
        performance_models.PerformanceQuery,
        export_tables.BRANCH_PERFORMANCE,
    ),
)


def _declare_figures(
    api: Api,
    answering: Answering,
    exports: Exports,
    inquiry: Inquiry[Any, Any],
    model: type[CompareQuery],
    table: Table,
) -> None:
    most = performance_models.MAX_ROWS if model is performance_models.PerformanceQuery else PAGE
    fields: dict[str, Any] = {
        name: (told.annotation, told)
        for name, told in model.model_fields.items()
        if name not in PageQuery.model_fields
    }
    export_model = create_model(
        f"{model.__name__.removesuffix('Query')}ExportQuery",
        __base__=FormatQuery,
        __doc__=f"{model.__doc__} As a file, with all rows.",
        **fields,
    )
    slug = inquiry.name.replace("/", "_")

    @api.get(
        f"/api/v1/exports/{inquiry.name}",
        requires=Role.VIEWER,
        query=export_model,
        answers={200: _FILE},
        problems=[429],
        summary=f"Export {inquiry.name}",
        tag=TAG,
        endpoint=f"export_{slug}",
    )
    async def export_figures(*, principal: Principal, query: Any) -> Response:
        given = query.model_fields_set & fields.keys()
        asked = {name: getattr(query, name) for name in given}

        async def turn(cursor: str | None) -> Any:
            body = await answering.document(
                principal.tenant_id,
                inquiry,
                model(**asked, limit=most, cursor=cursor),  # type: ignore[call-arg]
            )
            return inquiry.model.model_validate_json(body)

        first = await turn(None)
        _refuse_too_many(first.total)

        async def rows() -> AsyncGenerator[Sequence[BaseModel], None]:
            page = first
            while True:
                yield page.data
                if page.next_cursor is None:
                    return
                page = await turn(page.next_cursor)
                if page.data_version != first.data_version:
                    raise Conflict("A load has changed the figures meanwhile. Export them again.")

        days = first.range
        name = f"{slug.replace('_', '-')}_{days.start_date}_{days.end_date}"
        return exports.answer(name, query.format, table, rows())


class ChartExportQuery(analytics_models.StatsChartQuery, FormatQuery):
    """A range cut into steps, as a file."""


def _declare_chart(api: Api, answering: Answering, exports: Exports) -> None:
    @api.get(
        "/api/v1/exports/stats/chart",
        requires=Role.VIEWER,
        query=ChartExportQuery,
        answers={200: _FILE},
        problems=[429],
        summary="Export stats/chart",
        tag=TAG,
    )
    async def export_chart(*, principal: Principal, query: ChartExportQuery) -> Response:
        given = query.model_fields_set - FormatQuery.model_fields.keys()
        asked = analytics_models.StatsChartQuery(**{name: getattr(query, name) for name in given})
        body = await answering.document(principal.tenant_id, inquiries.CHART, asked)
        chart = analytics_models.ChartAnswer.model_validate_json(body)

        async def rows() -> AsyncGenerator[Sequence[BaseModel], None]:
            yield chart.points

        days = chart.range
        return exports.answer(
            f"chart_{days.start_date}_{days.end_date}",
            query.format,
            export_tables.chart(query.metric, by_hour=query.granularity is Granularity.HOUR),
            rows(),
        )


def _declare_locations(api: Api, answering: Answering, exports: Exports) -> None:
    @api.get(
        "/api/v1/exports/locations",
        requires=Role.VIEWER,
        query=FormatQuery,
        answers={200: _FILE},
        problems=[429],
        summary="Export the branches of the master data",
        tag=TAG,
    )
    async def export_locations(*, principal: Principal, query: FormatQuery) -> Response:
        async def turn(after: tuple[str, str] | None) -> LocationPage:
            return await answering.answers.locations(principal.tenant_id, after=after, limit=PAGE)

        first = await turn(None)
        _refuse_too_many(first.total)

        async def rows() -> AsyncGenerator[Sequence[BaseModel], None]:
            page = first
            while True:
                yield [
                    analytics_models.Location(**dataclasses.asdict(one)) for one in page.locations
                ]
                if page.place is None:
                    return
                page = await turn(page.place)

        return exports.answer("locations", query.format, export_tables.LOCATIONS, rows())
