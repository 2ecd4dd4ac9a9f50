"""JSON without loss, and without surprises for whoever reads it.

Out: `Decimal` as a string in plain notation, instants as RFC 3339 UTC with ``Z``, dates as
``YYYY-MM-DD``, UUIDs and enumerations as their text, models by their aliases. A naive datetime, NaN
or an infinity is our own mistake and raises.

In: the body of a request is read more strictly than the standard library would. A key given twice,
NaN, a number of more than 100 characters, nesting beyond 32 levels and bytes that are not UTF-8 are
refused as malformed (two readers of the same document must never disagree about it); text that
PostgreSQL cannot store (U+0000, lone surrogates) is refused with a pointer to it. Fractions arrive
as `Decimal`.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from types import UnionType
from typing import Any, Final, NoReturn
from uuid import UUID

import orjson
from pydantic import BaseModel
from quart.json.provider import DefaultJSONProvider
from werkzeug.exceptions import BadRequest

from troupe.common.errors import InvalidInput

MAX_DEPTH: Final = 32
MAX_NUMBER_CHARACTERS: Final = 100
MAX_EXPONENT: Final = 400


def plain_decimal(value: Decimal) -> str:
    """In plain notation, with the zeros that it has: ``1000``, ``0.10``.

    Raises:
        ValueError: NaN or an infinity.
    """
    if not value.is_finite():
        raise ValueError("JSON has no NaN and no infinity")
    return format(value, "f")


def _plain(value: object) -> object:
    kind = type(value)
    convert = _converters.get(kind)
    if convert is None:
        convert = _converters[kind] = _converter_of(kind)
    return convert(value)


def _converter_of(kind: type) -> Callable[[Any], object]:
    for base, convert in _PLAIN:
        if issubclass(kind, base):
            return convert
    raise TypeError(f"{kind.__name__} has no JSON form")


_converters: Final[dict[type, Callable[[Any], object]]] = {}
"""What was found for each class: asking abstract classes takes longer than writing."""


def instant(value: datetime) -> str:
    """RFC 3339 in UTC, microseconds only when there are any: ``2026-03-01T05:00:00Z``.

    Raises:
        ValueError: The datetime is naive.
    """
    if value.tzinfo is not UTC:
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        value = value.astimezone(UTC)
    return value.isoformat()[: -len("+00:00")] + "Z"


_PLAIN: Final[tuple[tuple[type | UnionType, Callable[[Any], object]], ...]] = (
    (BaseModel, lambda model: model.model_dump(by_alias=True)),
    (Decimal, plain_decimal),
    (datetime, instant),  # before date, which it is a kind of
    (date, date.isoformat),
    (UUID, str),
    (Enum, lambda member: member.value),
    (frozenset | set, sorted),
    (Mapping, dict),
)


_encode: Final = json.JSONEncoder(
    default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")
).encode


def dumps(value: object) -> bytes:
    """Compact UTF-8 JSON.

    Raises:
        TypeError: The value holds something without a JSON form.
        ValueError: A naive datetime, NaN or an infinity.
    """
    return _encode(value).encode()


def dumps_stored(value: object) -> bytes:
    """What `dumps` writes, several times as fast, of values as PostgreSQL gives them.

    These are in UTC and finite. Where they are not, this would not notice: another zone's instant
    would keep its offset, a naive one none, and NaN become null. An exponent of a float may be
    written otherwise (``1e16``, ``1e+16``). Whole numbers beyond 64 bits and keys that are no texts
    are left to `dumps`.

    Raises:
        TypeError: The value holds something without a JSON form.
        ValueError: A text or a `Decimal` that has none.
    """
    return _dumped(value, _LIKE_OURS)


def dumps_figures(value: object) -> bytes:
    """What `dumps` writes, several times as fast, of figures that are finite.

    Instants may be in any zone. Otherwise as `dumps_stored`.

    Raises: as `dumps`.
    """
    return _dumped(value, _LIKE_OURS | orjson.OPT_PASSTHROUGH_DATETIME)


def _dumped(value: object, options: int) -> bytes:
    try:
        return orjson.dumps(value, _plain, options)
    except TypeError:
        return dumps(value)


_LIKE_OURS: Final = orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS


class ExactJSONProvider(DefaultJSONProvider):
    """What Quart itself uses (``jsonify``, the test client): the same rules on the way out."""

    def dumps(self, obj: Any, **_kwargs: Any) -> str:
        """Text of `dumps`; formatting options are ignored, there is one form."""
        return dumps(obj).decode()


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadRequest("The JSON body names a member twice.")
    return members


def _decimal(text: str) -> Decimal:
    number = Decimal(text) if len(text) <= MAX_NUMBER_CHARACTERS else Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > MAX_EXPONENT:
        raise BadRequest("The JSON body holds a number that is too long.")
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise BadRequest("The JSON body holds a number that is too long.")
    return int(text)


def _refuse_constant(text: str) -> NoReturn:
    raise BadRequest(f"The JSON body holds {text}, which JSON does not have.")


def loads(raw: bytes) -> Any:
    """Read one JSON document strictly.

    Raises:
        BadRequest: Not JSON, ambiguous, or beyond the limits in the module's text.
        InvalidInput: A text that cannot be stored, with its pointer.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise BadRequest("The JSON body is not UTF-8.") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest(f"The body is not JSON: {error.msg} at {where}.") from error
    except RecursionError as error:
        raise BadRequest(f"The JSON body is nested deeper than {MAX_DEPTH} levels.") from error
    _inspect(value, [])
    return value


def is_storable(text: str) -> bool:
    """Whether PostgreSQL takes this text: no U+0000, no lone surrogate."""
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _inspect(value: object, path: list[str]) -> None:
    if isinstance(value, str):
        _check_text(value, path)
        return
    if not isinstance(value, dict | list):
        return
    if len(path) >= MAX_DEPTH:
        raise BadRequest(f"The JSON body is nested deeper than {MAX_DEPTH} levels.")
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in members:
        if isinstance(key, str):
            _check_text(key, path)
        path.append(str(key))
        _inspect(member, path)
        path.pop()


def _check_text(text: str, path: list[str]) -> None:
    if not is_storable(text):
        raise InvalidInput(
            "A text holds a character that cannot be stored.",
            [(pointer_to(path), "holds U+0000 or a lone surrogate")],
        )


def pointer_to(path: list[str] | tuple[str | int, ...]) -> str:
    """A JSON pointer (RFC 6901); the empty string means the whole document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
