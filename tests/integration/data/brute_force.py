"""The derived tables, read off the events in plain Python.

Written from METRICS, not from derive.sql: no SQL, no increments, always from all events of all
days. A table is a sorted list of rows; a row is a dictionary of the compared columns.
"""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

PAGE_VIEWS = {"page_view", "screen_view"}
FIRST = {"first_visit", "first_open"}
CART = {
    "add_to_cart", "remove_from_cart", "purchase", "view_cart", "begin_checkout",
    "add_shipping_info", "add_payment_info",
}  # fmt: skip

Row = dict[str, Any]
Tables = dict[str, list[Row]]


@dataclass(frozen=True)
class Event:
    """One flattened event; the fields are columns of data.events."""

    event_at: datetime
    event_name: str = "page_view"
    stream_id: str | None = "web"
    user_pseudo_id: str | None = None
    ga_session_id: int | None = None
    ga_session_number: int | None = None
    session_engaged: bool | None = None
    engagement_ms: int | None = None
    is_active_user: bool | None = None
    customer_id: str | None = None
    erp_customer_id: str | None = None
    location_id: str | None = None
    page_location: str | None = None
    source: str | None = None
    medium: str | None = None
    campaign: str | None = None
    channel: str | None = None
    device_category: str | None = None
    country: str | None = None
    currency: str | None = None
    event_value: float | None = None
    transaction_id: str | None = None
    purchase_revenue: float | None = None
    refund_value: float | None = None
    bundle_sequence_id: int | None = None
    batch_event_index: int | None = None
    page_title: str | None = None
    search_term: str | None = None
    items: str | None = None
    """A JSON array, written as PostgreSQL writes jsonb."""

    @property
    def session_key(self) -> tuple[str, str, int] | None:
        if self.user_pseudo_id is None or self.ga_session_id is None:
            return None
        return self.stream_id or "", self.user_pseudo_id, self.ga_session_id


@dataclass(frozen=True)
class Rules:
    """What belongs to the tenant and not to the events."""

    zone: ZoneInfo
    currency: str
    failed_search: str
    customers: Mapping[str, str | None]
    """Branch by customer id of the master data."""
    channel_group: Callable[[str | None, str | None, str | None], str]
    cart_idle: timedelta = timedelta(hours=24)


def nulls_last(*values: Any) -> tuple[Any, ...]:
    """A sort key like PostgreSQL's ascending order."""
    return tuple((value is None, value) if value is not None else (True, 0) for value in values)


def order(event: Event) -> tuple[Any, ...]:
    return nulls_last(
        event.event_at, event.bundle_sequence_id, event.batch_event_index, event.event_name,
        event.location_id, event.customer_id, event.erp_customer_id, event.page_location,
        event.channel, event.source, event.medium, event.campaign, event.device_category,
        event.country,
    )  # fmt: skip


def money(value: float | None) -> Decimal:
    return Decimal(0) if value is None else Decimal(repr(value))


def sold(items: Iterable[Row]) -> list[tuple[Any, ...]] | None:
    """Product, name, quantity and revenue, by product."""
    found: dict[str, list[Any]] = {}
    for item in items:
        if item["id"] in {None, "", "(not set)"}:
            continue
        names, quantity, revenue = found.get(item["id"], [set(), Decimal(0), Decimal(0)])
        number = 1 if item["quantity"] is None else item["quantity"]
        worth = item.get("revenue")
        if worth is None:
            worth = (item["price"] or 0) * number
        found[item["id"]] = [names | {item["name"]}, quantity + number, revenue + worth]
    return [
        (product, max(filter(None, names), default=None), quantity, revenue)
        for product, (names, quantity, revenue) in sorted(found.items())
    ] or None


def first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def last(values: Iterable[Any]) -> Any:
    return first(reversed(list(values)))


def derive(days: Mapping[date, list[Event]], rules: Rules) -> Tables:
    """Every derived table for the given source days."""
    return _Reading(days, rules).tables()


