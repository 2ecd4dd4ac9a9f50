"""The jobs: plan a slot, deliver a run.

A slot is planned in one transaction with its job's end. There is one job for each run, and one at a
time for each tenant, which makes the pace and the number of connections true for a tenant and not
for a process. A job does what can be done now (a `Round`) and leaves a successor for the rest: a
run that waits for its data, or for its next offer, holds nothing.

When the line itself fails (no connection, login refused), all mails would fare the same: the round
ends, nobody's attempts are used up, and the run is tried again later, for three days at most.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from troupe.actors.analytics.following import follow_once
from troupe.actors.analytics.reports import alerts
from troupe.actors.analytics.reports.freshness import (
    FOLLOW_PATIENCE,
    FOLLOWED_SOON,
    LOOK_AGAIN,
    freshness_of,
)
from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.planning import job_of, plan_slot
from troupe.actors.analytics.reports.records import ReportSchedule, Run
from troupe.actors.analytics.reports.rounds import Round, nothing
from troupe.actors.analytics.reports.smtp import MailLine
from troupe.actors.analytics.reports.statements import DELIVER, PLAN, QUERIES
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.reports.writing import Press
from troupe.common.connections import NotConnected, SmtpConfig, load_connection
from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.secrets import Vault
from troupe.common.units import DAYS, HOURS, MINUTES
from troupe.platform.jobs import JobKind, JobRun, enqueue
from troupe.platform.schedules import SLOT_ARGUMENT

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

_log = get_logger(__name__)

LINE_DOWN_WAIT: Final = 2 * MINUTES
GIVEN_UP_AFTER: Final = 3 * DAYS
DELIVER_TIMEOUT: Final = 6 * HOURS

LineOf = Callable[[SmtpConfig, bytes | None], MailLine]
"""Makes a line to a tenant's server."""


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
        waiting = counts.get(State.QUEUED, 0) + counts.get(State.DEFERRED, 0)

        def line() -> MailLine:
            return self._line_of(config, secret)

        round_ = Round(
            self._database,
            run,
            report,
            edition=self._press.edition(
                tenant, look, config.sender, awaits_tasks=not report.notice
            ),
            line_of=line,
            settings=look.settings,
            total=sum(counts.values()),
            done=sum(counts.values()) - waiting,
            at=self._at,
        )
        await round_.send_due()
        if run.stopping.is_set():
            raise run.leave()
        await self._come_back(run, tenant, report, problem=round_.halted)
        reason = round_.halted or await self._unwelcome(tenant, report)
        if reason:
            told = await alerts.tell_owners(
                self._database, tenant, report, reason, look, config, line
            )
            if not told:
                _log.warning("report_owners_not_told", run_id=str(run_id))
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
            about = await connection.fetchrow(QUERIES["tenant"], tenant)
            if about is None or not about["active"]:
                await connection.execute(QUERIES["cancel_run"], tenant, run_id)
                await connection.execute(QUERIES["cancel_deliveries"], tenant, run_id)
                return None
            await connection.execute(QUERIES["suppressed"], tenant, run_id)
            return report

        return await self._database.run(unit, tenant=tenant)

    async def _wait_for_data(self, run: JobRun, tenant: TenantId, report: Run) -> bool:
        """Whether the run has to wait; then its job is done and another one will come."""
        fresh = await freshness_of(self._database, tenant, report.days)
        if fresh.complete and not fresh.followed:
            # Whoever follows everybody will come by; here it is known that somebody waits for it.
            await follow_once(self._database, tenant)
            fresh = await freshness_of(self._database, tenant, report.days)
        now = datetime.now(UTC)
        left, look_again = (report.wait_until - now).total_seconds(), LOOK_AGAIN
        if fresh.complete:
            age = (now - report.created_at).total_seconds()
            left, look_again = max(left, FOLLOW_PATIENCE - age), FOLLOWED_SOON
        waits = not fresh.ready and left > 0

        async def unit(connection: "Connection") -> None:
            if waits:
                await self._again(connection, run, tenant, report, min(look_again, left + 1))
                return
            await run.fence(connection)
            await connection.execute(QUERIES["begin_sending"], tenant, report.id, not fresh.ready)

        await self._database.run(unit, tenant=tenant)
        if waits:
            _log.info(
                "report_waits_for_data",
                run_id=str(report.id),
                days=str(report.days.end),
                complete=fresh.complete,
            )
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

    async def _unwelcome(self, tenant: TenantId, report: Run) -> str:
        """What owners are to know of how it ended, or of what was sent; empty: all is well."""
        said = []
        if report.notice:
            said.append(
                "The figures or their task lists were not complete in time; notices were sent."
            )
        counts: Mapping[str, int] = {}
        if (await self.store.runs.one(tenant, report.id)).state == "done":
            counts = await self.store.runs.counts(tenant, report.id)
        if failed := counts.get(State.FAILED, 0):
            said.append(f"Mails that could not be delivered: {failed}.")
        if ambiguous := counts.get(State.AMBIGUOUS, 0):
            said.append(
                f"Mails of which nobody knows whether they arrived: {ambiguous}. They are not sent "
                "again unless you say so."
            )
        return " ".join(said)


def report_kinds(dispatch: Dispatch) -> dict[str, JobKind]:
    """The kinds of jobs, as the group's runner takes them."""
    return {
        PLAN: JobKind(handler=dispatch.plan, concurrency=4),
        DELIVER: JobKind(
            handler=dispatch.deliver, concurrency=4, tenant_limit=1, timeout=DELIVER_TIMEOUT
        ),
    }
