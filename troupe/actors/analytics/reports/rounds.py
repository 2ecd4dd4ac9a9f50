"""A round: one attempt at the mails of a run that are due now.

Problem. A mail server takes a mail and says so, and between its taking and our writing that down
anything may end: the process, the connection, the database. No protocol makes the two one. What can
be chosen is which way it errs. We never send a mail twice by ourselves, and we never lose one
silently: what may or may not have arrived is *ambiguous*, is shown, and is a person's to decide.

Choice. Each mail takes two short transactions around the handing over::

    RCPT accepted ── commit "sending" (fenced) ── DATA … 250 ── commit "sent"

Whatever is found as "sending" by another attempt was cut off in between and becomes ambiguous;
everything else has provably not left and is offered again. The first transaction holds the job's
lease (`JobRun.fence`), so an attempt that was stopped for long and wakes up cannot hand over what
another has taken up.

A failure of ours (the database is away, the lease is lost) ends the round, but not the mails that
other connections have in hand: each of those would be ambiguous for nothing. They are finished and
written down first.

What this costs: two commits a mail, and, of a process that is killed, as many ambiguous mails as it
had connections. Rejected: one transaction around the handing over (a lock for as long as a server
likes to take, and the same gap at its commit); sending to many recipients in one mail (their
outcomes and unsubscribe links differ).
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import trio

from troupe.actors.analytics.reports.mail import digest
from troupe.actors.analytics.reports.outcomes import Outcome, Reply, State, Step, is_hard, judge
from troupe.actors.analytics.reports.records import Delivery, Run
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.actors.analytics.reports.smtp import MailLine, Withdrawn
from troupe.actors.analytics.reports.statements import QUERIES
from troupe.actors.analytics.reports.writing import Edition, TasksBehind, secret_of
from troupe.common.database import Database
from troupe.common.errors import DatabaseError, InvalidInput, TroupeError
from troupe.common.logs import get_logger
from troupe.common.units import MINUTES, SECONDS
from troupe.platform.jobs import JobRun

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

_log = get_logger(__name__)

AT_ONCE: Final = 100
"""Deliveries that are read at a time."""
SETTLE_TRIES: Final = 5
SETTLE_PAUSE: Final = 1 * SECONDS


def nothing(_step: str) -> None:
    """What happens at each step, besides: nothing. Tests end the process here."""


class Pace:
    """Lets so many mails pass in a minute, evenly."""

    def __init__(self, per_minute: float) -> None:
        self._gap = 1 * MINUTES / per_minute
        self._next = -math.inf

    async def wait(self) -> None:
        """Wait for the next place."""
        now = trio.current_time()
        self._next = max(self._next + self._gap, now)
        await trio.sleep(self._next - now)


class Round:
    """Mails of one run, over several connections at once.

    Args:
        database: The group's pool.
        job: The job that does it.
        run: Which run.
        edition: Writes its mails.
        line_of: Makes a connection.
        settings: Pace, connections, bounces until an address is suppressed.
        total: Deliveries of the run.
        done: Those that have an outcome.
        at: Called at each step with its name; see `nothing`.

    Attributes:
        halted: Why no more mails are offered now; empty: they are.
    """

    def __init__(
        self,
        database: Database,
        job: JobRun,
        run: Run,
        *,
        edition: Edition,
        line_of: Callable[[], MailLine],
        settings: ReportSettings,
        total: int,
        done: int,
        at: Callable[[str], None] = nothing,
    ) -> None:
        self.halted = ""
        self._database = database
        self._job = job
        self._run = run
        self._tenant = job.job.tenant_id
        self._edition = edition
        self._line_of = line_of
        self._settings = settings
        self._pace = Pace(settings.messages_per_minute)
        self._total = total
        self._done = done
        self._at = at
        self._failure: TroupeError | None = None

    @property
    def _over(self) -> bool:
        return bool(self.halted or self._failure) or self._job.stopping.is_set()

    async def send_due(self) -> None:
        """Send what is due now.

        Raises:
            TroupeError: It failed half-way, for a reason of ours; another attempt goes on.
        """
        while not self._over:
            # Also somebody who has unsubscribed since the run was taken up.
            await self._database.execute(
                QUERIES["suppressed"], self._tenant, self._run.id, tenant=self._tenant
            )
            rows = await self._database.fetch(
                QUERIES["due"], self._tenant, self._run.id, AT_ONCE,
                tenant=self._tenant, read_only=True,
            )  # fmt: skip
            if not rows:
                return
            waiting = [Delivery.of(row) for row in reversed(rows)]
            async with trio.open_nursery() as nursery:
                for _ in range(min(self._settings.connections, len(waiting))):
                    nursery.start_soon(self._work, waiting)
        if self._failure is not None:
            raise self._failure

    async def _work(self, waiting: list[Delivery]) -> None:
        line = self._line_of()
        try:
            while waiting and not self._over:
                await self._pace.wait()
                if not waiting or self._over:
                    break
                await self._send(line, waiting.pop())
                self._done += 1
                await self._job.progress(
                    done=min(self._done, self._total), total=self._total, phase="sending"
                )
            await line.close()
        except TroupeError as error:
            self._failure = self._failure or error
        finally:
            line.drop()

    async def _send(self, line: MailLine, delivery: Delivery) -> None:
        secret = await secret_of(self._database, self._tenant, delivery)
        recipient = None if secret is None else UUID(delivery.recipient)
        token = uuid4()
        try:
            written = await self._edition.write(
                delivery, recipient, secret or b"", notice=self._run.notice
            )
        except TasksBehind as error:
            self.halted = str(error)
            return
        except InvalidInput as error:  # the sender's address, most likely
            unfit = Outcome(State.FAILED, f"The mail cannot be written: {error}")
            reply = Reply(Step.RECIPIENT, None, unfit.answer)
            await self._settle(delivery, token, reply, unfit)
            return
        self._at("written")

        async def handing() -> bool:
            async def unit(connection: "Connection") -> bool:
                await self._job.fence(connection)
                handed = await connection.fetchval(
                    QUERIES["hand_over"], self._tenant, delivery.id, token, self._run.notice,
                    written.content.data_version, digest(written.message),
                )  # fmt: skip
                return handed is not None

            self._at("accepted")
            wanted = await self._database.run(unit, tenant=self._tenant)
            self._at("handed")
            return wanted

        try:
            reply = await line.offer(delivery.address, written.message, handing)
        except Withdrawn:
            return
        self._at("answered")
        outcome = judge(reply, delivery.attempts + 1)
        await self._settle(delivery, token, reply, outcome)
        self._at("settled")

    async def _settle(
        self, delivery: Delivery, token: UUID, reply: Reply, outcome: Outcome
    ) -> None:
        """Write down how an offer ended. It has ended, so this is tried hard, and not cut short."""
        if reply.step in {Step.CONNECT, Step.SENDER} and outcome.of_line:
            self.halted = outcome.answer
            if reply.step is Step.CONNECT:
                return  # nothing was offered
        handed = reply.step is Step.DATA
        hard = outcome.state is State.BOUNCED and is_hard(reply)

        async def unit(connection: "Connection") -> None:
            key = (self._tenant, delivery.id)
            said = (outcome.state.value, outcome.answer, outcome.wait)
            if handed:
                address = await connection.fetchval(QUERIES["settle"], *key, token, *said)
            else:
                address = await connection.fetchval(QUERIES["refuse"], *key, *said)
            if hard and address is not None and not delivery.is_test:
                await connection.fetchval(
                    QUERIES["note_bounce"], self._tenant, address, outcome.answer,
                    self._settings.bounces_until_suppressed,
                )  # fmt: skip

        with trio.CancelScope(shield=True):
            for number in range(1, SETTLE_TRIES + 1):
                try:
                    await self._database.run(unit, tenant=self._tenant)
                except DatabaseError:
                    if number == SETTLE_TRIES:
                        raise
                    await trio.sleep(SETTLE_PAUSE)
                else:
                    break
        if outcome.state is not State.SENT:
            _log.info(
                "report_mail_not_sent", delivery_id=str(delivery.id), state=outcome.state.value
            )