class _Reading:
    def __init__(self, days: Mapping[date, list[Event]], rules: Rules) -> None:
        self.rules = rules
        self.events = [(day, event) for day, events in days.items() for event in events]
        self.sessions: dict[tuple[str, str, int], Row] = {}
        groups: dict[tuple[str, str, int], list[tuple[date, Event]]] = defaultdict(list)
        for day, event in self.events:
            if event.session_key is not None:
                groups[event.session_key].append((day, event))
        for key, members in groups.items():
            self.sessions[key] = self.session(key, members)
        self.purchases = self.purchase_rows()
        sold: dict[tuple[str, str, int], list[datetime]] = defaultdict(list)
        for purchase in self.purchases:
            if purchase["counted"] and purchase["session"] is not None:
                self.sessions[purchase["session"]]["purchases"] += 1
                sold[purchase["session"]].append(purchase["purchased_at"])
        for key, members in groups.items():
            self.sessions[key] |= funnel([event for _, event in members], sold[key])

    def day(self, instant: datetime) -> date:
        return instant.astimezone(self.rules.zone).date()

    def hour(self, instant: datetime) -> datetime:
        local = instant.astimezone(self.rules.zone)
        within = timedelta(
            minutes=local.minute, seconds=local.second, microseconds=local.microsecond
        )
        return (instant - within).astimezone(UTC)

    def session(self, key: tuple[str, str, int], members: list[tuple[date, Event]]) -> Row:
        events = sorted((event for _, event in members), key=order)
        names = [event.event_name for event in events]
        started, ended = events[0].event_at, events[-1].event_at
        customer = last(event.customer_id for event in events)
        erp = last(event.erp_customer_id for event in events)
        known, failed = self.rules.customers, self.rules.failed_search
        campaign = first(
            (event.source, event.medium, event.campaign)
            if first((event.source, event.medium, event.campaign)) is not None
            else None
            for event in events
        ) or (None, None, None)
        channel = first(event.channel for event in events)
        return {
            "day": self.day(started),
            "stream_id": key[0],
            "user_pseudo_id": key[1],
            "ga_session_id": key[2],
            "started_at": started,
            "ended_at": ended,
            "last_day": self.day(ended),
            "first_source_day": min(day for day, _ in members),
            "last_source_day": max(day for day, _ in members),
            "session_number": max(
                (e.ga_session_number for e in events if e.ga_session_number is not None),
                default=None,
            ),
            "engaged": any(event.session_engaged for event in events),
            "engagement_ms": sum(event.engagement_ms or 0 for event in events),
            "customer_id": customer,
            "erp_customer_id": erp,
            "own_location_id": last(event.location_id for event in events) or "",
            "location_id": first(
                (last(event.location_id for event in events), known.get(erp), known.get(customer))
            )
            or "",
            "channel": channel if channel is not None else self.rules.channel_group(*campaign),
            "channel_rules": 1 if channel is None else None,
            "source": campaign[0],
            "medium": campaign[1],
            "campaign": campaign[2],
            "device_category": first(event.device_category for event in events),
            "country": first(event.country for event in events),
            "landing_page": first(event.page_location for event in events),
            "events": len(events),
            "page_views": sum(name in PAGE_VIEWS for name in names),
            "item_views": names.count("view_item"),
            "cart_additions": names.count("add_to_cart"),
            "checkouts": names.count("begin_checkout"),
            "purchases": 0,
            "searches": sum(name in {"view_search_results", failed} for name in names),
            "failed_searches": names.count(failed),
            "active": any(
                e.event_name in FIRST or e.is_active_user or (e.engagement_ms or 0) > 0
                for e in events
            ),
            "new": any(name in FIRST for name in names),
        }

    def branch(self, event: Event) -> str:
        if event.session_key is not None:
            branch: str = self.sessions[event.session_key]["location_id"]
            return branch
        return event.location_id or ""

    def purchase_rows(self) -> list[Row]:
        rows = []
        for source_day, event in self.events:
            if event.event_name != "purchase":
                continue
            usable = event.transaction_id is not None and event.transaction_id.strip(" ") not in {
                "",
                "(not set)",
            }
            session = event.session_key
            rows.append(
                {
                    "source_day": source_day,
                    "day": self.day(event.event_at),
                    "purchased_at": event.event_at,
                    "stream_id": event.stream_id,
                    "user_pseudo_id": event.user_pseudo_id,
                    "ga_session_id": event.ga_session_id,
                    "customer_id": self.sessions[session]["customer_id"]
                    if session
                    else event.customer_id,
                    "location_id": self.branch(event),
                    "transaction_id": event.transaction_id if usable else None,
                    "currency": (event.currency or self.rules.currency).upper(),
                    "currency_missing": event.currency is None,
                    "revenue": money(event.purchase_revenue),
                    "event_value": None
                    if event.event_value is None
                    else money(event.event_value),
                    "bundle_sequence_id": event.bundle_sequence_id,
                    "batch_event_index": event.batch_event_index,
                    "sold": sold(json.loads(event.items or "[]", parse_float=Decimal)),
                    "value_mismatch": event.event_value is not None
                    and abs(money(event.event_value) - money(event.purchase_revenue))
                    > Decimal("0.01"),
                    "session": session,
                    "place": nulls_last(
                        event.event_at, event.bundle_sequence_id, event.batch_event_index,
                        event.stream_id, event.user_pseudo_id, event.ga_session_id,
                        event.transaction_id, event.currency, event.purchase_revenue,
                        event.event_value, event.location_id,
                    ),
                }
            )  # fmt: skip
        number(rows, "purchase_id")
        rows.sort(
            key=lambda row: nulls_last(
                row["purchased_at"], row["bundle_sequence_id"], row["batch_event_index"],
                row["purchase_id"],
            )
        )  # fmt: skip
        seen = set()
        for row in rows:
            key = row["user_pseudo_id"], row["transaction_id"]
            row["counted"] = None in key or key not in seen
            seen.add(key)
        return rows

    def refund_rows(self) -> list[Row]:
        rows = []
        for source_day, event in self.events:
            if event.event_name != "refund":
                continue
            usable = (event.transaction_id or "").strip(" ") not in {"", "(not set)"}
            rows.append(
                {
                    "source_day": source_day,
                    "day": self.day(event.event_at),
                    "refunded_at": event.event_at,
                    "stream_id": event.stream_id,
                    "user_pseudo_id": event.user_pseudo_id,
                    "ga_session_id": event.ga_session_id,
                    "location_id": self.branch(event),
                    "transaction_id": event.transaction_id if usable else None,
                    "currency": (event.currency or self.rules.currency).upper(),
                    "refund_value": money(event.refund_value),
                    "place": nulls_last(
                        event.event_at, event.bundle_sequence_id, event.batch_event_index,
                        event.stream_id, event.user_pseudo_id, event.ga_session_id,
                        event.transaction_id, event.currency, event.refund_value,
                        event.location_id,
                    ),
                }
            )  # fmt: skip
        number(rows, "refund_id")
        return rows

    def user_days(self) -> list[Row]:
        found: dict[tuple[date, str, str], Row] = {}
        for _, event in self.events:
            if event.user_pseudo_id is None:
                continue
            key = self.day(event.event_at), self.branch(event), event.user_pseudo_id
            row = found.setdefault(
                key,
                {
                    "day": key[0],
                    "location_id": key[1],
                    "user_pseudo_id": key[2],
                    "active": False,
                    "new": False,
                    "returning": False,
                    "purchaser": False,
                },
            )
            session = event.session_key
            row["active"] |= bool(
                event.event_name in FIRST
                or (event.engagement_ms or 0) > 0
                or event.is_active_user
                or (session is not None and self.sessions[session]["engaged"])
            )
            row["new"] |= event.event_name in FIRST
            row["returning"] |= (event.ga_session_number or 0) > 1
        for purchase in self.purchases:
            if purchase["counted"] and purchase["user_pseudo_id"] is not None:
                found[purchase["day"], purchase["location_id"], purchase["user_pseudo_id"]][
                    "purchaser"
                ] = True
        return list(found.values())

    def parts(self, session: Any) -> tuple[str, str, str]:
        """Channel, device and country of a session; of what happened outside of any."""
        if session is None:
            return "", "", ""
        row = self.sessions[session]
        return row["channel"], row["device_category"] or "", row["country"] or ""

    def visitor_parts(self) -> list[Row]:
        found: dict[tuple[Any, ...], Row] = {}
        flags = dict.fromkeys(("active", "new", "returning", "purchaser"), False)
        for _, event in self.events:
            if event.user_pseudo_id is None:
                continue
            session = event.session_key
            key = self.day(event.event_at), event.user_pseudo_id, *self.parts(session)
            row = found.setdefault(key, dict(flags))
            row["active"] |= bool(
                event.event_name in FIRST
                or (event.engagement_ms or 0) > 0
                or event.is_active_user
                or (session is not None and self.sessions[session]["engaged"])
            )
            row["new"] |= event.event_name in FIRST
            row["returning"] |= (event.ga_session_number or 0) > 1
        for purchase in self.purchases:
            if purchase["counted"] and purchase["user_pseudo_id"] is not None:
                whose = purchase["day"], purchase["user_pseudo_id"]
                found[*whose, *self.parts(purchase["session"])]["purchaser"] = True
        names = ("day", "user_pseudo_id", *DIMENSIONS)
        return [dict(zip(names, key, strict=True)) | row for key, row in found.items()]

    def part_rollup(self) -> list[Row]:
        counts: dict[tuple[Any, ...], dict[str, int]] = defaultdict(
            lambda: dict.fromkeys(COUNTS, 0)
        )
        for _, event in self.events:
            for named in zip(DIMENSIONS, self.parts(event.session_key), strict=True):
                row = counts[self.day(event.event_at), *named]
                row["events"] += 1
                row["events_without_consent"] += event.session_key is None
                row["page_views"] += event.event_name in PAGE_VIEWS
                row["searches"] += event.event_name in {
                    "view_search_results", self.rules.failed_search,
                }  # fmt: skip
                row["failed_searches"] += event.event_name == self.rules.failed_search
        for key, session in self.sessions.items():
            carted, bought = session["cart_additions"] > 0, session["purchases"] > 0
            for named in zip(DIMENSIONS, self.parts(key), strict=True):
                row = counts[session["day"], *named]
                row["sessions"] += 1
                row["engaged_sessions"] += session["engaged"]
                row["sessions_with_cart"] += carted
                row["sessions_with_checkout"] += session["checkouts"] > 0
                row["sessions_with_purchase"] += bought
                row["sessions_with_cart_without_purchase"] += carted and not bought
        names = ("day", "dimension", "part")
        return [dict(zip(names, key, strict=True)) | row for key, row in counts.items()]

    def part_money(self, refunds: list[Row]) -> list[Row]:
        sums: dict[tuple[Any, ...], Row] = defaultdict(
            lambda: {"purchases": 0, "gross_revenue": Decimal(0), "refund_value": Decimal(0)}
        )
        for row in self.purchases:
            for named in zip(DIMENSIONS, self.parts(row["session"]), strict=True):
                if row["counted"]:
                    into = sums[row["day"], *named, row["currency"]]
                    into["purchases"] += 1
                    into["gross_revenue"] += row["revenue"]
        for row in refunds:
            key = row["stream_id"] or "", row["user_pseudo_id"], row["ga_session_id"]
            session = None if None in key else key
            for named in zip(DIMENSIONS, self.parts(session), strict=True):
                sums[row["day"], *named, row["currency"]]["refund_value"] += row["refund_value"]
        names = ("day", "dimension", "part", "currency")
        return [dict(zip(names, key, strict=True)) | row for key, row in sums.items()]

    def hours(self) -> list[Row]:
        counts: dict[tuple[date, datetime, str], dict[str, int]] = defaultdict(
            lambda: dict.fromkeys(COUNTS, 0)
        )
        for _, event in self.events:
            at = event.event_at
            row = counts[self.day(at), self.hour(at), self.branch(event)]
            row["events"] += 1
            row["events_without_consent"] += event.session_key is None
            row["page_views"] += event.event_name in PAGE_VIEWS
            row["searches"] += event.event_name in {
                "view_search_results",
                self.rules.failed_search,
            }
            row["failed_searches"] += event.event_name == self.rules.failed_search
        for session in self.sessions.values():
            at = session["started_at"]
            row = counts[self.day(at), self.hour(at), session["location_id"]]
            carted, bought = session["cart_additions"] > 0, session["purchases"] > 0
            row["sessions"] += 1
            row["engaged_sessions"] += session["engaged"]
            row["sessions_with_cart"] += carted
            row["sessions_with_checkout"] += session["checkouts"] > 0
            row["sessions_with_purchase"] += bought
            row["sessions_with_cart_without_purchase"] += carted and not bought
        return [
            {"day": day, "hour_start": hour, "location_id": branch} | row
            for (day, hour, branch), row in counts.items()
        ]

    def money(self, refunds: list[Row]) -> list[Row]:
        sums: dict[tuple[date, datetime, str, str], list[Any]] = defaultdict(
            lambda: [0, Decimal(0), 0, Decimal(0)]
        )
        for row in self.purchases:
            if row["counted"]:
                at = row["purchased_at"]
                into = sums[row["day"], self.hour(at), row["location_id"], row["currency"]]
                into[0] += 1
                into[1] += row["revenue"]
        for row in refunds:
            at = row["refunded_at"]
            into = sums[row["day"], self.hour(at), row["location_id"], row["currency"]]
            into[2] += 1
            into[3] += row["refund_value"]
        return [
            {
                "day": key[0],
                "hour_start": key[1],
                "location_id": key[2],
                "currency": key[3],
                "purchases": values[0],
                "gross_revenue": values[1],
                "refunds": values[2],
                "refund_value": values[3],
            }
            for key, values in sums.items()
        ]

    def daily_money(self, refunds: list[Row]) -> list[Row]:
        sums: dict[tuple[Any, ...], Row] = defaultdict(
            lambda: {"purchases": 0, "gross_revenue": Decimal(0), "refund_value": Decimal(0)}
        )
        for row in self.purchases:
            if row["counted"]:
                into = sums[row["day"], row["location_id"], row["currency"]]
                into["purchases"] += 1
                into["gross_revenue"] += row["revenue"]
        for row in refunds:
            into = sums[row["day"], row["location_id"], row["currency"]]
            into["refund_value"] += row["refund_value"]
        names = ("day", "location_id", "currency")
        return [dict(zip(names, key, strict=True)) | row for key, row in sums.items()]

    def search_rows(self) -> list[Row]:
        found: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
        for source_day, event in self.events:
            if event.event_name in {"view_search_results", self.rules.failed_search}:
                session = event.session_key or (None, event.user_pseudo_id, None)
                term = folded(event.search_term)
                key = (source_day, self.day(event.event_at), session, self.branch(event), term)
                found[key].append(event)
        rows = []
        for (source_day, day, session, branch, term), events in found.items():
            searched = min(event.event_at for event in events)
            rows.append(
                {
                    "source_day": source_day,
                    "day": day,
                    "first_at": searched,
                    "last_at": max(event.event_at for event in events),
                    "stream_id": session[0],
                    "user_pseudo_id": session[1],
                    "ga_session_id": session[2],
                    "location_id": branch,
                    "term": term,
                    "searches": len(events),
                    "failed_searches": sum(
                        event.event_name == self.rules.failed_search for event in events
                    ),
                    "purchased": any(
                        purchase["counted"]
                        and purchase["session"] == session
                        and purchase["purchased_at"] > searched
                        for purchase in self.purchases
                    ),
                }
            )
        return rows

    def event_counts(self) -> list[Row]:
        groups: dict[tuple[date, str], list[Event]] = defaultdict(list)
        for source_day, event in self.events:
            groups[source_day, event.event_name].append(event)
        return [
            {
                "source_day": source_day,
                "event_name": name,
                "loaded_rows": len(events),
                "without_visitor": sum(event.user_pseudo_id is None for event in events),
                "without_session": sum(event.session_key is None for event in events),
                "duplicates": len(events)
                - len(
                    {
                        (e.user_pseudo_id, e.ga_session_id, e.event_at, e.bundle_sequence_id,
                         e.batch_event_index)
                        for e in events
                    }
                ),
            }
            for (source_day, name), events in groups.items()
        ]  # fmt: skip

    def cart_tables(self) -> tuple[list[Row], list[Row]]:
        histories: dict[tuple[bool, str], list[Event]] = defaultdict(list)
        ordered_events = sorted(
            self.events, key=lambda each: (each[1].event_at, each[0], cart_order(each[1]))
        )
        for _, event in ordered_events:
            if event.event_name not in CART:
                continue
            customer = self.customer(event)
            if customer is not None:
                histories[True, customer].append(event)
            visitor = event.user_pseudo_id
            if visitor is not None and (customer is None or event.event_name == "purchase"):
                histories[False, visitor].append(event)
        carts = [
            cart
            for (is_customer, person), events in histories.items()
            for cart in self.carts(is_customer, person, events)
        ]
        return [self.episode_row(cart) for cart in carts], [
            row for cart in carts for row in item_rows(cart)
        ]

    def carts(self, is_customer: bool, person: str, events: list[Event]) -> list["Cart"]:
        carts: list[Cart] = []
        cart: Cart | None = None
        before: datetime | None = None
        for event in events:
            if before is not None and event.event_at - before > self.rules.cart_idle:
                cart = None
            before = event.event_at
            wanted = contents(event)
            if cart is None and event.event_name == "add_to_cart" and wanted:
                cart = Cart(is_customer, person, event.event_at, event)
                carts.append(cart)
            if event.event_name == "purchase":
                for earlier in (known for known in carts if known is not cart):
                    for item in earlier.added.keys() & {item for item, _ in wanted}:
                        earlier.bought.setdefault(item, event.event_at)
            if cart is not None:
                cart.take(event, wanted, (event.currency or self.rules.currency).upper())
        return carts

    def customer(self, event: Event) -> str | None:
        if event.session_key is None:
            return event.customer_id
        known: str | None = self.sessions[event.session_key]["customer_id"]
        return known

    def episode_row(self, cart: "Cart") -> Row:
        last = cart.last
        key = last.session_key or (None, None, None)
        left = [item for item in cart.added if cart.held[item] > 0]
        return {
            "is_customer": cart.is_customer,
            "person_id": cart.person,
            "opened_at": cart.opened_at,
            "day": self.day(cart.opened_at),
            "last_activity_at": last.event_at,
            "idle_at": last.event_at + self.rules.cart_idle,
            "location_id": self.branch(last),
            "user_pseudo_id": last.user_pseudo_id,
            "stream_id": key[0],
            "ga_session_id": key[2],
            "items": len(cart.added),
            "items_left": len(left),
            "items_open": sum(item not in cart.bought for item in left),
        }

    def tables(self) -> Tables:
        refunds = self.refund_rows()
        hours = self.hours()
        daily: dict[tuple[date, str], dict[str, int]] = defaultdict(
            lambda: dict.fromkeys(COUNTS, 0)
        )
        for row in hours:
            for name in COUNTS:
                daily[row["day"], row["location_id"]][name] += row[name]
        found = {
            "sessions": list(self.sessions.values()),
            "purchases": self.purchases,
            "refunds": refunds,
            "user_day": self.user_days(),
            "visitor_returns": returns(self.user_days(), by_branch=False),
            "location_returns": returns(self.user_days(), by_branch=True),
            "visitor_parts": self.visitor_parts(),
            "part_returns": part_returns(self.visitor_parts()),
            "part_rollup": self.part_rollup(),
            "part_money": self.part_money(refunds),
            "hourly_rollup": hours,
            "daily_rollup": [
                {"day": day, "location_id": branch} | row for (day, branch), row in daily.items()
            ],
            "money_rollup": self.money(refunds),
            "daily_money": self.daily_money(refunds),
            "entrances": entrances(self.sessions.values()),
            "searches": self.search_rows(),
            "event_counts": self.event_counts(),
        }
        found["cart_episodes"], found["cart_items"] = self.cart_tables()
        return {name: ordered(rows) for name, rows in found.items()}


