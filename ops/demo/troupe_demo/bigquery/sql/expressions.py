"""A compiled expression: DuckDB text together with everything known about it.

Expressions are immutable and compose: whatever is built from parts reads what its parts read and
can fail if one of them can. ``reads`` is what makes the byte estimate exact: it names the stored
leaves that a result depends on, through aliases, subqueries and UNNEST, so that a column nobody
uses in the end costs nothing, as in BigQuery.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql.constants import python_value
from troupe_demo.bigquery.types import (
    BOOL,
    DATE,
    DATETIME,
    FLOAT64,
    INT64,
    NULL,
    NUMBERS,
    NUMERIC,
    STRING,
    TIME,
    TIMESTAMP,
    Kind,
    Type,
    duck_type,
    field_names,
)


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A stored path: ``table`` counts the query's table references, ``path`` leads to fields."""

    table: int
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expression:
    """DuckDB text and what is known of it.

    Attributes:
        sql: DuckDB text, safe to put anywhere an expression may stand.
        type: Its GoogleSQL type; values are held as ``duck_type`` of it.
        reads: Stored paths whose bytes the value depends on.
        origin: Set when the value *is* a stored path, so that a field access narrows ``reads``.
        name: The name a SELECT item gets from it without an alias.
        constant: Its Python value when known while compiling, else ``UNKNOWN``.
        flexible: A literal or parameter, which GoogleSQL coerces more readily.
        fallible: Evaluating it can raise an error.
        relational: It holds a subquery, which DuckDB does not evaluate inside a lambda.
        suffix_of: Set for ``_TABLE_SUFFIX``: the table reference whose suffix it is.
        weight: How large it is once DuckDB has expanded its macros, in parts.
    """

    sql: str
    type: Type
    reads: frozenset[Leaf] = frozenset()
    origin: Leaf | None = None
    name: str | None = None
    constant: Any = UNKNOWN
    flexible: bool = False
    fallible: bool = False
    relational: bool = False
    suffix_of: int | None = None
    weight: int = 1

    def named(self, name: str | None) -> "Expression":
        """The same value under another inferred name."""
        return replace(self, name=name)


def combine(sql: str, type_: Type, *parts: Expression, fallible: bool = False) -> Expression:
    """An expression built from ``parts``."""
    return Expression(
        sql,
        type_,
        reads=frozenset().union(*(p.reads for p in parts)),
        fallible=fallible or any(p.fallible for p in parts),
        relational=any(p.relational for p in parts),
        weight=1 + sum(p.weight for p in parts),
    )


_REPEATS: Final = 8  # how often a macro of the prelude names an operand, all in all
_HEAVIEST: Final = 600


def expand(
    body: Callable[..., str], type_: Type, *parts: Expression, fallible: bool = False
) -> Expression:
    """An expression whose text repeats its parts; ``body`` writes it from theirs.

    A division checks its operands, a comparison of floats looks for NaN: each names its operands
    several times, and nesting would multiply the text beyond what can be planned. So heavy operands
    are computed once and handed to a lambda, over a list of one, that names them.
    """
    weight = _REPEATS * sum(part.weight for part in parts)
    if weight <= _HEAVIEST:
        inline = combine(body(*(part.sql for part in parts)), type_, *parts, fallible=fallible)
        return replace(inline, weight=weight)
    values = ", ".join(f"'v{place}': {part.sql}" for place, part in enumerate(parts))
    # The name is the content's, so that equal expressions stay equal texts (GROUP BY needs that).
    given = "g" + hashlib.sha256(values.encode()).hexdigest()[:12]
    # Constants stay in the text: some functions of DuckDB want to see them.
    names = [
        part.sql if part.constant is not UNKNOWN else f"struct_extract({given}, 'v{place}')"
        for place, part in enumerate(parts)
    ]
    sql = f"list_transform([{{{values}}}], lambda {given}: {body(*names)})[1]"
    return combine(sql, type_, *parts, fallible=fallible)


def text(value: str) -> str:
    """A DuckDB string literal.

    Raises:
        BigQueryError: The text holds NUL, which DuckDB's parser ends at.
    """
    if "\0" in value:
        raise BigQueryError.invalid_query("The stand-in does not support NUL in a string literal")
    return "'" + value.replace("'", "''") + "'"


