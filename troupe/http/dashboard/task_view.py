"""What the address of a task list asks for: a question that people have, not a set of filters.

A list opens with what there is to do now. The other views are questions that a salesperson has of
the same list; each stands for states, a person and whether it rests, as the API has them. Like the
overview's, the address is read as a form sends it: an empty field counts as none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode
from uuid import UUID

from pydantic import Field, model_validator

from troupe.actors.analytics.following import TaskKind
from troupe.actors.analytics.tasks import SORTABLE, Status
from troupe.http.conventions import MAX_CURSOR_CHARACTERS, Preset, RangeQuery
from troupe.http.task_models import MAX_SEARCH, ME, NOBODY, TaskQuery

ROWS: Final = 25
WHEREVER: Final = "*"
"""The choice that filters by no branch; the empty one means "no branch known"."""

ViewName = Literal["todo", "mine", "nobody", "resting", "done", "all"]

_TO_DO: Final = (Status.OPEN, Status.IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class Question:
    """A view of a list: states, whose, and whether it rests for now."""

    name: ViewName
    title: str
    statuses: tuple[Status, ...]
    assignee: str | None
    snoozed: bool | None
    empty: str


QUESTIONS: Final = (
    Question("todo", "To do", _TO_DO, None, snoozed=False, empty="Nothing is left to do here."),
    Question("mine", "Mine", _TO_DO, ME, snoozed=False, empty="Nothing here is yours."),
    Question(
        "nobody", "Nobody’s", _TO_DO, NOBODY, snoozed=False, empty="Somebody cares for everything."
    ),
    Question("resting", "Snoozed", _TO_DO, None, snoozed=True, empty="Nothing is snoozed."),
    Question(
        "done",
        "Done",
        (Status.DONE, Status.DISMISSED, Status.SETTLED),
        None,
        snoozed=None,
        empty="Nothing is done yet.",
    ),
    Question("all", "All", (), None, snoozed=None, empty="There are no tasks."),
)
PERIODS: Final = (
    ("", "Last 30 days and today"),
    (Preset.YESTERDAY, "Yesterday"),
    (Preset.LAST_7_DAYS, "Last 7 days"),
    (Preset.LAST_90_DAYS, "Last 90 days"),
    (Preset.YEAR_TO_DATE, "This year"),
    (Preset.ALL, "All"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A list as people know it.

    Attributes:
        title: Its heading.
        what: The column of what a task is about.
        value: The column of what is at stake; empty where no figure is known.
        explains: In a sentence.
    """

    title: str
    what: str
    value: str
    explains: str


KINDS: Final[Mapping[TaskKind, Kind]] = {
    TaskKind.PURCHASES: Kind(
        "Purchases", "Order", "Revenue", "Who has bought: say thank you, ask what else is needed."
    ),
    TaskKind.CARTS: Kind(
        "Abandoned carts",
        "Left in the cart",
        "At stake",
        "Who has filled a cart and left it. A purchase closes the task by itself.",
    ),
    TaskKind.SEARCHES: Kind(
        "Failed searches",
        "Searched for",
        "",
        "Who has searched and found nothing: help them, or put it on offer.",
    ),
    TaskKind.VISITS: Kind(
        "Repeat visitors",
        "Looked at most",
        "",
        "Who comes again and again without buying.",
    ),
}


class TaskPageQuery(RangeQuery):
    """What a list of tasks shows."""

    view: ViewName = "todo"
    """Which question it answers."""
    q: Annotated[str, Field(max_length=MAX_SEARCH)] = ""
    """Words that must occur."""
    location: Annotated[str | None, Field(max_length=100)] = None
    """Only of this branch; the empty text means "no branch known"."""
    customers: bool | None = None
    """Only about known customers, or only about others."""
    min_value: Annotated[Decimal | None, Field(ge=0, le=10**12, max_digits=30)] = None
    """Only where so much is at stake."""
    sort: Annotated[str, Field(max_length=100)] = "-priority"
    """The order; a leading minus reverses."""
    cursor: Annotated[str | None, Field(max_length=MAX_CURSOR_CHARACTERS)] = None
    """Where the page begins."""
    task: UUID | None = None
    """The task whose sheet is open."""

    @model_validator(mode="before")
    @classmethod
    def _as_sent_by_a_form(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        sent = {name: value for name, value in given.items() if value or name == "location"}
        if sent.get("location") == WHEREVER:
            del sent["location"]
        if sent.get("preset"):
            sent.pop("start_date", None)
            sent.pop("end_date", None)
        return sent


@dataclass(frozen=True, slots=True)
class TaskView:
    """The list that was asked for.

    Attributes:
        kind: Of tasks.
        query: As the address says it.
    """

    kind: TaskKind
    query: TaskPageQuery

    @property
    def question(self) -> Question:
        """Which question it answers."""
        return next(one for one in QUESTIONS if one.name == self.query.view)

    @property
    def about(self) -> Kind:
        """The list as people know it."""
        return KINDS[self.kind]

    @property
    def path(self) -> str:
        """Of the page."""
        return f"/tasks/{self.kind}"

    def asked(self) -> TaskQuery:
        """The same as the API is asked for it.

        Raises:
            ValidationError: Never, because the page's query is as narrow.
        """
        query = self.query
        asked: dict[str, Any] = {
            "start_date": query.start_date,
            "end_date": query.end_date,
            "preset": query.preset,
            "location": None if query.location is None else (query.location,),
            "status": self.question.statuses,
            "assignee": self.question.assignee,
            "snoozed": self.question.snoozed,
            "customers": query.customers,
            "min_value": query.min_value,
            "q": query.q,
            "sort": query.sort,
        }
        return TaskQuery(**{name: value for name, value in asked.items() if value is not None})

    def given(self) -> dict[str, str]:
        """What the address says beyond the defaults."""
        said: dict[str, object] = self.query.model_dump(
            mode="json", exclude_defaults=True, exclude_none=True
        )
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in said.items()
        }

    def hidden(self, *names: str) -> list[tuple[str, str]]:
        """Fields that a form carries along without showing them."""
        return [(name, value) for name, value in self.given().items() if name in names]

    @property
    def is_filtered(self) -> bool:
        """Whether another filter than the question's leaves something out."""
        return bool(
            self.given().keys() & {"q", "location", "customers", "min_value", "preset", "end_date"}
        )

    def link(self, **changes: str | None) -> str:
        """The page's address with some parameters changed; None removes one."""
        wanted: dict[str, str | None] = {**self.given(), **changes}
        query = urlencode({name: value for name, value in wanted.items() if value is not None})
        return f"{self.path}?{query}" if query else self.path

    def narrowed(self, **changes: str | None) -> str:
        """As `link`, from the first page on and with no sheet open."""
        return self.link(**{"cursor": None, "task": None, **changes})

    def sorted_by(self, field: str) -> str:
        """The address of the list in the order of a field, or the other way round."""
        first = field if SORTABLE[field].kind is str else f"-{field}"
        other = first.removeprefix("-") if first[:1] == "-" else f"-{first}"
        return self.narrowed(sort=other if self.query.sort == first else first)

    def export(self, form: str) -> str:
        """The address of the same list as a file."""
        asked = self.asked().model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        query: list[tuple[str, str]] = [("format", form)]
        for name, value in asked.items():
            values = value if isinstance(value, list | tuple) else [value]
            query += [
                (name, str(one).lower() if isinstance(one, bool) else str(one)) for one in values
            ]
        return f"/api/v1/exports/tasks/{self.kind}?{urlencode(query)}"
