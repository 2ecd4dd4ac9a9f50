"""Task lists over HTTP: what salespeople work through, and what they make of each.

Lists are read by everybody who may see figures; changing a task takes an analyst. A change names
the version that was read (``If-Match``), so that of two people who take the same task one is told.
"""

from datetime import timedelta
from typing import Final, cast
from uuid import UUID

from troupe.actors.analytics.answers import Reporting
from troupe.actors.analytics.following import TaskKind
from troupe.actors.analytics.tasks import SORTABLE, Actor, Sorting, Tasks, Value, Wanted
from troupe.common.dates import DateRange
from troupe.common.errors import InvalidInput
from troupe.http import task_models as models
from troupe.http.answering import Answering
from troupe.http.conventions import (
    ListAnswer,
    PageQuery,
    decode_cursor,
    encode_cursor,
    parse_sort,
    require_match,
    today_in,
)
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

TAG: Final = "tasks"
USUAL_DAYS: Final = 30
MAX_SNOOZE: Final = timedelta(days=366)
_HISTORY: Final = "task-history"

_SUMMARIES: Final = {
    TaskKind.PURCHASES: "Purchases, to be followed up",
    TaskKind.CARTS: "Carts that were left",
    TaskKind.SEARCHES: "Searches that found nothing",
    TaskKind.VISITS: "Visitors who come again and again without buying",
}


def declare(api: Api, answering: Answering, tasks: Tasks) -> None:
    """Declare the routes of tasks.

    Args:
        api: Of the application.
        answering: Knows how tenants report, and the present instant.
        tasks: To be listed and changed.
    """
    for kind in TaskKind:
        _declare_list(api, answering, tasks, kind)
    _declare_one(api, answering, tasks)


def _declare_list(api: Api, answering: Answering, tasks: Tasks, kind: TaskKind) -> None:
    @api.get(
        f"/api/v1/tasks/{kind}",
        requires=Role.VIEWER,
        query=models.TaskListQuery,
        answers={200: ListAnswer[models.TaskAnswer]},
        summary=_SUMMARIES[kind],
        tag=TAG,
        endpoint=f"tasks_{kind.name.lower()}",
    )
    async def list_tasks(*, principal: Principal, query: models.TaskListQuery) -> Answer:
        reporting = await answering.standing.of(principal.tenant_id)
        sorting = sorting_of(query)
        order = f"tasks/{kind} {query.sort}"
        after = None
        if query.cursor:
            place = decode_cursor(query.cursor, order, (sorting.column.kind, UUID))
            after = cast("tuple[Value, UUID]", place)
        page = await tasks.page(
            principal.tenant_id,
            wanted_of(kind, query, reporting, principal, answering),
            sorting=sorting,
            now=answering.clock(),
            after=after,
            limit=query.limit,
        )
        next_cursor = encode_cursor(order, page.place) if page.place else None
        return Answer(models.written_page(page.tasks, next_cursor, page.total))


def sorting_of(query: models.TaskQuery) -> Sorting:
    """The order that is asked for.

    Raises:
        InvalidInput: Not one of the fields that tasks can be ordered by.
    """
    orders = parse_sort(query.sort, models.SORT_FIELDS, "-happened_at")
    if len(orders) != 1:
        raise InvalidInput("The list cannot be sorted like this.", [("?sort", "takes one field")])
    return Sorting(SORTABLE[orders[0].column], orders[0].descending)


def wanted_of(
    kind: TaskKind,
    query: models.TaskQuery,
    reporting: Reporting,
    principal: Principal,
    answering: Answering,
) -> Wanted:
    """Which tasks a query means.

    Raises:
        InvalidInput: It means no range.
    """
    today = today_in(reporting.zone, answering.clock())
    if query.start_date is None and query.end_date is None and query.preset is None:
        days = DateRange(today - timedelta(days=USUAL_DAYS - 1), today)
    else:
        days = query.resolve(today, earliest=reporting.first_day)
    assignee = None
    if query.assignee == models.ME:
        assignee = principal.subject_id
    elif query.assignee not in {None, models.NOBODY}:
        assignee = UUID(query.assignee)
    return Wanted(
        kind=kind,
        days=days,
        zone=reporting.zone,
        locations=query.location,
        statuses=query.status,
        assignee=assignee,
        unassigned=query.assignee == models.NOBODY,
        snoozed=query.snoozed,
        customers=query.customers,
        least=query.min_value,
        text=query.q,
    )


def _declare_one(api: Api, answering: Answering, tasks: Tasks) -> None:
    @api.get(
        "/api/v1/tasks/<uuid:task_id>",
        requires=Role.VIEWER,
        answers={200: models.TaskAnswer},
        etag=True,
        summary="One task",
        tag=TAG,
    )
    async def get_task(*, principal: Principal, task_id: UUID) -> Answer:
        task = await tasks.get(principal.tenant_id, task_id)
        return Answer(models.TaskAnswer.of(task), etag=models.tag_of(task))

    @api.patch(
        "/api/v1/tasks/<uuid:task_id>",
        requires=Role.ANALYST,
        body=models.TaskBody,
        answers={200: models.TaskAnswer},
        etag=True,
        if_match=True,
        summary="Change what people say about a task",
        tag=TAG,
    )
    async def change_task(*, principal: Principal, task_id: UUID, body: models.TaskBody) -> Answer:
        """Status, who cares for it, note, until when it rests; its history tells who said so."""
        now = answering.clock()
        if body.snoozed_until and not now < body.snoozed_until <= now + MAX_SNOOZE:
            raise InvalidInput(
                "The task cannot rest until then.",
                [("/snoozed_until", f"must be within {MAX_SNOOZE.days} days from now")],
            )
        present = await tasks.get(principal.tenant_id, task_id)
        require_match(models.tag_of(present))
        changed = await tasks.change(
            principal.tenant_id,
            task_id,
            body.given(),
            version=present.version,
            actor=Actor(_ACTORS[principal.kind], principal.subject_id, principal.name),
        )
        return Answer(models.TaskAnswer.of(changed), etag=models.tag_of(changed))

    @api.get(
        "/api/v1/tasks/<uuid:task_id>/history",
        requires=Role.VIEWER,
        query=PageQuery,
        answers={200: ListAnswer[models.ChangeAnswer]},
        summary="What became of a task, latest first",
        tag=TAG,
    )
    async def task_history(
        *, principal: Principal, task_id: UUID, query: PageQuery
    ) -> ListAnswer[models.ChangeAnswer]:
        await tasks.get(principal.tenant_id, task_id)
        before = None
        if query.cursor:
            (before,) = cast("tuple[int]", decode_cursor(query.cursor, _HISTORY, (int,)))
        found = await tasks.history(
            principal.tenant_id, task_id, before=before, limit=query.limit + 1
        )
        page = found[: query.limit]
        return ListAnswer[models.ChangeAnswer](
            data=[models.ChangeAnswer.of(change) for change in page],
            next_cursor=(
                encode_cursor(_HISTORY, [page[-1].version]) if len(found) > len(page) else None
            ),
        )


_ACTORS: Final = {"session": "user", "token": "token"}
