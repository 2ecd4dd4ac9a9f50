"""Alerts: what somebody wants to be told of, and when there is something to tell.

=============== ============================================================= ==================
kind            tells                                                         once per
=============== ============================================================= ==================
``spike``       the last complete day is so many percent above what is usual  day
``drop``        … below                                                       day
``stale_data``  the last complete day ended so many hours ago                 last complete day
``failed_load`` a source day has rows that could not be loaded                day, until it is
                                                                              loaded
=============== ============================================================= ==================

Looking (`look`) and telling (`troupe.actors.analytics.alarms`) are apart: an alarm and the messages
about it are rows of one transaction, so that neither a crash nor a mail server that is away loses
or doubles one.
"""

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from troupe.actors.analytics.answers import QUERIES, Reporting, Snapshot
from troupe.actors.analytics.deviation import WEEKS, deviation
from troupe.actors.analytics.filters import Filters
from troupe.actors.analytics.metrics import METRICS
from troupe.common.audit_trail import Who, append_entry
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import Conflict, NotFound, PreconditionFailed
from troupe.common.ids import TenantId, new_id
from troupe.common.secrets import Vault, alert_secret_place
from troupe.common.sql import load

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

ALERTS: Final = load(__package__, "alerts.sql")
MOST_ALERTS: Final = 50
"""Of a tenant."""
LOOK_BACK: Final = timedelta(days=30)
"""Source days that failed longer ago are not told of any more."""
SECRET_BYTES: Final = 32
_MARK: Final = "whsec_"
_WEEK: Final = 7
_HOUR: Final = timedelta(hours=1)


class AlertKind(StrEnum):
    """What is looked at."""

    SPIKE = "spike"
    DROP = "drop"
    STALE_DATA = "stale_data"
    FAILED_LOAD = "failed_load"


COMPARING: Final = frozenset({AlertKind.SPIKE, AlertKind.DROP})


