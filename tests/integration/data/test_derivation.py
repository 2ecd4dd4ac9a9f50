"""Derived tables equal a brute-force reading of the events, whatever happens in what order."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TypeVar
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.integration.data.brute_force import Event, Rules, Tables, derive
from tests.integration.data.loading import derived_tables, in_tenant, make_tenant, replace_days
from tests.support.postgres import TestDatabase
from troupe.actors.data import publication
from troupe.actors.data.branches import follow_customers
from troupe.actors.data.publication import DERIVE, Reporting
from troupe.actors.data.rederivation import derive_again
from troupe.actors.data.retention import remove_day
from troupe.common.ids import TenantId

# Around the end of summer time in Europe (25 October 2026, 01:00 UTC).
SOURCE_DAYS = [date(2026, 10, 23) + timedelta(days=number) for number in range(4)]
ZONES = ["Europe/Berlin", "UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
CHANNELS = {
    (None, None, None): "Direct",
    ("(direct)", "(none)", None): "Direct",
    ("google", "organic", None): "Organic Search",
    ("newsletter", "email", "Autumn"): "Email",
    (None, None, "x cross-network y"): "Cross-network",
}
NAMES = [
    "page_view", "purchase", "purchase", "refund", "view_item", "add_to_cart", "begin_checkout",
    "first_visit", "first_open", "view_search_results", "nothing_found", "session_start",
    "add_to_cart", "remove_from_cart", "view_cart",
]  # fmt: skip
TERMS = [None, "", "drill", " DRILL ", "Straße", "STRASSE", "ﬁlter\u00a0 bag", "filter bag"]
CUSTOMERS = {"E1": "B3", "C1": "B4", "C2": None}
T = TypeVar("T")
EXAMPLES = int(os.environ.get("TROUPE_TEST_EXAMPLES", "25"))


def some(*values: object) -> st.SearchStrategy[object]:
    return st.sampled_from(values)


def baskets() -> st.SearchStrategy[str | None]:
    """Items as the export has them, written as jsonb is: two keys of an object by length first."""
    entry = st.fixed_dictionaries(
        {
            "id": some("i1", "i1", "i2", "", None),
            "name": some("One", "Two", None),
            "price": some(None, 9.99, 10, 0.1),
            "quantity": some(None, 0, 1, 1, 2, 3),
        }
    )
    return st.none() | st.lists(entry, min_size=1, max_size=3).map(json.dumps)


@st.composite
def events(draw: st.DrawFn, source_day: date) -> Event:
    """An event of a source day; mostly within it, sometimes a day early or late."""
    noon = datetime.combine(source_day, datetime.min.time(), UTC) + timedelta(hours=12)
    minutes = draw(st.integers(-13 * 60, 13 * 60) | st.integers(-40 * 60, 40 * 60))
    name = draw(some(*NAMES))
    source, medium, campaign = draw(some(*CHANNELS))
    sale = name in {"purchase", "refund"}
    cart = name in {"purchase", "add_to_cart", "remove_from_cart"}
    searched = name in {"view_search_results", "nothing_found"}
    return Event(
        event_at=noon + timedelta(minutes=minutes),
        event_name=name,
        stream_id=draw(some("web", "web", "app", None)),
        user_pseudo_id=draw(some("u1", "u1", "u2", None)),
        ga_session_id=draw(some(1, 1, 2, None)),
        ga_session_number=draw(some(None, 1, 2)),
        session_engaged=draw(some(None, False, True)),
        engagement_ms=draw(some(None, 0, 700)),
        is_active_user=draw(some(None, False, True)),
        customer_id=draw(some(None, None, "C1", "C2")),
        erp_customer_id=draw(some(None, None, "E1", "E9")),
        location_id=draw(some(None, None, None, "B1", "B2")),
        page_location=draw(some(None, "/a", "/b")),
        source=source,
        medium=medium,
        campaign=campaign,
        channel=draw(some(None, None, "Paid Search")),
        device_category=draw(some(None, "desktop", "mobile")),
        country=draw(some(None, "Germany")),
        currency=draw(some("EUR", "EUR", "USD", "usd", None)) if sale or cart else None,
        event_value=draw(some(None, 0.1, 19.99, 20.0)) if sale else None,
        transaction_id=draw(some("T1", "T1", "T2", None, "", "(not set)")) if sale else None,
        purchase_revenue=draw(some(None, 0.1, 0.2, 19.99)) if name == "purchase" else None,
        refund_value=draw(some(None, 5.0, 0.3)) if name == "refund" else None,
        bundle_sequence_id=draw(some(None, 7, 8)),
        batch_event_index=draw(some(None, 1, 2)),
        search_term=draw(some(*TERMS)) if searched else None,
        items=draw(baskets()) if cart else None,
    )


@dataclass(frozen=True)
class Replace:
    """Source days get these events, at once."""

    days: dict[date, list[Event]]


@dataclass(frozen=True)
class Remove:
    """A source day is older than the tenant keeps."""

    day: date


@dataclass(frozen=True)
class Rezone:
    """The tenant reports in another zone; days are derived anew later."""

    zone: str


@dataclass(frozen=True)
class Reassign:
    """Master data says which customer belongs to which branch."""

    customers: dict[str, str | None]


Step = Replace | Remove | Rezone | Reassign


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """Days in any order, some again with rows changed, added or gone, and what happens between."""
    found: list[Step] = []
    known: dict[date, list[Event]] = {}
    for _ in range(draw(st.integers(1, 6))):
        match draw(some("replace", "replace", "replace", "replace", "remove", "zone", "customers")):
            case "replace":
                days = draw(
                    st.lists(st.sampled_from(SOURCE_DAYS), min_size=1, max_size=3, unique=True)
                )
                for day in days:
                    kept = [row for row in known.get(day, []) if draw(st.booleans())]
                    known[day] = kept + draw(st.lists(events(day), max_size=7))
                found.append(Replace({day: known[day] for day in days}))
            case "remove":
                day = draw(st.sampled_from(SOURCE_DAYS))
                known.pop(day, None)
                found.append(Remove(day))
            case "zone":
                found.append(Rezone(draw(st.sampled_from(ZONES))))
            case "customers":
                branches = {name: draw(some("B1", "B5", None)) for name in CUSTOMERS}
                found.append(Reassign(branches))
    return found


@dataclass
class World:
    """A tenant while the steps are taken, and what must be true of it afterwards."""

    connection: asyncpg.Connection
    reporting: Reporting
    days: dict[date, list[Event]] = field(default_factory=dict)
    customers: dict[str, str | None] = field(default_factory=lambda: dict(CUSTOMERS))

    @property
    def tenant(self) -> TenantId:
        return self.reporting.tenant

    async def take(self, step: Step) -> None:
        match step:
            case Replace(days):
                await replace_days(self.connection, self.reporting, days)
                self.days |= days
            case Remove(day):
                removed = await self.within(lambda c: remove_day(c, self.reporting, day, None))
                assert (removed is not None) == (self.days.pop(day, None) is not None)
            case Rezone(zone):
                self.reporting = replace(self.reporting, zone=zone)
            case Reassign(customers):
                self.customers = customers
                await self.within(self.reassign)

    async def reassign(self, connection: asyncpg.Connection) -> None:
        await connection.execute(DERIVE["ensure_version"], self.tenant)
        await connection.execute(DERIVE["lock_tenant"], self.tenant)
        await add_customers(connection, self.tenant, self.customers)
        await follow_customers(connection, self.reporting)

    async def catch_up(self) -> None:
        """Derive anew what was derived otherwise, the newest first, unlike the job."""
        for day in sorted(self.days, reverse=True):
            await self.within(partial(derive_again, reporting=self.reporting, source_day=day))
            assert (
                await self.within(partial(derive_again, reporting=self.reporting, source_day=day))
                is None
            )

    async def within(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        return await in_tenant(self.connection, self.tenant, work)


async def replay(
    url: str, zone: str, property_zone: str, sequence: list[Step]
) -> tuple[Tables, Tables]:
    """What is there after the steps, and what should be."""
    connection = await asyncpg.connect(url)
    try:
        tenant = await make_tenant(connection, zone=zone)
        world = World(connection, Reporting(tenant, zone, "EUR", property_zone, "nothing_found"))
        await world.within(lambda c: add_customers(c, tenant, CUSTOMERS))
        for step in sequence:
            await world.take(step)
        await world.catch_up()
        return await derived_tables(connection, tenant), expected(world)
    finally:
        await connection.close()


async def add_customers(
    connection: asyncpg.Connection, tenant: TenantId, customers: Mapping[str, str | None]
) -> None:
    await connection.executemany(
        "INSERT INTO data.customers (tenant_id, customer_id, location_id) VALUES ($1, $2, $3)"
        " ON CONFLICT (tenant_id, customer_id) DO UPDATE SET location_id = excluded.location_id",
        [(tenant, customer, branch) for customer, branch in customers.items()],
    )


def expected(world: World) -> Tables:
    rules = Rules(
        zone=ZoneInfo(world.reporting.zone),
        currency="EUR",
        failed_search="nothing_found",
        customers=world.customers,
        channel_group=lambda *campaign: CHANNELS[campaign],
    )
    return derive(world.days, rules)


@settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(sequence=steps(), zone=st.sampled_from(ZONES), property_zone=st.sampled_from(ZONES))
def test_whatever_happens_leaves_what_brute_force_finds(
    module_database: TestDatabase, sequence: list[Step], zone: str, property_zone: str
) -> None:
    found, wanted = asyncio.run(replay(module_database.runtime_url, zone, property_zone, sequence))
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        note(f"{name}: {[row for row in found[name] if row not in rows]} are wrong")
        assert found[name] == rows


async def _nothing(*_arguments: object) -> None:
    pass


@pytest.mark.parametrize(
    ("left_out", "table"),
    [
        (None, None),
        ("mark_searches", "searches"),
        ("fold_episodes", "cart_items"),
        ("roll", "user_day"),
    ],
)
def test_the_comparison_finds_a_step_left_out(
    module_database: TestDatabase,
    monkeypatch: pytest.MonkeyPatch,
    left_out: str | None,
    table: str | None,
) -> None:
    """Broken twins: a search and a cart whose session buys a day later."""
    first, second = SOURCE_DAYS[:2]
    noon = datetime.combine(first, datetime.min.time(), UTC) + timedelta(hours=12)
    item = json.dumps([{"id": "i1", "name": "One", "price": 10, "quantity": 1}])
    visit = {"user_pseudo_id": "u1", "ga_session_id": 1}
    seen = [
        Event(noon, "view_search_results", search_term="Drill", **visit),
        Event(noon + timedelta(minutes=1), "add_to_cart", items=item, **visit),
    ]
    bought = Event(noon + timedelta(hours=26), "purchase", items=item, purchase_revenue=10, **visit)
    sequence = [Replace({first: seen}), Replace({second: [bought]})]
    if left_out is not None:
        monkeypatch.setattr(publication, left_out, _nothing)
    found, wanted = asyncio.run(replay(module_database.runtime_url, "UTC", "UTC", sequence))
    assert wanted["searches"][0]["purchased"]
    assert wanted["cart_items"][0]["bought_at"] is not None
    wrong = {name for name in wanted if found[name] != wanted[name]}
    assert (table in wrong) if table is not None else not wrong
