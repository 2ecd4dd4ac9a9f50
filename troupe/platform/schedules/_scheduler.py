"""The scheduler: while it leads, it sees to it that every slot happens.

It is one child of a group's supervisor, in every instance; one of them leads (see
`troupe.platform.leadership`) and works for all tenants and all groups: a slot is a row and a job,
both written here, run wherever the job's group runs.

**When.** The database says in how many seconds something is due; that long the leader sleeps. So
slots are on time by the database's clock, and nothing polls in between but a look every half
minute, in case a notification about a changed schedule was lost.

**How much.** Due schedules are taken in batches, longest due first, one tenant and at most 100
schedules to a transaction (see `_writing`). Ten thousand schedules due at once are a hundred short
transactions, and one tenant's long backlog takes turns with everybody else's slots.

**What goes wrong.** The database is away: the leader keeps asking, with growing pauses, and its
term runs out; whoever is first afterwards leads, and the policies decide about what was missed. A
batch fails for a reason of its own: its schedules are tried one by one, and the one that fails is
put off and says why (`Schedule.problem`), so that it holds up nobody.

Rejected: a timer per schedule (memory and start-up time grow with the schedules, and so does what
can go wrong between two leaders); letting PostgreSQL compute the slots (it has zones, but no cron
lines).
"""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

import asyncpg
import trio

from troupe.common.database import MISSED, Database
from troupe.common.errors import DatabaseError
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.units import DAYS, HOURS, MILLISECONDS, MINUTES, SECONDS
from troupe.platform.errors import summarise
from troupe.platform.leadership import RELEASE_DEADLINE, RELEASED, Leadership, Term, TermOver
from troupe.platform.schedules._cron import read_timetable
from troupe.platform.schedules._store import QUERIES
from troupe.platform.schedules._writing import (
    SCHEDULES_AT_ONCE,
    ReadTimetable,
    Written,
    write_slots,
)
from troupe.platform.supervision import Backoff, ChildContext, ChildSpec, Observation

LEADERSHIP: Final = "schedules"
"""Name of the work; its channel ``troupe_schedules`` also tells of changed schedules."""
LOOK_AT_ONCE: Final = 5000
"""Due schedules that one look reads: enough for those of one tenant to share transactions."""
POSTPONE: Final = 1 * MINUTES
"""Wait before a schedule whose slots could not be written is looked at again."""
FORGET_EVERY: Final = 1 * HOURS
FORGET_AT_ONCE: Final = 1000
CALL_DEADLINE: Final = 10 * SECONDS
FIRST_PAUSE: Final = 100 * MILLISECONDS
LONGEST_PAUSE: Final = 5 * SECONDS
LISTEN_AGAIN: Final = 5 * SECONDS
_MARGIN: Final = 1 * MILLISECONDS  # so that a look does not come just before its slot

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """How a scheduler behaves. Durations are in seconds.

    Attributes:
        lease: A leader that is not heard of for this long is replaced. Meanwhile no slot happens;
            those that were due are late then.
        poll: Longest wait before looking for due schedules without being notified.
        keep: How long slots are remembered after they were written.
        listen: Whether to hold a connection for notifications.
    """

    lease: float = 10 * SECONDS
    poll: float = 30 * SECONDS
    keep: float = 90 * DAYS
    listen: bool = True


