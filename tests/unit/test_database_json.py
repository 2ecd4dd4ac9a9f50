"""JSON as the database sees it: exact numbers in both directions."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.common.database import _json

numbers = st.decimals(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | numbers,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def same(left: object, right: object) -> bool:
    """Equal, and equal in kind; an integral Decimal without exponent comes back as an int."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, Decimal):
        return not isinstance(right, float | bool) and str(left) in (str(right), "-0")
    return type(left) is type(right) and left == right


@given(values)
def test_what_goes_in_comes_out(value: object) -> None:
    assert same(value, _json.loads(_json.dumps(value)))
    assert same(value, _json.decode_jsonb(_json.encode_jsonb(value)))
    assert same(value, _json.decode_json(_json.encode_json(value)))


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_without_decimals_it_is_what_json_writes(value: object) -> None:
    assert _json.dumps(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize(
    "text", ["1.10", "-0.00", "1E+400", "0.1", "12345678901234567890.123456789"]
)
def test_a_fraction_is_a_decimal_digit_for_digit(text: str) -> None:
    number = _json.loads(text)
    assert isinstance(number, Decimal)
    assert str(number) == text
    assert _json.dumps([number]) == f"[{text}]"


@pytest.mark.parametrize(
    "text",
    [
        "1.10", "-0.1", "1E+400", "1e5", "9223372036854775807", "9223372036854775808",
        "18446744073709551616", "-9223372036854775809", "123456789012345678901234567890",
        "999999999999999999",
    ],
)  # fmt: skip
def test_what_a_fast_reader_would_round_is_read_exactly(text: str) -> None:
    for document in (text, f'{{"a":[{text}]}}', f'["1.5",{text}]'):
        assert repr(_json.decode_jsonb(b"\x01" + document.encode())) == repr(_json.loads(document))


def test_a_whole_number_stays_one() -> None:
    assert _json.loads("12345678901234567890") == 12345678901234567890


@pytest.mark.parametrize(
    "value", [Decimal("NaN"), Decimal("Infinity"), float("nan"), [Decimal(1), float("inf")]]
)
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        _json.dumps(value)


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, [Decimal(1), object()]])
def test_what_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="JSON"):
        _json.dumps(value)


def test_keys_are_written_alike_beside_a_decimal() -> None:
    keys = (1, 2.5, True, None, 'a"b', "ö")
    beside = _json.dumps({**dict.fromkeys(keys, 0), "last": Decimal(0)})
    assert beside == _json.dumps({**dict.fromkeys(keys, 0), "last": 0})


def test_nothing_is_escaped_that_need_not_be() -> None:
    assert _json.encode_jsonb({"ort": "Köln"}) == b"\x01" + '{"ort":"Köln"}'.encode()
