"""Answers that are written without their models are what the models would write."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from troupe.actors.analytics.following import TaskKind
from troupe.actors.analytics.tasks import Status, Task
from troupe.actors.analytics.timelines import (
    Contact,
    Device,
    Event,
    PersonHead,
    PersonTimeline,
    SessionHead,
    SessionTimeline,
)
from troupe.http import exact_json
from troupe.http import history_models as history
from troupe.http import task_models as tasks
from troupe.http.conventions import ListAnswer

AT = datetime(2026, 10, 20, 9, 24, 0, 5, tzinfo=UTC)
SOLD = Task(
    task_id=UUID(int=7),
    kind=TaskKind.PURCHASES,
    began_at=AT - timedelta(minutes=9),
    happened_at=AT,
    raised_at=AT.replace(microsecond=0),
    settled_at=None,
    is_customer=True,
    person_id="C1",
    user_pseudo_id="v1",
    stream_id="web",
    ga_session_id=2**62,
    location_id="B1",
    location_name="Kiel",
    company='Adler \u201eSöhne\u201c "& Co"',
    contact="Ada\n",
    email="ada@adler.example",
    phone="",
    title="T1: Saw",
    value=Decimal("1249.90"),
    currency="EUR",
    facts={"first_purchase": True, "items": [{"price": Decimal("0.10"), "quantity": 10**20}]},
    priority=50,
    reasons=[{"points": 40, "reason": "value"}, {"points": 10, "reason": "customer"}],
    present=True,
    status=Status.IN_PROGRESS,
    assignee_id=UUID(int=3),
    note="Calls back",
    snoozed_until=AT + timedelta(days=1),
    version=3,
    changed_at=AT,
)
NOBODYS = SOLD._replace(
    task_id=UUID(int=8),
    kind=TaskKind.SEARCHES,
    settled_at=AT,
    person_id=None,
    user_pseudo_id=None,
    stream_id=None,
    ga_session_id=None,
    location_name=None,
    value=Decimal("1E+3"),
    facts={"failed_searches": 2},
    reasons=[],
    status=Status.SETTLED,
    assignee_id=None,
    snoozed_until=None,
)


@pytest.mark.parametrize("task", [SOLD, NOBODYS])
def test_a_task(task: Task) -> None:
    answer = tasks.TaskAnswer.of(task)
    assert tasks.written(task) == exact_json.dumps(answer)
    assert answer.etag == tasks.tag_of(task)
    assert (answer.id, answer.value, answer.began_at) == (task.task_id, task.value, task.began_at)


@pytest.mark.parametrize("cursor", [None, "WyJ0YXNrcyJd"])
@pytest.mark.parametrize("page", [[], [SOLD], [SOLD, NOBODYS]])
def test_a_page_of_tasks(page: list[Task], cursor: str | None) -> None:
    model = ListAnswer[tasks.TaskAnswer](
        data=[tasks.TaskAnswer.of(task) for task in page], next_cursor=cursor, total=5
    )
    assert tasks.written_page(page, cursor, 5) == exact_json.dumps(model)


@pytest.mark.parametrize("field", Task._fields)
def test_a_tag_changes_with_whatever_the_answer_tells(field: str) -> None:
    other = NOBODYS if getattr(NOBODYS, field) != getattr(SOLD, field) else None
    if field in {"kind", "facts"}:
        changed = SOLD._replace(kind=TaskKind.SEARCHES, facts={"failed_searches": 1})
    elif other is not None:
        changed = SOLD._replace(**{field: getattr(other, field)})
    else:
        kinds = {bool: False, str: "other", int: 99, datetime: AT - timedelta(days=3)}
        changed = SOLD._replace(**{field: kinds[type(getattr(SOLD, field))]})
    assert tasks.tag_of(changed) != tasks.tag_of(SOLD)


CONTACT = Contact("Adler GmbH", "Ada", "", "", "B1", None)
EVENTS = [
    Event(AT, "purchase", "v1", "web", 1, timedelta(milliseconds=1500), {"value": Decimal("9.90")}),
    Event(AT, "page_view", "v1", "web", 1, timedelta(0), {"items": [{"price": Decimal("0.10")}]}),
    Event(AT, "first_open", "v2", None, None, None, {}),
]


def test_a_session_with_its_events() -> None:
    head = SessionHead(
        "web", "v1", 1, AT, AT, True, None, "Direct", None, None, None, None, "DE", "/", 3, 1, 1
    )
    raw = history.written_session(SessionTimeline(head, CONTACT, EVENTS, 3), "next")
    model = history.SessionTimelineAnswer.model_validate_json(raw)
    assert [one.event_name for one in model.data] == [one.event_name for one in EVENTS]
    _same(raw, model)


def test_a_person_with_devices_and_events() -> None:
    head = PersonHead(True, "C1", "C1", 3, 2, 1, AT, AT)
    device = Device("v1", "desktop", "web", 3, AT, AT)
    found = PersonTimeline(head, CONTACT, [device], EVENTS, None)
    raw = history.written_user(found, None)
    model = history.UserTimelineAnswer.model_validate_json(raw)
    assert model.data[0].gap_seconds == 1.5
    assert model.data[0].details == {"value": "9.90"}
    assert model.data[2].session_id is None
    _same(raw, model)


def _same(raw: bytes, model: object) -> None:
    """Nothing is missing that has a default, nothing is there that is not declared."""
    assert json.loads(raw) == json.loads(exact_json.dumps(model))
