"""The recorder: writes down how attempts ended, as many at a time as there are.

The problem. A transaction for each outcome is several round trips and a flush of the log to disk
for a row or two; a process that runs short jobs would spend nearly all of its time on that.

The choice. Attempts leave their outcomes here and are done. One loop writes all that has come in
by one statement; what comes meanwhile is the next group. So a single outcome is written at once,
and under load the groups grow by themselves: there is no timer to tune. Each outcome is still
matched on its own attempt's fencing token, and stands or falls alone.

Recording is tried until it succeeds or the lease is lost. An answer that was lost on the way does
no harm: the repeated statement changes nothing, and `endings` tells what the first one did. Should
PostgreSQL refuse a value, the group is written one by one, and the one that is refused is recorded
as a failure of its job. One by one also when a job is still locked by a transaction of its attempt;
that one comes last again.

The cost. A job counts as running until it is recorded; a process that dies in between has its last
outcomes run again, as the promise allows (at least once). `BACKLOG` bounds how many.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import trio

from troupe.common.database import Database
from troupe.common.errors import DatabaseError
from troupe.common.logs import get_logger
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.jobs._attempt import DONE, Attempt, Ending, Outcome
from troupe.platform.jobs._enqueue import QUERIES
from troupe.platform.jobs._run import WRITE_DEADLINE

GROUP: Final = 500
"""Most outcomes in one statement."""
BACKLOG: Final = 2000
"""Outcomes that may wait; while there are more, nothing is claimed."""
FIRST_PAUSE: Final = 100 * MILLISECONDS
LONGEST_PAUSE: Final = 5 * SECONDS

log = get_logger(__name__)

Settled = Callable[[Attempt, str], None]
"""Told of every attempt whose outcome is recorded, with the job's state now, or ``lease_lost``."""


class _Entry(NamedTuple):
    attempt: Attempt
    outcome: Outcome


class Recorder:
    """Records outcomes.

    Args:
        database: Where.
        settled: Called for each when it is recorded, or lost.
    """

    def __init__(self, database: Database, settled: Settled) -> None:
        self._database = database
        self._settled = settled
        self._waiting: deque[_Entry] = deque()
        self._arrival = trio.Event()
        self._room = trio.Event()

    def add(self, attempt: Attempt, outcome: Outcome) -> None:
        """Leave an outcome to be recorded."""
        self._waiting.append(_Entry(attempt, outcome))
        self._arrival.set()

    async def wait_for_room(self) -> None:
        """Return once fewer than `BACKLOG` outcomes wait."""
        while len(self._waiting) >= BACKLOG:
            self._room = trio.Event()
            await self._room.wait()

    async def run(self) -> None:
        """Record what comes, until cancelled."""
        while True:
            while not self._waiting:
                self._arrival = trio.Event()
                await self._arrival.wait()
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            await self._record(group)
            self._room.set()

    async def _record(self, group: list[_Entry]) -> None:
        pause = FIRST_PAUSE
        while group:
            lost = [entry for entry in group if entry.attempt.run.lost]
            for entry in lost:
                self._settled(entry.attempt, Ending.LEASE_LOST)
            group = [entry for entry in group if not entry.attempt.run.lost]
            try:
                states = await self._write(group) if group else {}
            except DatabaseError as error:
                log.warning("job_outcome_not_recorded", error=str(error), next_attempt=pause)
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except asyncpg.LockNotAvailableError:
                await self._part(group)
                return
            except (asyncpg.PostgresError, TypeError, ValueError) as refused:
                await self._record_singly(group, refused)
                return
            else:
                for entry in group:
                    state = states.get(entry.attempt.claimed.token, Ending.LEASE_LOST)
                    self._settled(entry.attempt, state)
                return

    async def _part(self, group: list[_Entry]) -> None:
        """One of a group waits for a transaction of its own: it must not hold up the others."""
        if len(group) > 1:
            for entry in group:
                await self._record([entry])
        else:
            self._waiting.extend(group)
            await trio.sleep(FIRST_PAUSE)

    async def _record_singly(self, group: list[_Entry], refused: Exception) -> None:
        if len(group) > 1:
            for entry in group:
                await self._record([entry])
            return
        (entry,) = group
        if entry.outcome == Outcome.unfit():
            raise refused  # not the value's fault
        log.error("job_result_unfit", job_id=str(entry.attempt.claimed.id), exc_info=refused)
        entry.attempt.run.take_unreported()
        await self._record([_Entry(entry.attempt, Outcome.unfit())])

    async def _write(self, group: list[_Entry]) -> dict[int, str]:
        """Write a group; fencing token to state, of those attempts that held their jobs."""
        keys = list(zip(*(entry.attempt.claimed.key for entry in group), strict=True))
        tokens: Sequence[int] = keys[2]
        plain = all(_is_plain(entry) for entry in group)
        outcomes = {} if plain else {str(e.attempt.claimed.token): _told(e) for e in group}

        async def unit(connection: asyncpg.Connection) -> dict[int, str]:
            if plain:  # most of what is written in a hurry: nothing to be told but that it is done
                if await connection.fetchval(QUERIES["finish_done"], *keys) == len(group):
                    return dict.fromkeys(tokens, DONE.ending)
                return dict(map(tuple, await connection.fetch(QUERIES["endings"], *keys)))
            rows = await connection.fetch(QUERIES["finish"], *keys, outcomes)
            states: dict[int, str] = dict(map(tuple, rows))
            if len(states) < len(group):
                states |= dict(map(tuple, await connection.fetch(QUERIES["endings"], *keys)))
            return states

        return await self._database.run(unit, deadline=WRITE_DEADLINE)


def _is_plain(entry: _Entry) -> bool:
    """Whether there is nothing to tell but that the job is done."""
    return entry.outcome is DONE and entry.attempt.run.unreported is None


def _told(entry: _Entry) -> dict[str, Any]:
    """An outcome as the database wants it, with the progress that was not written yet."""
    told: dict[str, Any] = {"ending": entry.outcome.ending, **(entry.outcome.detail or {})}
    progress = entry.attempt.run.unreported
    if progress is not None:
        told["progress"] = [
            progress.done,
            progress.total,
            progress.phase,
            progress.message,
            dict(progress.detail),
        ]
    return told
