"""What is first or last in a session is so by its events' order, whatever order rows lie in."""

import asyncio
import random
from datetime import UTC, date, datetime, timedelta

import asyncpg

from tests.integration.data.brute_force import Event
from tests.integration.data.loading import in_tenant, make_tenant, replace_day
from tests.support.postgres import TestDatabase
from troupe.actors.data.publication import Reporting

DAY = date(2026, 9, 1)
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
FIRST_OF_EACH = """
SELECT o.who, data.first_known(o.word) AS word, data.first_known(o.pair) AS pair
FROM (SELECT * FROM unnest($1::integer[], $2::integer[], $3::text[]) AS n (who, turn, word)
      CROSS JOIN LATERAL (SELECT CASE WHEN word IS NOT NULL THEN ARRAY[word, NULL] END AS pair) AS p
      ORDER BY who, turn) AS o
GROUP BY o.who ORDER BY o.who
"""


def test_the_first_value_is_kept(module_database: TestDatabase) -> None:
    """PostgreSQL promises of any_value, whose transition this is, no more than some value."""
    chance = random.Random(7)
    rows = [
        (who, turn, None if turn < 3 or chance.random() < 0.3 else f"{who} in turn {turn}")
        for who in range(40)
        for turn in range(50)
    ]
    firsts = [min(row for row in rows if row[0] == who and row[2])[2] for who in range(40)]
    chance.shuffle(rows)

    async def scenario() -> None:
        connection = await asyncpg.connect(module_database.runtime_url)
        try:
            found = await connection.fetch(FIRST_OF_EACH, *map(list, zip(*rows, strict=True)))
            assert [row["word"] for row in found] == firsts
            assert [row["pair"] for row in found] == [[word, None] for word in firsts]
            nothing = "SELECT data.first_known(w) FROM unnest(ARRAY[NULL, NULL]::text[]) AS w"
            assert await connection.fetchval(nothing) is None
        finally:
            await connection.close()

    asyncio.run(scenario())


def test_events_lie_in_any_order(module_database: TestDatabase) -> None:
    events = [
        Event(
            NOON + timedelta(seconds=turn // 3),
            "scroll",
            user_pseudo_id=f"v{session % 20}",
            ga_session_id=session,
            batch_event_index=turn,
            page_location=f"/{turn}" if turn >= 2 else None,
            channel=f"Channel {turn}" if turn >= 4 else None,
            source=f"source {turn}" if turn >= 7 else None,
            medium=f"medium {turn}" if turn >= 5 else None,
            device_category=f"device {turn}" if turn >= 1 else None,
            country=f"country {turn}" if turn >= 3 else None,
            customer_id=f"customer {turn}" if turn <= 8 else None,
            location_id=f"branch {turn}" if turn <= 6 else None,
        )
        for session in range(60)
        for turn in range(12)
    ]
    random.Random(3).shuffle(events)

    async def scenario() -> None:
        connection = await asyncpg.connect(module_database.runtime_url)
        try:
            tenant = await make_tenant(connection)
            seen = Reporting(tenant, "UTC", "EUR", "UTC", "no_search_results")
            await replace_day(connection, seen, DAY, events)
            rows = await in_tenant(
                connection, tenant, lambda c: c.fetch("SELECT * FROM data.sessions")
            )
            assert len(rows) == 60
            for row in rows:
                assert row["landing_page"] == "/2"
                assert row["channel"] == "Channel 4"
                assert (row["source"], row["medium"], row["campaign"]) == (None, "medium 5", None)
                assert (row["device_category"], row["country"]) == ("device 1", "country 3")
                assert (row["customer_id"], row["location_id"]) == ("customer 8", "branch 6")
        finally:
            await connection.close()

    asyncio.run(scenario())
