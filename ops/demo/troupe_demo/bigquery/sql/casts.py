"""CAST and SAFE_CAST."""

import functools
from typing import Final

from sqlglot import exp

from troupe_demo.bigquery.sql.compilation import (
    compile_expression,
    compiles,
    invalid,
    only,
    refusal,
)
from troupe_demo.bigquery.sql.expressions import (
    Expression,
    coerce,
    coercible,
    expand,
    literal,
)
from troupe_demo.bigquery.sql.scalars import array_literal
from troupe_demo.bigquery.sql.scopes import Scope, struct_expression
from troupe_demo.bigquery.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    FLOAT64,
    INT64,
    NULL,
    NUMERIC,
    STRING,
    TIME,
    TIMESTAMP,
    Field,
    Kind,
    Type,
    array_of,
    struct_of,
)

_NAMED: Final = {
    exp.DType.BOOLEAN: BOOL,
    exp.DType.BIGINT: INT64,
    exp.DType.DOUBLE: FLOAT64,
    exp.DType.DECIMAL: NUMERIC,
    exp.DType.TEXT: STRING,
    exp.DType.BINARY: BYTES,
    exp.DType.DATE: DATE,
    exp.DType.TIMESTAMP: DATETIME,
    exp.DType.TIME: TIME,
    exp.DType.TIMESTAMPTZ: TIMESTAMP,
}


def type_named(node: exp.DataType, scope: Scope) -> Type:
    """The type that a type name in the query means."""
    inner = node.expressions
    if node.this is exp.DType.ARRAY and len(inner) == 1:
        return array_of(type_named(inner[0], scope))
    if node.this is exp.DType.STRUCT:
        return struct_of([_struct_field(part, scope) for part in inner])
    type_ = _NAMED.get(node.this)
    if type_ is None or inner:
        raise refusal(f"the type {node.sql('bigquery')}", node, scope)
    return type_


def _struct_field(part: exp.Expr, scope: Scope) -> Field:
    if isinstance(part, exp.ColumnDef) and isinstance(part.args.get("kind"), exp.DataType):
        return Field(part.name, type_named(part.args["kind"], scope))
    if isinstance(part, exp.DataType):
        return Field("", type_named(part, scope))
    raise refusal(f"the field {part.sql('bigquery')}", part, scope)


# DuckDB text by (from, to); {0} is the value, {safe} true or false. What is missing is refused.
_CASTS: Final[dict[tuple[Kind, Kind], str]] = {
    (Kind.BOOL, Kind.INT64): "CAST({0} AS BIGINT)",
    (Kind.BOOL, Kind.STRING): "CAST({0} AS VARCHAR)",
    (Kind.INT64, Kind.BOOL): "({0} <> 0)",
    (Kind.INT64, Kind.FLOAT64): "CAST({0} AS DOUBLE)",
    (Kind.INT64, Kind.NUMERIC): "CAST({0} AS DECIMAL(38,9))",
    (Kind.INT64, Kind.STRING): "CAST({0} AS VARCHAR)",
    (Kind.FLOAT64, Kind.INT64): "bq_int_of_float({0}, {safe})",
    (Kind.FLOAT64, Kind.NUMERIC): "bq_numeric_of_float({0}, {safe})",
    (Kind.FLOAT64, Kind.STRING): "bq_float_text({0})",
    (Kind.NUMERIC, Kind.INT64): "{cast}({0} AS BIGINT)",
    (Kind.NUMERIC, Kind.FLOAT64): "CAST({0} AS DOUBLE)",
    (Kind.NUMERIC, Kind.STRING): "bq_numeric_text({0})",
    (Kind.STRING, Kind.BOOL): "bq_bool_of_text({0}, {safe})",
    (Kind.STRING, Kind.INT64): "bq_int_of_text({0}, {safe})",
    (Kind.STRING, Kind.FLOAT64): "bq_float_of_text({0}, {safe})",
    (Kind.STRING, Kind.NUMERIC): "bq_numeric_of_text({0}, {safe})",
    (Kind.STRING, Kind.BYTES): "encode({0})",
    (Kind.STRING, Kind.DATE): "bq_date_of_text({0}, {safe})",
    (Kind.STRING, Kind.DATETIME): "bq_datetime_of_text({0}, {safe})",
    (Kind.STRING, Kind.TIMESTAMP): "bq_timestamp_of_text({0}, {safe})",
    (Kind.DATE, Kind.STRING): "strftime({0}, '%Y-%m-%d')",
    (Kind.DATE, Kind.DATETIME): "CAST({0} AS TIMESTAMP)",
    (Kind.DATE, Kind.TIMESTAMP): "CAST({0} AS TIMESTAMP)",
    (Kind.DATETIME, Kind.STRING): "bq_datetime_text({0}, ' ')",
    (Kind.DATETIME, Kind.DATE): "CAST({0} AS DATE)",
    (Kind.DATETIME, Kind.TIMESTAMP): "{0}",
    (Kind.TIMESTAMP, Kind.STRING): "(bq_datetime_text({0}, ' ') || '+00')",
    (Kind.TIMESTAMP, Kind.DATE): "CAST({0} AS DATE)",
    (Kind.TIMESTAMP, Kind.DATETIME): "{0}",
}
_FALLIBLE: Final = frozenset({Kind.STRING, Kind.FLOAT64, Kind.NUMERIC, Kind.BYTES})


