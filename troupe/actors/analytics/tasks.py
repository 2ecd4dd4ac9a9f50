"""Lists of tasks as salespeople work through them, and what they make of each.

A page begins behind a place in the order, not after a count, and the order is total: whatever is
raised, settled or forgotten while somebody turns pages, no task that stays is told twice or left
out. A list is ordered by one figure and then by id. One consequence is wanted: a task whose own
place changes meanwhile (its value, say) may move from one page to another, as it would on a screen.

Searching is for whoever types: each word must occur somewhere in what can be recognised (company,
contact, address, number, id, title), letter case ignored. The word that says most goes through the
trigram index (a door, see 0015_tasks.sql), the others are compared with what it finds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from troupe.actors.analytics.following import TaskKind
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import InvalidInput, NotFound, PreconditionFailed
from troupe.common.ids import TenantId
from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

TASKS: Final = load(__package__, "tasks.sql")
MAX_WORDS: Final = 8
"""Of a search; further ones are not looked at."""

Value = datetime | int | Decimal | str


class Status(StrEnum):
    """What has become of a task."""

    OPEN = "open"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    DISMISSED = "dismissed"
    SETTLED = "settled"
    """It settled itself; nobody sets this by hand."""


@dataclass(frozen=True, slots=True)
class Column:
    """Something a list can be ordered by: its name in SQL, there and in Python its type."""

    name: str
    sql_type: str
    kind: type[Value]


SORTABLE: Final[Mapping[str, Column]] = MappingProxyType(
    {
        "happened_at": Column("happened_at", "timestamptz", datetime),
        "raised_at": Column("raised_at", "timestamptz", datetime),
        "priority": Column("priority", "bigint", int),
        "value": Column("value", "numeric", Decimal),
        "company": Column("company", "text", str),
    }
)
"""The allow-list: nothing else ever becomes part of a statement."""


@dataclass(frozen=True, slots=True)
class Sorting:
    """The order of a list."""

    column: Column = SORTABLE["happened_at"]
    descending: bool = True

    @property
    def statement(self) -> str:
        """`list_tasks` in this order."""
        return TASKS["list_tasks"].format(
            wanted=TASKS["wanted"],
            column=self.column.name,
            type=self.column.sql_type,
            beyond="<" if self.descending else ">",
            direction="DESC" if self.descending else "ASC",
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks.

    Attributes:
        kind: Of this kind.
        days: What happened on these days of the reporting zone.
        zone: The reporting zone.
        locations: Of these branches; none: of all.
        statuses: In one of these; none: in any.
        assignee: Of this person.
        unassigned: Of nobody.
        snoozed: Only those that rest, or only those that do not; None: both.
        customers: Only of known customers, or only of others; None: both.
        least: Only where so much or more is at stake.
        text: As typed.
    """

    kind: TaskKind
    days: DateRange
    zone: ZoneInfo
    locations: Sequence[str] = ()
    statuses: Sequence[Status] = ()
    assignee: UUID | None = None
    unassigned: bool = False
    snoozed: bool | None = None
    customers: bool | None = None
    least: Decimal | None = None
    text: str = ""

    def arguments(self, now: datetime) -> tuple[object, ...]:
        """What `list_tasks` takes after the tenant."""
        likes = patterns(self.text)
        return (
            self.kind,
            _midnight(self.days.start, self.zone),
            _midnight(self.days.shifted(1).end, self.zone),
            list(self.locations) or None,
            [str(status) for status in self.statuses] or None,
            self.assignee,
            self.unassigned,
            self.snoozed,
            now,
            self.customers,
            self.least,
            max(likes, key=len) if likes else None,
            likes,
        )


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)