class Scheduler:
    """Competes for the leadership and, while it leads, writes the slots of all schedules.

    Args:
        database: Gives the open database; asked once for each start.
        settings: How it behaves.
        read: Gives the timetable of a line and a zone.
    """

    def __init__(
        self,
        *,
        database: Callable[[], Database],
        settings: SchedulerSettings | None = None,
        read: ReadTimetable = read_timetable,
    ) -> None:
        self._open_database = database
        self._settings = settings or SchedulerSettings()
        self._read = read
        self._outcomes: Counter[str] = Counter()
        self._leadership: Leadership | None = None
        self._next_look: datetime | None = None
        self._changed = trio.Event()

    def child_spec(self, name: str = "scheduler", *, backoff: Backoff | None = None) -> ChildSpec:
        """The scheduler as a child of a supervisor, with time to end its term."""
        return ChildSpec(
            name=name,
            start=self._live,
            shutdown=CALL_DEADLINE + 2 * RELEASE_DEADLINE,
            backoff=backoff or Backoff(first=200 * MILLISECONDS),
            kind="scheduler",
        )

    @property
    def outcomes(self) -> dict[str, int]:
        """Slots that this instance has written, by what became of them."""
        return dict(self._outcomes)

    # ---- life

    async def _live(self, context: ChildContext) -> None:
        database = self._open_database()
        leadership = Leadership(database, LEADERSHIP, lease=self._settings.lease)
        self._leadership, self._next_look = leadership, None

        def wake() -> None:
            self._changed.set()
            leadership.ring()

        context.observe(self._observation)
        context.when_stopping(wake)

        async def work(term: Term) -> None:
            await self._lead(database, term, context.stopping)

        async with trio.open_nursery() as loops:
            if self._settings.listen:
                loops.start_soon(self._listen, database, leadership)
            context.started(self)
            await leadership.run(work, context.stopping)
            loops.cancel_scope.cancel()

    def _observation(self) -> Observation:
        term = self._leadership.term if self._leadership else None
        look = self._next_look if term else None
        return Observation(
            details={
                "leads": term is not None,
                "term": term.number if term else None,
                "next_look": look.isoformat() if look else None,
                **{f"slots_{outcome}": count for outcome, count in sorted(self._outcomes.items())},
            }
        )

    # ---- while it leads

    async def _lead(self, database: Database, term: Term, stopping: trio.Event) -> None:
        pause = FIRST_PAUSE
        forget_at = trio.current_time()
        while not stopping.is_set():
            try:
                wait = await self._look(database, term, stopping)
                if wait > 0 and trio.current_time() >= forget_at:
                    more = await self._forget(database)
                    forget_at = trio.current_time() + (LONGEST_PAUSE if more else FORGET_EVERY)
                    wait = await self._look(database, term, stopping)
                pause = FIRST_PAUSE
            except DatabaseError as error:
                log.warning("schedules_not_looked_at", error=str(error), pause=pause)
                wait, pause = pause, min(2 * pause, LONGEST_PAUSE)
            await self._sleep(min(wait, forget_at - trio.current_time()))

    async def _look(self, database: Database, term: Term, stopping: trio.Event) -> float:
        """Settle a batch of due schedules; the seconds until the next look.

        Raises:
            TermOver: Another instance leads.
            DatabaseError: Some of it may have been done; the next look finds the rest.
        """
        rows = await database.fetch(QUERIES["due"], LOOK_AT_ONCE, deadline=CALL_DEADLINE)
        looked_at = 0
        by_tenant = sorted(rows, key=lambda row: row["tenant_id"])
        for tenant, due in groupby(by_tenant, key=lambda row: TenantId(row["tenant_id"])):
            schedules = [row["schedule_id"] for row in due]
            for first in range(0, len(schedules), SCHEDULES_AT_ONCE):
                if stopping.is_set():
                    return 0.0
                batch = schedules[first : first + SCHEDULES_AT_ONCE]
                looked_at += await self._settle(database, term, tenant, batch)
        if rows:
            # What is due but was not looked at is being changed by somebody.
            return 0.0 if looked_at else FIRST_PAUSE
        following = await database.fetch_row(QUERIES["next"], deadline=CALL_DEADLINE)
        if following is None:
            self._next_look = None
            return self._settings.poll
        self._next_look = following["due_at"]
        seconds: float = following["seconds"]
        return min(max(seconds, 0.0) + _MARGIN, self._settings.poll)

    async def _settle(
        self, database: Database, term: Term, tenant: TenantId, schedules: Sequence[uuid.UUID]
    ) -> int:
        """Settle schedules of one tenant; how many were looked at."""
        try:
            return await self._write(database, term, tenant, schedules)
        except (DatabaseError, TermOver):
            raise
        except Exception as error:  # noqa: BLE001 - any failure is a schedule's, not ours
            if len(schedules) == 1 and isinstance(error, asyncpg.UniqueViolationError):
                log.warning("schedule_slot_contested", schedule_id=str(schedules[0]))
                return 0  # the next look sees what has been written
            if len(schedules) == 1:
                await self._postpone(database, tenant, schedules[0], error)
                return 1
        return sum([await self._settle(database, term, tenant, [each]) for each in schedules])

    async def _write(
        self, database: Database, term: Term, tenant: TenantId, schedules: Sequence[uuid.UUID]
    ) -> int:
        async def unit(connection: asyncpg.Connection) -> Written:
            return await write_slots(connection, term, tenant, schedules, self._read)

        # A stopped process holds its term until the server ends its transaction: soon, that is.
        deadline = min(CALL_DEADLINE, max(self._settings.lease, 1 * SECONDS))
        written = await database.run(unit, tenant=tenant, deadline=deadline)
        counts = {outcome.value: count for outcome, count in written.outcomes.items()}
        self._outcomes.update(counts)
        if counts:
            log.info("schedule_slots_written", tenant_id=str(tenant), term=term.number, **counts)
        if written.unusable:
            log.warning("schedules_unusable", tenant_id=str(tenant), count=written.unusable)
        return written.looked_at

    async def _postpone(
        self, database: Database, tenant: TenantId, schedule: uuid.UUID, error: Exception
    ) -> None:
        log.error(
            "schedule_postponed", tenant_id=str(tenant), schedule_id=str(schedule), exc_info=error
        )
        await database.execute(
            QUERIES["postpone"],
            tenant,
            schedule,
            POSTPONE,
            summarise(error),
            tenant=tenant,
            deadline=CALL_DEADLINE,
        )

    async def _forget(self, database: Database) -> bool:
        """Forget a batch of old slots; whether there may be more."""
        forgotten: int = await database.fetch_value(
            QUERIES["forget"], self._settings.keep, FORGET_AT_ONCE, deadline=CALL_DEADLINE
        )
        if forgotten:
            log.info("schedule_slots_forgotten", count=forgotten)
        return forgotten == FORGET_AT_ONCE

    # ---- waking up

    async def _listen(self, database: Database, leadership: Leadership) -> None:
        while True:
            try:
                async with database.listen(leadership.channel) as payloads:
                    async for payload in payloads:
                        if payload in {RELEASED, MISSED}:
                            leadership.ring()
                        self._changed.set()
            except DatabaseError as error:
                log.warning("schedule_listen_failed", error=str(error))
            await trio.sleep(LISTEN_AGAIN)

    async def _sleep(self, seconds: float) -> None:
        """Return after so many seconds, or once something has changed since the last time."""
        with trio.move_on_after(max(seconds, 0.0)):
            await self._changed.wait()
        self._changed = trio.Event()
