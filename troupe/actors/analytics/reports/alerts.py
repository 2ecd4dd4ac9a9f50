"""Telling a tenant's owners that its reports do not go out.

By mail, over the tenant's own server: where that is what fails, the run's `problem` and the log are
all there is. Owners are told once in six hours for each run.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final

from troupe.actors.analytics.reports.mail import check_address
from troupe.actors.analytics.reports.outcomes import Step
from troupe.actors.analytics.reports.records import Run, TenantLook
from troupe.actors.analytics.reports.smtp import MailLine
from troupe.actors.analytics.reports.statements import QUERIES
from troupe.common.connections import SmtpConfig
from troupe.common.database import Database
from troupe.common.errors import InvalidInput
from troupe.common.ids import TenantId

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

MOST_OWNERS: Final = 10
_POLICY: Final = SMTP.clone(cte_type="7bit")


async def tell_owners(
    database: Database,
    tenant: TenantId,
    run: Run,
    reason: str,
    look: TenantLook,
    config: SmtpConfig,
    line_of: Callable[[], MailLine],
) -> bool:
    """Mail the owners, unless they were told of late; whether that worked or was not needed."""

    async def unit(connection: "Connection") -> list[str] | None:
        if not await connection.fetchval(QUERIES["set_problem"], tenant, run.id, reason):
            return None
        rows = await connection.fetch(QUERIES["owners"])
        return [row["email"] for row in rows[:MOST_OWNERS]]

    owners = await database.run(unit, tenant=tenant)
    if owners is None:
        return True
    line, told = line_of(), 0
    try:
        for owner in owners:
            try:
                address = check_address(owner)
            except InvalidInput:
                continue  # an identity provider may call anything an address
            message = _message(run, reason, look, config.sender, address)
            reply = await line.offer(address, message, _always)
            told += reply.code is not None and 200 <= reply.code < 300
            if reply.step is Step.CONNECT:
                break  # the others would wait as long for nothing
        await line.close()
    finally:
        line.drop()
    return told > 0


async def _always() -> bool:
    return True


def _message(run: Run, reason: str, look: TenantLook, sender: str, address: str) -> bytes:
    message = EmailMessage(policy=_POLICY)
    message["Subject"] = f"Troupe: reports of {look.name} need attention"
    message["From"] = sender
    message["To"] = address
    message["Date"] = format_datetime(datetime.now(UTC).replace(microsecond=0))
    key = f"{run.id} {address} {message['Date']}".encode()
    domain = sender.rpartition("@")[2]
    message["Message-ID"] = f"<alert.{hashlib.blake2b(key, digest_size=16).hexdigest()}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(
        f"The report {run.name!r} for {run.days.start} to {run.days.end} needs attention.\n\n"
        f"{reason}\n\n"
        f"Run {run.id}; GET /api/v1/reports/runs/{run.id} shows it.\n",
        cte="quoted-printable",
    )
    return message.as_bytes()
