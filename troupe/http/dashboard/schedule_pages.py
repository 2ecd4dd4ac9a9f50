"""The page of what the data group does by itself: schedules of loads, imports and counts.

As over the API, everybody may see them and administrators change them. Those that reports make for
themselves are told on the reports' pages, where people know them. When a line is due is told
in words where it can be, and by its next runs in any case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import Field as Checked

from troupe.actors.analytics.answers import Answers
from troupe.actors.data.job_requests import SCHEDULABLE
from troupe.common.errors import InvalidInput, NotFound
from troupe.http.conventions import MAX_LIMIT, QueryModel
from troupe.http.dashboard.data_page import TABS
from troupe.http.dashboard.fields import Field, FieldGroup, Words, fields_of
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.job_words import STATES, title_of
from troupe.http.dashboard.report_words import due_in_words
from troupe.http.dashboard.tenant_forms import zones
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.http.schedules import tag_of
from troupe.platform.jobs import JobState
from troupe.platform.schedules import Outcome, Policy, Schedule, ScheduleStore, Slot, upcoming
from troupe.platform.schedules import read_timetable as timetable_of

SECTION: Final = "data"
PATH: Final = "/data/schedules"
RUNS_SHOWN: Final = 3
SLOTS_SHOWN: Final = 10

ARGUMENT_WORDS: Final[Mapping[str, Words]] = {
    "last_days": Words("The last", "days"),
    "include_today": Words("Today as well"),
    "again": Words("Unchanged files too"),
}
"""What people call what a job is told; a test sees that none is missing."""

KIND_HELP: Final[Mapping[str, str]] = {
    "ingest": "Reads the last days of the export again, where they have changed at the source.",
    "import_master_data": "Reads the files of customers and branches at your SFTP server.",
    "reconcile": "Counts the last days event by event; BigQuery bills one column of each day.",
}
USUAL_LINE: Final[Mapping[str, str]] = {
    "ingest": "0 6 * * *",
    "import_master_data": "0 5 * * *",
    "reconcile": "0 7 * * 1",
}
"""What a form begins with."""

POLICY_WORDS: Final[Mapping[Policy, str]] = {
    Policy.COALESCE: "Run once for all that were missed",
    Policy.SKIP: "Leave out what was missed",
    Policy.CATCH_UP: "Run once for each that was missed",
}
OUTCOME_WORDS: Final[Mapping[Outcome, tuple[str, str]]] = {
    Outcome.ENQUEUED: ("Begun", "good"),
    Outcome.SKIPPED: ("Left out", "flat"),
    Outcome.COALESCED: ("Joined with a later one", "flat"),
}


class SchedulesQuery(QueryModel):
    """What the page shows."""

    schedule: UUID | None = None
    """Whose sheet is open."""
    new: str | None = Checked(default=None, max_length=100)
    """The kind of a schedule to be made."""


@dataclass(frozen=True, slots=True)
class ScheduleShown:
    """A schedule as it is shown.

    Attributes:
        schedule: As it is stored.
        title: What it does.
        due: When, in words.
        runs: Its next runs; none when it rests or cannot be used.
    """

    schedule: Schedule
    title: str
    due: str
    runs: Sequence[datetime]

    @classmethod
    def of(cls, schedule: Schedule, now: datetime) -> "ScheduleShown":
        """From the platform's schedule."""
        runs: Sequence[datetime] = ()
        if schedule.enabled:
            try:
                runs = upcoming(timetable_of(schedule.cron, schedule.zone), now, RUNS_SHOWN)
            except InvalidInput:
                runs = ()  # its problem says why
        return cls(schedule, title_of(schedule.kind), due_in_words(schedule.cron), runs)


@dataclass(frozen=True, slots=True)
class SlotShown:
    """One instant at which a schedule was due, and what became of it."""

    at: datetime
    text: str
    tone: str
    job: UUID | None

    @classmethod
    def of(cls, slot: Slot) -> "SlotShown":
        """From the platform's slot: how its job stands, if there is one."""
        text, tone = OUTCOME_WORDS[slot.outcome]
        if slot.job_state is not None:
            text, tone = STATES[JobState(slot.job_state)]
        return cls(slot.instant, text, tone, slot.job_id)


def arguments_of(kind: str, values: Mapping[str, object]) -> tuple[Field | FieldGroup, ...]:
    """What a job of this kind is told, as fields."""
    return fields_of(SCHEDULABLE[kind].arguments, values, ARGUMENT_WORDS, path="arguments")


def declare(api: Api, frame: Frame, answers: Answers) -> None:
    """Declare the page.

    Args:
        api: Of the analytics group's application.
        frame: Renders it.
        answers: Over the group's pool.
    """
    store = ScheduleStore(answers.database)

    @api.get(
        PATH,
        requires=Role.VIEWER,
        query=SchedulesQuery,
        answers={200: PAGE},
        problems=(404, 422),
        summary="The page of schedules of the data",
        endpoint="data_schedules_page",
    )
    async def schedules_page(*, principal: Principal, query: SchedulesQuery) -> Answer:
        may_change = principal.role >= Role.ADMIN
        if query.new is not None and query.new not in SCHEDULABLE:
            raise InvalidInput(
                "This cannot be scheduled.", [("?new", f"must be of {', '.join(SCHEDULABLE)}")]
            )
        now = frame.clock()
        page = await store.list(principal.tenant_id, cursor=None, limit=MAX_LIMIT)
        opened, slots = None, []
        if query.schedule is not None:
            schedule = await store.get(principal.tenant_id, query.schedule)
            if schedule.kind not in SCHEDULABLE:
                raise NotFound("There is no such schedule of the data.")
            opened = ScheduleShown.of(schedule, now)
            past = await store.slots(
                principal.tenant_id, query.schedule, cursor=None, limit=SLOTS_SHOWN
            )
            slots = [SlotShown.of(slot) for slot in past.data]
        kind = opened.schedule.kind if opened else query.new
        values = opened.schedule.arguments if opened else {}
        return await frame.page(
            "data_schedules.html",
            section=SECTION,
            principal=principal,
            tabs=TABS,
            schedules=[ScheduleShown.of(one, now) for one in page.data if one.kind in SCHEDULABLE],
            opened=opened,
            etag=tag_of(opened.schedule) if opened else None,
            slots=slots,
            new=query.new if may_change and opened is None else None,
            kinds={name: (title_of(name), KIND_HELP[name]) for name in SCHEDULABLE},
            arguments=arguments_of(kind, values)
            if kind is not None and kind in SCHEDULABLE
            else (),
            usual=USUAL_LINE,
            policies=POLICY_WORDS,
            zones=zones(),
            may_change=may_change,
        )
