"""Derived tables equal a brute-force reading of the events, whatever is replaced in what order."""

import asyncio
import json
import os
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.integration.data.brute_force import Event, Rules, Tables, derive
from tests.integration.data.loading import derived_tables, make_tenant, replace_day, set_tenant
from tests.support.postgres import TestDatabase
from troupe.actors.data.publication import Reporting
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


@st.composite
def replacements(draw: st.DrawFn) -> list[tuple[date, list[Event]]]:
    """A sequence of days, some of them again with rows changed, added or gone."""
    found: list[tuple[date, list[Event]]] = []
    for _ in range(draw(st.integers(1, 6))):
        day = draw(st.sampled_from(SOURCE_DAYS))
        before = next((rows for known, rows in reversed(found) if known == day), [])
        kept = [row for row in before if draw(st.booleans())]
        found.append((day, kept + draw(st.lists(events(day), max_size=7))))
    return found


async def replay(
    url: str, zone: str, property_zone: str, sequence: list[tuple[date, list[Event]]]
) -> tuple[Tables, int]:
    connection = await asyncpg.connect(url)
    try:
        tenant = await make_tenant(connection, zone=zone)
        await add_customers(connection, tenant)
        reporting = Reporting(tenant, zone, "EUR", property_zone, "nothing_found")
        version = 0
        for day, rows in sequence:
            version = await replace_day(connection, reporting, day, rows)
        return await derived_tables(connection, tenant), version
    finally:
        await connection.close()


async def add_customers(connection: asyncpg.Connection, tenant: TenantId) -> None:
    async with connection.transaction():
        await set_tenant(connection, tenant)
        await connection.executemany(
            "INSERT INTO data.customers (tenant_id, customer_id, location_id) VALUES ($1, $2, $3)",
            [(tenant, customer, branch) for customer, branch in CUSTOMERS.items()],
        )


def expected(zone: str, days: dict[date, list[Event]]) -> Tables:
    rules = Rules(
        zone=ZoneInfo(zone),
        currency="EUR",
        failed_search="nothing_found",
        customers=CUSTOMERS,
        channel_group=lambda *campaign: CHANNELS[campaign],
    )
    return derive(days, rules)


@settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(sequence=replacements(), zone=st.sampled_from(ZONES), property_zone=st.sampled_from(ZONES))
def test_replaced_days_leave_what_brute_force_finds(
    module_database: TestDatabase,
    sequence: list[tuple[date, list[Event]]],
    zone: str,
    property_zone: str,
) -> None:
    found, version = asyncio.run(replay(module_database.runtime_url, zone, property_zone, sequence))
    wanted = expected(zone, dict(sequence))
    for name, rows in wanted.items():
        note(f"{name}: {[row for row in found[name] if row not in rows]} are wrong")
        assert found[name] == rows
    assert version == len(sequence)
