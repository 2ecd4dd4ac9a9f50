"""Cursors, sorting, ranges of days, entity tags."""

import base64
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from troupe.common.dates import DateRange
from troupe.common.errors import InvalidInput
from troupe.http.conventions import (
    ChartQuery,
    CompareQuery,
    CursorValue,
    PageQuery,
    RangeQuery,
    decode_cursor,
    encode_cursor,
    entity_tag,
    parse_sort,
    today_in,
)

TODAY = date(2026, 3, 15)
YESTERDAY = date(2026, 3, 14)


def pointers(error: InvalidInput) -> list[str]:
    return [pointer for pointer, _ in error.errors]


# --- cursors ---

VALUES: tuple[CursorValue, ...] = (
    "Ä'; --",
    -5,
    Decimal("1.50"),
    date(2026, 1, 1),
    datetime(2026, 1, 1, 12, 30, 0, 7, tzinfo=UTC),
    UUID(int=3),
)


def test_a_cursor_comes_back_typed() -> None:
    cursor = encode_cursor("newest", VALUES)
    assert cursor.isascii()
    assert decode_cursor(cursor, "newest", [type(value) for value in VALUES]) == VALUES


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "ü",
        "!!!!",
        "e30",
        "bnVsbA",
        "W10",
        base64.urlsafe_b64encode(b"[" * 5000).decode(),
        base64.urlsafe_b64encode(b'["newest",1]').decode(),
        base64.urlsafe_b64encode(b'["newest","a\\u0000"]').decode(),
        base64.urlsafe_b64encode(b'["newest","a","b"]').decode(),
        encode_cursor("oldest", ["a"]),
    ],
)
def test_a_strange_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_cursor(cursor, "newest", [str])
    assert pointers(caught.value) == ["?cursor"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x", int),
        (str(2**63), int),
        ("NaN", Decimal),
        ("x", Decimal),
        ("2026-02-30", date),
        ("2026-01-01T00:00:00", datetime),
        ("9999-12-31T23:59:59-14:00", datetime),
        ("0001-01-01T00:00:00+14:00", datetime),
        ("1", UUID),
    ],
)
def test_cursor_values_are_checked(text: str, kind: type[CursorValue]) -> None:
    with pytest.raises(InvalidInput):
        decode_cursor(encode_cursor("o", [text]), "o", [kind])


@given(st.binary(max_size=60), st.text(max_size=40))
def test_no_input_breaks_the_cursor(raw: bytes, text: str) -> None:
    for cursor in (text, base64.urlsafe_b64encode(raw).decode()):
        try:
            decode_cursor(cursor, "o", [str, int])
        except InvalidInput:
            continue
        raise AssertionError("nobody made this cursor")


def test_limits_are_bounded() -> None:
    assert PageQuery().limit == 50
    for limit in (0, 1001):
        with pytest.raises(ValidationError):
            PageQuery(limit=limit)


# --- sorting ---


def test_sorting_follows_the_allow_list() -> None:
    allowed = {"value": "t.value", "name": "lower(t.name)"}
    orders = parse_sort("-value,name", allowed, "name")
    assert [(order.column, order.descending) for order in orders] == [
        ("t.value", True),
        ("lower(t.name)", False),
    ]
    assert parse_sort(None, allowed, "-name")[0].descending
    for text in ("value;drop", "value,value", "value,-value", "--value", "value,"):
        with pytest.raises(InvalidInput):
            parse_sort(text, allowed, "name")


# --- ranges ---


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ({}, date(2026, 2, 15), YESTERDAY),
        ({"preset": "yesterday"}, YESTERDAY, YESTERDAY),
        ({"preset": "7d"}, date(2026, 3, 8), YESTERDAY),
        ({"preset": "28d"}, date(2026, 2, 15), YESTERDAY),
        ({"preset": "30d"}, date(2026, 2, 13), YESTERDAY),
        ({"preset": "90d"}, date(2025, 12, 15), YESTERDAY),
        ({"preset": "mtd"}, date(2026, 3, 1), YESTERDAY),
        ({"preset": "ytd"}, date(2026, 1, 1), YESTERDAY),
        ({"preset": "all"}, date(2024, 6, 1), YESTERDAY),
        (
            {"start_date": "2026-01-01", "end_date": "2026-01-01"},
            date(2026, 1, 1),
            date(2026, 1, 1),
        ),
        ({"start_date": "2026-03-01"}, date(2026, 3, 1), YESTERDAY),
        ({"start_date": "2026-03-15"}, TODAY, TODAY),
    ],
)
def test_a_range_is_the_days_that_are_meant(query: dict[str, str], start: date, end: date) -> None:
    resolved = RangeQuery.model_validate(query).resolve(TODAY, earliest=date(2024, 6, 1))
    assert resolved == DateRange(start, end)


def test_on_the_first_the_month_to_date_is_the_month_before() -> None:
    query = RangeQuery.model_validate({"preset": "mtd"})
    assert query.resolve(date(2026, 3, 1)) == DateRange(date(2026, 2, 1), date(2026, 2, 28))
    query = RangeQuery.model_validate({"preset": "ytd"})
    assert query.resolve(date(2026, 1, 1)) == DateRange(date(2025, 1, 1), date(2025, 12, 31))


def test_all_without_data_is_yesterday() -> None:
    query = RangeQuery.model_validate({"preset": "all"})
    assert query.resolve(TODAY) == DateRange(YESTERDAY, YESTERDAY)
    assert query.resolve(TODAY, earliest=TODAY) == DateRange(YESTERDAY, YESTERDAY)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"start_date": "2026-02-02", "end_date": "2026-02-01"}, "?end_date"),
        ({"end_date": "2026-02-01"}, "?start_date"),
        ({"start_date": "2026-02-01", "preset": "7d"}, "?preset"),
        ({"start_date": "2020-01-01", "end_date": "2026-02-01"}, "?end_date"),
        ({"start_date": "1999-12-31", "end_date": "2000-01-01"}, "?start_date"),
        (
            {"start_date": "2026-01-01", "end_date": "2026-02-01", "granularity": "hour"},
            "?granularity",
        ),
    ],
)
def test_a_range_that_means_nothing_is_refused(query: dict[str, str], pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ChartQuery.model_validate(query).resolve(TODAY)
    assert pointers(caught.value) == [pointer]


@pytest.mark.parametrize("query", [{"preset": "8d"}, {"compare": "x"}, {"start_date": "1.2.2026"}])
def test_unknown_words_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CompareQuery.model_validate(query)


@given(st.dates(date(2001, 1, 1), date(2100, 1, 1)), st.sampled_from(["7d", "mtd", "ytd", "90d"]))
def test_presets_end_yesterday_and_run_forwards(today: date, preset: str) -> None:
    resolved = RangeQuery.model_validate({"preset": preset}).resolve(today)
    assert resolved.end == today - timedelta(days=1)
    assert resolved.days >= 1


def test_the_day_is_the_tenants() -> None:
    midnight = datetime(2026, 3, 14, 23, 30, tzinfo=UTC)
    assert today_in(ZoneInfo("Europe/Berlin"), midnight) == date(2026, 3, 15)
    assert today_in(ZoneInfo("America/New_York"), midnight) == date(2026, 3, 14)


def test_entity_tags_differ_with_their_parts() -> None:
    tags = {entity_tag(1, "a"), entity_tag("1", "a"), entity_tag(1, "b"), entity_tag((1, "a"))}
    assert len(tags) == 4
    assert entity_tag(1, "a") == entity_tag(1, "a")
