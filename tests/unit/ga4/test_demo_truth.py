"""The independent script against a case small enough to compute by hand, and on a whole export."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from troupe_demo.ga4.schema import DAILY_SCHEMA, INTRADAY_SCHEMA

SCRIPT = Path(__file__).parents[3] / "ops" / "demo" / "truth.py"
BERLIN = ZoneInfo("Europe/Berlin")


def event(day, clock, name, cookie=None, session=None, *, properties=None, commerce=None, **params):
    hour, minute = map(int, clock.split(":"))
    at = datetime(2026, 3, day, hour, minute, tzinfo=BERLIN)
    if session is not None:
        params["ga_session_id"] = session

    def value(content):
        kind = {str: "string_value", int: "int_value", float: "double_value"}[type(content)]
        return {kind: content}

    return {
        "event_date": f"202603{day:02d}",
        "event_timestamp": int(at.timestamp()) * 1_000_000,
        "event_name": name,
        "event_params": [{"key": k, "value": value(v)} for k, v in params.items()],
        "user_pseudo_id": cookie,
        "user_properties": [
            {"key": k, "value": {"string_value": v}} for k, v in (properties or {}).items()
        ],
        "stream_id": "1",
        "ecommerce": commerce,
    }


def sold(transaction, revenue):
    return {"transaction_id": transaction, "purchase_revenue": revenue}


FIRST_DAY = [
    event(10, "09:00", "first_visit", "A", 100, ga_session_number=1),
    event(10, "09:01", "page_view", "A", 100, session_engaged="1", branch_id="X"),
    event(10, "09:02", "add_to_cart", "A", 100),
    event(10, "09:03", "purchase", "A", 100, currency="EUR", commerce=sold("T1", 100.10)),
    event(10, "09:04", "purchase", "A", 100, currency="EUR", commerce=sold("T1", 100.10)),
    # The same session id as A's; runs past midnight; its branch is a user property.
    event(
        10, "23:59", "session_start", "B", 100, ga_session_number=2,
        properties={"DefaultBranchId": "Y"},
    ),
]  # fmt: skip
SECOND_DAY = [
    event(11, "00:10", "page_view", "B", 100, session_engaged=1),
    # Another visitor's report of the same transaction is a purchase of its own.
    event(11, "00:11", "purchase", "B", 100, currency="EUR", commerce=sold("T1", 50.05)),
    event(11, "00:12", "no_search_results", "B", 100, no_search_results_term="zange"),
    event(11, "10:00", "page_view", "A", 200, ga_session_number=2),
    # The thank-you page again, a day later and in another session.
    event(11, "10:01", "purchase", "A", 200, currency="EUR", commerce=sold("T1", 100.10)),
    event(11, "10:02", "purchase", "B", 300, currency="CHF", commerce=sold("(not set)", 20.0)),
    event(11, "12:00", "page_view"),
    event(11, "12:01", "purchase", currency="EUR", commerce=sold("T9", 30.0)),
    event(11, "15:00", "refund", "A", currency="EUR", commerce={"refund_value": 10.10}),
]


@pytest.fixture
def directory(tmp_path):
    def write(name, events, schema):
        pq.write_table(pa.Table.from_pylist(events, schema=schema), tmp_path / f"{name}.parquet")

    write("events_20260310", FIRST_DAY, DAILY_SCHEMA)
    # Superseded tables hold rows that must not count.
    write("events_intraday_20260310", FIRST_DAY + FIRST_DAY, INTRADAY_SCHEMA)
    write("events_intraday_20260311", FIRST_DAY, INTRADAY_SCHEMA)
    write("events_fresh_20260311", SECOND_DAY, DAILY_SCHEMA)
    return tmp_path


def run(directory, start, end, zone="Europe/Berlin"):
    arguments = ["--start", start, "--end", end, "--zone", zone, "--json"]
    done = subprocess.run(
        [sys.executable, SCRIPT, directory, *arguments], capture_output=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def test_fifteen_events_by_hand(directory) -> None:
    record = run(directory, "2026-03-10", "2026-03-11")
    assert record["total"] == {
        "events": 15,
        "consent_denied_events": 3,
        "page_views": 4,
        "searches": 1,
        "failed_searches": 1,
        "sessions": 4,
        "engaged_sessions": 2,
        "sessions_with_add_to_cart": 1,
        "sessions_with_checkout": 0,
        "sessions_with_purchase": 3,
        "sessions_with_purchase_event": 4,
        "sessions_with_cart_without_purchase": 0,
        "total_users": 2,
        "active_users": 2,
        "new_users": 1,
        "returning_users": 2,
        "purchasers": 2,
        "purchases": 4,
        "purchases_without_key": 2,
        "duplicates_dropped": 2,
        "refunds": 1,
        "money": {
            "CHF": {"purchases": 1, "gross": "20.00", "refunded": "0.00", "net": "20.00"},
            "EUR": {"purchases": 3, "gross": "180.15", "refunded": "10.10", "net": "170.05"},
        },
    }


def test_days_by_hand(directory) -> None:
    days = run(directory, "2026-03-10", "2026-03-11")["days"]
    first, second = days["2026-03-10"], days["2026-03-11"]
    names = ("events", "sessions", "engaged_sessions", "total_users", "active_users", "purchases")
    # B is active on both days: the session that runs past midnight is engaged.
    assert [first[name] for name in names] == [6, 2, 2, 2, 2, 1]
    assert [second[name] for name in names] == [9, 2, 0, 2, 1, 3]
    assert first["money"] == {
        "EUR": {"purchases": 1, "gross": "100.10", "refunded": "0.00", "net": "100.10"}
    }


def test_branches_by_hand(directory) -> None:
    branches = run(directory, "2026-03-10", "2026-03-11")["branches"]
    assert {
        branch: (figures["sessions"], figures["purchases"], figures["duplicates_dropped"])
        for branch, figures in branches.items()
    } == {"": (2, 2, 1), "X": (1, 1, 1), "Y": (1, 1, 0)}
    assert branches["Y"]["money"]["EUR"]["gross"] == "50.05"
    assert branches[""]["money"]["EUR"] == {
        "purchases": 1, "gross": "30.00", "refunded": "10.10", "net": "19.90",
    }  # fmt: skip


def test_the_zone_decides_the_day(directory) -> None:
    record = run(directory, "2026-03-10", "2026-03-11", "UTC")
    assert [day["events"] for day in record["days"].values()] == [9, 6]


def test_a_duplicate_is_one_even_if_the_first_report_lies_before_the_range(directory) -> None:
    record = run(directory, "2026-03-11", "2026-03-11")
    assert record["total"]["duplicates_dropped"] == 1
    assert record["total"]["money"]["EUR"]["gross"] == "80.05"
    # The session that began the evening before belongs to the evening before.
    assert record["total"]["sessions"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--start", "2026-03-11", "--end", "2026-03-10"], "ends before it begins"),
        (["--start", "2026-03-10", "--end", "2026-03-11", "--zone", "Mars/Base"], "no zone"),
        (["--start", "x", "--end", "2026-03-11"], "invalid"),
    ],
)
def test_nonsense_is_refused_in_one_line(directory, arguments, says) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, directory, *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_whole_export_is_consistent(export, profile, truth) -> None:
    """Parts add up to the whole where they must, and agree with what the generator wrote."""
    tenant = next(each for each in export.summary.tenants if each.profile is profile)
    zone = ZoneInfo(profile.zone)
    figures = truth.Truth(tenant.directory, tenant.first_day, tenant.last_day, zone)
    record = figures.as_record()
    total = record["total"]
    assert total["events"] == tenant.events
    for name in ("events", "sessions", "purchases", "refunds", "duplicates_dropped", "page_views"):
        assert total[name] == sum(day[name] for day in record["days"].values())
        assert total[name] == sum(branch[name] for branch in record["branches"].values())
    assert set(record["branches"]) == {"", *(branch.id for branch in profile.branches)}
    assert total["total_users"] < sum(day["total_users"] for day in record["days"].values())
    assert total["duplicates_dropped"] > 0
    assert set(total["money"]) == {profile.currency, profile.foreign_currency}
    for sums in total["money"].values():
        assert float(sums["gross"]) >= float(sums["net"])


def test_every_purchase_is_counted_or_dropped(rows, export, profile, truth) -> None:
    directory = next(t.directory for t in export.summary.tenants if t.profile is profile)
    counted, dropped = truth.counted_purchases(list(truth.read_events(directory)))
    assert len(counted) + len(dropped) == sum(row.name == "purchase" for row in rows)
    first_reports = {(event.visitor, event.transaction): event.moment for event in counted}
    for event in dropped:
        assert first_reports[event.visitor, event.transaction] < event.moment
        assert event.moment[0] - first_reports[event.visitor, event.transaction][0] < int(
            timedelta(days=5) / timedelta(microseconds=1)
        )
