"""Writing slots: one transaction for some schedules of one tenant.

The order inside is what the promise rests on:

1. the leader's term is held, so that whoever led before has finished and who leads next waits;
2. the schedules are locked, so that nobody changes them meanwhile, and looked at again: what
   another leader has settled is not due any more;
3. the slots that are due are computed, at the database's time, and judged by the policy;
4. their jobs are enqueued, their rows are written, the schedules are moved on.

All of it is committed or nothing is. Each of three things alone would keep a slot from happening
twice: the locked schedule, which says how far it is settled; the slot's row, which can be written
once (a second attempt undoes its whole transaction); the job's idempotency key, derived from both.
They are not redundant by accident: the first fails if somebody restores or edits a schedule, the
second if old slots have been forgotten, the third if an old job has.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from troupe.common.errors import InvalidInput
from troupe.common.ids import TenantId
from troupe.common.units import MINUTES
from troupe.platform.errors import summarise
from troupe.platform.jobs import NewJob, enqueue_many
from troupe.platform.leadership import Term
from troupe.platform.schedules._cron import Timetable
from troupe.platform.schedules._model import SLOT_ARGUMENT, Schedule
from troupe.platform.schedules._policy import Outcome, Policy
from troupe.platform.schedules._store import QUERIES

SCHEDULES_AT_ONCE: Final = 100
"""Most schedules in one transaction."""
SLOTS_AT_ONCE: Final = 1000
"""About so many slots in one transaction; what is left over is due again at once."""
RETRY_UNUSABLE: Final = 5 * MINUTES
"""Wait before a schedule that cannot be used is looked at again."""

ReadTimetable = Callable[[str, str], Timetable]
"""The timetable of a line and a zone; raises InvalidInput if this host cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What one transaction did.

    Attributes:
        looked_at: Schedules that were locked and looked at.
        outcomes: Slots by what became of them.
        unusable: Schedules whose times cannot be told here.
    """

    looked_at: int
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    unusable: int = 0


@dataclass(slots=True)
class _Look:
    """One schedule, looked at."""

    schedule: Schedule
    settled_until: datetime
    look_again: datetime
    slots: list[tuple[datetime, Outcome]] = field(default_factory=list)
    caught_up: int = 0
    problem: str | None = None


async def write_slots(
    connection: asyncpg.Connection,
    term: Term,
    tenant: TenantId,
    schedules: Sequence[uuid.UUID],
    read: ReadTimetable,
) -> Written:
    """Settle what is due of these schedules.

    An asyncio coroutine for a unit of work of the tenant.

    Raises:
        TermOver: Another instance leads; nothing was written.
        Conflict: A slot's job exists with other arguments.
        asyncpg.UniqueViolationError: Somebody else has just written one of the slots.
    """
    await term.hold(connection)
    rows = await connection.fetch(QUERIES["lock_due"], tenant, list(schedules))
    if not rows:
        return Written(looked_at=0)
    share = max(SLOTS_AT_ONCE // len(rows), 1)
    looks = [_look(Schedule.from_row(row), row["present_time"], share, read) for row in rows]
    outcomes = await _happen(connection, term, tenant, looks)
    await connection.execute(
        QUERIES["settle"],
        tenant,
        [look.schedule.id for look in looks],
        [look.settled_until for look in looks],
        [look.look_again for look in looks],
        [look.caught_up for look in looks],
        [look.problem for look in looks],
    )
    return Written(
        looked_at=len(looks),
        outcomes=outcomes,
        unusable=sum(look.problem is not None for look in looks),
    )


def slot_text(slot: datetime) -> str:
    """A slot's instant as its job is told it: ``2026-03-29T01:00:00Z``."""
    return slot.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _look(schedule: Schedule, now: datetime, most: int, read: ReadTimetable) -> _Look:
    """Find what is due of a schedule, at most so many slots, and decide about it."""
    settled = schedule.settled_until
    try:
        timetable = read(schedule.cron, schedule.zone)
    except InvalidInput as error:
        problem = "; ".join(f"{where} {what}" for where, what in error.errors) or summarise(error)
        again = now + timedelta(seconds=RETRY_UNUSABLE)
        return _Look(schedule, settled, again, caught_up=schedule.caught_up, problem=problem)
    due: list[datetime] = []
    following = now + timedelta(days=1)  # the database looks once a day anyway
    for slot in timetable.after(settled):
        if slot > now or len(due) == most:
            following = slot
            break
        due.append(slot)
    more = following <= now
    rule = schedule.rule
    look = _Look(
        schedule,
        settled_until=due[-1] if due else settled,
        # Behind those that have waited longer.
        look_again=now if more else following,
        slots=list(zip(due, rule.outcomes(due, now, more=more), strict=True)),
    )
    if more and schedule.policy is Policy.CATCH_UP:
        made_up_for = min(rule.missed(due, now), rule.room)
        look.caught_up = schedule.caught_up + made_up_for
    return look


async def _happen(
    connection: asyncpg.Connection, term: Term, tenant: TenantId, looks: Sequence[_Look]
) -> Counter[Outcome]:
    """Enqueue the jobs and write the rows of the slots that have not happened yet."""
    slots = [(look.schedule, slot, outcome) for look in looks for slot, outcome in look.slots]
    if not slots:
        return Counter()
    found = await connection.fetch(
        QUERIES["present_slots"],
        tenant,
        [schedule.id for schedule, _, _ in slots],
        [slot for _, slot, _ in slots],
    )
    present = {(row["schedule_id"], row["slot"]) for row in found}
    slots = [each for each in slots if (each[0].id, each[1]) not in present]
    news = [_job(schedule, slot) for schedule, slot, what in slots if what is Outcome.ENQUEUED]
    jobs = iter(await enqueue_many(connection, news) if news else [])
    await connection.execute(
        QUERIES["write_slots"],
        tenant,
        term.number,
        [schedule.id for schedule, _, _ in slots],
        [slot for _, slot, _ in slots],
        [what.value for _, _, what in slots],
        [next(jobs).id if what is Outcome.ENQUEUED else None for _, _, what in slots],
    )
    return Counter(what for _, _, what in slots)


def _job(schedule: Schedule, slot: datetime) -> NewJob:
    instant = slot_text(slot)
    return NewJob(
        group=schedule.group,
        kind=schedule.kind,
        arguments={**schedule.arguments, SLOT_ARGUMENT: instant},
        priority=schedule.priority,
        run_at=slot,  # of several, the oldest is claimed first
        idempotency_key=f"schedule/{schedule.id}/{instant}",
        max_attempts=schedule.max_attempts,
    )
