"""JSON without loss on the way out, without ambiguity on the way in."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from werkzeug.exceptions import BadRequest

from troupe.common.errors import InvalidInput
from troupe.http.exact_json import MAX_DEPTH, dumps, dumps_figures, dumps_stored, loads


class Colour(StrEnum):
    RED = "red"


class Price(BaseModel):
    amount: Decimal
    at: datetime


def test_values_keep_their_exact_form() -> None:
    moment = datetime(2026, 3, 29, 3, 0, tzinfo=timezone(timedelta(hours=2)))
    written = dumps(
        {
            "money": Decimal("1E+3"),
            "cent": Decimal("0.10"),
            "at": moment,
            "fine": datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=UTC),
            "day": date(2026, 2, 28),
            "id": UUID(int=1),
            "colour": Colour.RED,
            "some": frozenset({"b", "a"}),
            "model": Price(amount=Decimal("9.90"), at=moment),
            "text": "Grüße",
        }
    )
    assert json.loads(written) == {
        "money": "1000",
        "cent": "0.10",
        "at": "2026-03-29T01:00:00Z",
        "fine": "2026-01-01T00:00:00.000005Z",
        "day": "2026-02-28",
        "id": "00000000-0000-0000-0000-000000000001",
        "colour": "red",
        "some": ["a", "b"],
        "model": {"amount": "9.90", "at": "2026-03-29T01:00:00Z"},
        "text": "Grüße",
    }
    assert "Grüße".encode() in written


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        Decimal("NaN"),
        Decimal("Infinity"),
        datetime.fromisoformat("2026-01-01"),
        object(),
    ],
)
def test_what_has_no_exact_form_is_our_mistake(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        dumps([value])


STORED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.uuids()
    | st.sampled_from(Colour),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab\n"é'), inner),
    max_leaves=20,
)


@given(STORED)
def test_what_postgresql_gives_is_written_the_same_way_by_both(value: object) -> None:
    assert dumps_stored(value) == dumps(value)


@given(
    STORED
    | st.datetimes(timezones=st.timezones())
    | st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9))
)
def test_figures_are_written_the_same_way_by_both(value: object) -> None:
    try:
        expected = dumps([value])
    except OverflowError:  # an instant that UTC has no year for
        return
    assert loads(dumps_figures([value])) == loads(expected)


def test_an_instant_of_any_zone_is_written_in_utc_and_a_naive_one_never() -> None:
    at = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert dumps_figures([at]) == b'["2026-07-01T10:00:00Z"]'
    with pytest.raises(ValueError, match="time zone"):
        dumps_figures([at.replace(tzinfo=None)])


def test_what_only_the_slower_one_can_write_is_left_to_it() -> None:
    value = {1: 2**70, "model": Price(amount=Decimal("1E+3"), at=datetime(2026, 1, 1, tzinfo=UTC))}
    assert dumps_stored(value) == dumps(value)
    assert b"1180591620717411303424" in dumps_stored(value)


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("-Infinity"), "\ud800", object()])
def test_neither_writes_what_has_no_form(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        dumps_stored([value])


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"b":{"a":1,"a":1}}', "twice"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"\xff", "UTF-8"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b"\xef\xbb\xbf1", "not JSON"),
        (b"1" * 101, "too long"),
        (b"0." + b"1" * 101, "too long"),
        (b"1e401", "too long"),
        (b"1e999999999999999999", "too long"),
        (b"[" * 33 + b"]" * 33, "deeper"),
        (b"[" * 100_000 + b"]" * 100_000, "deeper"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "deeper"),
    ],
)
def test_ambiguous_or_excessive_documents_are_malformed(raw: bytes, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        loads(raw)
    assert says in (caught.value.description or "")


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b'{"a":[1,{"b/c":"x\\u0000"}]}', "/a/1/b~1c"),
        (b'["\\ud800"]', "/0"),
        (b'{"\\u0000":1}', ""),
    ],
)
def test_text_that_cannot_be_stored_is_pointed_at(raw: bytes, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        loads(raw)
    assert caught.value.errors[0][0] == pointer


def test_the_allowed_depth_is_allowed() -> None:
    assert loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_pairs_of_surrogates_are_characters() -> None:
    assert loads(b'"\\ud83d\\ude00"') == "😀"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert loads(dumps(value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4))
def test_fractions_are_read_as_decimals(value: Decimal) -> None:
    read = loads(format(value, "f").encode())
    assert read == value
    assert not isinstance(read, float)
