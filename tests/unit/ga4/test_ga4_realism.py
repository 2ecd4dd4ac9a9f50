"""Each peculiarity of a real export is in a generated one of moderate size."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

FUNNEL = (
    "page_view",
    "view_item_list",
    "view_item",
    "add_to_cart",
    "begin_checkout",
    "add_payment_info",
    "purchase",
)


@pytest.fixture(scope="session")
def sessions(rows):
    found = defaultdict(list)
    for row in rows:
        if None not in row.session:
            found[row.session].append(row)
    return {key: sorted(events, key=lambda row: row.timestamp) for key, events in found.items()}


def purchases(rows):
    return [row for row in rows if row.name == "purchase"]


def transaction(row):
    return row.record["ecommerce"]["transaction_id"]


def test_the_funnel_narrows(rows) -> None:
    counts = Counter(row.name for row in rows)
    steps = [counts[name] for name in FUNNEL]
    assert steps[0] > steps[2] > steps[3] > steps[4] > steps[5] > steps[6] > 50
    assert counts["remove_from_cart"] > 10


def test_weekdays_hours_and_growth(export, profile, rows) -> None:
    by_day = Counter(row.day for row in rows)
    days = list(export.calendar)[:-1]
    wednesdays = [by_day[day] for day in days if day.weekday() == 2]
    sundays = [by_day[day] for day in days if day.weekday() == 6]
    assert sum(wednesdays) / len(wednesdays) > sum(sundays) / len(sundays)
    assert wednesdays[-1] > wednesdays[0]
    zone = ZoneInfo(profile.zone)
    hours = Counter(
        datetime.fromtimestamp(row.timestamp / 1_000_000, UTC).astimezone(zone).hour for row in rows
    )
    assert hours[10] > 5 * hours[3]


def test_sessions_cross_midnight_and_keep_their_key(sessions) -> None:
    crossing = [events for events in sessions.values() if events[0].day != events[-1].day]
    assert len(crossing) > 10
    for events in crossing:
        assert events[-1].day - events[0].day == timedelta(days=1)


def test_session_ids_collide_between_visitors(sessions) -> None:
    lost = 1 - len({number for _, number in sessions}) / len(sessions)
    assert 0.02 < lost < 0.08


def test_sessions_of_a_visitor_do_not_overlap(sessions) -> None:
    by_cookie = defaultdict(list)
    for (cookie, _), events in sessions.items():
        by_cookie[cookie].append(events)
    for visits in by_cookie.values():
        visits.sort(key=lambda events: events[0].timestamp)
        for before, after in pairwise(visits):
            assert before[-1].timestamp < after[0].timestamp
            assert after[0].params["ga_session_number"] > before[0].params["ga_session_number"]


def test_visitors_return_on_other_days_and_customers_on_other_devices(rows) -> None:
    days = defaultdict(set)
    devices = defaultdict(set)
    for row in rows:
        if row.cookie is not None:
            days[row.cookie].add(row.day)
            if row.user_id is not None:
                devices[row.user_id].add(row.cookie)
    assert sum(len(seen) > 1 for seen in days.values()) > 100
    assert sum(len(cookies) > 1 for cookies in devices.values()) > 10
    assert sum(row.name == "first_visit" and row.cookie is not None for row in rows) > 500


def test_a_login_changes_who_it_is_within_a_session(sessions) -> None:
    changing = [events for events in sessions.values() if len({row.user_id for row in events}) == 2]
    assert len(changing) > 10
    for events in changing:
        known = [row.user_id is not None for row in events]
        assert known == sorted(known)


def test_customers_carry_their_properties(profile, rows) -> None:
    customers = {customer.erp_id: customer for customer in profile.customers}
    known = [row for row in rows if row.user_id is not None]
    assert known
    for row in known:
        customer = customers[row.properties["WebCustomerId"]]
        assert row.properties["DefaultBranchId"] == customer.branch
        assert row.properties.get("WebUserId", row.user_id) == customer.web_user_id
    assert any("WebUserId" not in row.properties for row in known)


def test_about_half_of_anonymous_sessions_choose_a_branch(profile, sessions) -> None:
    anonymous = [
        events for events in sessions.values() if all(row.user_id is None for row in events)
    ]
    choosing = sum(any("branch_id" in row.params for row in events) for events in anonymous)
    assert 0.35 < choosing / len(anonymous) < 0.6
    ids = {branch.id for branch in profile.branches}
    chosen = {
        row.params["branch_id"]
        for events in anonymous
        for row in events
        if "branch_id" in row.params
    }
    assert chosen == ids
    changing = [
        events
        for events in anonymous
        if len({row.params["branch_id"] for row in events if "branch_id" in row.params}) > 1
    ]
    assert changing


def test_events_of_equal_time_name_one_branch(sessions) -> None:
    for events in sessions.values():
        at = defaultdict(set)
        for row in events:
            branch = row.params.get("branch_id", row.properties.get("DefaultBranchId"))
            if branch is not None:
                at[row.timestamp].add(branch)
        assert all(len(branches) == 1 for branches in at.values())


def test_searches_and_failed_searches(rows) -> None:
    found = [row.params["search_term"] for row in rows if row.name == "view_search_results"]
    failed = [
        row.params["no_search_results_term"] for row in rows if row.name == "no_search_results"
    ]
    assert len(found) > len(failed) > 30
    # The same term is typed in several ways.
    assert len({" ".join(term.casefold().split()) for term in found}) < len(set(found))


def test_orders_are_reported_again(rows) -> None:
    seen = defaultdict(list)
    for row in purchases(rows):
        if transaction(row) not in (None, "", "(not set)") and row.cookie is not None:
            seen[row.cookie, transaction(row)].append(row)
    again = [reports for reports in seen.values() if len(reports) > 1]
    assert any(len({row.day for row in reports}) == 1 for reports in again)
    assert any(len({row.day for row in reports}) == 2 for reports in again)
    for reports in again:
        assert len({row.record["ecommerce"]["purchase_revenue"] for row in reports}) == 1
        assert len({row.timestamp for row in reports}) == len(reports)


def test_one_transaction_id_occurs_on_two_visitors(rows) -> None:
    cookies = defaultdict(set)
    for row in purchases(rows):
        if transaction(row) not in (None, "", "(not set)"):
            cookies[transaction(row)].add(row.cookie)
    assert any(len(found) == 2 for found in cookies.values())


def test_transaction_ids_are_missing_in_three_ways(rows) -> None:
    ids = Counter(transaction(row) for row in purchases(rows))
    assert ids["(not set)"] >= 2
    assert ids[None] >= 1
    assert ids[""] >= 1


def test_money_adds_up(profile, rows) -> None:
    mismatched = 0
    for row in purchases(rows):
        commerce = row.record["ecommerce"]
        items = row.record["items"]
        total = sum(round(item["price"] * 100) * item["quantity"] for item in items)
        assert commerce["purchase_revenue"] == total / 100
        assert commerce["unique_items"] == len(items)
        mismatched += abs(row.params["value"] - commerce["purchase_revenue"]) > 0.01
    assert mismatched >= 2
    currencies = Counter(row.params["currency"] for row in purchases(rows))
    assert set(currencies) == {profile.currency, profile.foreign_currency}
    assert currencies[profile.currency] > 10 * currencies[profile.foreign_currency] > 0


def test_amounts_are_integers_or_doubles(rows) -> None:
    kinds = set()
    for row in purchases(rows):
        for entry in row.record["event_params"]:
            if entry["key"] == "value":
                kinds |= {name for name, value in entry["value"].items() if value is not None}
    assert kinds == {"int_value", "double_value"}


def test_refunds_come_at_once_and_later_with_and_without_session(rows) -> None:
    orders = {transaction(row): row for row in purchases(rows)}
    refunds = [row for row in rows if row.name == "refund"]
    assert all(row.record["ecommerce"]["refund_value"] > 0 for row in refunds)
    named = [(row, orders[transaction(row)]) for row in refunds if transaction(row) in orders]
    assert any(refund.day == order.day for refund, order in named)
    assert any((refund.day - order.day).days >= 2 for refund, order in named)
    assert any(row.session[1] is None for row in refunds)
    assert any(row.session[1] is not None for row in refunds)


def test_without_consent_nothing_identifies_and_every_page_is_a_first_visit(rows) -> None:
    denied = [row for row in rows if row.record["privacy_info"]["analytics_storage"] == "No"]
    assert denied
    counts = Counter(row.name for row in denied)
    assert counts["first_visit"] == counts["session_start"] == counts["page_view"] > 100
    for row in denied:
        assert row.session == (None, None)
        assert row.user_id is None
        assert row.properties == {}
    assert counts["purchase"] >= 1


def test_session_engaged_is_a_string_or_an_integer(rows) -> None:
    kinds = Counter()
    for row in rows:
        for entry in row.record["event_params"]:
            if entry["key"] == "session_engaged":
                kinds[next(name for name, v in entry["value"].items() if v is not None)] += 1
    assert kinds["string_value"] > 5 * kinds["int_value"] > 0
    assert any("session_engaged" not in row.params for row in rows)


def test_channels_are_mostly_filled(rows) -> None:
    starts = [row for row in rows if row.name == "session_start" and row.cookie is not None]
    groups = Counter(
        row.record["session_traffic_source_last_click"]["cross_channel_campaign"][
            "default_channel_group"
        ]
        for row in starts
    )
    assert 0 < groups[None] < 0.15 * len(starts)
    assert {"Direct", "Organic Search", "Paid Search", "Email", "Referral"} <= set(groups)
    assert any(
        row.record["collected_traffic_source"] and row.record["collected_traffic_source"]["gclid"]
        for row in starts
    )


def test_devices_and_places_vary(rows) -> None:
    assert {row.record["device"]["category"] for row in rows} == {"desktop", "mobile", "tablet"}
    assert len({row.record["geo"]["city"] for row in rows}) > 8


def test_active_users_are_marked_in_daily_tables(rows) -> None:
    flags = Counter(row.record.get("is_active_user") for row in rows)
    assert flags[True] > flags[False] > 0
    assert flags[None] > 0  # of the intraday table