def entrances(sessions: Iterable[Row]) -> list[Row]:
    """How many sessions begin with a page, by day; the empty page is none."""
    found: dict[tuple[date, str], Row] = defaultdict(
        lambda: dict.fromkeys(("sessions", "bounces", "conversions"), 0)
    )
    for session in sessions:
        page = re.sub(r"[?#].*$", "", session["landing_page"] or "", flags=re.DOTALL)[:1024]
        row = found[session["day"], page]
        row["sessions"] += 1
        row["bounces"] += not session["engaged"]
        row["conversions"] += session["purchases"] > 0
    return [{"day": day, "page": page, **row} for (day, page), row in found.items()]


@dataclass
class Cart:
    """One episode while it is read."""

    is_customer: bool
    person: str
    opened_at: datetime
    last: Event
    added: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    price: dict[str, tuple[Decimal, str]] = field(default_factory=dict)
    named: dict[str, Row] = field(default_factory=lambda: defaultdict(dict))
    currency: dict[str, str] = field(default_factory=dict)
    bought: dict[str, datetime] = field(default_factory=dict)

    def take(self, event: Event, wanted: list[tuple[str, Row]], currency: str) -> None:
        self.last = event
        for item, entry in wanted:
            if event.event_name == "add_to_cart":
                self.put(item, entry, currency)
            elif event.event_name == "remove_from_cart":
                self.held[item] = max(self.held[item] - quantity(entry), 0)
                self.describe(item, entry, currency)
            else:
                self.held[item] = 0

    def put(self, item: str, entry: Row, currency: str) -> None:
        self.added[item] += quantity(entry)
        self.held[item] += quantity(entry)
        if entry.get("price") is not None:
            self.price[item] = money(entry["price"]), currency
        self.describe(item, entry, currency)

    def describe(self, item: str, entry: Row, currency: str) -> None:
        self.currency[item] = currency
        for name in ("name", "category"):
            if entry.get(name) is not None:
                self.named[item][name] = entry[name]


