"""What the figures of a demonstration must be, computed directly from the export's files.

This script checks Troupe, so it shares nothing with it: no import from the product or from the
demonstration, no SQL, no rollups. It reads the rows of one property with pyarrow and goes through
them one after the other, in the words of METRICS:

* Per day of the export one family counts: daily, else fresh, else intraday.
* A session is (stream, visitor, session id). It counts on the local day of its first event, whole,
  also when it runs past midnight. Rows without visitor or session id are events and nothing else,
  but a row with a visitor makes that visitor a user.
* A session's branch is the last one that any of its events names: the event parameter, else the
  user property. Events of equal time are ordered as they were sent (page, batch, index). What
  belongs to no session has the branch that it names itself, or "".
* A purchase is counted once per (visitor, transaction id), the earliest of all time; without one of
  the two it stands for itself. Its branch is its session's, and so is a refund's.
* A user of a day is active if an event of that day is a first visit, has engagement time, says
  is_active_user or belongs to an engaged session: one that says session_engaged anywhere, also
  before or after midnight.
* Money is added in Decimal, per currency.

Usage:
    python ops/demo/truth.py DIR --start 2026-09-01 --end 2026-09-30 --zone Europe/Berlin [--json]

DIR holds events_YYYYMMDD.parquet and the other families.
"""

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow.parquet as pq

TABLE = re.compile(r"^events_(fresh_|intraday_)?(\d{8})\.parquet$")
BEST_FIRST = ("", "fresh_", "intraday_")
NO_KEY = {None, "", "(not set)"}

# The leaves of the files that matter; all else stays on disk.
LEAVES = (
    "event_timestamp",
    "event_name",
    "stream_id",
    "user_pseudo_id",
    "is_active_user",
    "batch_page_id",
    "batch_ordering_id",
    "batch_event_index",
    "event_params",
    "user_properties",
    "ecommerce.purchase_revenue",
    "ecommerce.refund_value",
    "ecommerce.transaction_id",
)
BRANCH_PARAMETER = "branch_id"
BRANCH_PROPERTY = "DefaultBranchId"
SEARCHES = {"view_search_results", "no_search_results"}

SessionKey = tuple[str, str, int]


@dataclass(slots=True)
class Event:
    """One row, reduced to what the definitions speak of."""

    moment: tuple[int, int, int, int]
    """Microseconds, then the order of sending."""
    name: str
    stream: str
    visitor: str | None
    session: int | None
    number: int | None
    engaged: bool
    active: bool
    branch: str | None
    currency: str
    revenue: Decimal
    refund: Decimal
    transaction: str | None

    @property
    def session_key(self) -> SessionKey | None:
        """Which session it belongs to."""
        if self.visitor is None or self.session is None:
            return None
        return self.stream, self.visitor, self.session


@dataclass(slots=True)
class Session:
    """What is known of a session after all its events were seen."""

    first: tuple[int, int, int, int]
    branch: str = ""
    branch_seen: tuple[int, int, int, int] = (-1, 0, 0, 0)
    engaged: bool = False
    names: set[str] = field(default_factory=set)
    purchases: int = 0


