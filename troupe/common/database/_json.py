"""JSON as the database sees it: exact numbers in both directions.

A number with a fraction or an exponent arrives as ``Decimal``, never as a binary float; a
``Decimal`` that is sent becomes a JSON number, digit for digit (``1.10`` keeps its zero). Both
directions run in the standard library's C code; only a value that holds a Decimal is written by the
slower walk below, because the C encoder has no way to write one.

What ``jsonb`` holds is read by orjson, in a fraction of the time, if it can hold neither a fraction
nor a whole number beyond 64 bits: of these orjson would make floats.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, NoReturn

import orjson

# What may be sent: JSON's own types and Decimal.
JsonValue = Any

_JSONB_VERSION: Final = b"\x01"  # the only one there is; it precedes the text on the wire


class _HoldsDecimal(Exception):
    """The value cannot be written by the C encoder."""


def _refuse(value: object) -> NoReturn:
    if isinstance(value, Decimal):
        raise _HoldsDecimal
    raise TypeError(f"{type(value).__name__} has no JSON form: convert it first")


_compact: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_refuse
).encode
loads: Final = json.JSONDecoder(parse_float=Decimal).decode
_may_be_inexact: Final = re.compile(rb"[0-9][.eE]|[0-9]{19}").search


def dumps(value: JsonValue) -> str:
    """Compact JSON.

    Raises:
        TypeError: A value that JSON does not have.
        ValueError: A number that is not finite.
    """
    try:
        return _compact(value)
    except _HoldsDecimal:
        return "".join(_walk(value))


def _walk(value: JsonValue) -> Iterator[str]:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} has no JSON form")
        yield str(value)
    elif isinstance(value, dict) and value:
        separator = "{"
        for key, member in value.items():
            yield separator + _compact({key: 0})[1:-2]  # the key and its colon
            yield from _walk(member)
            separator = ","
        yield "}"
    elif isinstance(value, list | tuple) and value:
        separator = "["
        for member in value:
            yield separator
            yield from _walk(member)
            separator = ","
        yield "]"
    else:
        yield _compact(value)


def encode_json(value: JsonValue) -> bytes:
    """The wire form of ``json``."""
    return dumps(value).encode()


def decode_json(data: bytes) -> JsonValue:
    """The value of a ``json`` from the wire."""
    return loads(data.decode())


def encode_jsonb(value: JsonValue) -> bytes:
    """The binary wire form of ``jsonb``, which binary COPY understands too."""
    return _JSONB_VERSION + dumps(value).encode()


def decode_jsonb(data: bytes) -> JsonValue:
    """The value of a ``jsonb`` from the wire."""
    text = data[1:]
    if _may_be_inexact(text) is None:
        return orjson.loads(text)
    return loads(text.decode())