def contents(event: Event) -> list[tuple[str, Row]]:
    """The items that an event names, by what they go by."""
    if event.event_name not in {"add_to_cart", "remove_from_cart", "purchase"}:
        return []
    entries = json.loads(event.items or "[]")
    named = [(entry.get("id") or entry.get("name"), entry) for entry in entries]
    return [(name, entry) for name, entry in named if name]


def quantity(entry: Row) -> int:
    found = entry.get("quantity")
    return 1 if found is None else max(int(found), 0)


def item_rows(cart: Cart) -> Iterable[Row]:
    for item, added in cart.added.items():
        price, currency = cart.price.get(item, (Decimal(0), cart.currency[item]))
        yield {
            "is_customer": cart.is_customer,
            "person_id": cart.person,
            "opened_at": cart.opened_at,
            "item_id": item,
            "item_name": cart.named[item].get("name"),
            "item_category": cart.named[item].get("category"),
            "added_quantity": added,
            "left_quantity": cart.held[item],
            "open_quantity": 0 if item in cart.bought else cart.held[item],
            "price": price,
            "currency": currency,
            "bought_at": cart.bought.get(item),
        }


def cart_order(event: Event) -> tuple[Any, ...]:
    return nulls_last(
        event.bundle_sequence_id, event.batch_event_index, event.event_name, event.stream_id,
        event.user_pseudo_id, event.ga_session_id, event.customer_id, event.location_id,
        event.currency, as_jsonb(event.items),
    )  # fmt: skip


