"""The jobs: plan a slot, deliver a run.

Problem. A mail server takes a mail and says so, and between its taking and our writing that down
anything may end: the process, the connection, the database. No protocol makes the two one. What can
be chosen is which way it errs. We never send a mail twice by ourselves, and we never lose one
silently: what may or may not have arrived is *ambiguous*, is shown, and is a person's to decide.

Choice. Each mail takes two short transactions around the handing over::

    RCPT accepted ── commit "sending" (fenced) ── DATA … 250 ── commit "sent"

Whatever is found as "sending" by another attempt was cut off in between and becomes ambiguous;
everything else has provably not left and is offered again. The first transaction holds the job's
lease (`JobRun.fence`), so an attempt that was stopped for long and wakes up cannot hand over what
another has taken up. There is one job for each run, and one at a time for each tenant, which also
makes the pace and the number of connections true for a tenant and not for a process.

What this costs: two commits a mail, and, of a process that is killed, as many ambiguous mails as it
had connections. Rejected: one transaction around the handing over (a lock for as long as a server
likes to take, and the same gap at its commit); sending to many recipients in one mail (their
outcomes and unsubscribe links differ).

When the line itself fails (no connection, login refused), all mails would fare the same: the round
ends, nobody's attempts are used up, and the run is tried again later, for three days at most.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import trio

from troupe.actors.analytics.reports import alerts
from troupe.actors.analytics.reports.freshness import LOOK_AGAIN, freshness_of
from troupe.actors.analytics.reports.mail import digest
from troupe.actors.analytics.reports.outcomes import (
    Outcome,
    Reply,
    State,
    Step,
    is_hard,
    judge,
)
from troupe.actors.analytics.reports.planning import job_of, plan_slot
from troupe.actors.analytics.reports.records import Delivery, ReportSchedule, Run, TenantLook
from troupe.actors.analytics.reports.smtp import MailLine, Withdrawn
from troupe.actors.analytics.reports.statements import DELIVER, PLAN, QUERIES
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.reports.writing import Edition, Press, secret_of
from troupe.common.connections import NotConnected, SmtpConfig, load_connection
from troupe.common.database import Database
from troupe.common.errors import DatabaseError, InvalidInput, NotFound
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.secrets import Vault
from troupe.common.units import DAYS, HOURS, MINUTES, SECONDS
from troupe.platform.jobs import JobKind, JobRun, enqueue
from troupe.platform.schedules import SLOT_ARGUMENT

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

_log = get_logger(__name__)

AT_ONCE: Final = 100
"""Deliveries that are read at a time."""
LINE_DOWN_WAIT: Final = 2 * MINUTES
GIVEN_UP_AFTER: Final = 3 * DAYS
DELIVER_TIMEOUT: Final = 6 * HOURS
SETTLE_TRIES: Final = 5
SETTLE_PAUSE: Final = 1 * SECONDS

LineOf = Callable[[SmtpConfig, bytes | None], MailLine]
"""Makes a line to a tenant's server."""


def nothing(_step: str) -> None:
    """What happens at each step, besides: nothing. Tests end the process here."""


@dataclass(slots=True)
class _Round:
    """One attempt at a run.

    Attributes:
        tenant: Whose.
        run: Which.
        edition: Writes its mails.
        line_of: Makes a connection.
        bounces: Until an address is suppressed.
        notice: Whether notices are sent.
        halted: Why no more mails are offered now; empty: they are.
        done: Deliveries that have an outcome.
        total: Deliveries of the run.
    """

    tenant: TenantId
    run: Run
    edition: Edition
    line_of: Callable[[], MailLine]
    bounces: int
    notice: bool
    halted: str = ""
    done: int = 0
    total: int = 0
    pace: "Pace" = field(default_factory=lambda: Pace(math.inf))


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


