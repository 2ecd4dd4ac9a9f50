"""PostgreSQL's binary form of ``numeric``, so that money travels exactly.

An export stores money as FLOAT64: 49.9 is really 49.89999…. What was meant is the shortest decimal
that names the float, the one that BigQuery, Python and every other reader print. That decimal is
what we store, with as many places as it has.

The form (``numeric_send`` in PostgreSQL): four 16-bit integers (number of base-10000 digits, weight
of the first one, sign, places after the point), then the digits.
"""

import struct
from decimal import Decimal
from functools import lru_cache
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

_BASE_PLACES: Final = 4
_NEGATIVE: Final = 0x4000
_REMEMBERED: Final = 16384
"""Amounts, about 200 bytes each."""


def numeric_wire(value: Decimal) -> bytes:
    """`value` as PostgreSQL receives a ``numeric``.

    Args:
        value: Finite.
    """
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("infinities and NaN are no amounts of money")  # noqa: TRY004 - a value
    text = "".join(map(str, digits))
    if exponent > 0:
        text, exponent = text + "0" * exponent, 0
    places = -exponent
    text = text.rjust(places + 1, "0")
    whole, fraction = text[: len(text) - places], text[len(text) - places :]
    whole = whole.rjust(-(-len(whole) // _BASE_PLACES) * _BASE_PLACES, "0")
    fraction = fraction.ljust(-(-len(fraction) // _BASE_PLACES) * _BASE_PLACES, "0")
    joined = whole + fraction
    groups = [
        int(joined[start : start + _BASE_PLACES]) for start in range(0, len(joined), _BASE_PLACES)
    ]
    weight = len(whole) // _BASE_PLACES - 1
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    if not groups:
        weight = sign = 0
    header = struct.pack(">hhHH", len(groups), weight, _NEGATIVE if sign else 0, places)
    return header + struct.pack(f">{len(groups)}h", *groups)


def shortest_decimal(value: float) -> Decimal | None:
    """The shortest decimal that names `value`; None for NaN and the infinities."""
    decimal = Decimal(repr(value))
    return decimal if decimal.is_finite() else None


def numeric_column(amounts: pa.Array) -> pa.Array:
    """FLOAT64 amounts as an Arrow binary column of wire forms, null where there is no amount.

    Each distinct amount is converted once: a shop's prices repeat.
    """
    encoded = pc.dictionary_encode(pc.cast(amounts, pa.float64()))
    wires = [_wire_of(amount) for amount in encoded.dictionary.to_pylist()]
    return pa.array(wires, pa.binary()).take(encoded.indices)


@lru_cache(maxsize=_REMEMBERED)
def _wire_of(amount: float) -> bytes | None:
    decimal = shortest_decimal(amount)
    return None if decimal is None else numeric_wire(decimal)
