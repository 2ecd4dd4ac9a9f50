"""What the routes of tasks take and answer."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from troupe.actors.analytics.following import TaskKind
from troupe.actors.analytics.tasks import SORTABLE, Change, Status, Task
from troupe.http import exact_json
from troupe.http.analytics_models import FilterValues
from troupe.http.conventions import (
    AnswerModel,
    BodyModel,
    Instant,
    PageQuery,
    RangeQuery,
)
from troupe.http.history_ids import session_id_of, user_id_of
from troupe.http.task_reasons import REASONS, why

MAX_NOTE: Final = 4000
MAX_SEARCH: Final = 200

ME: Final = "me"
NOBODY: Final = "nobody"


def _person_or_word(text: str) -> str:
    if text in {ME, NOBODY}:
        return text
    try:
        return str(UUID(text))
    except ValueError:
        raise PydanticCustomError("unknown_person", "must be me, nobody or a user's id") from None


class TaskQuery(RangeQuery):
    """Which tasks; without dates those of the last 30 days, today included."""

    location: FilterValues = ()
    """Only of these branches; the empty text means "no branch known"."""
    status: Annotated[tuple[Status, ...], Field(max_length=len(Status))] = ()
    """Only in one of these states."""
    assignee: Annotated[str | None, Field(max_length=36), AfterValidator(_person_or_word)] = None
    """Only of this person: `me`, `nobody` or a user's id."""
    snoozed: bool | None = None
    """Only those that rest for now (true), or only those that do not (false)."""
    customers: bool | None = None
    """Only about known customers (true), or only about others (false)."""
    min_value: Annotated[Decimal | None, Field(ge=0, le=10**12, max_digits=30)] = None
    """Only where so much or more is at stake, each in its own currency."""
    q: Annotated[str, Field(max_length=MAX_SEARCH)] = ""
    """Words that must occur in company, contact, address, number, id or title."""
    sort: Annotated[str, Field(max_length=100)] = "-happened_at"
    """`happened_at`, `raised_at`, `priority`, `value` or `company`; a leading minus reverses."""


class TaskListQuery(TaskQuery, PageQuery):
    """One page of tasks."""


class Reason(AnswerModel):
    """Part of a priority."""

    reason: str
    """`value`, `customer`, `reachable`, or what belongs to the kind."""
    points: int
    text: str
    """The same for people."""


class TaskAnswer(AnswerModel):
    """A task."""

    id: UUID
    kind: TaskKind
    why: str
    """Why it is listed, in a sentence."""
    title: str
    """What it is about: order and products, products left, search term, products looked at."""
    value: Decimal
    """What is at stake; 0 where no figure is known."""
    currency: str
    began_at: datetime
    happened_at: datetime
    """What the list is ordered and cut by."""
    raised_at: datetime
    """From when on it was a task."""
    settled_at: datetime | None
    """When it settled itself: what was left was bought after all."""
    is_customer: bool
    person_id: str | None
    """The customer's id, else the visitor's; null when nobody is known."""
    company: str
    """From the master data, like the next three; empty when not known."""
    contact: str
    email: str
    phone: str
    location_id: str
    """Branch; empty when none is known."""
    location_name: str | None
    session_id: str | None
    """For `/api/v1/history/sessions/{id}`."""
    user_id: str | None
    """For `/api/v1/history/users/{id}`."""
    priority: int
    """0 to 100: the sum of the reasons' points."""
    reasons: list[Reason]
    facts: dict[str, Any]
    """What belongs to the kind: items, terms, products."""
    present: bool
    """False: the data does not show it any more, but somebody has worked on it."""
    status: Status
    assignee_id: UUID | None
    note: str
    snoozed_until: datetime | None
    version: int
    changed_at: datetime
    etag: str
    """To send as `If-Match` when changing it."""

    @classmethod
    def of(cls, task: Task) -> "TaskAnswer":
        """From the domain's task."""
        return cls.model_validate({**_members_of(task), "etag": tag_of(task)})