class Dispatch:
    """What the jobs work with.

    Args:
        database: The group's pool.
        vault: Opens the tenants' passwords.
        press: Writes mails.
        line_of: Makes a line to a tenant's server.
        at: Called at each step with its name; see `nothing`.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        press: Press,
        line_of: LineOf,
        *,
        at: Callable[[str], None] = nothing,
    ) -> None:
        self._database = database
        self._vault = vault
        self._press = press
        self._line_of = line_of
        self._at = at
        self.store = ReportStore(database)

    # ---- planning

    async def plan(self, run: JobRun) -> dict[str, Any] | None:
        """Handle a slot of a report's schedule."""
        tenant = run.job.tenant_id
        report_id = UUID(str(run.arguments["report_id"]))
        zone = str(run.arguments["zone"])
        slot = datetime.fromisoformat(str(run.arguments[SLOT_ARGUMENT]))

        async def unit(connection: "Connection") -> None:
            about = await connection.fetchrow(QUERIES["tenant"], tenant)
            row = await connection.fetchrow(QUERIES["schedule"], tenant, report_id)
            result: dict[str, str | None] = {"run_id": None}
            if row is not None and about is not None and about["active"] and row["enabled"]:
                schedule = ReportSchedule.of(row)
                planned = await plan_slot(
                    connection, tenant, schedule, zone, slot, about["week_start"]
                )
                result = {"run_id": str(planned)}
            await run.complete_in(connection, result)

        await self._database.run(unit, tenant=tenant)
        return None

    # ---- delivering

    async def deliver(self, run: JobRun) -> dict[str, Any] | None:
        """Handle a run: wait for its data, send what is due, come back for the rest."""
        tenant = run.job.tenant_id
        run_id = UUID(str(run.arguments["run_id"]))
        report = await self._take_up(run, tenant, run_id)
        if report is None:
            return {"state": "over"}
        if report.state == "waiting":
            waited = await self._wait_for_data(run, tenant, report)
            if waited:
                return None
            report = await self.store.runs.one(tenant, run_id)
        look = await self.store.look(tenant)
        try:
            connection = await load_connection(self._database, self._vault, tenant, "smtp")
        except NotConnected as error:
            await self._come_back(run, tenant, report, problem=str(error))
            return None
        config, secret = connection.config, connection.secret
        assert isinstance(config, SmtpConfig)  # noqa: S101  # the kind's form
        counts = await self.store.runs.counts(tenant, run_id)
        round_ = _Round(
            tenant=tenant,
            run=report,
            edition=self._press.edition(tenant, look, config.sender),
            line_of=lambda: self._line_of(config, secret),
            bounces=look.settings.bounces_until_suppressed,
            notice=report.notice,
            total=sum(counts.values()),
            done=sum(counts.values()) - counts.get("queued", 0) - counts.get("deferred", 0),
            pace=Pace(look.settings.messages_per_minute),
        )
        await self._send_due(run, round_, look.settings.connections)
        if run.stopping.is_set():
            raise run.leave()
        await self._come_back(run, tenant, report, problem=round_.halted)
        if report.notice or round_.halted:
            await self._alert(round_, look, config)
        return None

    async def _take_up(self, run: JobRun, tenant: TenantId, run_id: UUID) -> Run | None:
        """The run, after what another attempt left unsettled is marked; None: nothing to do."""

        async def unit(connection: "Connection") -> Run | None:
            await run.fence(connection)
            row = await connection.fetchrow(QUERIES["lock_run"], tenant, run_id)
            if row is None:
                raise NotFound("There is no such report run.")
            left = await connection.fetch(QUERIES["interrupted"], tenant, run_id)
            if left:
                _log.warning("report_mails_ambiguous", run_id=str(run_id), mails=len(left))
            report = Run.of(row)
            if report.state in {"done", "cancelled"}:
                return None
            await connection.execute(QUERIES["suppressed"], tenant, run_id)
            return report

        return await self._database.run(unit, tenant=tenant)

    async def _wait_for_data(self, run: JobRun, tenant: TenantId, report: Run) -> bool:
        """Whether the run has to wait; then its job is done and another one will come."""
        fresh = await freshness_of(self._database, tenant, report.days)
        left = (report.wait_until - datetime.now(UTC)).total_seconds()
        waits = not fresh.complete and left > 0

        async def unit(connection: "Connection") -> None:
            if waits:
                await self._again(connection, run, tenant, report, min(LOOK_AGAIN, left + 1))
                return
            await run.fence(connection)
            await connection.execute(
                QUERIES["begin_sending"], tenant, report.id, not fresh.complete
            )

        await self._database.run(unit, tenant=tenant)
        if waits:
            _log.info("report_waits_for_data", run_id=str(report.id), days=str(report.days.end))
        return waits

    async def _again(
        self, connection: "Connection", run: JobRun, tenant: TenantId, report: Run, delay: float
    ) -> None:
        """End this job and enqueue the next one for the run, in one transaction."""
        await run.complete_in(connection, {"again_in": round(delay)})
        job = await enqueue(connection, job_of(report.id, delay=delay))
        await connection.execute(QUERIES["set_job"], tenant, report.id, job.id)

    async def _come_back(self, run: JobRun, tenant: TenantId, report: Run, *, problem: str) -> None:
        """Finish the run, or come back when something of it is due."""
        age = (datetime.now(UTC) - report.created_at).total_seconds()

        async def unit(connection: "Connection") -> None:
            if problem and age > GIVEN_UP_AFTER:
                await connection.execute(QUERIES["give_up"], tenant, report.id, problem)
            elif problem:
                await connection.execute(QUERIES["note_problem"], tenant, report.id, problem)
            due = await connection.fetchval(QUERIES["next_due"], tenant, report.id)
            if due is None:
                await connection.execute(QUERIES["finish_run"], tenant, report.id)
                await run.complete_in(connection, {"state": "done"})
            else:
                delay = max(due, LINE_DOWN_WAIT) if problem else due
                await self._again(connection, run, tenant, report, delay)

        await self._database.run(unit, tenant=tenant)
        if problem:
            _log.error("report_not_sent", run_id=str(report.id), reason=problem)

    async def _send_due(self, run: JobRun, round_: _Round, connections: int) -> None:
        """Send what is due now, over several connections."""
        while not run.stopping.is_set() and not round_.halted:
            # Also somebody who has unsubscribed since the run was taken up.
            await self._database.execute(
                QUERIES["suppressed"], round_.tenant, round_.run.id, tenant=round_.tenant
            )
            rows = await self._database.fetch(
                QUERIES["due"], round_.tenant, round_.run.id, AT_ONCE,
                tenant=round_.tenant, read_only=True,
            )  # fmt: skip
            if not rows:
                return
            waiting = [Delivery.of(row) for row in reversed(rows)]
            async with trio.open_nursery() as nursery:
                for _ in range(min(connections, len(waiting))):
                    nursery.start_soon(self._work, run, round_, waiting)

    async def _work(self, run: JobRun, round_: _Round, waiting: list[Delivery]) -> None:
        line = round_.line_of()
        try:
            while waiting and not round_.halted and not run.stopping.is_set():
                await round_.pace.wait()
                if not waiting:
                    break
                await self._send(run, round_, line, waiting.pop())
                round_.done += 1
                await run.progress(
                    done=min(round_.done, round_.total), total=round_.total, phase="sending"
                )
            await line.close()
        finally:
            line.drop()

    async def _send(self, run: JobRun, round_: _Round, line: MailLine, delivery: Delivery) -> None:
        secret = await secret_of(self.store, round_.tenant, delivery)
        recipient = None if secret is None else UUID(delivery.recipient)
        token = uuid4()
        try:
            written = await round_.edition.write(
                delivery, recipient, secret or b"", notice=round_.notice
            )
        except InvalidInput as error:  # the sender's address, most likely
            unfit = Outcome(State.FAILED, f"The mail cannot be written: {error}")
            reply = Reply(Step.RECIPIENT, None, unfit.answer)
            await self._settle(round_, delivery, token, reply, unfit)
            return
        self._at("written")

        async def handing() -> bool:
            async def unit(connection: "Connection") -> bool:
                await run.fence(connection)
                handed = await connection.fetchval(
                    QUERIES["hand_over"], round_.tenant, delivery.id, token, round_.notice,
                    written.content.data_version, digest(written.message),
                )  # fmt: skip
                return handed is not None

            self._at("accepted")
            wanted = await self._database.run(unit, tenant=round_.tenant)
            self._at("handed")
            return wanted

        try:
            reply = await line.offer(delivery.address, written.message, handing)
        except Withdrawn:
            return
        self._at("answered")
        outcome = judge(reply, delivery.attempts + 1)
        await self._settle(round_, delivery, token, reply, outcome)
        self._at("settled")

    async def _settle(
        self, round_: _Round, delivery: Delivery, token: UUID, reply: Reply, outcome: Outcome
    ) -> None:
        """Write down how an offer ended. It has ended, so this is tried hard, and not cut short."""
        if reply.step in {Step.CONNECT, Step.SENDER} and outcome.of_line:
            round_.halted = outcome.answer
            if reply.step is Step.CONNECT:
                return  # nothing was offered
        handed = reply.step is Step.DATA
        hard = outcome.state is State.BOUNCED and is_hard(reply)

        async def unit(connection: "Connection") -> None:
            key = (round_.tenant, delivery.id)
            said = (outcome.state.value, outcome.answer, outcome.wait)
            if handed:
                address = await connection.fetchval(QUERIES["settle"], *key, token, *said)
            else:
                address = await connection.fetchval(QUERIES["refuse"], *key, *said)
            if hard and address is not None and not delivery.is_test:
                await connection.fetchval(
                    QUERIES["note_bounce"], round_.tenant, address, outcome.answer, round_.bounces
                )

        with trio.CancelScope(shield=True):
            for number in range(1, SETTLE_TRIES + 1):
                try:
                    await self._database.run(unit, tenant=round_.tenant)
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

    async def _alert(self, round_: _Round, look: TenantLook, config: SmtpConfig) -> None:
        """Tell the owners by mail, where that is possible; the run shows it in any case."""
        reason = round_.halted or "The data was not complete in time; notices were sent."
        told = await alerts.tell_owners(
            self._database, round_.tenant, round_.run, reason, look, config, round_.line_of
        )
        if not told:
            _log.warning("report_owners_not_told", run_id=str(round_.run.id))


def report_kinds(dispatch: Dispatch) -> dict[str, JobKind]:
    """The kinds of jobs, as the group's runner takes them."""
    return {
        PLAN: JobKind(handler=dispatch.plan, concurrency=4),
        DELIVER: JobKind(
            handler=dispatch.deliver, concurrency=4, tenant_limit=1, timeout=DELIVER_TIMEOUT
        ),
    }
