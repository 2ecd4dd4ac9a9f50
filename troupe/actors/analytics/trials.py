"""Trying an alert: the message that it would send, to everybody who would get it, at once.

Whoever sets up an alert learns otherwise only on the night when it matters that the mail server
refuses the sender or that the webhook's address has a slip of the pen. A trial is an alarm like any
other, marked as one about nothing and resolved from the start: it goes through the same postman,
the same guard and the same signature, and stands in the same list with what became of it.

It differs in two ways. It is sent while the person waits, to everybody at the same time and within
`PATIENCE`, and a failure is final: somebody is looking, and may press the button again. If the
sender dies meanwhile, the messages are still rows that wait, and go out with the next alarms.

It writes to addresses outside on demand, so a tenant has `MOST_TRIALS` an hour, counted in
PostgreSQL over all processes, and each is in the audit log.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import trio

from troupe.actors.analytics.alarms import LEASE, Message, Postman
from troupe.actors.analytics.alerts import ALERTS, Alarm, Alert, recipients_of
from troupe.common.audit_trail import Who, append_entry
from troupe.common.database import Database
from troupe.common.errors import TooManyRequests
from troupe.common.ids import TenantId
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import Vault
from troupe.common.units import SECONDS

if TYPE_CHECKING:
    import asyncpg

MOST_TRIALS: Final = 12
"""Of a tenant, within an hour."""
PATIENCE: Final = 15 * SECONDS
"""For everybody together; they are written to at the same time."""


class Trials:
    """Sends trials of alerts.

    Args:
        database: The group's pool.
        vault: Opens the signing secret and the mail server's password.
        guard: Decides which hosts may be connected to.
    """

    def __init__(self, database: Database, vault: Vault, guard: OutboundGuard) -> None:
        self._database = database
        self._vault = vault
        self._guard = guard

    async def send(self, tenant: TenantId, alert: Alert, actor: Who) -> Alarm:
        """Send a trial of an alert as it is stored, switched on or not; what became of it.

        Raises:
            TooManyRequests: The tenant has tried often enough for now.
            DatabaseError: PostgreSQL failed.
        """
        alarm_id, messages = await self._written(tenant, alert, actor)
        async with (
            Postman(self._database, self._vault, self._guard) as postman,
            trio.open_nursery() as nursery,
        ):
            for message in messages:
                nursery.start_soon(self._send_one, postman, tenant, message)
        row = await self._database.fetch_row(
            ALERTS["one_alarm"], tenant, alarm_id, tenant=tenant, read_only=True
        )
        fields: Mapping[str, Any] = dict(row.items()) if row is not None else {}
        return Alarm(**fields)

    @staticmethod
    async def _send_one(postman: Postman, tenant: TenantId, message: Message) -> None:
        await postman.send(tenant, message, patience=PATIENCE, attempts=1)

    async def _written(
        self, tenant: TenantId, alert: Alert, actor: Who
    ) -> tuple[UUID, list[Message]]:
        recipients = recipients_of(alert)

        async def unit(
            connection: "asyncpg.Connection[asyncpg.Record]",
        ) -> tuple[UUID, list[Message]]:
            await connection.execute(ALERTS["lock_tenant"], tenant)
            before = await connection.fetchrow(ALERTS["count_trials"], tenant)
            if before is not None and before["trials"] >= MOST_TRIALS:
                raise TooManyRequests(
                    f"Alerts were tested {MOST_TRIALS} times within an hour; that is enough for"
                    " now.",
                    max(before["wait"], 1.0),
                )
            alarm_id: UUID = await connection.fetchval(ALERTS["add_trial"], tenant, alert.alert_id)
            await connection.execute(
                ALERTS["add_taken_messages"],
                tenant,
                alarm_id,
                [channel for channel, _ in recipients],
                [recipient for _, recipient in recipients],
                LEASE,
            )
            detail = {"messages": len(recipients)}
            await append_entry(connection, actor, "alert.tested", str(alert.alert_id), detail)
            rows = await connection.fetch(ALERTS["messages_of"], tenant, alarm_id)
            return alarm_id, [Message.of(row) for row in rows]

        return await self._database.run(unit, tenant=tenant)
