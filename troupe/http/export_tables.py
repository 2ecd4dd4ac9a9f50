"""What the columns of each export are: what the screen shows, one value to a cell.

Rows are the very models that the routes answer, so an export cannot say something else than the
screen does. A metric becomes three columns: its value, the one it is compared with, and the change.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel

from troupe.actors.analytics.metrics import METRICS, Unit
from troupe.actors.analytics.subjects import SUBJECT_METRICS
from troupe.actors.analytics.subjects import Kind as SubjectKind
from troupe.http import analytics_models, performance_models, task_models, top_models
from troupe.http.exact_json import dumps
from troupe.http.export_formats import Cell, Heading, Kind, Line

Read = Callable[[Any], Cell]


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and how its cells are read from a row."""

    heading: Heading
    read: Read


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of one export."""

    columns: Sequence[Column]

    @property
    def headings(self) -> list[Heading]:
        """Of all columns."""
        return [column.heading for column in self.columns]

    def lines(self, rows: Iterable[BaseModel]) -> list[Line]:
        """The cells of some rows."""
        return [[column.read(row) for column in self.columns] for row in rows]


_KINDS: Final[tuple[tuple[type, Kind], ...]] = (
    (bool, Kind.FLAG),  # before int, which it is a kind of
    (int, Kind.INTEGER),
    (float, Kind.NUMBER),
    (Decimal, Kind.MONEY),
    (datetime, Kind.INSTANT),  # before date, likewise
    (date, Kind.DAY),
    (Enum, Kind.TEXT),
    (str, Kind.TEXT),
    (UUID, Kind.TEXT),
)


def _kind_of(annotation: Any) -> Kind:
    if get_origin(annotation) in {Union, UnionType}:
        [annotation] = [one for one in get_args(annotation) if one is not NoneType]
    return next(kind for base, kind in _KINDS if issubclass(annotation, base))


def _plain(value: Any) -> Cell:
    match value:
        case Enum():
            return str(value.value)
        case UUID():
            return str(value)
        case _:
            plain: Cell = value
            return plain


def fields(model: type[BaseModel], *names: str) -> list[Column]:
    """Columns of fields that hold one value each."""

    def column(name: str) -> Column:
        kind = _kind_of(model.model_fields[name].annotation)
        return Column(Heading(name, kind), lambda row: _plain(getattr(row, name)))

    return [column(name) for name in names]


def _described(name: str, describe: Callable[[Any], str]) -> Column:
    return Column(Heading(name, Kind.TEXT), lambda row: describe(getattr(row, name)))


_METRIC_KINDS: Final = {
    Unit.COUNT: Kind.INTEGER,
    Unit.RATIO: Kind.NUMBER,
    Unit.MONEY: Kind.MONEY,
}


def metrics(units: Iterable[tuple[str, Unit]]) -> list[Column]:
    """Three columns a metric of the field ``metrics``."""

    def three(name: str, unit: Unit) -> list[Column]:
        kind = _METRIC_KINDS.get(unit, Kind.NUMBER)
        return [
            Column(Heading(name, kind), lambda row: row.metrics[name].value),
            Column(Heading(f"{name}_previous", kind), lambda row: row.metrics[name].previous),
            Column(Heading(f"{name}_change", Kind.NUMBER), lambda row: row.metrics[name].change),
        ]

    return [column for name, unit in units for column in three(name, unit)]


_STATS: Final = [
    *metrics((name, metric.unit) for name, metric in METRICS.items()),
    _described("other_currencies", lambda others: _json(others) if others else ""),
]


def _json(value: Any) -> str:
    return dumps(value).decode()


def _subjects(kind: SubjectKind) -> Table:
    units = [(name, metric.unit) for name, metric in SUBJECT_METRICS[kind].items()]
    return Table([*fields(top_models.TopSubject, "name", "label"), *metrics(units)])


TASKS: Final = Table(
    [
        *fields(
            task_models.TaskAnswer,
            "happened_at", "why", "title", "value", "currency", "company", "contact", "email",
            "phone", "location_id", "location_name", "is_customer", "person_id", "priority",
        ),
        _described("reasons", lambda reasons: "; ".join(reason.text for reason in reasons)),
        *fields(
            task_models.TaskAnswer,
            "status", "assignee_id", "note", "snoozed_until", "began_at", "raised_at", "settled_at",
            "present", "changed_at", "id", "session_id", "user_id",
        ),
    ]
)  # fmt: skip
LOCATIONS: Final = Table(
    fields(analytics_models.Location, "location_id", "name", "city", "email", "manager")
)
LOCATION_STATS: Final = Table(
    [*fields(analytics_models.LocationStats, "location_id", "name", "city"), *_STATS]
)
PART_STATS: Final = Table([*fields(analytics_models.PartStats, "name"), *_STATS])
TOP: Final = {kind: _subjects(kind) for kind in SubjectKind}
ENTRY_PAGES: Final = Table(
    fields(performance_models.EntryPageAnswer, *performance_models.EntryPageAnswer.model_fields)
)
BRANCH_PERFORMANCE: Final = Table(
    [
        *LOCATION_STATS.columns,
        _described(
            "top_products", lambda products: "; ".join(one.label or one.name for one in products)
        ),
    ]
)


def chart(names: Sequence[str], *, by_hour: bool) -> Table:
    """Steps of a chart with the metrics that were asked for."""

    def edge(name: str) -> Column:
        kind = Kind.INSTANT if by_hour else Kind.DAY
        return Column(Heading(name, kind), lambda row: _moment(getattr(row, name), by_hour))

    def value(name: str) -> Column:
        kind = _METRIC_KINDS.get(METRICS[name].unit, Kind.NUMBER)
        return Column(Heading(name, kind), lambda row: row.values[name])

    return Table([edge("start"), edge("end"), *map(value, dict.fromkeys(names))])


def _moment(moment: date, by_hour: bool) -> date:
    """A midnight that was read as a day is an instant among hours."""
    if by_hour and not isinstance(moment, datetime):
        return datetime.combine(moment, datetime.min.time(), UTC)
    return moment
