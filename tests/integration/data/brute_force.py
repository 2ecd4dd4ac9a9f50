"""The derived tables, read off the events in plain Python.

Written from METRICS, not from derive.sql: no SQL, no increments, always from all events of all
days. A table is a sorted list of rows; a row is a dictionary of the compared columns.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

PAGE_VIEWS = {"page_view", "screen_view"}
FIRST = {"first_visit", "first_open"}

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
        known = self.rules.customers
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
            "hourly_rollup": hours,
            "daily_rollup": [
                {"day": day, "location_id": branch} | row for (day, branch), row in daily.items()
            ],
            "money_rollup": self.money(refunds),
        }
        return {name: ordered(rows) for name, rows in found.items()}


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


COUNTS = (
    "events", "events_without_consent", "page_views", "sessions", "engaged_sessions",
    "sessions_with_cart", "sessions_with_checkout", "sessions_with_purchase",
    "sessions_with_cart_without_purchase", "searches", "failed_searches",
)  # fmt: skip
NOT_COMPARED = {"tenant_id", "items", "session", "place"}
EVENT_FIELDS = tuple(field.name for field in fields(Event))


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