def as_jsonb(text: str | None) -> str | None:
    """JSON as PostgreSQL's ``jsonb`` writes it: shorter keys first, then by their bytes."""

    def arranged(value: Any) -> Any:
        if isinstance(value, list):
            return [arranged(one) for one in value]
        if isinstance(value, dict):
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return {key: arranged(value[key]) for key in keys}
        return value

    return None if text is None else json.dumps(arranged(json.loads(text)), ensure_ascii=False)


def folded(term: str | None) -> str:
    """Compatibility forms, case and spaces do not matter."""
    text = unicodedata.normalize("NFKC", term or "").casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


def returns(user_days: list[Row], *, by_branch: bool) -> list[Row]:
    """Of each day and flag: how many visitors were seen last on which earlier day."""
    flags = {
        "total": None, "active": "active", "new": "new", "returning": "returning",
        "purchasers": "purchaser",
    }  # fmt: skip
    found: dict[tuple[Any, ...], Row] = defaultdict(lambda: dict.fromkeys(flags, 0))
    for name, flag in flags.items():
        days: dict[tuple[Any, ...], set[date]] = defaultdict(set)
        for row in user_days:
            if flag is None or row[flag]:
                scope = (row["location_id"],) if by_branch else ()
                days[(*scope, row["user_pseudo_id"])].add(row["day"])
        for (*scope, _), seen in days.items():
            for day in seen:
                before = max((one for one in seen if one < day), default=date.min)
                found[(*scope, day, before)][name] += 1
    keys = ("location_id", "day", "previous_day") if by_branch else ("day", "previous_day")
    return [dict(zip(keys, key, strict=True)) | row for key, row in found.items()]


