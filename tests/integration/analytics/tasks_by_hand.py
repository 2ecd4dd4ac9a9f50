"""Tasks as METRICS.md tells them, read off derived rows in plain Python.

The rows themselves come from the brute-force reading of events in `tests.integration.data`: from
the events to the tasks nothing here knows any SQL.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """What decides about tasks.

    Attributes:
        tables: Derived tables.
        customers: Telephone number by customer id, of the master data; '' without one.
        now: The present instant.
        currency: Of reports.
        cooldown: Between two tasks about carts of a person.
        visits: That many engaged sessions make a repeat visitor,
        days: within that many days.
    """

    tables: Mapping[str, list[Row]]
    customers: Mapping[str, str]
    now: datetime
    currency: str = "EUR"
    cooldown: timedelta = timedelta(days=7)
    visits: int = 3
    days: int = 30

    def all(self) -> list[Row]:
        """Every task that there should be after following once."""
        return [
            *self.purchases(),
            *spaced(self.carts(), self.cooldown),
            *self.searches(),
            *spaced(self.repeat_visits(), timedelta(days=self.days)),
        ]

    def session(self, row: Row) -> Row | None:
        for session in self.tables["sessions"]:
            if (
                session["user_pseudo_id"] == row["user_pseudo_id"]
                and session["ga_session_id"] == row["ga_session_id"]
                and session["stream_id"] == (row["stream_id"] or "")
            ):
                return session
        return None

    def reach(self, *ids: str | None) -> Row:
        """What the master data knows, of the first id that it knows."""
        for customer in ids:
            if customer is not None and customer in self.customers:
                return {"company": f"Company {customer}", "phone": self.customers[customer]}
        return {"company": "", "phone": ""}

    def purchases(self) -> list[Row]:
        counted = sorted(
            (row for row in self.tables["purchases"] if row["counted"]),
            key=lambda row: (row["purchased_at"], row["purchase_id"]),
        )
        found, seen = [], set()
        for row in counted:
            person = person_of(row)
            first = person[1] is not None and person not in seen
            seen.add(person)
            session = self.session(row)
            who = self.reach(session["erp_customer_id"] if session else None, row["customer_id"])
            found.append(
                task(
                    "purchases", row["purchased_at"], row["purchased_at"], row["purchased_at"],
                    person, row["location_id"], row["revenue"], row["currency"], who,
                    extra=15 if first else 0,
                )
            )  # fmt: skip
        return found

    def carts(self) -> list[Row]:
        found = []
        for episode in self.tables["cart_episodes"]:
            if not episode["items_left"] or episode["idle_at"] > self.now:
                continue
            items = [
                item
                for item in self.tables["cart_items"]
                if item["is_customer"] == episode["is_customer"]
                and item["person_id"] == episode["person_id"]
                and item["opened_at"] == episode["opened_at"]
                and item["left_quantity"] > 0
            ]
            currencies = sorted({item["currency"] for item in items})
            currency = self.currency if self.currency in currencies else currencies[0]
            value = sum(
                (i["price"] * i["open_quantity"] for i in items if i["currency"] == currency),
                Decimal(0),
            )
            open_items = sum(item["open_quantity"] > 0 for item in items)
            bought = [item["bought_at"] for item in items]
            session = self.session(episode)
            who = self.reach()
            if episode["is_customer"]:
                erp = session["erp_customer_id"] if session else None
                who = self.reach(erp, episode["person_id"])
            found.append(
                task(
                    "cart-abandonment", episode["opened_at"], episode["last_activity_at"],
                    episode["idle_at"], (episode["is_customer"], episode["person_id"]),
                    episode["location_id"], value, currency, who,
                    extra=5 if open_items >= 3 else 0,
                    settled=max(bought) if open_items == 0 else None,
                )
            )  # fmt: skip
        return found

    def searches(self) -> list[Row]:
        found = []
        unique: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.tables["searches"]:
            if row["ga_session_id"] is not None and row["term"]:
                key = row["stream_id"], row["user_pseudo_id"], row["ga_session_id"], row["term"]
                unique.setdefault(key, []).append(row)
        for rows in unique.values():
            failed = sum(row["failed_searches"] for row in rows)
            if not failed:
                continue
            session = self.session(rows[0])
            assert session is not None
            began = min(row["first_at"] for row in rows)
            bought = [
                sale["purchased_at"]
                for sale in self.tables["purchases"]
                if sale["counted"]
                and self.session(sale) is session
                and sale["purchased_at"] > began
            ]
            ended = max(row["last_at"] for row in rows)
            found.append(
                task(
                    "search-analysis", began, ended, ended, person_of(session),
                    session["location_id"], Decimal(0), self.currency,
                    self.reach(session["erp_customer_id"], session["customer_id"]),
                    extra=min(failed * 10, 30), settled=min(bought, default=None),
                )
            )  # fmt: skip
        return found

    def repeat_visits(self) -> list[Row]:
        found = []
        persons = {person_of(session) for session in self.tables["sessions"]}
        for person in persons:
            visits = sorted(
                (s for s in self.tables["sessions"] if s["engaged"] and person_of(s) == person),
                key=lambda s: (
                    s["started_at"], s["user_pseudo_id"], s["stream_id"], s["ga_session_id"]
                ),
            )  # fmt: skip
            sales = [
                sale["purchased_at"]
                for sale in self.tables["purchases"]
                if sale["counted"] and person_of(sale) == person
            ]
            for number in range(self.visits - 1, len(visits)):
                first, last = visits[number - self.visits + 1], visits[number]
                began, at = first["started_at"], last["started_at"]
                if at - began > timedelta(days=self.days):
                    continue
                if any(began <= sale <= last["ended_at"] for sale in sales):
                    continue
                who = self.reach()
                if person[0]:
                    who = self.reach(last["erp_customer_id"], last["customer_id"])
                later = [sale for sale in sales if sale > last["ended_at"]]
                found.append(
                    task(
                        "repeat-visits", began, at, at, person, last["location_id"], Decimal(0),
                        self.currency, who, settled=min(later, default=None),
                    )
                )  # fmt: skip
        return found


def person_of(row: Row) -> tuple[bool, Any]:
    """The customer, else the visitor."""
    if row["customer_id"] is not None:
        return True, row["customer_id"]
    return False, row["user_pseudo_id"]


def task(
    kind: str,
    began: datetime,
    happened: datetime,
    raised: datetime,
    person: tuple[bool, Any],
    location: str,
    value: Decimal,
    currency: str,
    who: Row,
    *,
    extra: int = 0,
    settled: datetime | None = None,
) -> Row:
    """A task in the words of its table."""
    steps = ((10_000, 50), (1000, 40), (100, 25))
    points = next((points for least, points in steps if value >= least), 10 if value > 0 else 0)
    points += extra + (10 if person[0] else 0) + (15 if who["phone"] else 0)
    return {
        "kind": kind, "began_at": began, "happened_at": happened, "raised_at": raised,
        "is_customer": person[0], "person_id": person[1], "location_id": location,
        "value": value, "currency": currency, "priority": points, "settled_at": settled,
        "status": "open" if settled is None else "settled", "present": True, **who,
    }  # fmt: skip


def spaced(rows: Iterable[Row], cooldown: timedelta) -> list[Row]:
    """Only those that keep their distance from the person's one before."""
    last: dict[tuple[bool, str], datetime] = {}
    found = []
    for row in sorted(rows, key=lambda row: (row["raised_at"], row["began_at"])):
        person = row["is_customer"], row["person_id"]
        if person in last and row["raised_at"] - last[person] < cooldown:
            continue
        last[person] = row["raised_at"]
        found.append(row)
    return found
