"""What a job's handler is given: the job, and the ways to report on it and to commit under it.

The promise to handlers: *at-least-once execution; at most one attempt can commit through us;
effects outside carry an idempotency key.* A handler may run again after a crash, a lost connection
or a shutdown, possibly while an earlier attempt has not noticed yet that it is no longer the one.
What makes that harmless is `fence`: inside a transaction of the handler's own it asserts, and keeps
true until that transaction ends, that this attempt holds the job.
"""

import json
from decimal import Decimal
from typing import Any, Final

import asyncpg
import trio

from troupe.common.database import Database
from troupe.common.units import SECONDS
from troupe.platform.errors import JobInterrupted, LeaseLost
from troupe.platform.jobs._claimed import ClaimedJob
from troupe.platform.jobs._enqueue import QUERIES
from troupe.platform.jobs._model import Job, JobValue, Progress

WRITE_DEADLINE: Final = 4 * SECONDS
"""For one statement. A connection that was cut off without a word is given up within it."""


_UNREAD: Final = object()


class JobRun:
    """One attempt at a job, as its handler sees it.

    Methods that take a connection are asyncio coroutines for use inside a unit of work of the job's
    tenant (``db.run(unit, tenant=run.job.tenant_id)``); the others are trio's.

    Attributes:
        stopping: Set when the process shuts down. A handler may then save a checkpoint and leave by
            `leave`; one that does not is cancelled a little later. Either way the job goes back
            without losing an attempt.
    """

    __slots__ = (
        "_checkpoint",
        "_claimed",
        "_database",
        "_known",
        "_lost",
        "_unreported",
        "stopping",
    )

    def __init__(
        self, database: Database, claimed: ClaimedJob, stopping: trio.Event | None = None
    ) -> None:
        self.stopping = trio.Event() if stopping is None else stopping
        self._claimed = claimed
        self._database = database
        self._checkpoint: JobValue = _UNREAD
        self._known: Progress | None = None
        self._unreported: Progress | None = None
        self._lost = False

    @property
    def job(self) -> Job:
        """The job, as it was claimed."""
        return self._claimed.job

    @property
    def arguments(self) -> dict[str, JobValue]:
        """What the job was enqueued with."""
        return dict(self.job.arguments)

    @property
    def checkpoint(self) -> JobValue:
        """What this or an earlier attempt saved last; None: nothing."""
        return self.job.checkpoint if self._checkpoint is _UNREAD else self._checkpoint

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of this job: for effects outside of our database."""
        return str(self._claimed.id)

    async def progress(
        self,
        done: int | None = None,
        total: int | None = None,
        phase: str | None = None,
        message: str | None = None,
        **detail: JobValue,
    ) -> None:
        """Report how far the job is; cheap, so call it as often as there is something to tell.

        Reports are written twice a second at most, the last one always. What is not given stays as
        it was.

        Raises:
            LeaseLost: This attempt no longer holds the job.
            TypeError: A detail has no JSON form.
            ValueError: A number is not finite, or a text holds a NUL character; PostgreSQL can
                store neither.
        """
        words = json.dumps([phase, message, detail], default=_only_decimals, allow_nan=False)
        if "\\u0000" in words:
            raise ValueError("a progress report must not hold NUL characters")
        known = self._known or self.job.progress
        self._known = self._unreported = Progress(
            done=known.done if done is None else done,
            total=known.total if total is None else total,
            phase=known.phase if phase is None else phase,
            message=known.message if message is None else message,
            detail={**known.detail, **detail},
        )
        await trio.lowlevel.checkpoint()
        self._require_lease()

    async def save_checkpoint(self, value: JobValue) -> None:
        """Save where a retry goes on, in a transaction of its own.

        Raises:
            LeaseLost: This attempt no longer holds the job.
            DatabaseError: It was not saved, or may not have been.
        """
        await self._database.run(
            lambda connection: self.save_checkpoint_in(connection, value),
            tenant=self._claimed.tenant_id,
            deadline=WRITE_DEADLINE,
        )

    def leave(self) -> JobInterrupted:
        """The exception to raise after `stopping` was set: ``raise run.leave()``."""
        return JobInterrupted("The process that ran the job is shutting down.")

    # ---- inside a unit of work

    async def fence(self, connection: asyncpg.Connection) -> None:
        """Assert that this attempt holds the job, and keep it so until the transaction ends.

        Nobody can take the job away in between, so if the transaction commits, no other attempt
        held the job when it did. Call it in every transaction whose effect must not be a stale
        attempt's.

        Raises:
            LeaseLost: Another attempt holds the job, or none.
        """
        await self._held(connection, "fence")

    async def save_checkpoint_in(self, connection: asyncpg.Connection, value: JobValue) -> None:
        """Save where a retry goes on together with the work itself; fences as `fence` does.

        Call it last: reports and requests to cancel wait for the end of the transaction from here.

        Raises:
            LeaseLost: Another attempt holds the job, or none.
        """
        await self._held(connection, "checkpoint", value)
        self._checkpoint = value

    async def complete_in(self, connection: asyncpg.Connection, result: JobValue = None) -> None:
        """Finish the job together with the work itself: both are committed, or neither.

        Of all attempts at the job at most one can commit such a transaction. Call it last, as
        `save_checkpoint_in`.

        Raises:
            LeaseLost: Another attempt holds the job, or none.
        """
        await self._held(connection, "complete", result)

    async def _held(self, connection: asyncpg.Connection, query: str, *args: Any) -> None:
        held = await connection.fetchval(QUERIES[query], *self.key, *args)
        if held is None:
            await self._explain(connection)

    async def _explain(self, connection: asyncpg.Connection) -> None:
        tenant = await connection.fetchval("SELECT platform.current_tenant()")
        if tenant != self._claimed.tenant_id:
            raise ValueError(f"the unit of work has the tenant {tenant}, not the job's")
        raise self._lease_lost()

    # ---- for the runner

    @property
    def key(self) -> tuple[Any, Any, int]:
        """Tenant, job and fencing token: what names this attempt in statements."""
        return self._claimed.key

    @property
    def lost(self) -> bool:
        """Whether this attempt is known not to hold the job any more."""
        return self._lost

    def lose(self) -> None:
        """Note that this attempt no longer holds the job."""
        self._lost = True

    @property
    def unreported(self) -> Progress | None:
        """The progress that is not written yet."""
        return self._unreported

    def take_unreported(self) -> Progress | None:
        """The progress that is not written yet; the caller writes it, or gives it back."""
        taken, self._unreported = self._unreported, None
        return taken

    def give_back_unreported(self, progress: Progress) -> None:
        """Keep a report that could not be written, unless there is a newer one."""
        self._unreported = self._unreported or progress

    def _require_lease(self) -> None:
        if self._lost:
            raise self._lease_lost()

    def _lease_lost(self) -> LeaseLost:
        return LeaseLost("This attempt no longer holds the job.")


def _only_decimals(value: object) -> str:
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
