"""From events to a task that somebody works on, and the timelines that it leads to."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.integration.analytics.desk import ADA, NOW
from tests.integration.analytics.office import DRILL, EVENTS, FIRST, NINE, SAW, Office, event
from tests.integration.data.loading import in_tenant, make_tenant, replace_day
from troupe.actors.analytics.following import follow_once
from troupe.actors.analytics.timelines import (
    DAYS_AT_ONCE,
    EVENTS_OF_CUSTOMER,
    EVENTS_OF_VISITOR,
    EVENTS_ON_DEVICES,
)
from troupe.common.bridge import aio
from troupe.http.history_ids import session_id_of, user_id_of


async def test_a_cart_says_who_what_and_why(office: Office) -> None:
    task = await office.only("cart-abandonment")
    assert task["company"] == "Adler GmbH"
    assert task["email"] == "ada@adler.example"
    assert (task["location_id"], task["location_name"]) == ("B1", "Kiel")
    assert (task["value"], task["currency"]) == ("249.99", "EUR")
    assert task["title"] == "Drill, Saw"
    assert task["why"] == "Left 2 products in the cart and did nothing with it for 24 hours."
    assert task["happened_at"] == "2026-10-20T09:24:00Z"
    assert task["raised_at"] == "2026-10-21T09:24:00Z"
    points = {reason["reason"]: reason["points"] for reason in task["reasons"]}
    assert points == {"value": 25, "customer": 10, "reachable": 15}
    assert task["priority"] == 50
    assert task["status"] == "open"


async def test_the_other_lists(office: Office) -> None:
    sold = await office.only("purchases")
    assert sold["title"] == "T1: Saw"
    assert sold["why"] == "Bought for the first time for 9.99 EUR."
    assert not sold["is_customer"]
    search = await office.only("search-analysis")
    assert search["title"] == "drill bits"
    assert search["facts"]["failed_searches"] == 1
    assert search["facts"]["searches"] == 2
    visits = await office.only("repeat-visits")
    assert visits["why"] == "Came 3 times within a day without buying anything."
    assert visits["person_id"] == "L1"
    assert visits["company"] in {"", "Adler GmbH"}


async def test_a_change_names_the_version_and_is_remembered(office: Office) -> None:
    task = await office.only("cart-abandonment")
    reply = await office.change(task, {"status": "in_progress", "note": "Calls back"})
    assert reply.status == 200
    changed = reply.json
    assert (changed["status"], changed["note"], changed["version"]) == (
        "in_progress", "Calls back", 2
    )  # fmt: skip
    assert reply.headers["ETag"] == f'"{changed["etag"]}"'
    assert (await office.change(task, {"note": "Mine"})).status == 412
    assert (await office.change(task, {"note": "Mine"}, headers={})).status == 428
    again = await office.change(changed, {"note": "Calls back"})
    assert again.json["version"] == 2
    rest = await office.change(changed, {"snoozed_until": "2026-11-01T00:00:00Z"})
    assert rest.status == 200
    [second, first] = await office.desk.pages(
        office.tenant, f"/tasks/{task['id']}/history", limit=1
    )
    assert first["changes"] == {
        "status": {"from": "open", "to": "in_progress"},
        "note": {"from": "", "to": "Calls back"},
    }
    assert second["changes"]["snoozed_until"] == {"from": None, "to": "2026-11-01T00:00:00Z"}
    assert (first["actor_kind"], first["actor_id"], first["actor_name"]) == (
        "token", str(ADA), "Ada"
    )  # fmt: skip
    awake = await office.change(rest.json, {"snoozed_until": None})
    assert awake.json["snoozed_until"] is None


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"status": "settled"}, "/status"),
        ({"status": "lost"}, "/status"),
        ({"assignee_id": str(UUID(int=5))}, "/assignee_id"),
        ({"snoozed_until": "2026-10-28T11:59:59Z"}, "/snoozed_until"),
        ({"snoozed_until": "2028-01-01T00:00:00Z"}, "/snoozed_until"),
        ({"note": "x" * 4001}, "/note"),
        ({"company": "Mine"}, "/company"),
        ({"note": "a\u0000b"}, "/note"),
    ],
)
async def test_bad_changes_change_nothing(office: Office, body: Any, pointer: str) -> None:
    task = await office.only("cart-abandonment")
    reply = await office.change(task, body)
    assert reply.status in {400, 422}
    assert reply.json["errors"][0]["pointer"].startswith(pointer)
    assert await office.only("cart-abandonment") == task
    assert await office.desk.pages(office.tenant, f"/tasks/{task['id']}/history") == []


async def test_viewers_look_and_others_do_not_even_see(office: Office) -> None:
    task = await office.only("cart-abandonment")
    assert (await office.change(task, {"note": "x"}, role="viewer")).status == 403
    stranger = await aio(make_tenant(office.connection))
    for method, path in (
        ("GET", f"/tasks/{task['id']}"),
        ("GET", f"/tasks/{task['id']}/history"),
        ("PATCH", f"/tasks/{task['id']}"),
        ("GET", f"/history/sessions/{task['session_id']}"),
        ("GET", f"/history/users/{task['user_id']}"),
    ):
        options: Any = {}
        if method == "PATCH":
            options = {"json": {"note": "x"}, "headers": {"If-Match": f'"{task["etag"]}"'}}
        reply = await office.desk.ask(stranger, method, path, **options)
        assert reply.status == 404


async def test_a_purchase_settles_the_cart_and_a_reload_keeps_what_people_wrote(
    office: Office,
) -> None:
    task = await office.only("cart-abandonment")
    changed = (await office.change(task, {"note": "Calls back", "status": "in_progress"})).json
    bought = event(60, "purchase", "v1", 3, customer_id="L1", items=[DRILL, SAW],
                   purchase_revenue=249.99, currency="EUR", transaction_id="T2")  # fmt: skip
    await office.load([*EVENTS, bought])
    settled = await office.only("cart-abandonment")
    assert settled["id"] == task["id"]
    assert (settled["status"], settled["note"]) == ("settled", "Calls back")
    assert settled["settled_at"] == "2026-10-22T21:00:00Z"
    assert settled["why"].endswith("Bought since.")
    assert settled["version"] == changed["version"] + 1
    [last, *_] = await office.desk.pages(office.tenant, f"/tasks/{task['id']}/history")
    assert (last["actor_kind"], last["changes"]) == (
        "system", {"status": {"from": "in_progress", "to": "settled"}}
    )  # fmt: skip
    # Somebody opens it again in spite of that: the same purchase does not close it a second time.
    opened = (await office.change(settled, {"status": "open"})).json
    await office.load([*EVENTS, bought])
    assert (await office.only("cart-abandonment"))["status"] == "open"
    # An earlier event comes late: it is the same cart, and the same task.
    late = event(0.35, "add_to_cart", items=[SAW], currency="EUR")
    await office.load([*EVENTS, late, bought])
    same = await office.only("cart-abandonment")
    assert (same["id"], same["note"]) == (opened["id"], "Calls back")
    assert same["began_at"] == "2026-10-20T09:21:00Z"
    # The cart is gone from the data: what somebody has worked on stays, and says so.
    await office.load([event(0, "page_view")])
    left = await office.only("cart-abandonment")
    assert (left["note"], left["present"]) == ("Calls back", False)
    await office.load([*EVENTS])
    assert (await office.only("cart-abandonment"))["present"]


async def test_of_a_person_who_is_erased_no_task_is_left(office: Office) -> None:
    """Worked on or not; and what is followed afterwards names nobody."""
    for kind in ("cart-abandonment", "search-analysis"):
        task = await office.only(kind)
        assert (await office.change(task, {"note": "Ada is on holiday"})).status == 200
    sold = await office.only("purchases")

    async def erase(inside: asyncpg.Connection) -> None:
        await inside.execute(
            "INSERT INTO analytics.alerts (tenant_id, name, kind, emails) VALUES"
            " ($1, 'Loads', 'failed_load', ARRAY['ada@adler.example', 'bo@shop.example'])",
            office.tenant,
        )
        await inside.execute(
            "SELECT data.erase_person($1, data.identifiers_of($1, 'L1')"
            " || data.identifiers_of($1, 'ada@adler.example'), gen_random_uuid())",
            office.tenant,
        )
        left = await inside.fetch("SELECT t::text AS row FROM analytics.tasks t")
        assert [str(sold["id"]) in row["row"] for row in left] == [True]
        changes = await inside.fetchval("SELECT count(*) FROM analytics.task_changes")
        assert changes == 0
        emails = await inside.fetchval("SELECT emails FROM analytics.alerts")
        assert emails == ["bo@shop.example"]

    await aio(in_tenant(office.connection, office.tenant, erase))
    await follow_once(office.database, office.tenant)
    again = await office.only("cart-abandonment")
    assert again["person_id"].startswith("erased-")
    assert (again["note"], again["company"], again["email"]) == ("", "", "")
    assert (await office.only("purchases"))["id"] == sold["id"]


# --- timelines ---


async def test_a_session_from_its_beginning_to_its_end(office: Office) -> None:
    task = await office.only("cart-abandonment")
    path = f"/history/sessions/{task['session_id']}"
    whole = await office.desk.get(office.tenant, path)
    assert [row["event_name"] for row in whole["data"]] == [
        "session_start", "page_view", "view_search_results", "no_search_results", "add_to_cart",
    ]  # fmt: skip
    assert [row["gap_seconds"] for row in whole["data"]] == [None, 360, 360, 360, 360]
    assert whole["contact"]["company"] == "Adler GmbH"
    assert whole["session"]["device_category"] == "desktop"
    assert whole["data"][1]["details"]["page_location"] == "https://shop.example/drills?x=1"
    assert await office.desk.pages(office.tenant, path, limit=2) == whole["data"]


async def test_a_customer_on_all_devices_latest_first(office: Office) -> None:
    user = user_id_of(is_customer=True, person_id="L1")
    found = await office.desk.get(office.tenant, f"/history/users/{user}")
    assert [row["event_name"] for row in found["data"]] == [
        "page_view", "page_view", "add_to_cart", "no_search_results", "view_search_results",
        "page_view", "session_start",
    ]  # fmt: skip
    assert [row["user_pseudo_id"] for row in found["data"][:3]] == ["v1", "v2", "v1"]
    assert found["data"][0]["gap_seconds"] == 4 * 3600
    assert found["data"][-1]["gap_seconds"] is None
    assert {(one["user_pseudo_id"], one["device_category"]) for one in found["devices"]} == {
        ("v1", "desktop"), ("v1", ""), ("v2", "mobile"),
    }  # fmt: skip
    assert found["user"]["sessions"] == 3
    assert found["contact"]["company"] == "Adler GmbH"
    for limit in (1, 2, 3):
        path = f"/history/users/{user}"
        rows = await office.desk.pages(office.tenant, path, limit=limit)
        assert rows == found["data"]


async def test_events_of_one_instant_are_told_once_each(office: Office) -> None:
    await office.load([*EVENTS, *(event(20, f"scroll_{number}", "v4", 1) for number in range(9))])
    user = user_id_of(is_customer=False, person_id="v4")
    for limit in (1, 2, 4, 100):
        rows = await office.desk.pages(office.tenant, f"/history/users/{user}", limit=limit)
        assert sorted(row["event_name"] for row in rows) == [f"scroll_{n}" for n in range(9)]


async def test_a_person_seen_on_more_days_than_are_read_at_once(office: Office) -> None:
    seen = [*range(1, DAYS_AT_ONCE + 2), DAYS_AT_ONCE + 9]
    for number in seen:
        day = FIRST - timedelta(days=number)
        row = replace(
            EVENTS[1], event_at=NINE - timedelta(days=number), user_pseudo_id="w", customer_id=None
        )
        await aio(replace_day(office.connection, office.reporting, day, [row]))
    user = user_id_of(is_customer=False, person_id="w")
    found = await office.desk.get(office.tenant, f"/history/users/{user}")
    days = [f"{(NINE - timedelta(days=number)):%Y-%m-%d}" for number in seen]
    assert [row["event_at"][:10] for row in found["data"]] == days
    assert found["next_cursor"] is None
    for limit in (1, 3, DAYS_AT_ONCE, DAYS_AT_ONCE + 1):
        rows = await office.desk.pages(office.tenant, f"/history/users/{user}", limit=limit)
        assert rows == found["data"]


@pytest.mark.parametrize(
    "path",
    [
        "/history/sessions/none",
        "/history/sessions/W10",
        "/history/sessions/%C3%A4",
        f"/history/sessions/{session_id_of('web', 'v1', 99)}",
        "/history/users/none",
        f"/history/users/{user_id_of(is_customer=True, person_id='nobody')}",
        f"/history/users/{session_id_of('web', 'v1', 1)}",
        "/history/users/" + "A" * 3000,
    ],
)
async def test_whom_nobody_knows(office: Office, path: str) -> None:
    reply = await office.desk.ask(office.tenant, "GET", path)
    assert reply.status == 404


async def test_a_cursor_of_another_list_is_refused(office: Office) -> None:
    session = session_id_of("web", "v1", 1)
    page = await office.desk.get(office.tenant, f"/history/sessions/{session}", limit=1)
    user = user_id_of(is_customer=False, person_id="v1")
    reply = await office.desk.ask(
        office.tenant, "GET", f"/history/users/{user}?cursor={page['next_cursor']}"
    )
    assert reply.status in {400, 422}


def test_the_desk_stands_after_what_is_loaded() -> None:
    assert max(one.event_at for one in EVENTS) < NOW


@pytest.mark.parametrize(
    ("statement", "customer"),
    [(EVENTS_OF_VISITOR, "NULL"), (EVENTS_OF_CUSTOMER, "'c1'"), (EVENTS_ON_DEVICES, "'c1'")],
)
async def test_timelines_look_into_the_days_that_can_hold_their_events(
    office: Office, statement: str, customer: str
) -> None:
    """Of ten loaded days each plan touches one, and no other."""
    for number in range(1, 10):
        day = FIRST - timedelta(days=number)
        at = NINE - timedelta(days=number)
        rows = [
            replace(EVENTS[1], event_at=at + timedelta(minutes=n), user_pseudo_id=f"w{n}")
            for n in range(40)
        ]
        await aio(replace_day(office.connection, office.reporting, day, rows))

    async def plan(inside: asyncpg.Connection) -> str:
        partition = f"events_{office.tenant.hex}_20261020"
        await inside.execute(f"PREPARE timeline AS {statement}")
        await inside.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        rows = await inside.fetch(
            f"EXPLAIN EXECUTE timeline ('{office.tenant}', ARRAY['v1'], {customer},"
            f" ARRAY['{FIRST}'::date], '2026-10-20', '2026-10-21', NULL, 0, 10)"
        )
        await inside.execute("DEALLOCATE timeline")
        text = "\n".join(row[0] for row in rows)
        assert set(re.findall(r"events_[0-9a-f]{32}_[0-9]{8}", text)) == {partition}
        return text

    found = await aio(in_tenant(office.connection, office.tenant, plan))
    assert "Append" not in found