def patterns(text: str) -> list[str]:
    """For each word a pattern for LIKE that finds it anywhere; what it holds means itself."""
    words = dict.fromkeys(text.split()[:MAX_WORDS])
    escaped = (word.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") for word in words)
    return [f"%{word}%" for word in escaped]


class Task(NamedTuple):
    """One task; what the fields mean is told in 0015_tasks.sql.

    A tuple, because a page makes many: a frozen dataclass of so many fields takes six times as
    long.
    """

    task_id: UUID
    kind: TaskKind
    began_at: datetime
    happened_at: datetime
    raised_at: datetime
    settled_at: datetime | None
    is_customer: bool
    person_id: str | None
    user_pseudo_id: str | None
    stream_id: str | None
    ga_session_id: int | None
    location_id: str
    location_name: str | None
    company: str
    contact: str
    email: str
    phone: str
    title: str
    value: Decimal
    currency: str
    facts: Mapping[str, Any]
    priority: int
    reasons: Sequence[Mapping[str, Any]]
    present: bool
    status: Status
    assignee_id: UUID | None
    note: str
    snoozed_until: datetime | None
    version: int
    changed_at: datetime

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "Task":
        """From a row of `list_tasks` or `one_task`."""
        found = list(_fields_of(row))
        found[_KIND] = _KINDS[found[_KIND]]
        found[_STATUS] = _STATUSES[found[_STATUS]]
        return cls._make(found)

    def place(self, sorting: Sorting) -> tuple[Value, UUID]:
        """Where it stands in an order."""
        return getattr(self, sorting.column.name), self.task_id


_fields_of: Final = itemgetter(*Task._fields)
_KIND: Final = Task._fields.index("kind")
_STATUS: Final = Task._fields.index("status")
_KINDS: Final = {str(kind): kind for kind in TaskKind}
_STATUSES: Final = {str(status): status for status in Status}


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks in order; `place` is where the next page begins, None when this is the last."""

    tasks: list[Task]
    total: int
    place: tuple[Value, UUID] | None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes a task."""

    kind: str
    actor_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a task's history; `changes` is field to {"from", "to"}."""

    version: int
    changed_at: datetime
    actor_kind: str
    actor_id: UUID | None
    actor_name: str
    changes: Mapping[str, Any]


async def read_page(
    connection: "Connection",
    tenant: TenantId,
    wanted: Wanted,
    *,
    sorting: Sorting,
    now: datetime,
    after: tuple[Value, UUID] | None,
    limit: int,
) -> TaskPage:
    """One page of a list, in the transaction of whoever asks, which is one with custom plans.

    See `Tasks.page`.
    """
    rows = await connection.fetch(
        sorting.statement,
        tenant,
        *wanted.arguments(now),
        *(after or (None, None)),
        limit + 1,
    )
    total = rows[0]["total"]
    if rows[0]["task_id"] is None:
        return TaskPage([], total, None)
    tasks = [Task.of(row) for row in rows[:limit]]
    more = len(rows) > limit
    return TaskPage(tasks, total, tasks[-1].place(sorting) if more else None)


class Tasks:
    """Tasks of all tenants.

    Args:
        database: The group's pool.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        tenant: TenantId,
        wanted: Wanted,
        *,
        sorting: Sorting,
        now: datetime,
        after: tuple[Value, UUID] | None,
        limit: int,
    ) -> TaskPage:
        """One page of a list.

        Args:
            tenant: Whose.
            wanted: Which.
            sorting: In which order.
            now: Decides what is snoozed.
            after: `TaskPage.place` of the page before.
            limit: At most so many.

        Raises:
            DatabaseError: The database failed.
        """

        async def unit(connection: "Connection") -> TaskPage:
            return await read_page(
                connection, tenant, wanted, sorting=sorting, now=now, after=after, limit=limit
            )

        return await self._database.run(
            unit, tenant=tenant, read_only=True, isolation="repeatable_read", custom_plans=True
        )

    async def get(self, tenant: TenantId, task_id: UUID) -> Task:
        """One task.

        Raises:
            NotFound: The tenant has no such task.
            DatabaseError: The database failed.
        """
        return await self._database.run(
            lambda connection: _read(connection, tenant, task_id), tenant=tenant, read_only=True
        )

    async def change(
        self,
        tenant: TenantId,
        task_id: UUID,
        given: Mapping[str, Any],
        *,
        version: int,
        actor: Actor,
    ) -> Task:
        """Change what people say about a task; the history tells of it in the same transaction.

        Args:
            tenant: Whose.
            task_id: Which.
            given: Those of status, assignee_id, note and snoozed_until that shall be different.
                What already is so is no change.
            version: The one that the person has seen.
            actor: Who does it.

        Raises:
            InvalidInput: The assignee does not belong to the tenant.
            NotFound: The tenant has no such task.
            PreconditionFailed: It was changed since.
            DatabaseError: The database failed.
        """

        async def unit(connection: "Connection") -> Task:
            present = await connection.fetchrow(TASKS["lock_task"], tenant, task_id)
            if present is None:
                raise NotFound("There is no such task.")
            if present["version"] != version:
                raise PreconditionFailed("It was changed since you have read it. Read it again.")
            changed = {name: value for name, value in given.items() if present[name] != value}
            if changed:
                await _require_member(connection, tenant, changed.get("assignee_id"))
                state = {**dict(present.items()), **changed}
                await connection.execute(
                    TASKS["change_task"],
                    tenant,
                    task_id,
                    state["status"],
                    state["assignee_id"],
                    state["note"],
                    state["snoozed_until"],
                )
                told = {
                    name: {"from": _plain(present[name]), "to": _plain(value)}
                    for name, value in changed.items()
                }
                await connection.execute(
                    TASKS["note_change"],
                    tenant,
                    task_id,
                    version + 1,
                    actor.kind,
                    actor.actor_id,
                    actor.name,
                    told,
                )
            return await _read(connection, tenant, task_id)

        return await self._database.run(unit, tenant=tenant)

    async def history(
        self, tenant: TenantId, task_id: UUID, *, before: int | None, limit: int
    ) -> list[Change]:
        """One page of what people and the program have made of a task, latest first.

        Args:
            tenant: Whose.
            task_id: Which; of one that does not exist there is no history.
            before: Version of the last entry of the page before.
            limit: At most so many.
        """
        rows = await self._database.fetch(
            TASKS["changes"], tenant, task_id, before, limit, tenant=tenant, read_only=True
        )
        return [Change(**dict(row.items())) for row in rows]


async def _read(connection: "Connection", tenant: TenantId, task_id: UUID) -> Task:
    row = await connection.fetchrow(TASKS["one_task"], tenant, task_id)
    if row is None:
        raise NotFound("There is no such task.")
    return Task.of(row)


async def _require_member(connection: "Connection", tenant: TenantId, person: UUID | None) -> None:
    if person is None or await connection.fetchval(TASKS["is_member"], tenant, person):
        return
    raise InvalidInput(
        "The task cannot be given to this person.",
        [("/assignee_id", "is not a member of the tenant")],
    )


def _plain(value: object) -> object:
    """As the history keeps it."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case UUID():
            return str(value)
        case _:
            return value
