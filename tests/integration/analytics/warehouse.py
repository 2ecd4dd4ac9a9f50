"""Derived tables filled with random rows, and the same rows kept in Python to be read by hand.

The reading (`Warehouse.measures`) knows neither SQL nor the registry of metrics: it walks over all
rows and adds. The tables need not agree with each other; what derives them is tested elsewhere.
"""

import json
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from troupe.common.dates import DateRange
from troupe.common.ids import TenantId, new_id

COUNTS = (
    "events", "events_without_consent", "page_views", "sessions", "engaged_sessions",
    "sessions_with_cart", "sessions_with_checkout", "sessions_with_purchase",
    "sessions_with_cart_without_purchase", "searches", "failed_searches",
)  # fmt: skip
SUMS = ("purchases", "gross_revenue", "refund_value")
FLAGS = ("active", "new", "returning", "purchaser")
USERS = dict(
    zip(FLAGS, ("active_users", "new_users", "returning_users", "purchasers"), strict=True)
)

Row = dict[str, Any]


@dataclass
class Warehouse:
    """One tenant with everything that analytics may see of it."""

    name: str
    zone: str = "UTC"
    currency: str = "EUR"
    week_start: int = 1
    version: int = 7
    tenant: TenantId = field(default_factory=lambda: TenantId(new_id()))
    hourly: list[Row] = field(default_factory=list)
    users: list[Row] = field(default_factory=list)
    money: list[Row] = field(default_factory=list)
    locations: list[Row] = field(default_factory=list)
    sessions: list[Row] = field(default_factory=list)
    interests: list[Row] = field(default_factory=list)
    parts: list[Row] = field(default_factory=list)
    purchases: list[Row] = field(default_factory=list)
    data_until: date | None = None

    @property
    def first_day(self) -> date | None:
        return min((row["day"] for row in self.hourly), default=None)

    # --- filling ---

    def add_random_days(
        self, days: Iterable[date], branches: Sequence[str], dice: random.Random
    ) -> None:
        """Some hours, visitors and sales on each day; some days and branches stay without any."""
        for day in days:
            if dice.random() < 0.1:
                continue
            for branch in branches:
                if dice.random() < 0.8:
                    self._add_branch_day(day, branch, dice)

    def _add_branch_day(self, day: date, branch: str, dice: random.Random) -> None:
        hours = sorted({self._random_hour(day, dice) for _ in range(dice.randint(1, 6))})
        for hour in hours:
            counts = {name: dice.choice((0, 0, 1, 2, 17, 400)) for name in COUNTS}
            self.hourly.append({"day": day, "hour_start": hour, "location_id": branch, **counts})
        for visitor in dice.sample(range(40), dice.randint(0, 12)):
            flags = {name: dice.random() < 0.4 for name in FLAGS}
            self.users.append(
                {"day": day, "location_id": branch, "user_pseudo_id": f"v{visitor}", **flags}
            )
        for hour in sorted({self._random_hour(day, dice) for _ in range(dice.randint(0, 3))}):
            for currency in dice.sample(("EUR", "USD", "GBP", "JPY"), dice.randint(1, 3)):
                self.money.append(
                    {
                        "day": day,
                        "hour_start": hour,
                        "location_id": branch,
                        "currency": currency,
                        "purchases": dice.randint(0, 9),
                        "gross_revenue": random_amount(dice),
                        "refunds": dice.randint(0, 2),
                        "refund_value": random_amount(dice) / 8,
                    }
                )

    def _random_hour(self, day: date, dice: random.Random) -> datetime:
        """The clock hour of a random instant of the day."""
        zone = ZoneInfo(self.zone)
        midnight = datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)
        while True:
            instant = midnight + timedelta(minutes=dice.randint(0, 25 * 60 - 1))
            local = instant.astimezone(zone)
            if local.date() == day:
                return instant - timedelta(minutes=local.minute)

    def daily(self) -> list[Row]:
        sums: dict[tuple[date, str], Row] = {}
        for row in self.hourly:
            key = row["day"], row["location_id"]
            sums.setdefault(key, dict.fromkeys(COUNTS, 0))
            for name in COUNTS:
                sums[key][name] += row[name]
        return [{"day": day, "location_id": branch, **row} for (day, branch), row in sums.items()]

    def daily_money(self) -> list[Row]:
        sums: dict[tuple[date, str, str], Row] = {}
        for row in self.money:
            key = row["day"], row["location_id"], row["currency"]
            sums.setdefault(key, dict.fromkeys(SUMS, 0))
            with localcontext(prec=1000):  # as exact as PostgreSQL
                for name in SUMS:
                    sums[key][name] += row[name]
        names = ("day", "location_id", "currency")
        return [dict(zip(names, key, strict=True)) | row for key, row in sums.items()]

    async def store(self, url: str) -> None:
        """Write everything, as the runtime role under the tenant's own setting."""
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await connection.execute(
                    "SELECT set_config('troupe.tenant_id', $1, true)", str(self.tenant)
                )
                await connection.execute(
                    "INSERT INTO platform.tenants (tenant_id, name, reporting_time_zone,"
                    " reporting_currency, week_start) VALUES ($1, $2, $3, $4, $5)",
                    self.tenant, self.name, self.zone, self.currency, self.week_start,
                )  # fmt: skip
                if self.version:
                    await connection.execute(
                        "INSERT INTO data.versions (tenant_id, data_version, first_day, data_until)"
                        " VALUES ($1, $2, $3, $4)",
                        self.tenant, self.version, self.first_day, self.data_until,
                    )  # fmt: skip
                for table, rows in (
                    ("hourly_rollup", self.hourly),
                    ("daily_rollup", self.daily()),
                    ("user_day", self.users),
                    ("money_rollup", self.money),
                    ("daily_money", self.daily_money()),
                    ("locations", self.locations),
                    ("sessions", self.sessions),
                    ("interests", self.interests),
                    ("part_rollup", self.parts),
                    ("purchases", self.purchases),
                ):
                    await insert(connection, table, self.tenant, rows)
        finally:
            await connection.close()

    # --- reading ---

    def measures(
        self,
        within: Callable[[Row], bool],
        branches: Collection[str] | None = None,
        *,
        of_users: bool = True,
    ) -> Row:
        """The sums over all rows that `within` accepts; `other` is money by other currency."""

        def chosen(rows: list[Row]) -> list[Row]:
            return [
                row
                for row in rows
                if within(row) and (branches is None or row["location_id"] in branches)
            ]

        found: Row = {name: sum(row[name] for row in chosen(self.hourly)) for name in COUNTS}
        visitors = chosen(self.users) if of_users else []
        found["total_users"] = len({row["user_pseudo_id"] for row in visitors})
        for flag, name in USERS.items():
            found[name] = len({row["user_pseudo_id"] for row in visitors if row[flag]})
        other: dict[str, list[Any]] = {}
        for row in chosen(self.money):
            sums = other.setdefault(row["currency"], [0, Decimal(0), Decimal(0)])
            sums[0] += row["purchases"]
            sums[1] += row["gross_revenue"]
            sums[2] += row["refund_value"]
        found["purchases"] = sum(sums[0] for sums in other.values())
        found["purchases_in_currency"], found["gross_revenue"], found["refund_value"] = other.pop(
            self.currency, [0, Decimal(0), Decimal(0)]
        )
        found["other"] = sorted((currency, *sums) for currency, sums in other.items())
        return found

    def over(self, days: DateRange, branches: Collection[str] | None = None) -> Row:
        """The sums over a range of days."""
        return self.measures(lambda row: days.start <= row["day"] <= days.end, branches)

    def at(self, hour: datetime, branches: Collection[str] | None = None) -> Row:
        """The sums of one clock hour, which knows no visitors."""
        return self.measures(lambda row: row.get("hour_start") == hour, branches, of_users=False)

    def branch_ids(self, periods: Sequence[DateRange]) -> set[str]:
        """Branches of the master data, and those with data in any of the periods."""
        return {row["location_id"] for row in self.locations} | {
            row["location_id"]
            for row in (*self.hourly, *self.users, *self.money)
            if any(days.start <= row["day"] <= days.end for days in periods)
        }


def random_amount(dice: random.Random) -> Decimal:
    """Money of any size and with any number of places."""
    return Decimal(dice.choice((0, 1, 999, 12_345, 10**15))) + Decimal(
        dice.randint(0, 10**6)
    ).scaleb(-dice.randint(0, 4))


def summary_as_row(summary: Any) -> Row:
    """A `Summary` in the words of the reading."""
    found = {name: getattr(summary.measures, name) for name in summary.measures.__slots__}
    found["other"] = [
        (other.currency, other.purchases, other.gross_revenue, other.refund_value)
        for other in summary.other_currencies
    ]
    return found


async def insert(
    connection: asyncpg.Connection, table: str, tenant: TenantId, rows: Sequence[Row]
) -> None:
    """Rows into a table of schema ``data``, by one statement; they have the same keys."""
    if not rows:
        return
    names = ", ".join(f'"{name}"' for name in ("tenant_id", *rows[0]))
    told = json.dumps([{"tenant_id": tenant, **row} for row in rows], default=str)
    await connection.execute(
        f"INSERT INTO data.{table} ({names}) SELECT {names}"
        f" FROM jsonb_populate_recordset(NULL::data.{table}, $1::jsonb)",
        told,
    )
