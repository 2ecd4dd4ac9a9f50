"""PostgreSQL's binary numeric, read back by a second implementation."""

import struct
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.actors.data.numeric import numeric_column, numeric_wire, shortest_decimal


def read_back(wire: bytes) -> Decimal:
    """As the manual describes the form: base-10000 digits, the first of a given weight."""
    count, weight, sign, places = struct.unpack_from(">hhHH", wire)
    digits = struct.unpack_from(f">{count}h", wire, 8)
    assert len(wire) == 8 + 2 * count
    assert all(0 <= digit < 10000 for digit in digits)
    value = sum(
        (Decimal(digit).scaleb(4 * (weight - place)) for place, digit in enumerate(digits)),
        Decimal(0),
    )
    found = value.quantize(Decimal(1).scaleb(-places)) if places else value
    return -found if sign == 0x4000 else found


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=6, min_value=-(10**15), max_value=10**15
    )
)
def test_decimals_survive(value: Decimal) -> None:
    assert read_back(numeric_wire(value)) == value


@pytest.mark.parametrize(
    "text",
    ["0", "0.00", "1", "10000", "0.0001", "0.00001", "-12345.6789", "1E+5", "1E-9", "99999999"],
)
def test_edges_of_the_groups(text: str) -> None:
    assert read_back(numeric_wire(Decimal(text))) == Decimal(text)


def test_places_are_kept() -> None:
    assert struct.unpack_from(">H", numeric_wire(Decimal("49.90")), 6) == (2,)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_shortest_decimal_names_the_float(value: float) -> None:
    decimal = shortest_decimal(value)
    assert decimal is not None
    assert float(decimal) == value


def test_what_is_no_amount_is_null() -> None:
    amounts = pa.array([1.5, None, float("nan"), float("inf"), 1.5])
    assert [wire is None for wire in numeric_column(amounts).to_pylist()] == [
        False, True, True, True, False,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no amounts"):
        numeric_wire(Decimal("NaN"))
