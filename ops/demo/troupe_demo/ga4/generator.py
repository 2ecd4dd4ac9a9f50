"""Realistic GA4 exports, made from a seed.

Each tenant is a small simulation: visitors come at the shop's busy hours, look around, buy or
leave, and come back on another day or device. Its days are made one after the other; of a day that
is written only what people remember stays in memory (their carts, cookies and open orders), so
memory is bounded by the busiest day and not by the number of days.

A day ends when it has its share of the events that were asked for. Visits that run past midnight
leave their last events to the next day, as the real export does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from troupe_demo.ga4.audience import Audience, Visitor
from troupe_demo.ga4.browsing import Shopper
from troupe_demo.ga4.clock import MINUTE, SECOND, BusinessDay, midnight, quotas
from troupe_demo.ga4.columns import day_table
from troupe_demo.ga4.dice import Dice
from troupe_demo.ga4.export import Calendar, folder, write_day
from troupe_demo.ga4.hits import Hit, Source
from troupe_demo.ga4.orders import Errand, OrderBook
from troupe_demo.ga4.profiles import TenantProfile
from troupe_demo.ga4.visit import DeniedVisit, ServerSide, Visit

DENIED_SHARE: Final = 0.06
COLLISION_SHARE: Final = 0.05
"""Visits that begin in the very second in which another one of the day begins."""
DENIED_ORDER_EVERY: Final = 40
NOW_HOUR: Final = 14
"""The last day is still going on: it ends at this hour of the property's wall clock."""
RECENT_STARTS: Final = 64


@dataclass(frozen=True, slots=True)
class GeneratedTenant:
    """What was written for one property."""

    profile: TenantProfile
    directory: Path
    first_day: date
    last_day: date
    events: int
    """Rows that count: those of each day's best family."""
    rows: int
    """Rows of all tables, left-over ones included."""
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GeneratedSummary:
    """What was written in all."""

    tenants: tuple[GeneratedTenant, ...]

    @property
    def events(self) -> int:
        """Events of all tenants, each day's best family only."""
        return sum(tenant.events for tenant in self.tenants)


def generate(
    root: Path,
    profiles: Sequence[TenantProfile],
    *,
    days: int,
    events: int,
    seed: int,
    last_day: date,
    progress: Callable[[int, int], None] | None = None,
) -> GeneratedSummary:
    """Write the exports of all `profiles` below `root`, as ``PROJECT/DATASET/TABLE.parquet``.

    The same arguments give the same rows, and a profile's rows do not depend on the other profiles
    but for its share of the events.

    Args:
        root: Created if missing. Tables of the same name are replaced.
        profiles: At least one, each with a project of its own.
        days: Length of the export, at least 1, `last_day` included.
        events: Events of all tenants together, at least; a little more are written. Rows of tables
            that a better family supersedes are not counted.
        seed: Any integer.
        last_day: The property's current day, which has an intraday table up to `NOW_HOUR`.
        progress: Called after each day of each tenant with (days written, days in all).

    Raises:
        ValueError: `days` or `events` is not positive, or there is no profile.
    """
    if days < 1 or events < 1 or not profiles:
        raise ValueError("at least one profile, one day and one event are needed")
    calendar = Calendar(last_day, days)
    shares = sum(profile.share for profile in profiles)
    done = 0
    tenants: list[GeneratedTenant] = []
    for profile in profiles:
        quota = ceil(events * profile.share / shares)
        tenant = _Tenant(root, profile, calendar, seed)
        for day, count in zip(calendar, quotas(profile, list(calendar), quota), strict=True):
            tenant.write(day, count)
            done += 1
            if progress is not None:
                progress(done, days * len(profiles))
        tenants.append(tenant.summary())
    return GeneratedSummary(tuple(tenants))


