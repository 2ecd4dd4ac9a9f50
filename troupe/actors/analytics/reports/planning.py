"""Who gets which mail: a run and its deliveries, made in one transaction.

A slot makes one run (a unique index says so), and a delivery is made once for each series, branch,
period and recipient. So a slot that is tried again, a job that is enqueued twice, and a period that
two slots stand for, all end in the same rows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from troupe.actors.analytics.reports.mail import check_address
from troupe.actors.analytics.reports.periods import ReportPeriod, period_of
from troupe.actors.analytics.reports.records import ReportSchedule, Run
from troupe.actors.analytics.reports.statements import DELIVER, GROUP, QUERIES, Actor
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import Conflict, InvalidInput, NotFound, TooManyRequests
from troupe.common.ids import TenantId, new_id, new_ids
from troupe.common.units import HOURS
from troupe.platform.jobs import NewJob, enqueue

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

DELIVER_ATTEMPTS: Final = 200
"""A job that sends is tried for as long as its run lives; what has an end is each mail."""
MOST_BY_HAND: Final = 60
TEST: Final = "test"


@dataclass(frozen=True, slots=True)
class SendNow:
    """What somebody wants sent at once.

    Attributes:
        period: What it sums up.
        days: The period's days; None: the last whole one in the reporting zone.
        locations: Only recipients of these branches; None: all.
        test_address: Instead of to recipients, to this address alone.
        test_name: Of whoever has that address.
        test_location: The branch that a test is about; None: the whole company.
        language: Of a test.
        requested_by: Who wants it, for people.
    """

    period: ReportPeriod
    days: DateRange | None = None
    locations: tuple[str, ...] | None = None
    test_address: str | None = None
    test_name: str = ""
    test_location: str | None = None
    language: str = "en"
    requested_by: str = ""


@dataclass(frozen=True, slots=True)
class _Planned:
    """One recipient of a run."""

    location_id: str | None
    recipient: str
    address: str
    name: str
    language: str
    time_zone: str
    format: str
    workbook: bool
    secret: bytes


def message_id_of(
    tenant: UUID, series: str, location: str | None, days: DateRange, recipient: str, secret: bytes
) -> str:
    """A mail's Message-ID, without its domain: it follows from the delivery's key.

    Whoever sees other mails of the tenant cannot guess it, since the recipient's secret is in it:
    a forged report of non-delivery would have to name it.
    """
    key = [str(tenant), series, location or "", *map(str, (days.start, days.end)), recipient]
    digest = hashlib.blake2b("\n".join(key).encode(), digest_size=16, key=secret)
    return f"report.{digest.hexdigest()}"


async def plan_slot(
    connection: "Connection", tenant: TenantId, schedule: ReportSchedule, zone: str, slot: datetime,
    week_start: int,
) -> UUID:  # fmt: skip
    """The run of a slot, made unless it is there; its job is enqueued."""
    present: UUID | None = await connection.fetchval(
        QUERIES["run_of_slot"], tenant, schedule.id, zone, slot
    )
    if present is not None:
        return present
    days = period_of(slot, zone, schedule.period, week_start)
    run_id = new_id()
    await connection.execute(
        QUERIES["create_run"], tenant, run_id, schedule.id, schedule.name, zone, slot,
        schedule.period.value, days.start, days.end, schedule.patience, "",
    )  # fmt: skip
    locations = None if schedule.locations is None else list(schedule.locations)
    rows = await connection.fetch(QUERIES["planned_recipients"], tenant, locations, zone)
    await _add(
        connection, tenant, run_id, f"schedule/{schedule.id}", schedule.period, days, slot,
        [_of_row(row) for row in rows],
    )  # fmt: skip
    await _enqueue(connection, tenant, run_id)
    return run_id


async def send_now(
    database: Database, tenant: TenantId, wanted: SendNow, actor: Actor, *, now: datetime
) -> Run:
    """Make a run that is due at once.

    Raises:
        InvalidInput: Nobody would get it, or the address cannot be used.
        TooManyRequests: The same person has sent as many as an hour allows.
        NotFound: There is no such tenant.
    """

    async def unit(connection: "Connection") -> Run:
        about = await connection.fetchrow(QUERIES["tenant"], tenant)
        if about is None:
            raise NotFound("There is no such tenant.")
        by_hand = await connection.fetchval(QUERIES["other_tests"], tenant, wanted.requested_by)
        if by_hand >= MOST_BY_HAND:
            raise TooManyRequests(f"Reports can be sent {MOST_BY_HAND} times an hour.", 1 * HOURS)
        days = wanted.days
        if days is None:
            zone, start = about["reporting_time_zone"], about["week_start"]
            days = period_of(now, zone, wanted.period, start)
        run_id = new_id()
        name = "test" if wanted.test_address is not None else "sent by hand"
        await connection.execute(
            QUERIES["create_run"], tenant, run_id, None, name, "", None, wanted.period.value,
            days.start, days.end, 0, wanted.requested_by,
        )  # fmt: skip
        planned = await _planned(connection, tenant, wanted, about["reporting_time_zone"])
        if not planned:
            raise InvalidInput(
                "Nobody would get this report.", [("/locations", "have no enabled recipients")]
            )
        moment = now.replace(microsecond=0)
        await _add(
            connection, tenant, run_id, f"run/{run_id}", wanted.period, days, moment, planned
        )
        await _enqueue(connection, tenant, run_id)
        kind, identifier = actor
        detail = {"mails": len(planned), "period": wanted.period.value}
        await connection.execute(
            QUERIES["append_audit"], kind, identifier, "report.sent_now", str(run_id), detail
        )
        row = await connection.fetchrow(QUERIES["run"], tenant, run_id)
        assert row is not None  # noqa: S101  # just made
        return Run.of(row)

    return await database.run(unit, tenant=tenant)


async def cancel_run(database: Database, tenant: TenantId, run_id: UUID, actor: Actor) -> Run:
    """Let what has not been sent of a run never be sent.

    Raises:
        NotFound: The tenant has no such run.
        Conflict: It has finished.
    """

    async def unit(connection: "Connection") -> Run:
        if await connection.fetchrow(QUERIES["lock_run"], tenant, run_id) is None:
            raise NotFound("There is no such report run.")
        if await connection.fetchval(QUERIES["cancel_run"], tenant, run_id) is None:
            raise Conflict("The run has finished already.")
        await connection.execute(QUERIES["cancel_deliveries"], tenant, run_id)
        kind, identifier = actor
        await connection.execute(
            QUERIES["append_audit"], kind, identifier, "report.run_cancelled", str(run_id), {}
        )
        row = await connection.fetchrow(QUERIES["run"], tenant, run_id)
        assert row is not None  # noqa: S101  # locked above
        return Run.of(row)

    return await database.run(unit, tenant=tenant)


async def settle_by_hand(
    database: Database, tenant: TenantId, delivery_id: UUID, actor: Actor, *, again: bool
) -> None:
    """Say what becomes of a mail that may have arrived, or that was given up.

    Args:
        database: Where.
        tenant: Whose.
        delivery_id: Which.
        actor: Who says so.
        again: Send it again, at the risk that it comes twice; else take an ambiguous one as sent.

    Raises:
        NotFound: The tenant has no such delivery.
        Conflict: It is not unsettled.
    """

    async def unit(connection: "Connection") -> None:
        if await connection.fetchrow(QUERIES["delivery"], tenant, delivery_id) is None:
            raise NotFound("There is no such delivery.")
        await connection.execute(QUERIES["person_decides"])
        query = "send_again" if again else "take_as_sent"
        run_id = await connection.fetchval(QUERIES[query], tenant, delivery_id)
        if run_id is None:
            raise Conflict("The delivery is not one that a person has to decide about.")
        if again:
            await connection.execute(QUERIES["reopen_run"], tenant, run_id)
            await _enqueue(connection, tenant, run_id)
        else:
            await connection.execute(QUERIES["forget_problem"], tenant, run_id)
        kind, identifier = actor
        action = "report.sent_again" if again else "report.taken_as_sent"
        await connection.execute(
            QUERIES["append_audit"], kind, identifier, action, str(delivery_id), {}
        )

    await database.run(unit, tenant=tenant)


def job_of(run_id: UUID, *, delay: float = 0.0) -> NewJob:
    """The job that delivers a run; there is never more than one of them."""
    return NewJob(
        group=GROUP,
        kind=DELIVER,
        arguments={"run_id": str(run_id)},
        delay=delay,
        unique_key=f"run/{run_id}",
        max_attempts=DELIVER_ATTEMPTS,
    )


async def _enqueue(connection: "Connection", tenant: TenantId, run_id: UUID) -> None:
    job = await enqueue(connection, job_of(run_id))
    await connection.execute(QUERIES["set_job"], tenant, run_id, job.id)


async def _planned(
    connection: "Connection", tenant: TenantId, wanted: SendNow, zone: str
) -> list[_Planned]:
    if wanted.test_address is not None:
        return [
            _Planned(
                location_id=wanted.test_location,
                recipient=TEST,
                address=check_address(wanted.test_address),
                name=wanted.test_name,
                language=wanted.language,
                time_zone=zone,
                format="html",
                workbook=True,
                secret=b"",
            )
        ]
    locations = None if wanted.locations is None else list(wanted.locations)
    rows = await connection.fetch(QUERIES["planned_recipients"], tenant, locations, None)
    return [_of_row(row) for row in rows]


def _of_row(row: "asyncpg.Record") -> _Planned:
    return _Planned(
        row["location_id"], str(row["recipient_id"]), row["address"], row["name"],
        row["language"], row["time_zone"], row["format"], row["workbook"], row["secret"],
    )  # fmt: skip


async def _add(
    connection: "Connection",
    tenant: TenantId,
    run_id: UUID,
    series: str,
    period: ReportPeriod,
    days: DateRange,
    dated: datetime,
    planned: Sequence[_Planned],
) -> None:
    if not planned:
        return
    await connection.execute(
        QUERIES["plan"],
        tenant, run_id, series, period.value, days.start, days.end, dated,
        new_ids(len(planned)),
        [one.location_id for one in planned],
        [one.recipient for one in planned],
        [one.address for one in planned],
        [one.name for one in planned],
        [one.language for one in planned],
        [one.time_zone for one in planned],
        [one.format for one in planned],
        [one.workbook for one in planned],
        [
            message_id_of(tenant, series, one.location_id, days, one.recipient, one.secret)
            for one in planned
        ],
    )  # fmt: skip
