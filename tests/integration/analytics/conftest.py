"""Two tenants with random figures, who must never see each other's."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.integration.analytics.office import Office, open_office
from tests.integration.analytics.warehouse import COUNTS, Warehouse
from tests.support.postgres import TestDatabase
from troupe.actors.analytics.answers import Answers
from troupe.common.database import Database, open_database

# Around both clock changes of Europe, America and Lord Howe.
AUTUMN = [date(2025, 10, 1) + timedelta(days=number) for number in range(45)]
SPRING = [date(2026, 2, 25) + timedelta(days=number) for number in range(50)]
BRANCHES = ["", "b1", "b2", "b3", "Zürich-9", "never"]


@dataclass(frozen=True)
class Town:
    """Two shops in one database; `nobody` has been created and has no data."""

    shop: Warehouse
    rival: Warehouse
    nobody: Warehouse


def build_town() -> Town:
    dice = random.Random(20260401)
    shop = Warehouse("Shop", "Europe/Berlin", "EUR", 1, data_until=SPRING[-1])
    rival = Warehouse("Rival", "Australia/Lord_Howe", "USD", 7, 3, data_until=SPRING[-2])
    for warehouse in (shop, rival):
        warehouse.add_random_days([*AUTUMN, *SPRING], BRANCHES[:5], dice)
    # In the half hour that is left of 02:00 when Lord Howe sets its clocks forward.
    short = {"day": date(2025, 10, 5), "hour_start": datetime(2025, 10, 4, 15, tzinfo=UTC)}
    rival.hourly.append(short | {"location_id": "short"} | dict.fromkeys(COUNTS, 1))
    # Not part of any figure above: whether they can be seen by others is the question.
    at = {"stream_id": "web", "user_pseudo_id": "v1", "ga_session_id": 1}
    rival.sessions = [
        at
        | dict.fromkeys(("started_at", "ended_at"), datetime(2025, 10, 5, tzinfo=UTC))
        | dict.fromkeys(
            ("day", "last_day", "first_source_day", "last_source_day"), date(2025, 10, 5)
        )
        | dict.fromkeys(("events", "page_views", "item_views", "cart_additions"), 1)
        | {"engaged": True, "engagement_ms": 1, "channel": "Direct", "checkouts": 0, "purchases": 0}
        | {"landing_page": "https://shop.example/"}
    ]
    rival.interests = [
        at
        | dict.fromkeys(("source_day", "day"), date(2025, 10, 5))
        | {"kind": "page", "subject": "/", "first_at": datetime(2025, 10, 5, tzinfo=UTC)}
        | {"views": 1, "cart_additions": 0, "failures": 0}
    ]
    rival.parts = [
        {"dimension": "channel", "day": date(2025, 10, 5), "part": "Direct"}
        | dict.fromkeys(COUNTS, 1)
    ]
    rival.purchases = [
        dict.fromkeys(("source_day", "day"), date(2025, 10, 5))
        | {"purchase_id": 1, "purchased_at": datetime(2025, 10, 5, tzinfo=UTC), "location_id": "b1"}
        | {"currency": "USD", "currency_missing": False, "revenue": 5, "value_mismatch": False}
        | {"counted": True, "items": [{"id": "P1", "name": "Drill", "revenue": 5}]}
    ]
    shop.locations = [
        {"location_id": f"b{number}", "name": name, "city": city, "email": None, "manager": manager}
        for number, name, city, manager in (
            (1, "North", "Kiel", "Ada"),
            (2, "south", None, None),
            (3, "Älter", "Köln", None),
            (4, "North", "Bremen", None),
            (5, "Closed", "Ulm", "Bo"),
        )
    ]
    rival.locations = [
        {"location_id": "b1", "name": "Elsewhere", "city": None, "email": "x@y.z", "manager": None}
    ]
    return Town(shop, rival, Warehouse("Nobody", version=0))


@pytest.fixture(scope="module")
def town(module_database: TestDatabase) -> Town:
    built = build_town()
    for warehouse in (built.shop, built.rival, built.nobody):
        asyncio.run(warehouse.store(module_database.runtime_url))
    return built


@pytest.fixture
async def pool(bridge: None, module_database: TestDatabase) -> AsyncIterator[Database]:
    async with open_database(module_database.runtime_url, connections=3) as database:
        yield database


@pytest.fixture
def answers(pool: Database, town: Town) -> Answers:
    return Answers(pool)


@pytest.fixture
async def office(bridge: None, module_database: TestDatabase) -> AsyncIterator[Office]:
    async with open_office(module_database.runtime_url) as opened:
        yield opened