@dataclass(slots=True)
class Figures:
    """One set of figures: of the whole range, of a day, or of a branch."""

    events: int = 0
    consent_denied_events: int = 0
    page_views: int = 0
    searches: int = 0
    failed_searches: int = 0
    sessions: int = 0
    engaged_sessions: int = 0
    sessions_with_add_to_cart: int = 0
    sessions_with_checkout: int = 0
    sessions_with_purchase: int = 0
    sessions_with_purchase_event: int = 0
    sessions_with_cart_without_purchase: int = 0
    purchases: int = 0
    duplicates_dropped: int = 0
    purchases_without_key: int = 0
    refunds: int = 0
    purchases_by_currency: Counter[str] = field(default_factory=Counter)
    gross: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    refunded: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    users: set[str] = field(default_factory=set)
    active_users: set[str] = field(default_factory=set)
    new_users: set[str] = field(default_factory=set)
    returning_users: set[str] = field(default_factory=set)
    purchasers: set[str] = field(default_factory=set)

    def as_record(self) -> dict[str, Any]:
        """For JSON: sets as their sizes, money as strings with two decimals."""
        currencies = sorted({*self.gross, *self.refunded})
        return {
            "events": self.events,
            "consent_denied_events": self.consent_denied_events,
            "page_views": self.page_views,
            "searches": self.searches,
            "failed_searches": self.failed_searches,
            "sessions": self.sessions,
            "engaged_sessions": self.engaged_sessions,
            "sessions_with_add_to_cart": self.sessions_with_add_to_cart,
            "sessions_with_checkout": self.sessions_with_checkout,
            "sessions_with_purchase": self.sessions_with_purchase,
            "sessions_with_purchase_event": self.sessions_with_purchase_event,
            "sessions_with_cart_without_purchase": self.sessions_with_cart_without_purchase,
            "total_users": len(self.users),
            "active_users": len(self.active_users),
            "new_users": len(self.new_users),
            "returning_users": len(self.returning_users),
            "purchasers": len(self.purchasers),
            "purchases": self.purchases,
            "purchases_without_key": self.purchases_without_key,
            "duplicates_dropped": self.duplicates_dropped,
            "refunds": self.refunds,
            "money": {
                currency: {
                    "purchases": self.purchases_by_currency[currency],
                    "gross": f"{self.gross.get(currency, Decimal(0)):.2f}",
                    "refunded": f"{self.refunded.get(currency, Decimal(0)):.2f}",
                    "net": f"{self.gross.get(currency, 0) - self.refunded.get(currency, 0):.2f}",
                }
                for currency in currencies
            },
        }


def chosen_tables(directory: Path) -> list[Path]:
    """One file per day, of the best family there is, in the order of days."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in directory.iterdir():
        match = TABLE.match(path.name)
        if match:
            found[match[2]][match[1] or ""] = path
    return [
        next(families[name] for name in BEST_FIRST if name in families)
        for _, families in sorted(found.items())
    ]


def money(value: float | None) -> Decimal:
    """A float of the export as the amount of cents that it means."""
    return Decimal(0) if value is None else Decimal(repr(value)).quantize(Decimal("0.01"))


def plain(value: dict[str, Any]) -> Any:
    """The one member of a parameter's value that is set."""
    for member in ("string_value", "int_value", "double_value", "float_value"):
        if value[member] is not None:
            return value[member]
    return None


def read_events(directory: Path) -> Iterator[Event]:
    """All events of the property, day by day."""
    for path in chosen_tables(directory):
        # Leaves that an older or an intraday table lacks are simply not there.
        for batch in pq.ParquetFile(path).iter_batches(8192, columns=list(LEAVES)):
            for row in batch.to_pylist():
                yield as_event(row)


def as_event(row: dict[str, Any]) -> Event:
    """One row of the export."""
    parameters = {entry["key"]: plain(entry["value"]) for entry in row["event_params"] or ()}
    properties = {entry["key"]: plain(entry["value"]) for entry in row["user_properties"] or ()}
    commerce = row["ecommerce"] or {}
    engaged = str(parameters.get("session_engaged")) == "1"
    name = row["event_name"]
    branch = parameters.get(BRANCH_PARAMETER)
    if branch is None:
        branch = properties.get(BRANCH_PROPERTY)
    return Event(
        moment=(
            row["event_timestamp"],
            row["batch_page_id"] or 0,
            row["batch_ordering_id"] or 0,
            row["batch_event_index"] or 0,
        ),
        name=name,
        stream=row["stream_id"],
        visitor=row["user_pseudo_id"],
        session=parameters.get("ga_session_id"),
        number=parameters.get("ga_session_number"),
        engaged=engaged,
        active=(
            name in ("first_visit", "first_open")
            or (parameters.get("engagement_time_msec") or 0) > 0
            or row.get("is_active_user") is True
        ),
        branch=None if branch is None else str(branch),
        currency=parameters.get("currency") or "",
        revenue=money(commerce.get("purchase_revenue")),
        refund=money(commerce.get("refund_value")),
        transaction=commerce.get("transaction_id"),
    )


