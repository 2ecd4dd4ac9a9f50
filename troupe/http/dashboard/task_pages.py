"""The pages of the four lists of tasks, each with the sheet of the task that the address opens.

A list and its sheet are read as the API reads them and show what it answers. What people change,
the browser changes over the API, under the entity tag of what the sheet has shown.
"""

from dataclasses import dataclass
from typing import Final, cast
from uuid import UUID

from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.following import TaskKind
from troupe.actors.analytics.tasks import Status, Tasks, Value
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.http.answering import Answering
from troupe.http.conventions import MAX_LIMIT, decode_cursor, encode_cursor
from troupe.http.dashboard.event_words import STATUS_WORDS, change_in_words, snoozes
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.people_pages import names_of_people
from troupe.http.dashboard.task_view import (
    KINDS,
    PERIODS,
    QUESTIONS,
    ROWS,
    WHEREVER,
    TaskPageQuery,
    TaskView,
)
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.http.task_models import TaskAnswer
from troupe.http.tasks import sorting_of, wanted_of

HISTORY_SHOWN: Final = 50
MAX_BRANCHES: Final = MAX_LIMIT
SETTABLE: Final = (Status.OPEN, Status.IN_PROGRESS, Status.DONE, Status.DISMISSED)


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One entry of a task's history."""

    at: object
    who: str
    what: list[str]


def declare(api: Api, frame: Frame, answering: Answering, tasks: Tasks) -> None:
    """Declare the pages.

    Args:
        api: Of the analytics group's application.
        frame: Renders them.
        answering: Knows how tenants report, and the present instant.
        tasks: To be listed.
    """
    for kind in TaskKind:
        _declare_list(api, frame, answering, tasks, kind)


def _declare_list(
    api: Api, frame: Frame, answering: Answering, tasks: Tasks, kind: TaskKind
) -> None:
    answers = answering.answers

    @api.get(
        f"/tasks/{kind}",
        requires=Role.VIEWER,
        query=TaskPageQuery,
        answers={200: PAGE},
        summary=f"The page of {KINDS[kind].title.lower()}",
        endpoint=f"{kind.name.lower()}_page",
    )
    async def list_page(*, principal: Principal, query: TaskPageQuery) -> Answer:
        tenant = principal.tenant_id
        view = TaskView(kind, query)
        reporting = await answering.standing.of(tenant)
        asked = view.asked()
        sorting = sorting_of(asked)
        order = f"/tasks/{kind} {query.sort}"
        after = None
        if query.cursor:
            place = decode_cursor(query.cursor, order, (sorting.column.kind, UUID))
            after = cast("tuple[Value, UUID]", place)
        wanted = wanted_of(kind, asked, reporting, principal, answering)
        page = await tasks.page(
            tenant, wanted, sorting=sorting, now=answering.clock(), after=after, limit=ROWS
        )
        people = await names_of_people(answers.database, tenant)
        sheet = None if query.task is None else await _open(tasks, tenant, query.task, kind)
        history: list[HistoryLine] = []
        if sheet is not None:
            changes = await tasks.history(tenant, sheet.id, before=None, limit=HISTORY_SHOWN)
            history = [
                HistoryLine(
                    change.changed_at,
                    change.actor_name or "Troupe",
                    change_in_words(change.changes, people, reporting.zone),
                )
                for change in changes
            ]
        return await frame.page(
            "tasks.html",
            section=f"tasks/{kind}",
            principal=principal,
            reporting=reporting,
            view=view,
            about=view.about,
            days=wanted.days,
            questions=QUESTIONS,
            periods=PERIODS,
            wherever=WHEREVER,
            branches=await _branches(answers, tenant),
            tasks=[TaskAnswer.of(task) for task in page.tasks],
            total=page.total,
            next_cursor=encode_cursor(order, page.place) if page.place else None,
            task=sheet,
            history=history,
            people=people,
            status_words=STATUS_WORDS,
            settable=[str(status) for status in SETTABLE],
            snoozes=snoozes(answering.clock(), reporting.zone),
            now=answering.clock(),
            may_change=principal.role >= Role.ANALYST,
        )


async def _open(tasks: Tasks, tenant: TenantId, task_id: UUID, kind: TaskKind) -> TaskAnswer | None:
    """The task of a sheet; None when it is gone, since a list is worth showing without it."""
    try:
        task = await tasks.get(tenant, task_id)
    except NotFound:
        return None
    return TaskAnswer.of(task) if task.kind is kind else None


async def _branches(answers: Answers, tenant: TenantId) -> list[tuple[str, str]]:
    page = await answers.locations(tenant, after=None, limit=MAX_BRANCHES)
    return [(one.location_id, one.name) for one in page.locations]