def tag_of(task: Task) -> str:
    """A task's entity tag: of what people and of what the data say."""
    return _tagged(task)[0]


def written(task: Task) -> bytes:
    """`TaskAnswer.of` as it travels, without making the model, which takes longer than the rest."""
    tag, members = _tagged(task)
    return b'%b,"etag":"%b"}' % (members[:-1], tag.encode())


def written_page(tasks: Sequence[Task], next_cursor: str | None, total: int) -> bytes:
    """A `ListAnswer` of tasks as it travels."""
    about = exact_json.dumps_stored({"next_cursor": next_cursor, "total": total})
    return b'{"data":[%b],%b' % (b",".join(map(written, tasks)), about[1:])


def _tagged(task: Task) -> tuple[str, bytes]:
    """The entity tag, and the members that it is made of."""
    members = exact_json.dumps_stored(_members_of(task))
    return hashlib.blake2b(members, digest_size=16).hexdigest(), members


def _members_of(task: Task) -> dict[str, object]:
    """The members of `TaskAnswer` but for the tag, in its order.

    What would have to be asked how it is written is a text already.
    """
    return {
        "id": str(task.task_id),
        "kind": task.kind,
        "why": why(task),
        "title": task.title,
        "value": exact_json.plain_decimal(task.value),
        "currency": task.currency,
        "began_at": task.began_at,
        "happened_at": task.happened_at,
        "raised_at": task.raised_at,
        "settled_at": task.settled_at,
        "is_customer": task.is_customer,
        "person_id": task.person_id,
        "company": task.company,
        "contact": task.contact,
        "email": task.email,
        "phone": task.phone,
        "location_id": task.location_id,
        "location_name": task.location_name,
        "session_id": session_id_of(task.stream_id, task.user_pseudo_id, task.ga_session_id),
        "user_id": user_id_of(is_customer=task.is_customer, person_id=task.person_id),
        "priority": task.priority,
        "reasons": [
            {
                "reason": reason["reason"],
                "points": reason["points"],
                "text": REASONS[reason["reason"]],
            }
            for reason in task.reasons
        ],
        "facts": task.facts,
        "present": task.present,
        "status": task.status,
        "assignee_id": None if task.assignee_id is None else str(task.assignee_id),
        "note": task.note,
        "snoozed_until": task.snoozed_until,
        "version": task.version,
        "changed_at": task.changed_at,
    }


class TaskBody(BodyModel):
    """What to change of a task; what is not given stays."""

    status: Literal[Status.OPEN, Status.IN_PROGRESS, Status.DONE, Status.DISMISSED] | None = None
    """A task settles by itself, never by hand."""
    assignee_id: UUID | None = None
    """A member of the tenant; null: nobody."""
    note: Annotated[str, Field(max_length=MAX_NOTE)] | None = None
    """Replaces the note."""
    snoozed_until: Instant | None = None
    """Later than now; null: not at all."""

    def given(self) -> Mapping[str, Any]:
        """The fields that shall change, as the domain names them."""
        emptied = {"assignee_id", "snoozed_until"}
        return {
            name: getattr(self, name)
            for name in self.model_fields_set
            if name in emptied or getattr(self, name) is not None
        }


class ChangeAnswer(AnswerModel):
    """One entry of a task's history."""

    version: int
    """Of the task after it."""
    changed_at: datetime
    actor_kind: str
    """`user`, `token` or `system`."""
    actor_id: UUID | None
    actor_name: str
    changes: dict[str, Any]
    """Field to `{"from": …, "to": …}`."""

    @classmethod
    def of(cls, change: Change) -> "ChangeAnswer":
        """From the domain's entry."""
        return cls(**{name: getattr(change, name) for name in cls.model_fields})


SORT_FIELDS: Final = {name: name for name in SORTABLE}
