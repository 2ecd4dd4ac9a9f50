"""What one tenant's queries may scan in a day.

BigQuery bills by the bytes that a query reads, and a mistake (a backfill of years, a table that is
written every hour) reads a lot. Each query's dry run says how many bytes it would be; they are
reserved before the query is sent, in one statement that checks the sum, so that two processes
cannot both spend the rest. A day of the budget is a day of the tenant's reporting zone by the
database's clock.

A reservation is given back when the query is known to have failed, which BigQuery does not bill. An
attempt that dies keeps what it has reserved: the query may have run. The budget is then too strict
by one query, never too lax. BigQuery itself is told the most that the query may be billed for, in
case the table has grown since the estimate.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from troupe.common.config import DataSettings
from troupe.common.ids import TenantId
from troupe.common.sql import load
from troupe.common.tenant_settings import TenantSettings
from troupe.common.units import GiB, KiB, MiB
from troupe.platform.errors import PermanentJobError

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

LEAST_BILLED: Final = 10 * MiB
"""BigQuery bills this much for a query that reads anything, and whole MiB."""

_QUERIES: Final = load(__package__, "scan_budget.sql")


class ScanBudgetSpent(PermanentJobError):
    """The query would scan more than is left of the day's budget."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Bytes that one query may scan.

    Attributes:
        day: On whose account they are.
        scanned_bytes: The estimate.
        billed_at_most: What BigQuery is told not to exceed; None without a budget.
    """

    day: date
    scanned_bytes: int
    billed_at_most: int | None


@dataclass(frozen=True, slots=True)
class ScanBudget:
    """One tenant's budget.

    Attributes:
        tenant: Whose.
        zone: Reporting zone; its midnights end the budget's days.
        daily_bytes: How much; None: no limit, but what is scanned is counted.
    """

    tenant: TenantId
    zone: str
    daily_bytes: int | None

    async def reserve(self, connection: "Connection", estimate: int, what: str) -> Reservation:
        """Put a query's estimate on today's account; inside a transaction of the tenant's.

        Args:
            connection: With the transaction.
            estimate: Bytes, from the dry run.
            what: What would be read, for the refusal: ``events_20260801``.

        Raises:
            ScanBudgetSpent: Not that much is left.
        """
        row = await connection.fetchrow(
            _QUERIES["reserve"], self.tenant, self.zone, estimate, self.daily_bytes
        )
        if row is not None:
            left = None
            if self.daily_bytes is not None:
                # Of what is left besides, in whole MiB as BigQuery counts.
                rest = self.daily_bytes - row["scanned_bytes"] + estimate
                left = max(LEAST_BILLED, -(-rest // MiB) * MiB)
            return Reservation(row["day"], estimate, left)
        spent: int = await connection.fetchval(_QUERIES["spent"], self.tenant, self.zone) or 0
        raise ScanBudgetSpent(
            f"Reading {what} would scan {readable(estimate)}; {readable(spent)} of today's"
            f" {readable(self.daily_bytes or 0)} are spent. The budget begins anew at midnight in"
            f" {self.zone}."
        )

    async def give_back(self, connection: "Connection", reservation: Reservation) -> None:
        """Take a query that failed off the account it was put on."""
        await connection.execute(
            _QUERIES["give_back"], self.tenant, reservation.day, reservation.scanned_bytes
        )


def daily_bytes(settings: TenantSettings, allowed: DataSettings) -> int | None:
    """What a tenant's queries may scan in a day; None: any number of bytes.

    Args:
        settings: The tenant's.
        allowed: The operator's; count where the tenant says nothing.
    """
    own = settings.scan_budget_gib
    gib = allowed.scan_budget_gib if own is None else own
    return round(gib * GiB) if gib else None


def readable(size: int) -> str:
    """Bytes for people: three digits and a unit."""
    for unit, name in ((GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB")):
        if size >= unit:
            return (
                f"{size / unit:.3g} {name}" if size < 1000 * unit else f"{size / unit:.0f} {name}"
            )
    return f"{size} bytes"
