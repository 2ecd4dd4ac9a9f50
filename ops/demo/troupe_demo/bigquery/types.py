"""BigQuery's types, and how each is spelled in Arrow, in REST schemas, in GoogleSQL and in DuckDB.

A ``TIMESTAMP`` is held in DuckDB as a zoneless timestamp in UTC. DuckDB's own type with a time zone
would send every comparison through a calendar library and the session's zone; the compiler knows
which expressions are instants, so DuckDB does not have to.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa

from troupe_demo.bigquery.errors import BigQueryError


class Kind(StrEnum):
    """The kinds of GoogleSQL types that the stand-in knows; the value is GoogleSQL's name."""

    BOOL = "BOOL"
    INT64 = "INT64"
    FLOAT64 = "FLOAT64"
    NUMERIC = "NUMERIC"
    STRING = "STRING"
    BYTES = "BYTES"
    DATE = "DATE"
    DATETIME = "DATETIME"
    TIME = "TIME"
    TIMESTAMP = "TIMESTAMP"
    ARRAY = "ARRAY"
    STRUCT = "STRUCT"
    NULL = "NULL"  # the untyped literal NULL; becomes INT64 when nothing else claims it


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct or one column; an anonymous struct field has the name ``""``."""

    name: str
    type: "Type"


@dataclass(frozen=True, slots=True)
class Type:
    """A GoogleSQL type: a kind, with an element (``ARRAY``) or fields (``STRUCT``)."""

    kind: Kind
    element: "Type | None" = None
    fields: tuple[Field, ...] = ()

    def __str__(self) -> str:
        if self.element is not None:
            return f"ARRAY<{self.element}>"
        if self.kind is Kind.STRUCT:
            return "STRUCT<" + ", ".join(f"{f.name} {f.type}".strip() for f in self.fields) + ">"
        return self.kind.value

    def field(self, name: str) -> Field | None:
        """The field of that name, in any case, or None."""
        lowered = name.lower()
        return next((f for f in self.fields if f.name.lower() == lowered), None)


BOOL, INT64, FLOAT64 = Type(Kind.BOOL), Type(Kind.INT64), Type(Kind.FLOAT64)
NUMERIC, STRING, BYTES = Type(Kind.NUMERIC), Type(Kind.STRING), Type(Kind.BYTES)
DATE, DATETIME, TIME = Type(Kind.DATE), Type(Kind.DATETIME), Type(Kind.TIME)
TIMESTAMP, NULL = Type(Kind.TIMESTAMP), Type(Kind.NULL)

NUMBERS = frozenset({Kind.INT64, Kind.FLOAT64, Kind.NUMERIC})


def array_of(element: Type) -> Type:
    """``ARRAY<element>``."""
    return Type(Kind.ARRAY, element=element)


def struct_of(fields: list[Field]) -> Type:
    """``STRUCT<fields>``."""
    return Type(Kind.STRUCT, fields=tuple(fields))


_DUCK = {
    Kind.BOOL: "BOOLEAN",
    Kind.INT64: "BIGINT",
    Kind.FLOAT64: "DOUBLE",
    Kind.NUMERIC: "DECIMAL(38,9)",
    Kind.STRING: "VARCHAR",
    Kind.BYTES: "BLOB",
    Kind.DATE: "DATE",
    Kind.DATETIME: "TIMESTAMP",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.NULL: "BIGINT",
}
_REST = {Kind.INT64: "INTEGER", Kind.FLOAT64: "FLOAT", Kind.BOOL: "BOOLEAN", Kind.NULL: "INTEGER"}
_FROM_REST = {
    "INTEGER": Kind.INT64,
    "FLOAT": Kind.FLOAT64,
    "BOOLEAN": Kind.BOOL,
    "RECORD": Kind.STRUCT,
    **{kind.value: kind for kind in Kind if kind is not Kind.NULL},
}
_ARROW = {
    Kind.BOOL: pa.bool_(),
    Kind.INT64: pa.int64(),
    Kind.FLOAT64: pa.float64(),
    Kind.NUMERIC: pa.decimal128(38, 9),
    Kind.STRING: pa.string(),
    Kind.BYTES: pa.binary(),
    Kind.DATE: pa.date32(),
    Kind.DATETIME: pa.timestamp("us"),
    Kind.TIME: pa.time64("us"),
    Kind.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    Kind.NULL: pa.int64(),
}


def quote(identifier: str) -> str:
    """A DuckDB identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def field_names(struct: Type) -> list[str]:
    """Names of a struct's fields as stored: BigQuery names anonymous ones by their place."""
    return [f.name or f"_field_{place}" for place, f in enumerate(struct.fields, start=1)]