class _Tenant:
    """The simulation of one shop."""

    def __init__(self, root: Path, profile: TenantProfile, calendar: Calendar, seed: int) -> None:
        self._root = root
        self._profile = profile
        self._calendar = calendar
        self._first_day = next(iter(calendar))
        self._zone = ZoneInfo(profile.zone)
        self._dice = Dice(f"{seed}/{profile.project}/{profile.property_id}")
        self._audience = Audience(profile, self._dice, begin=midnight(self._first_day, self._zone))
        self._orders = OrderBook(profile, self._dice, self._first_day.year)
        self._shopper = Shopper(profile, self._dice, self._orders)
        self._today: list[Hit] = []
        self._later: list[Hit] = []
        """Events of visits that ran past midnight: the next day's."""
        self._starts: list[int] = []
        self._denied = 0
        self._owed = 0
        """Events by which the days so far fell short; negative when they have too many."""
        self._events = 0
        self._tables: dict[str, int] = {}
        folder(root, profile).mkdir(parents=True, exist_ok=True)

    def write(self, day: date, quota: int) -> None:
        """Make one day of at least `quota` events and write its tables."""
        is_last = day == self._calendar.last_day
        today = BusinessDay.of(
            day, self._zone, self._profile.hours, until_hour=NOW_HOUR if is_last else None
        )
        self._starts.clear()
        carried, self._later = self._later, []
        self._settle(carried, today)
        for errand in self._orders.due():
            self._settle(self._run(errand, today), today)
        if not is_last:
            late = today.end - self._dice.between(2 * MINUTE, 5 * MINUTE)
            self._settle(self._visit(late, patient=True), today)
        wanted = quota + self._owed
        while len(self._today) < wanted:
            self._settle(self._somebody(today), today)
        written, self._today = self._today, []
        self._owed = wanted - len(written)
        self._events += len(written)
        table = day_table(written, self._profile, day)
        self._tables |= write_day(self._root, self._profile, self._calendar, day, table)

    def summary(self) -> GeneratedTenant:
        """What was written so far."""
        return GeneratedTenant(
            profile=self._profile,
            directory=folder(self._root, self._profile),
            first_day=self._first_day,
            last_day=self._calendar.last_day,
            events=self._events,
            rows=sum(self._tables.values()),
            tables=tuple(self._tables),
        )

    def _settle(self, hits: list[Hit], today: BusinessDay) -> None:
        """Sort new events into today's and those after midnight."""
        for hit in hits:
            (self._today if hit.timestamp < today.end else self._later).append(hit)

    def _somebody(self, today: BusinessDay) -> list[Hit]:
        """One visit at one of the day's busy hours."""
        dice = self._dice
        start = today.moment(dice)
        if self._starts and dice.chance(COLLISION_SHARE):
            start = dice.pick(self._starts) // SECOND * SECOND + dice.below(SECOND)
        if dice.chance(DENIED_SHARE):
            return self._denied_visit(start)
        if len(self._starts) < RECENT_STARTS:
            self._starts.append(start)
        else:
            self._starts[dice.below(RECENT_STARTS)] = start
        return self._visit(start)

    def _visit(self, start: int, *, patient: bool = False) -> list[Hit]:
        visitor = self._audience.arrive(start)
        visit = self._begin(visitor, self._audience.source_of(visitor), start)
        self._shopper.shop(visit, patient=patient)
        visit.close()
        return visit.hits

    def _denied_visit(self, start: int) -> list[Hit]:
        self._denied += 1
        visit = DeniedVisit(self._profile, self._dice, self._audience.passer_by(start), start)
        buys = self._denied % DENIED_ORDER_EVERY == DENIED_ORDER_EVERY // 2
        self._shopper.shop_denied(visit, buys=buys)
        return visit.hits

    def _run(self, errand: Errand, today: BusinessDay) -> list[Hit]:
        start = today.moment(self._dice)
        if errand.kind == "refund_without_session":
            server = ServerSide(errand.origin.scene, start)
            errand.order.refund(server, whole=errand.whole)
            return server.hits
        if errand.kind == "other_cookie":
            visitor = self._audience.newcomer(start)
        else:
            visitor = errand.visitor
            start = max(start, visitor.free_at)
        visit = self._begin(visitor, self._audience.direct, start)
        self._shopper.run(errand, visit)
        visit.close()
        return visit.hits

    def _begin(self, visitor: Visitor, source: Source, start: int) -> Visit:
        return Visit(self._profile, self._dice, visitor, source, start)