def sessions_of(events: Iterable[Event]) -> dict[SessionKey, Session]:
    """Every session of the property, whole."""
    sessions: dict[SessionKey, Session] = {}
    for event in events:
        key = event.session_key
        if key is None:
            continue
        session = sessions.get(key)
        if session is None:
            session = sessions[key] = Session(first=event.moment)
        session.first = min(session.first, event.moment)
        session.engaged = session.engaged or event.engaged
        session.names.add(event.name)
        if event.branch is not None and event.moment >= session.branch_seen:
            session.branch = event.branch
            session.branch_seen = event.moment
    return sessions


def counted_purchases(events: Iterable[Event]) -> tuple[list[Event], list[Event]]:
    """All purchases of the property: those that count, and those dropped as duplicates."""
    counted: list[Event] = []
    dropped: list[Event] = []
    seen: set[tuple[str, str]] = set()
    purchases = [event for event in events if event.name == "purchase"]
    for event in sorted(purchases, key=lambda purchase: purchase.moment):
        if event.visitor is None or event.transaction is None or event.transaction in NO_KEY:
            counted.append(event)
        elif (event.visitor, event.transaction) in seen:
            dropped.append(event)
        else:
            seen.add((event.visitor, event.transaction))
            counted.append(event)
    return counted, dropped