def duck_type(type_: Type) -> str:
    """The DuckDB type that holds values of this type."""
    if type_.element is not None:
        return duck_type(type_.element) + "[]"
    if type_.kind is Kind.STRUCT:
        names = field_names(type_)
        inner = zip(names, type_.fields, strict=True)
        return "STRUCT(" + ", ".join(f"{quote(n)} {duck_type(f.type)}" for n, f in inner) + ")"
    return _DUCK[type_.kind]


def arrow_type(type_: Type) -> pa.DataType:
    """The Arrow type in which BigQuery serves values of this type."""
    if type_.element is not None:
        return pa.list_(pa.field("item", arrow_type(type_.element)))
    if type_.kind is Kind.STRUCT:
        names = field_names(type_)
        return pa.struct(
            [(n, arrow_type(f.type)) for n, f in zip(names, type_.fields, strict=True)]
        )
    return _ARROW[type_.kind]


def arrow_schema(columns: list[Field]) -> pa.Schema:
    """The Arrow schema in which BigQuery serves these columns."""
    return pa.schema([(c.name, arrow_type(c.type)) for c in columns])


def rest_field(field: Field, name: str | None = None) -> dict[str, Any]:
    """A ``TableFieldSchema`` of the REST API."""
    inner, mode = field.type, "NULLABLE"
    if inner.element is not None:
        inner, mode = inner.element, "REPEATED"
    schema: dict[str, Any] = {
        "name": name or field.name,
        "type": "RECORD" if inner.kind is Kind.STRUCT else _REST.get(inner.kind, inner.kind.value),
        "mode": mode,
    }
    if inner.kind is Kind.STRUCT:
        names = field_names(inner)
        schema["fields"] = [rest_field(f, n) for n, f in zip(names, inner.fields, strict=True)]
    return schema


def rest_schema(columns: list[Field]) -> dict[str, Any]:
    """A ``TableSchema`` of the REST API."""
    return {"fields": [rest_field(column) for column in columns]}


def kind_named(name: str) -> Kind:
    """The kind of that name, in REST's or in GoogleSQL's spelling."""
    kind = _FROM_REST.get(name.upper())
    if kind is None:
        raise BigQueryError.invalid_query(f"The stand-in does not know the type {name}")
    return kind


def type_of_arrow(data_type: pa.DataType) -> Type:
    """The BigQuery type of a column as stored in Parquet.

    Raises:
        BigQueryError: Nothing in BigQuery corresponds to it.
    """
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        return array_of(type_of_arrow(data_type.value_type))
    if pa.types.is_struct(data_type):
        return struct_of([Field(f.name, type_of_arrow(f.type)) for f in data_type])
    if pa.types.is_dictionary(data_type):
        return type_of_arrow(data_type.value_type)
    if pa.types.is_timestamp(data_type):
        return TIMESTAMP if data_type.tz else DATETIME
    if pa.types.is_decimal(data_type) and data_type.scale <= 9:
        return NUMERIC
    for accepts, type_ in _STORED:
        if accepts(data_type):
            return type_
    raise BigQueryError.invalid(f"A stored column has the type {data_type}, unknown to BigQuery")


_STORED = (
    (pa.types.is_boolean, BOOL),
    (pa.types.is_integer, INT64),
    (pa.types.is_floating, FLOAT64),
    (pa.types.is_date, DATE),
    (pa.types.is_time, TIME),
    (pa.types.is_string, STRING),
    (pa.types.is_large_string, STRING),
    (pa.types.is_binary, BYTES),
    (pa.types.is_large_binary, BYTES),
)


def is_native(data_type: pa.DataType) -> bool:
    """Whether DuckDB reads the stored column as exactly ``duck_type`` of its BigQuery type."""
    if pa.types.is_list(data_type):
        return is_native(data_type.value_type)
    if pa.types.is_struct(data_type):
        return all(is_native(f.type) for f in data_type)
    return data_type in _NATIVE


_NATIVE = frozenset(
    {pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.binary(), pa.date32()}
    | {pa.timestamp("us"), pa.time64("us"), pa.decimal128(38, 9)}
)
