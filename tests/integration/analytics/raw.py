"""Shops made of raw events, and the answers read off these events in plain Python.

Nothing here knows a derived table or the registry of metrics. Every figure is found by walking over
all events; only what a session is (whose, since when, which branch) is taken from the reading that
tests/integration/data has of it, which is plain Python too.
"""

import json
import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from tests.integration.analytics.test_analytics_http import figures
from tests.integration.data.brute_force import FIRST, PAGE_VIEWS, Event, Row, Rules, _Reading
from tests.integration.data.loading import in_tenant, load_staged, make_tenant
from troupe.actors.data.publication import Reporting, publish
from troupe.common.dates import DateRange
from troupe.common.ids import TenantId

FIRST_DAY = date(2026, 10, 20)
DAYS = 14
FAILED = "nothing_found"
CHANNELS = ["Paid Search", "Direct", "Email"]
DEVICES = ["desktop", "mobile", None]
COUNTRIES = ["Germany", "Österreich", None]
BRANCHES = ["B1", "B2", None]
CUSTOMERS = ["C1", "C2", None]
HOME = "https://a.example/"
PAGES = [HOME, f"{HOME}x?utm=1", f"{HOME}x#top", "/y", None]
TERMS = ["Hammer", "  hammer ", "HAMMER", "Straße", "strasse", "a\u00a0 b", "ﬁx", "  ", None]
PRODUCTS = ["P1", "P2", "P3", "(not set)", None]
NAMES = [
    "page_view", "page_view", "page_view", "screen_view", "view_item", "view_item", "add_to_cart",
    "begin_checkout", "begin_checkout", "purchase", "refund", "view_search_results", FAILED,
    "first_visit", "session_start", "user_engagement",
]  # fmt: skip
SUBJECTS = ("page", "product", "term")
Chosen = dict[str, list[str]]


