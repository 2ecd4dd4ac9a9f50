"""Claiming: what to ask the database for, how often, and what has to be waited for.

How often. After a claim that was filled there is more: ask again at once. After one that was not,
wait a moment, so that what trickles in comes in batches; after each that found nothing, twice as
long, until the process notes that it wants to be notified, and looks once more. From then on a
notification makes it quick and polling makes it sure. A busy system therefore notifies nobody, and
an idle one asks once a second. Delayed jobs need neither: the database tells when the next is due.

Whose. The database hands out jobs tenant by tenant from behind the one that this process served
last.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import asyncpg

from troupe.common.database import Database
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.jobs._attempt import JobKind
from troupe.platform.jobs._claimed import ClaimedJob
from troupe.platform.jobs._enqueue import QUERIES

CLAIM_DEADLINE: Final = 4 * SECONDS
"""What a claim has locked when its connection is cut off stays locked for a second longer."""
FIRST_WAIT: Final = 2 * MILLISECONDS
NOTIFY_AFTER: Final = 2 * FIRST_WAIT
"""A process whose next wait is at least this long wants to be notified of new jobs."""
SOONEST: Final = 1 * MILLISECONDS


class Claims:
    """Claims the jobs of one group for one process.

    Args:
        database: Where they are.
        group: Whose jobs.
        kinds: Which kinds.
        longest_wait: Seconds between two claims without being notified.
        listens: Whether the process hears notifications.

    Attributes:
        wait: Seconds until the next claim is worth while.
    """

    def __init__(
        self,
        database: Database,
        group: str,
        kinds: Mapping[str, JobKind],
        *,
        longest_wait: float,
        listens: bool,
    ) -> None:
        self.wait = 0.0
        self._database = database
        self._group = group
        self._kinds = kinds
        self._longest_wait = longest_wait
        self._listens = listens
        self._backoff = FIRST_WAIT
        self._noted = False  # whether the database knows that we wait
        # The tenant served last; where to begin is left to chance, so that processes differ.
        self._served = uuid.uuid4()

    def room(self, running: Iterable[str]) -> dict[str, int]:
        """How many more of each kind this process may run; kinds without room are left out."""
        busy = Counter(running)
        free = {name: kind.concurrency - busy[name] for name, kind in self._kinds.items()}
        return {name: count for name, count in free.items() if count > 0}

    async def claim(
        self, process: uuid.UUID, room: Mapping[str, int], wanted: int
    ) -> list[ClaimedJob]:
        """Claim up to `wanted` jobs, and decide when to claim next (`wait`).

        Raises:
            DatabaseError: Jobs may or may not have been claimed.
        """
        waits = self._listens and self._backoff >= NOTIFY_AFTER
        kinds = [self._kinds[name] for name in room]

        async def unit(connection: asyncpg.Connection) -> tuple[list[asyncpg.Record], float | None]:
            rows = await connection.fetch(
                QUERIES["claim"],
                self._group,
                process,
                list(room),
                list(room.values()),
                [kind.limit for kind in kinds],
                [kind.tenant_limit for kind in kinds],
                wanted,
                self._served,
                waits,
            )
            if rows:
                return rows, None
            return rows, await connection.fetchval(QUERIES["next_delayed"], self._group)

        rows, due = await self._database.run(unit, deadline=CLAIM_DEADLINE)
        jobs = [ClaimedJob(row, self._group) for row in rows]
        self._decide(len(jobs), wanted, due, asked=waits)
        self._remember(jobs)
        return jobs

    def hurry(self) -> None:
        """Something happened: claim soon and often again."""
        self._backoff = FIRST_WAIT
        self._noted = False

    def _decide(self, found: int, wanted: int, due: float | None, *, asked: bool) -> None:
        if found:
            self._backoff = FIRST_WAIT
            self._noted = False
            self.wait = 0.0 if found == wanted else FIRST_WAIT
            return
        if asked and not self._noted:
            # Who enqueued before our note was committed has not seen it: look once more.
            self._noted = True
            self.wait = SOONEST
            return
        self.wait = self._longest_wait if asked else self._backoff
        self._backoff = min(2 * self._backoff, self._longest_wait)
        if due is not None:
            self.wait = min(self.wait, max(due, SOONEST))

    def _remember(self, jobs: list[ClaimedJob]) -> None:
        before = self._served
        tenants = {job.tenant_id for job in jobs}
        if tenants:
            self._served = max(tenants, key=lambda tenant: (tenant <= before, tenant))
