"""A shop whose day is loaded from events, with the desk that asks about it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import asyncpg

from tests.integration.analytics.desk import Desk, Reply, make_desk
from tests.integration.data.brute_force import Event
from tests.integration.data.loading import in_tenant, make_tenant, replace_day
from troupe.actors.analytics.following import follow_once
from troupe.actors.data.publication import Reporting
from troupe.common.bridge import aio
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId

FIRST: Final = date(2026, 10, 20)
NINE: Final = datetime(2026, 10, 20, 9, tzinfo=UTC)
DRILL: Final = {"id": "D1", "name": "Drill", "price": 120, "quantity": 2}
SAW: Final = {"id": "S1", "name": "Saw", "price": 9.99, "quantity": 1}


def event(hours: float, name: str, visitor: str = "v1", session: int = 1, **more: Any) -> Event:
    items = more.pop("items", None)
    return Event(
        event_at=NINE + timedelta(hours=hours),
        event_name=name,
        stream_id="web",
        user_pseudo_id=visitor,
        ga_session_id=session,
        items=None if items is None else json.dumps(items),
        **more,
    )


EVENTS: Final = [
    event(0, "session_start", customer_id="L1", erp_customer_id="E1", location_id="B1",
          session_engaged=True, device_category="desktop"),
    event(0.1, "page_view", page_location="https://shop.example/drills?x=1"),
    event(0.2, "view_search_results", search_term="Drill Bits"),
    event(0.3, "no_search_results", search_term="drill  bits"),
    event(0.4, "add_to_cart", items=[DRILL, SAW], currency="EUR"),
    event(5, "page_view", "v2", 7, customer_id="L1", session_engaged=True,
          device_category="mobile"),
    event(1, "purchase", "v3", 9, items=[SAW], purchase_revenue=9.99, currency="EUR",
          transaction_id="T1"),
    event(9, "page_view", "v1", 2, customer_id="L1", session_engaged=True),
]  # fmt: skip


@dataclass
class Office:
    """A shop whose day is loaded, with its desk; `rival` has the same and other people."""

    desk: Desk
    database: Database
    connection: asyncpg.Connection
    reporting: Reporting

    @property
    def tenant(self) -> TenantId:
        return self.reporting.tenant

    async def load(self, events: list[Event]) -> None:
        await aio(replace_day(self.connection, self.reporting, FIRST, events))
        await follow_once(self.database, self.tenant)

    async def only(self, path: str, **query: Any) -> Any:
        found = await self.desk.get(self.tenant, f"/tasks/{path}", **query)
        assert found["total"] == len(found["data"]) == 1, found
        return found["data"][0]

    async def change(self, task: Any, body: Any, **options: Any) -> Reply:
        options.setdefault("headers", {"If-Match": f'"{task["etag"]}"'})
        return await self.desk.ask(
            self.tenant, "PATCH", f"/tasks/{task['id']}", json=body, **options
        )


@asynccontextmanager
async def open_office(url: str) -> AsyncIterator[Office]:
    """A shop with one loaded day."""
    connection = await aio(asyncpg.connect(url))
    tenant = await aio(make_tenant(connection, zone="Europe/Berlin"))
    reporting = Reporting(tenant, "Europe/Berlin", "EUR", "UTC", "no_search_results")

    async def know(inside: asyncpg.Connection) -> None:
        await inside.execute(
            "INSERT INTO data.customers (tenant_id, customer_id, company, contact, email, phone)"
            " VALUES ($1, 'E1', 'Adler GmbH', 'Ada', 'ada@adler.example', '+49 30 1')",
            tenant,
        )
        await inside.execute(
            "INSERT INTO data.locations (tenant_id, location_id, name) VALUES ($1, 'B1', 'Kiel')",
            tenant,
        )

    await aio(in_tenant(connection, tenant, know))
    async with open_database(url, connections=3) as database:
        office = Office(make_desk(database), database, connection, reporting)
        await office.load(EVENTS)
        yield office
    await aio(connection.close())