class Truth:
    """The figures of one property over a range of days in a reporting zone."""

    def __init__(self, directory: Path, start: date, end: date, zone: ZoneInfo) -> None:
        self.start = start
        self.end = end
        self.zone = zone
        self.total = Figures()
        days = (end - start).days + 1
        self.days = {start + timedelta(days=number): Figures() for number in range(days)}
        self.branches: dict[str, Figures] = defaultdict(Figures)
        # Days are looked up by the hour: no zone changes its offset within a quarter of one.
        self._days_of: dict[int, date] = {}

        events = list(read_events(directory))
        self._sessions = sessions_of(events)
        counted, dropped = counted_purchases(events)
        for event in counted:
            key = event.session_key
            if key is not None:
                self._sessions[key].purchases += 1
        for event in events:
            self._add_event(event)
        for session in self._sessions.values():
            self._add_session(session)
        for event in counted:
            self._add_purchase(event)
        for event in dropped:
            for figures in self._concerned(event.moment, self._branch_of(event)):
                figures.duplicates_dropped += 1

    def local_day(self, microseconds: int) -> date:
        """The day of an instant in the reporting zone."""
        quarter = microseconds // 900_000_000
        day = self._days_of.get(quarter)
        if day is None:
            instant = datetime.fromtimestamp(quarter * 900, UTC)
            day = self._days_of[quarter] = instant.astimezone(self.zone).date()
        return day

    def _concerned(self, moment: tuple[int, int, int, int], branch: str) -> tuple[Figures, ...]:
        """The figures that something at `moment` in `branch` counts for; none out of the range."""
        day = self.local_day(moment[0])
        if not self.start <= day <= self.end:
            return ()
        return self.total, self.days[day], self.branches[branch]

    def _branch_of(self, event: Event) -> str:
        key = event.session_key
        return (event.branch or "") if key is None else self._sessions[key].branch

    def _is_engaged(self, event: Event) -> bool:
        key = event.session_key
        return key is not None and self._sessions[key].engaged

    def _add_event(self, event: Event) -> None:
        for figures in self._concerned(event.moment, self._branch_of(event)):
            figures.events += 1
            figures.consent_denied_events += event.session_key is None
            figures.page_views += event.name == "page_view"
            figures.searches += event.name in SEARCHES
            figures.failed_searches += event.name == "no_search_results"
            if event.name == "refund":
                figures.refunds += 1
                figures.refunded[event.currency] += event.refund
            if event.visitor is None:
                continue
            figures.users.add(event.visitor)
            if event.active or self._is_engaged(event):
                figures.active_users.add(event.visitor)
            if event.name in ("first_visit", "first_open"):
                figures.new_users.add(event.visitor)
            if (event.number or 0) > 1:
                figures.returning_users.add(event.visitor)

    def _add_session(self, session: Session) -> None:
        carted = "add_to_cart" in session.names
        for figures in self._concerned(session.first, session.branch):
            figures.sessions += 1
            figures.engaged_sessions += session.engaged
            figures.sessions_with_add_to_cart += carted
            figures.sessions_with_checkout += "begin_checkout" in session.names
            figures.sessions_with_purchase += session.purchases > 0
            figures.sessions_with_purchase_event += "purchase" in session.names
            figures.sessions_with_cart_without_purchase += carted and session.purchases == 0

    def _add_purchase(self, event: Event) -> None:
        for figures in self._concerned(event.moment, self._branch_of(event)):
            figures.purchases += 1
            figures.purchases_by_currency[event.currency] += 1
            figures.gross[event.currency] += event.revenue
            figures.purchases_without_key += event.visitor is None or event.transaction in NO_KEY
            if event.visitor is not None:
                figures.purchasers.add(event.visitor)

    def as_record(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {
            "start_date": self.start.isoformat(),
            "end_date": self.end.isoformat(),
            "zone": self.zone.key,
            "total": self.total.as_record(),
            "days": {day.isoformat(): figures.as_record() for day, figures in self.days.items()},
            "branches": {
                branch: figures.as_record() for branch, figures in sorted(self.branches.items())
            },
        }


def table_of(record: dict[str, Any]) -> str:
    """The totals for a person, then one line per branch."""
    lines = [f"{record['start_date']} to {record['end_date']}, {record['zone']}", ""]
    for name, value in record["total"].items():
        if name != "money":
            lines.append(f"{name:38}{value:>14,}")
    for currency, sums in record["total"]["money"].items():
        lines += [f"{f'{name} {currency}':38}{value:>14}" for name, value in sums.items()]
    lines += ["", f"{'branch':14}{'sessions':>10}{'users':>10}{'purchases':>11}  gross"]
    for branch, figures in record["branches"].items():
        gross = ", ".join(f"{sums['gross']} {c}" for c, sums in figures["money"].items())
        lines.append(
            f"{branch or '(none)':14}{figures['sessions']:>10}{figures['total_users']:>10}"
            f"{figures['purchases']:>11}  {gross}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the script; 0 when the figures were printed, 2 when the request makes no sense."""
    parser = argparse.ArgumentParser(
        description="Figures of one exported property, by brute force."
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="holds events_*.parquet")
    parser.add_argument("--start", type=date.fromisoformat, required=True, help="first local day")
    parser.add_argument("--end", type=date.fromisoformat, required=True, help="last local day")
    parser.add_argument("--zone", default="UTC", help="reporting zone, such as Europe/Berlin")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    options = parser.parse_args(arguments)
    try:
        zone = ZoneInfo(options.zone)
    except (ZoneInfoNotFoundError, ValueError):
        parser.error(f"there is no zone {options.zone!r}")
    if options.end < options.start:
        parser.error("the range ends before it begins")
    if not options.directory.is_dir() or not chosen_tables(options.directory):
        parser.error(f"there are no export tables in {options.directory}")
    record = Truth(options.directory, options.start, options.end, zone).as_record()
    print(json.dumps(record, indent=2) if options.json else table_of(record))  # noqa: T201 - its output
    return 0


if __name__ == "__main__":
    sys.exit(main())