def random_event(source_day: date, dice: random.Random) -> Event:
    """An event of a source day; mostly within it, sometimes hours early or late."""
    noon = datetime.combine(source_day, datetime.min.time(), UTC) + timedelta(hours=12)
    name = dice.choice(NAMES)
    sale = name in {"purchase", "refund"}
    return Event(
        event_at=noon + timedelta(seconds=dice.randint(-46_000, 46_000) // 60 * 60),
        event_name=name,
        stream_id=dice.choice(["web", "web", "web", "web", "app", None]),
        user_pseudo_id=dice.choice([*(f"u{number}" for number in range(5)), None]),
        # Sessions of a day, and a few that go on for days.
        ga_session_id=dice.choice([source_day.toordinal(), source_day.toordinal(), 7, None]),
        ga_session_number=dice.choice([None, 1, 2]),
        session_engaged=dice.choice([None, False, False, True]),
        engagement_ms=dice.choice([None, 0, 0, 700]),
        is_active_user=dice.choice([None, False, False, True]),
        customer_id=dice.choice([*CUSTOMERS, None, None]),
        location_id=dice.choice([*BRANCHES, None]),
        page_location=dice.choice(PAGES),
        page_title=dice.choice([None, "Title", "title"]),
        channel=dice.choice(CHANNELS),
        device_category=dice.choice(DEVICES),
        country=dice.choice(COUNTRIES),
        search_term=dice.choice(TERMS),
        currency=dice.choice(["EUR", "EUR", "USD", None]) if sale else None,
        event_value=19.99 if sale else None,
        transaction_id=dice.choice([None, *(f"T{n}" for n in range(40))]) if sale else None,
        purchase_revenue=dice.choice([None, 0.1, 0.2, 19.99]) if name == "purchase" else None,
        refund_value=dice.choice([None, 5.0, 0.3]) if name == "refund" else None,
        items=random_items(dice),
        bundle_sequence_id=dice.randint(1, 10**9),
    )


def random_journey(source_day: date, dice: random.Random) -> list[Event]:
    """A session that goes through the funnel, sometimes in another order or with a step twice."""
    steps = ["view_item", "add_to_cart", "begin_checkout", "purchase"]
    if dice.random() < 0.5:
        steps.insert(dice.randint(0, 4), dice.choice(steps))
    if dice.random() < 0.3:
        dice.shuffle(steps)
    at = datetime.combine(source_day, datetime.min.time(), UTC) + timedelta(
        hours=dice.randint(0, 20)
    )
    visitor, session = f"u{dice.randint(0, 9)}", dice.randint(100, 10**6)
    events = []
    for name in steps:
        at += timedelta(minutes=dice.choice([0, 1, 20, 50, 130]))
        usual = random_event(source_day, dice)
        revenue, order = (9.5, f"T{dice.randint(0, 60)}") if name == "purchase" else (None, None)
        events.append(
            replace(
                usual,
                event_at=at,
                event_name=name,
                stream_id="web",
                user_pseudo_id=visitor,
                ga_session_id=session,
                currency="EUR" if name == "purchase" else None,
                event_value=None,
                transaction_id=order,
                purchase_revenue=revenue,
                refund_value=None,
            )
        )
    return events


def random_items(dice: random.Random) -> str | None:
    if dice.random() < 0.2:
        return None
    items = [
        {
            "id": dice.choice(PRODUCTS),
            "name": dice.choice([None, "Name", "name"]),
            "price": dice.choice([None, 1.5, 20]),
            "quantity": dice.choice([None, 1, 3]),
            "revenue": dice.choice([None, 4.5, 0]),
        }
        for _ in range(dice.randint(1, 3))
    ]
    return json.dumps(items)


@dataclass
class RawShop:
    """One tenant and all of its events."""

    name: str
    zone: ZoneInfo
    property_zone: str
    week_start: int
    days: dict[date, list[Event]]
    currency: str = "EUR"
    tenant: TenantId = field(default=None)  # type: ignore[assignment]

    async def store(self, url: str) -> None:
        """Load every day as the product does; the last one is still going on."""
        connection = await asyncpg.connect(url)
        try:
            self.tenant = await make_tenant(connection, zone=self.zone.key, currency=self.currency)
            reporting = Reporting(
                self.tenant, self.zone.key, self.currency, self.property_zone, FAILED
            )

            async def set_week(inside: asyncpg.Connection) -> None:
                await inside.execute("UPDATE platform.tenants SET week_start = $1", self.week_start)

            await in_tenant(connection, self.tenant, set_week)
            last = max(self.days)
            for day, events in self.days.items():
                family = "intraday" if day == last else "daily"
                staged = await load_staged(connection, reporting, day, events, family=family)

                async def swap(inside: asyncpg.Connection, staged: Any = staged) -> int:
                    return await publish(inside, reporting, {staged: None})

                await in_tenant(connection, self.tenant, swap)
        finally:
            await connection.close()


def make_shop(name: str, zone: str, property_zone: str, week_start: int, seed: int) -> RawShop:
    dice = random.Random(seed)
    days = {
        FIRST_DAY + timedelta(days=number): [
            random_event(FIRST_DAY + timedelta(days=number), dice)
            for _ in range(dice.choice([0, 60, 150, 220]))
        ]
        for number in range(DAYS)
    }
    for day, events in days.items():
        for _ in range(dice.randint(0, 8)):
            events.extend(random_journey(day, dice))
    # The last day breaks off in the middle.
    last = max(days)
    noon = datetime.combine(last, datetime.min.time(), UTC) + timedelta(hours=12)
    days[last] = [random_event(last, dice) for _ in range(90)]
    days[last] = [event for event in days[last] if event.event_at < noon]
    return RawShop(name, ZoneInfo(zone), property_zone, week_start, days)


def search_key(term: str) -> str:
    """A term as METRICS compares it."""
    return " ".join(unicodedata.normalize("NFKC", term).casefold().split())


def page_of(address: str) -> str:
    return address.split("#", maxsplit=1)[0].split("?", maxsplit=1)[0]


class RawReading:
    """Answers, read off a shop's events."""

    def __init__(self, shop: RawShop) -> None:
        self.shop = shop
        nothing: Callable[[Any, Any, Any], str] = lambda *_: "Direct"  # noqa: E731
        rules = Rules(shop.zone, shop.currency, FAILED, {}, nothing)
        self.base = _Reading(shop.days, rules)
        self.refunds = self.base.refund_rows()
        self.events = [event for _, event in self.base.events]
        items = {}
        for day, event in self.base.events:
            if event.event_name == "purchase":
                items[day, event.bundle_sequence_id] = json.loads(event.items or "[]")
        for row in self.base.purchases:
            row["bought"] = items[row["source_day"], row["bundle_sequence_id"]]
        self.had_to_do = self._had_to_do()

    def _had_to_do(self) -> dict[Any, dict[str, set[str]]]:
        """By session and kind, whatever the session had to do with at any time."""
        found: dict[Any, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for event in self.events:
            if event.session_key is not None:
                for kind in SUBJECTS:
                    found[event.session_key][kind] |= self._met(kind, event)
        for sale in self.base.purchases:
            if sale["counted"] and sale["session"] is not None:
                bought = {item["id"] for item in sale["bought"]} - {None, "(not set)"}
                found[sale["session"]]["product"] |= bought
        return found

    @property
    def last_event_at(self) -> datetime:
        return max(event.event_at for event in self.shop.days[max(self.shop.days)])

    # --- what is looked at ---

    def lets(self, session: Row | None, branch: str, chosen: Chosen) -> bool:
        """Whether filters let something pass: of a session, or outside of any, at a branch."""
        branches = chosen.get("location")
        if branches and branch not in branches:
            return False
        others = {name: values for name, values in chosen.items() if name != "location" and values}
        if session is None:
            return not others
        names = {
            "channel": "channel", "device": "device_category", "country": "country",
            "customer": "customer_id",
        }  # fmt: skip
        key = session["stream_id"], session["user_pseudo_id"], session["ga_session_id"]
        alike = {"page": page_of, "product": str, "term": search_key}
        return all(
            any(alike[name](value) in self.had_to_do[key][name] for value in values)
            if name in SUBJECTS
            else (session[names[name]] or "") in values
            for name, values in others.items()
        )

    def session_of(self, key: tuple[str, str, int] | None) -> Row | None:
        return None if key is None else self.base.sessions[key]

    def part(self, session: Row | None, branch: str, apart: str) -> str:
        match apart:
            case "location":
                return branch
            case "channel" | "device" | "country":
                name = {"channel": "channel", "device": "device_category"}.get(apart, apart)
                return "" if session is None else session[name] or ""
        return ""

    def happened(
        self, days: DateRange, until: datetime | None, chosen: Chosen
    ) -> Iterator[tuple[Event, Row | None, str]]:
        """Events with their session and branch."""
        for event in self.events:
            if self.within(event.event_at, days, until):
                session, branch = self.session_of(event.session_key), self.base.branch(event)
                if self.lets(session, branch, chosen):
                    yield event, session, branch

    def within(self, at: datetime, days: DateRange, until: datetime | None) -> bool:
        return days.start <= self.base.day(at) <= days.end and (until is None or at < until)

    def begun(self, days: DateRange, until: datetime | None, chosen: Chosen) -> Iterator[Row]:
        for session in self.base.sessions.values():
            at, branch = session["started_at"], session["location_id"]
            if self.within(at, days, until) and self.lets(session, branch, chosen):
                yield session

    def sold(self, days: DateRange, until: datetime | None, chosen: Chosen) -> Iterator[Row]:
        for row in self.base.purchases:
            if (
                row["counted"]
                and self.within(row["purchased_at"], days, until)
                and self.lets(self.session_of(row["session"]), row["location_id"], chosen)
            ):
                yield row

    def refunded(self, days: DateRange, until: datetime | None, chosen: Chosen) -> Iterator[Row]:
        for row in self.refunds:
            key = row["stream_id"] or "", row["user_pseudo_id"], row["ga_session_id"]
            session = None if None in key else self.base.sessions[key]
            if self.within(row["refunded_at"], days, until) and self.lets(
                session, row["location_id"], chosen
            ):
                yield row | {"of": session}

    # --- figures ---

    def measures(
        self,
        days: DateRange,
        until: datetime | None = None,
        chosen: Chosen | None = None,
        *,
        apart: str = "",
        hours: bool = False,
    ) -> dict[Any, Row]:
        """Sums by part, or by hour."""
        chosen = chosen or {}
        counts: dict[Any, Any] = defaultdict(lambda: defaultdict(int))
        people: dict[Any, Any] = defaultdict(lambda: defaultdict(set))
        money: dict[Any, Any] = defaultdict(
            lambda: defaultdict(lambda: [0, Decimal(0), Decimal(0)])
        )

        def place(session: Row | None, branch: str, at: datetime) -> Any:
            return self.base.hour(at) if hours else self.part(session, branch, apart)

        for event, session, branch in self.happened(days, until, chosen):
            where = place(session, branch, event.event_at)
            row = counts[where]
            row["events"] += 1
            row["events_without_consent"] += session is None
            row["page_views"] += event.event_name in PAGE_VIEWS
            row["searches"] += event.event_name in {"view_search_results", FAILED}
            row["failed_searches"] += event.event_name == FAILED
            if event.user_pseudo_id is not None:
                for name in self._roles(event, session):
                    people[where][name].add(event.user_pseudo_id)
        for session in self.begun(days, until, chosen):
            row = counts[place(session, session["location_id"], session["started_at"])]
            carted, bought = session["cart_additions"] > 0, session["purchases"] > 0
            row["sessions"] += 1
            row["engaged_sessions"] += session["engaged"]
            row["sessions_with_cart"] += carted
            row["sessions_with_purchase"] += bought
            row["sessions_with_cart_without_purchase"] += carted and not bought
        for sale in self.sold(days, until, chosen):
            where = place(
                self.session_of(sale["session"]), sale["location_id"], sale["purchased_at"]
            )
            sums = money[where][sale["currency"]]
            sums[0] += 1
            sums[1] += sale["revenue"]
            if sale["user_pseudo_id"] is not None:
                people[where]["purchasers"].add(sale["user_pseudo_id"])
        for refund in self.refunded(days, until, chosen):
            where = place(refund["of"], refund["location_id"], refund["refunded_at"])
            money[where][refund["currency"]][2] += refund["refund_value"]
        return {
            where: self._row(counts[where], people[where], money[where])
            for where in {*counts, *people, *money}
        }

    def _roles(self, event: Event, session: Row | None) -> Iterator[str]:
        yield "total_users"
        if event.event_name in FIRST:
            yield "new_users"
        if (event.ga_session_number or 0) > 1:
            yield "returning_users"
        if (
            event.event_name in FIRST
            or event.is_active_user
            or (event.engagement_ms or 0) > 0
            or (session is not None and session["engaged"])
        ):
            yield "active_users"

    def _row(self, counts: Any, people: Any, money: Any) -> Row:
        names = (
            "events", "events_without_consent", "page_views", "sessions", "engaged_sessions",
            "sessions_with_cart", "sessions_with_purchase",
            "sessions_with_cart_without_purchase", "searches", "failed_searches",
        )  # fmt: skip
        row: Row = {name: counts[name] for name in names}
        for name in (
            "total_users", "active_users", "new_users", "returning_users", "purchasers"
        ):  # fmt: skip
            row[name] = len(people[name])
        row["purchases"] = sum(sums[0] for sums in money.values())
        row["purchases_in_currency"], row["gross_revenue"], row["refund_value"] = money.get(
            self.shop.currency, [0, Decimal(0), Decimal(0)]
        )
        row["other"] = sorted(
            (currency, *sums) for currency, sums in money.items() if currency != self.shop.currency
        )
        return row

    def nothing(self) -> Row:
        return self._row(defaultdict(int), defaultdict(set), {})

    def figures(self, row: Row) -> dict[str, Any]:
        """As JSON has them."""
        return figures(row)

    def funnel(
        self, days: DateRange, until: datetime | None, chosen: Chosen, minutes: int
    ) -> list[int]:
        """All sessions, and those that get to each step: every chain is tried."""
        by_session: dict[Any, list[Event]] = defaultdict(list)
        for event in self.events:
            if event.session_key is not None:
                by_session[event.session_key].append(event)
        sales: dict[Any, list[datetime]] = defaultdict(list)
        for sale in self.base.purchases:
            if sale["counted"] and sale["session"] is not None:
                sales[sale["session"]].append(sale["purchased_at"])
        window = timedelta(minutes=minutes)
        found = [0, 0, 0, 0, 0]
        for session in self.begun(days, until, chosen):
            key = session["stream_id"], session["user_pseudo_id"], session["ga_session_id"]
            found[0] += 1
            times = [
                [event.event_at for event in by_session[key] if event.event_name == name]
                for name in ("view_item", "add_to_cart", "begin_checkout")
            ]
            chains = {(at, at) for at in times[0]}
            found[1] += bool(chains)
            for step, later in enumerate([*times[1:], sales[key]], start=2):
                chains = {
                    (began, at)
                    for began, ended in chains
                    for at in later
                    if at >= ended and at - began <= window
                }
                found[step] += bool(chains)
        return found

    def subjects(
        self, kind: str, days: DateRange, until: datetime | None, chosen: Chosen
    ) -> dict[str, Row]:
        """Pages, products or terms."""
        found: dict[str, Any] = defaultdict(lambda: defaultdict(int))
        sets: dict[str, Any] = defaultdict(lambda: defaultdict(set))
        searched: dict[tuple[str, Any], datetime] = {}
        for event, session, _ in self.happened(days, until, chosen):
            for subject in self._met(kind, event):
                row = found[subject]
                row["views"] += event.event_name != "add_to_cart"
                row["cart_additions"] += event.event_name == "add_to_cart"
                row["failures"] += event.event_name == FAILED
                if event.user_pseudo_id is not None:
                    sets[subject]["visitors"].add(event.user_pseudo_id)
                if session is not None:
                    key = event.session_key
                    sets[subject]["sessions"].add(key)
                    at = searched.get((subject, key), event.event_at)
                    searched[subject, key] = min(at, event.event_at)
        if kind == "term":
            for (subject, key), at in searched.items():
                found[subject]["conversions"] += any(
                    sale["session"] == key and sale["counted"] and sale["purchased_at"] > at
                    for sale in self.base.purchases
                )
        for session in self.begun(days, until, chosen) if kind == "page" else ():
            self._enter(session, found)
        for sale in self.sold(days, until, chosen) if kind == "product" else ():
            self._sell(sale, found)
        for subject, row in found.items():
            for name in ("visitors", "sessions"):
                row[name] = len(sets[subject][name])
        return dict(found)

    def _met(self, kind: str, event: Event) -> set[str]:
        met: set[str | None] = set()
        if kind == "page" and event.event_name in PAGE_VIEWS:
            met = {page_of(event.page_location or "")}
        elif kind == "product" and event.event_name in {"view_item", "add_to_cart"}:
            met = {item["id"] for item in json.loads(event.items or "[]")}
        elif kind == "term" and event.event_name in {"view_search_results", FAILED}:
            met = {search_key(event.search_term or "")}
        return {subject for subject in met if subject not in {None, "", "(not set)"}}  # type: ignore[misc]

    def _enter(self, session: Row, found: dict[str, Any]) -> None:
        page = page_of(session["landing_page"] or "")
        if page:
            found[page]["entrances"] += 1
            found[page]["bounces"] += not session["engaged"]

    def _sell(self, sale: Row, found: dict[str, Any]) -> None:
        for subject in {item["id"] for item in sale["bought"]} - {None, "(not set)"}:
            row = found[subject]
            row["purchases"] += 1
            for item in sale["bought"]:
                if item["id"] != subject:
                    continue
                quantity = 1 if item["quantity"] is None else item["quantity"]
                row["quantity"] += quantity
                revenue = item["revenue"]
                if revenue is None:
                    revenue = Decimal(str(item["price"] or 0)) * quantity
                if sale["currency"] == self.shop.currency:
                    row["revenue"] += Decimal(str(revenue))