def _scalar(value: Any, type_: Type) -> str:
    if type_.kind is Kind.STRING:
        return text(value)
    if type_.kind is Kind.BOOL:
        return "true" if value else "false"
    if type_.kind is Kind.BYTES:
        return f"unhex('{value.hex()}')"
    if type_.kind is Kind.FLOAT64 and not math.isfinite(value):
        return f"CAST('{value}' AS DOUBLE)"
    if type_.kind is Kind.NUMERIC:
        value = format(value, "f")
    quoted = str(value) if type_.kind is Kind.INT64 else f"'{value}'"
    return f"CAST({quoted} AS {duck_type(type_)})"


def literal(value: Any, type_: Type) -> Expression:
    """A constant. ``value`` is a Python value, a list for arrays, a tuple for structs."""
    if value is None:
        sql = f"CAST(NULL AS {duck_type(type_)})"
    elif type_.element is not None:
        items = ", ".join(literal(item, type_.element).sql for item in value)
        sql = f"CAST([{items}] AS {duck_type(type_)})"
    elif type_.kind is Kind.STRUCT:
        items = ", ".join(
            f"{text(name)}: {literal(item, field.type).sql}"
            for name, item, field in zip(field_names(type_), value, type_.fields, strict=True)
        )
        sql = "{" + items + "}"
    else:
        sql = _scalar(value, type_)
    return Expression(sql, type_, constant=value, flexible=True)


NULL_LITERAL: Final = Expression("CAST(NULL AS BIGINT)", NULL, constant=None, flexible=True)

# Implicit conversions that lose nothing; literals additionally become what they spell.
_WIDENS = {
    Kind.INT64: {Kind.NUMERIC, Kind.FLOAT64},
    Kind.NUMERIC: {Kind.FLOAT64},
    Kind.DATE: {Kind.DATETIME},
}
_SPELLS = {
    Kind.STRING: {Kind.DATE, Kind.DATETIME, Kind.TIME, Kind.TIMESTAMP},
    Kind.FLOAT64: {Kind.NUMERIC},
}


def coercible(expression: Expression, target: Type) -> bool:
    """Whether GoogleSQL converts the expression to ``target`` without being told."""
    source = expression.type
    if source in (target, NULL):
        return True
    if source.element is not None and target.element is not None:
        return source.element == NULL
    if target.kind in _WIDENS.get(source.kind, ()):
        return True
    return expression.flexible and target.kind in _SPELLS.get(source.kind, ())


def coerce(expression: Expression, target: Type) -> Expression:
    """The expression as ``target``; the caller has asked ``coercible``.

    Raises:
        BigQueryError: A literal does not spell a value of the target type.
    """
    if expression.type == target:
        return expression
    null = expression.type == NULL and not expression.fallible  # ERROR() must still be evaluated
    if null or expression.constant is None:
        return replace(literal(None, target), name=expression.name)
    if expression.constant is not UNKNOWN:
        return replace(literal(_respell(expression, target), target), name=expression.name)
    converted = combine(f"CAST({expression.sql} AS {duck_type(target)})", target, expression)
    return replace(converted, name=expression.name, flexible=expression.flexible)


def _respell(expression: Expression, target: Type) -> Any:
    value = expression.constant
    try:
        return python_value(str(value) if target.kind is Kind.NUMERIC else value, target)
    except (ValueError, ArithmeticError):
        message = f"Could not cast literal {value!r} to type {target}"
        raise BigQueryError.invalid_query(message) from None


def common_type(expressions: list[Expression]) -> Type | None:
    """The type to which all coerce, or None."""
    typed = [e for e in expressions if e.type != NULL]
    if not typed:
        return NULL
    firm = [e for e in typed if not e.flexible] or typed
    candidates = [e.type for e in firm]
    if all(t.kind in NUMBERS for t in candidates):
        candidates += [e.type for e in typed if e.type.kind in NUMBERS]
        if NUMERIC in candidates and FLOAT64 in candidates:
            loose = all(e.flexible for e in typed if e.type == FLOAT64)
            candidates = [NUMERIC if loose else FLOAT64]
    for candidate in candidates:
        if all(coercible(e, candidate) for e in typed):
            return candidate
    return None


COMPARABLE: Final = frozenset(
    {t.kind for t in (BOOL, INT64, FLOAT64, NUMERIC, STRING, DATE, DATETIME, TIME, TIMESTAMP)}
    | {Kind.BYTES}
)