@dataclass(frozen=True, slots=True)
class Wish:
    """An alert as people want it.

    Attributes:
        name: Unique within the tenant.
        metric: Of the registry; of spikes and drops only.
        location_id: Only this branch, of spikes and drops; None: all.
        threshold: Percent of spikes and drops, hours of stale data; None of failed loads.
        least: What is usual must be so much.
        emails: Whom to write to.
        webhook_url: Where to post to.
        enabled: Whether it is looked at.
    """

    name: str
    metric: str | None
    location_id: str | None
    threshold: Decimal | None
    least: Decimal
    emails: tuple[str, ...]
    webhook_url: str | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class Alert:
    """A stored alert."""

    alert_id: UUID
    kind: AlertKind
    wish: Wish
    version: int
    created_at: datetime
    changed_at: datetime

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "Alert":
        """From a row of the table."""
        wish = Wish(
            row["name"],
            row["metric"],
            row["location_id"],
            row["threshold"],
            row["least"],
            tuple(row["emails"]),
            row["webhook_url"],
            row["enabled"],
        )
        return cls(
            row["alert_id"],
            AlertKind(row["kind"]),
            wish,
            row["version"],
            row["created_at"],
            row["changed_at"],
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to tell: about what, and the figures."""

    subject: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Alarm:
    """What an alert has told."""

    alarm_id: UUID
    subject: str
    raised_at: datetime
    resolved_at: datetime | None
    facts: Mapping[str, Any]
    messages: Sequence[Mapping[str, Any]]


def new_secret() -> str:
    """A signing secret as receivers know it."""
    return _MARK + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


class Alerts:
    """Alerts of all tenants.

    Args:
        database: The group's pool.
        vault: Seals signing secrets.
    """

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def page(
        self, tenant: TenantId, *, after: tuple[str, UUID] | None, limit: int
    ) -> list[Alert]:
        """Alerts by name, behind the place that is given."""
        rows = await self._database.fetch(
            ALERTS["list_alerts"],
            tenant,
            *(after or (None, None)),
            limit,
            tenant=tenant,
            read_only=True,
        )
        return [Alert.of(row) for row in rows]

    async def get(self, tenant: TenantId, alert_id: UUID) -> Alert:
        """One alert.

        Raises:
            NotFound: The tenant has no such alert.
        """
        return await self._database.run(
            lambda connection: _read(connection, tenant, alert_id), tenant=tenant, read_only=True
        )

    async def add(
        self, tenant: TenantId, kind: AlertKind, wish: Wish, who: Who
    ) -> tuple[Alert, str | None]:
        """Make an alert; with it the secret that signs what it posts, told this once.

        Args:
            tenant: Whose.
            kind: Of what it tells.
            wish: What it is to be like.
            who: Does it, for the audit log.

        Raises:
            Conflict: Another has the name, or there are too many.
        """
        alert_id = new_id()
        secret = new_secret() if wish.webhook_url else None

        async def unit(connection: "Connection") -> Alert:
            await connection.execute(ALERTS["lock_tenant"], tenant)
            if await connection.fetchval(ALERTS["count_alerts"], tenant) >= MOST_ALERTS:
                raise Conflict(f"A tenant has at most {MOST_ALERTS} alerts.")
            sealed = await self._sealed(connection, tenant, alert_id, secret)
            await connection.execute(
                ALERTS["add_alert"],
                tenant,
                alert_id,
                wish.name,
                kind,
                wish.metric,
                wish.location_id,
                wish.threshold,
                wish.least,
                list(wish.emails),
                wish.webhook_url,
                sealed,
                wish.enabled,
            )
            detail = {"kind": kind, "enabled": wish.enabled}
            await append_entry(connection, who, "alert.created", str(alert_id), detail)
            return await _read(connection, tenant, alert_id)

        return await self._written(tenant, unit), secret

    async def change(
        self, tenant: TenantId, present: Alert, wish: Wish, who: Who
    ) -> tuple[Alert, str | None]:
        """Change an alert; another address to post to comes with another secret.

        Args:
            tenant: Whose.
            present: The alert as it was read.
            wish: What it is to be like.
            who: Does it, for the audit log.

        Raises:
            PreconditionFailed: It was changed since `present` was read.
            Conflict: Another alert has the name.
        """
        moved = wish.webhook_url != present.wish.webhook_url
        secret = new_secret() if moved and wish.webhook_url else None

        async def unit(connection: "Connection") -> Alert:
            sealed = await self._sealed(connection, tenant, present.alert_id, secret)
            version = await connection.fetchval(
                ALERTS["change_alert"],
                tenant,
                present.alert_id,
                present.version,
                wish.name,
                wish.metric,
                wish.location_id,
                wish.threshold,
                wish.least,
                list(wish.emails),
                wish.webhook_url,
                moved,
                sealed,
                wish.enabled,
            )
            if version is None:
                raise PreconditionFailed("It was changed since you have read it. Read it again.")
            changed = [
                part.name
                for part in fields(Wish)
                if getattr(wish, part.name) != getattr(present.wish, part.name)
            ]
            detail = {"kind": present.kind, "enabled": wish.enabled, "fields": changed}
            target = str(present.alert_id)
            await append_entry(connection, who, "alert.changed", target, detail)
            return await _read(connection, tenant, present.alert_id)

        return await self._written(tenant, unit), secret

    async def delete(self, tenant: TenantId, alert_id: UUID, who: Who) -> None:
        """Delete an alert with all that it has told.

        Args:
            tenant: Whose.
            alert_id: Which.
            who: Does it, for the audit log.

        Raises:
            NotFound: The tenant has no such alert.
        """

        async def unit(connection: "Connection") -> None:
            kind = await connection.fetchval(ALERTS["delete_alert"], tenant, alert_id)
            if kind is None:
                raise NotFound("There is no such alert.")
            detail = {"kind": kind}
            await append_entry(connection, who, "alert.deleted", str(alert_id), detail)

        await self._database.run(unit, tenant=tenant)

    async def alarms(
        self,
        tenant: TenantId,
        alert_id: UUID,
        *,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Alarm]:
        """What an alert has told, latest first, behind the place that is given."""
        rows = await self._database.fetch(
            ALERTS["list_alarms"],
            tenant,
            alert_id,
            *(after or (None, None)),
            limit,
            tenant=tenant,
            read_only=True,
        )
        return [Alarm(**dict(row.items())) for row in rows]

    async def _sealed(
        self, connection: "Connection", tenant: TenantId, alert_id: UUID, secret: str | None
    ) -> bytes | None:
        if secret is None:
            return None
        return await self._vault.seal(
            connection, tenant, alert_secret_place(alert_id), secret.encode()
        )

    async def _written(self, tenant: TenantId, unit: Any) -> Alert:
        try:
            written: Alert = await self._database.run(unit, tenant=tenant)
        except asyncpg.UniqueViolationError:
            raise Conflict("Another alert has this name.") from None
        return written


async def _read(connection: "Connection", tenant: TenantId, alert_id: UUID) -> Alert:
    row = await connection.fetchrow(ALERTS["one_alert"], tenant, alert_id)
    if row is None:
        raise NotFound("There is no such alert.")
    return Alert.of(row)


async def look(connection: "Connection", tenant: TenantId, now: datetime) -> int:
    """Look at a tenant's alerts, inside its transaction; how many alarms were raised."""
    rows = await connection.fetch(ALERTS["enabled_alerts"], tenant)
    if not rows:
        return 0
    reporting = await connection.fetchrow(QUERIES["reporting"], tenant)
    if reporting is None:
        return 0
    snapshot = Snapshot(connection, Reporting(tenant, *reporting.values()))
    raised = 0
    for row in rows:
        alert = Alert.of(row)
        findings = await _findings(connection, snapshot, alert, now)
        if alert.kind is AlertKind.FAILED_LOAD:
            holding = [finding.subject for finding in findings]
            await connection.execute(ALERTS["resolve"], tenant, alert.alert_id, holding)
        for finding in findings:
            raised += await raise_alarm(connection, tenant, alert, finding)
    return raised


async def raise_alarm(
    connection: "Connection", tenant: TenantId, alert: Alert, finding: Finding
) -> bool:
    """Write an alarm and the messages about it; False: it has been told already."""
    alarm_id = await connection.fetchval(
        ALERTS["raise"], tenant, alert.alert_id, finding.subject, dict(finding.facts)
    )
    if alarm_id is None:
        return False
    recipients = recipients_of(alert)
    await connection.execute(
        ALERTS["add_messages"],
        tenant,
        alarm_id,
        [channel for channel, _ in recipients],
        [recipient for _, recipient in recipients],
    )
    return True


def recipients_of(alert: Alert) -> list[tuple[str, str]]:
    """Whom an alert tells: channel and address of each."""
    told = [("email", address) for address in alert.wish.emails]
    if alert.wish.webhook_url:
        told.append(("webhook", alert.wish.webhook_url))
    return told


async def _findings(
    connection: "Connection", snapshot: Snapshot, alert: Alert, now: datetime
) -> list[Finding]:
    reporting = snapshot.reporting
    if alert.kind is AlertKind.FAILED_LOAD:
        since = (now - LOOK_BACK).date()
        rows = await connection.fetch(ALERTS["troubled_days"], reporting.tenant, since)
        return [
            Finding(
                f"load {row['source_day']}",
                {
                    "source_day": row["source_day"].isoformat(),
                    "state": row["state"],
                    "problem": row["problem"],
                },
            )
            for row in rows
        ]
    if reporting.data_until is None:
        return []
    if alert.kind is AlertKind.STALE_DATA:
        return _stale(alert, reporting, reporting.data_until, now)
    return await _unusual(snapshot, alert, reporting.data_until)


def _stale(alert: Alert, reporting: Reporting, last: date, now: datetime) -> list[Finding]:
    ended = datetime.combine(last + timedelta(days=1), datetime.min.time(), reporting.zone)
    hours = Decimal((now - ended) // timedelta(seconds=1)) / (_HOUR // timedelta(seconds=1))
    if alert.wish.threshold is None or hours < alert.wish.threshold:
        return []
    facts = {"data_until": last.isoformat(), "threshold_hours": alert.wish.threshold}
    return [Finding(f"data until {last}", facts)]


async def _unusual(snapshot: Snapshot, alert: Alert, day: date) -> list[Finding]:
    wish, first = alert.wish, snapshot.reporting.first_day
    metric = METRICS.get(wish.metric or "")
    if metric is None or wish.threshold is None or first is None:
        return []
    days = [day - timedelta(days=_WEEK * weeks) for weeks in range(WEEKS + 1)]
    known = [one for one in days if one >= first]
    filters = Filters(() if wish.location_id is None else (wish.location_id,))
    summaries = await snapshot.summaries([DateRange(one, one) for one in known], filters)
    value, *before = (metric.compute(summary.measures) for summary in summaries)
    found = deviation(value, before, wish.least)
    if found is None:
        return []
    percent = found.percent if alert.kind is AlertKind.SPIKE else -found.percent
    if percent < wish.threshold:
        return []
    facts = {
        "day": day.isoformat(),
        "metric": metric.name,
        "location_id": wish.location_id,
        "value": str(found.value),
        "usual": format(found.usual.normalize(), "f"),
        "percent": format(found.percent.normalize(), "f"),
        "threshold_percent": wish.threshold,
    }
    return [Finding(f"{metric.name} on {day}", facts)]