@compiles(exp.Cast, exp.TryCast)
def _cast(node: exp.Cast, scope: Scope) -> Expression:
    only(node, scope, "this", "to", "safe")
    target = type_named(node.to, scope)
    if isinstance(node.this, exp.Struct):  # STRUCT<a INT64>(1)
        return _typed_struct(node.this, target, scope)
    if isinstance(node.this, exp.Array):  # ARRAY<INT64>[1]
        return _typed_array(node.this, target, scope)
    value = compile_expression(node.this, scope)
    safe = isinstance(node, exp.TryCast)
    if target == DATE and isinstance(node.this, exp.Literal) and value.type == STRING and not safe:
        return coerce(value, DATE)  # DATE '2026-01-01'; the parser writes it as a CAST
    return cast(value, target, node, scope, safe=safe)


def cast(
    value: Expression, target: Type, node: exp.Expr, scope: Scope, *, safe: bool = False
) -> Expression:
    """``value`` as ``target``, NULL instead of an error when ``safe``."""
    if value.type == target or value.constant is None or value.type == NULL:
        return literal(None, target) if value.constant is None else value
    source = value.type.kind
    if value.type.element is not None and value.type.element == NULL and target.element is not None:
        return literal([], target)
    template = _CASTS.get((source, target.kind))
    if source is Kind.BYTES and target == STRING and not safe:
        template = "decode({0})"
    if template is None:
        raise refusal(f"CAST from {value.type} to {target}", node, scope)
    words = {"safe": "true", "cast": "TRY_CAST"} if safe else {"safe": "false", "cast": "CAST"}
    body = functools.partial(template.format, **words)
    return expand(body, target, value, fallible=source in _FALLIBLE)


def _typed_struct(node: exp.Struct, target: Type, scope: Scope) -> Expression:
    values = [compile_expression(item, scope) for item in node.expressions]
    if target.kind is not Kind.STRUCT or len(values) != len(target.fields):
        raise invalid("STRUCT type and its values differ in number", node, scope)
    fields = zip(values, target.fields, strict=True)
    return struct_expression(target, [_convert(v, f.type, node, scope) for v, f in fields])


def _typed_array(node: exp.Array, target: Type, scope: Scope) -> Expression:
    element = target.element
    if element is None:
        raise refusal("this form of ARRAY", node, scope)
    items = [_element(item, element, scope) for item in node.expressions]
    if not items:
        return literal([], target)
    return array_literal(items, node, scope)


def _element(item: exp.Expr, element: Type, scope: Scope) -> Expression:
    if isinstance(item, exp.Tuple) and element.kind is Kind.STRUCT:
        return _typed_struct(exp.Struct(expressions=item.expressions), element, scope)
    return _convert(compile_expression(item, scope), element, item, scope)


def _convert(value: Expression, type_: Type, node: exp.Expr, scope: Scope) -> Expression:
    if not coercible(value, type_):
        raise invalid(f"Expected type {type_}; found {value.type}", node, scope)
    return coerce(value, type_)
