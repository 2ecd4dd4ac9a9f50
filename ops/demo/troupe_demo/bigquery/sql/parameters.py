"""Query parameters of the REST API as compiled constants."""

import base64
from typing import Any

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql.constants import python_value
from troupe_demo.bigquery.sql.dialect import POSITIONAL
from troupe_demo.bigquery.sql.expressions import Expression, literal
from troupe_demo.bigquery.types import Field, Kind, Type, array_of, kind_named, struct_of


def read_parameters(parameters: list[dict[str, Any]]) -> dict[str, Expression]:
    """Compiled constants by lower-case name; a positional one has the name the parser gave it.

    Raises:
        BigQueryError: A value does not spell one of its type.
    """
    values = {}
    for place, parameter in enumerate(parameters, start=1):
        type_ = _type(parameter.get("parameterType") or {})
        value = _value(parameter.get("parameterValue") or {}, type_)
        name = parameter.get("name") or f"{POSITIONAL}{place}"
        values[name.lower()] = literal(value, type_)
    return values


def _type(described: dict[str, Any]) -> Type:
    kind = kind_named(str(described.get("type") or ""))
    if kind is Kind.ARRAY:
        return array_of(_type(described.get("arrayType") or {}))
    if kind is Kind.STRUCT:
        fields = described.get("structTypes") or []
        return struct_of([Field(f.get("name") or "", _type(f["type"])) for f in fields])
    return Type(kind)


def _value(given: dict[str, Any], type_: Type) -> Any:
    if type_.element is not None:
        if "arrayValues" not in given:
            return []
        return [_value(item, type_.element) for item in given["arrayValues"]]
    if type_.kind is Kind.STRUCT:
        parts = given.get("structValues") or {}
        return tuple(_value(parts.get(field.name) or {}, field.type) for field in type_.fields)
    value = given.get("value")
    if value is None:
        return None
    try:
        if type_.kind is Kind.BYTES:
            return base64.b64decode(value, validate=True)
        return python_value(_canonical(str(value), type_), type_)
    except (ValueError, ArithmeticError):
        raise BigQueryError.query_failed(
            f"Invalid value for type: {type_} is not a valid value"
        ) from None


def _canonical(value: str, type_: Type) -> str:
    """The client writes instants with the zone apart and datetimes with more than six digits."""
    return value.replace("Z", "+00:00") if type_.kind is Kind.TIMESTAMP else value
