"""What a schedule is, and what one asks for."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Generic, Self, TypeVar

import asyncpg

from troupe.common.errors import InvalidInput
from troupe.common.ids import TenantId
from troupe.common.units import DAYS, SECONDS, KiB
from troupe.platform.jobs import DEFAULT_MAX_ATTEMPTS, JobState, JobValue
from troupe.platform.schedules._cron import CronTimetable, check_fires
from troupe.platform.schedules._policy import Outcome, Policy, Rule

SLOT_ARGUMENT: Final = "slot"
"""Argument of a scheduled job: the instant that it stands for, RFC 3339 in UTC."""
DEFAULT_GRACE: Final = 60 * SECONDS
LONGEST_GRACE: Final = 7 * DAYS
DEFAULT_CATCH_UP: Final = 100
MOST_CATCH_UP: Final = 1000
LARGEST_ARGUMENTS: Final = 64 * KiB
LONGEST_NAME: Final = 100
_PRIORITIES: Final = range(-(2**15), 2**15)
_ATTEMPTS: Final = range(1, 1001)

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """What a schedule is made of.

    Attributes:
        name: Unique within the tenant, 1 to 100 characters.
        group: The actor group whose processes run its jobs.
        kind: Names their handler.
        cron: When, in five fields; see `CronTimetable`.
        zone: The time zone whose clock the line reads.
        arguments: For the handler, which gets ``slot`` in addition.
        policy: What becomes of slots that were missed.
        grace: Seconds after which a slot counts as missed, from 1 to a week. After a crash of the
            leader nobody leads for one lease; with a shorter grace that alone loses slots.
        catch_up_limit: Jobs that `catch_up` makes after one outage, 1 to 1000.
        priority: Of the jobs.
        max_attempts: Of each job.
        enabled: Whether its slots happen.
    """

    name: str
    group: str
    kind: str
    cron: str
    zone: str = "UTC"
    arguments: Mapping[str, JobValue] = field(default_factory=dict)
    policy: Policy = Policy.COALESCE
    grace: float = DEFAULT_GRACE
    catch_up_limit: int = DEFAULT_CATCH_UP
    priority: int = 0
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    enabled: bool = True

    def check(self, now: datetime) -> None:
        """Refuse what cannot be used.

        Args:
            now: The line must be due some time after it.

        Raises:
            InvalidInput: With everything that is wrong, field by field.
        """
        problems = [
            (pointer, problem)
            for pointer, holds, problem in (
                ("/name", _is_name(self.name), f"must have 1 to {LONGEST_NAME} characters"),
                ("/group", _is_group(self.group), "must be the name of a group"),
                ("/kind", 1 <= len(self.kind) <= 100, "must have 1 to 100 characters"),
                ("/arguments", _fit(self.arguments), _ARGUMENTS_PROBLEM),
                ("/grace", 1 <= self.grace <= LONGEST_GRACE, "must be 1 s to a week, in seconds"),
                (
                    "/catch_up_limit",
                    1 <= self.catch_up_limit <= MOST_CATCH_UP,
                    f"must be 1 to {MOST_CATCH_UP}",
                ),
                ("/priority", self.priority in _PRIORITIES, "must be -32768 to 32767"),
                ("/max_attempts", self.max_attempts in _ATTEMPTS, "must be 1 to 1000"),
            )
            if not holds
        ]
        try:
            check_fires(CronTimetable(self.cron, self.zone), now)
        except InvalidInput as error:
            problems += error.errors
        if problems:
            raise InvalidInput("The schedule cannot be used.", problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleChange:
    """What to change of a schedule; None leaves it. Attributes as in `NewSchedule`."""

    name: str | None = None
    group: str | None = None
    kind: str | None = None
    cron: str | None = None
    zone: str | None = None
    arguments: Mapping[str, JobValue] | None = None
    policy: Policy | None = None
    grace: float | None = None
    catch_up_limit: int | None = None
    priority: int | None = None
    max_attempts: int | None = None
    enabled: bool | None = None

    def wanted(self) -> dict[str, Any]:
        """What is to be changed."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in values if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(NewSchedule):
    """A schedule as it stood when it was read.

    Attributes:
        tenant_id: Whose it is.
        id: Its identifier.
        version: Grows with every change by people.
        created_at: When it was made.
        changed_at: When it was changed last.
        settled_until: Slots up to here have happened, one way or another.
        problem: Why the scheduler cannot use it at the moment; None: it can.
    """

    tenant_id: TenantId
    id: uuid.UUID
    version: int
    created_at: datetime
    changed_at: datetime
    settled_until: datetime
    caught_up: int
    problem: str | None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Self:
        """The schedule in a row of ``platform.schedules``."""
        return cls(
            tenant_id=TenantId(row["tenant_id"]),
            id=row["schedule_id"],
            name=row["name"],
            group=row["group_name"],
            kind=row["kind"],
            cron=row["cron"],
            zone=row["zone"],
            arguments=row["arguments"],
            policy=Policy(row["policy"]),
            grace=row["grace_seconds"],
            catch_up_limit=row["catch_up_limit"],
            priority=row["priority"],
            max_attempts=row["max_attempts"],
            enabled=row["enabled"],
            version=row["version"],
            created_at=row["created_at"],
            changed_at=row["changed_at"],
            settled_until=row["settled_until"],
            caught_up=row["caught_up"],
            problem=row["problem"],
        )

    @property
    def rule(self) -> Rule:
        """What becomes of its slots."""
        return Rule(
            policy=self.policy,
            grace=timedelta(seconds=self.grace),
            room=max(self.catch_up_limit - self.caught_up, 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One instant at which a schedule was due, and what became of it.

    Attributes:
        instant: When it was due (UTC).
        outcome: What became of it.
        job_id: Its job, if it got one.
        job_state: Where that job is; None: it has none, or the job is forgotten by now.
        written_at: When that was decided.
        term: The leader's term that decided it.
    """

    instant: datetime
    outcome: Outcome
    job_id: uuid.UUID | None
    job_state: JobState | None
    written_at: datetime
    term: int

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Self:
        """The slot in a row of the statement ``slots``."""
        return cls(
            instant=row["slot"],
            outcome=Outcome(row["outcome"]),
            job_id=row["job_id"],
            job_state=JobState(row["job_state"]) if row["job_state"] else None,
            written_at=row["written_at"],
            term=row["term"],
        )


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a list.

    Attributes:
        data: Schedules by name, or slots, latest first.
        next_cursor: Where the next page begins; None: this is the last.
        total: How many there are on all pages together.
    """

    data: tuple[Row, ...]
    next_cursor: str | None
    total: int


_ARGUMENTS_PROBLEM: Final = (
    f"must be JSON of at most {LARGEST_ARGUMENTS} bytes without NUL characters, and leave the name"
    f' "{SLOT_ARGUMENT}" to the slot'
)


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= LONGEST_NAME and name == name.strip() and name.isprintable()


def _is_group(name: str) -> bool:
    return (
        1 <= len(name) <= 40
        and name.isascii()
        and name[0].isalpha()
        and name.islower()
        and name.replace("_", "").isalnum()
    )


def _number(value: object) -> str:
    """How long a number is that comes from the database."""
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _fit(arguments: Mapping[str, JobValue]) -> bool:
    try:
        text = json.dumps(dict(arguments), allow_nan=False, default=_number)
    except (TypeError, ValueError):
        return False
    unstorable = "\\u0000" in text or len(text) > LARGEST_ARGUMENTS
    return not unstorable and SLOT_ARGUMENT not in arguments