def part_returns(visitor_parts: list[Row]) -> list[Row]:
    """The same within each channel, device and country."""
    return [
        {"dimension": dimension, "part": row.pop("location_id"), **row}
        for dimension in DIMENSIONS
        for row in returns(
            [row | {"location_id": row[dimension]} for row in visitor_parts], by_branch=True
        )
    ]


def funnel(events: list[Event], purchases: list[datetime]) -> Row:
    """The shortest chains through the funnel, in microseconds: every chain is tried."""

    def times(name: str) -> list[datetime]:
        return [event.event_at for event in events if event.event_name == name]

    steps = [times("view_item"), times("add_to_cart"), times("begin_checkout"), purchases]
    chains = {(at, at) for at in steps[0]}
    found: Row = {}
    for name, later in zip(("cart", "checkout", "purchase"), steps[1:], strict=True):
        chains = {(began, at) for began, ended in chains for at in later if at >= ended}
        spans = [(at - began) // timedelta(microseconds=1) for began, at in chains]
        found[f"{name}_within"] = min(spans, default=None)
    return found


DIMENSIONS = ("channel", "device", "country")
COUNTS = (
    "events", "events_without_consent", "page_views", "sessions", "engaged_sessions",
    "sessions_with_cart", "sessions_with_checkout", "sessions_with_purchase",
    "sessions_with_cart_without_purchase", "searches", "failed_searches",
)  # fmt: skip
NOT_COMPARED = {"tenant_id", "items", "session", "place"}
EVENT_FIELDS = tuple(each.name for each in fields(Event))


def number(rows: list[Row], name: str) -> None:
    """Ids as the database makes them: the source day, then the place within it."""
    by_day: dict[date, list[Row]] = defaultdict(list)
    for row in rows:
        by_day[row["source_day"]].append(row)
    for day, members in by_day.items():
        for place, row in enumerate(sorted(members, key=lambda row: row["place"]), start=1):
            row[name] = int(f"{day:%Y%m%d}") * 1_000_000 + place


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Rows without what is not compared, in a fixed order."""
    kept = [{name: row[name] for name in sorted(row) if name not in NOT_COMPARED} for row in rows]
    return sorted(kept, key=lambda row: nulls_last(*row.values()))
