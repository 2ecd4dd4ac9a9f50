"""Literals, names, operators and conditionals."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from sqlglot import exp

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql.compilation import (
    compile_expression,
    compiles,
    constant,
    invalid,
    only,
    refusal,
)
from troupe_demo.bigquery.sql.constants import python_value
from troupe_demo.bigquery.sql.dialect import offset_position
from troupe_demo.bigquery.sql.expressions import (
    COMPARABLE,
    NULL_LITERAL,
    Expression,
    coerce,
    coercible,
    combine,
    common_type,
    expand,
    literal,
)
from troupe_demo.bigquery.sql.scopes import Scope, get_field, struct_expression
from troupe_demo.bigquery.types import (
    BOOL,
    BYTES,
    DATE,
    FLOAT64,
    INT64,
    NULL,
    NUMBERS,
    NUMERIC,
    STRING,
    Field,
    Kind,
    Type,
    array_of,
    duck_type,
    struct_of,
)


@compiles(exp.Literal)
def _literal(node: exp.Literal, scope: Scope) -> Expression:
    if node.is_string:
        return literal(node.name, STRING)
    return _number(node.name, node, scope)


def _number(written: str, node: exp.Expr, scope: Scope) -> Expression:
    type_ = FLOAT64 if any(mark in written.lower() for mark in ".e") else INT64
    try:
        return literal(python_value(written, type_), type_)
    except ValueError:
        raise invalid(f"Invalid numeric literal: {written}", node, scope) from None


@compiles(exp.RawString)
def _raw_string(node: exp.RawString, _scope: Scope) -> Expression:
    return literal(node.name, STRING)


@compiles(exp.ByteString)
def _byte_string(node: exp.ByteString, scope: Scope) -> Expression:
    if not node.name.isascii() or "\\" in node.name:
        raise refusal("a bytes literal with escapes", node, scope)
    return literal(node.name.encode(), BYTES)


@compiles(exp.Boolean)
def _boolean(node: exp.Boolean, _scope: Scope) -> Expression:
    return literal(bool(node.this), BOOL)


@compiles(exp.Null)
def _null(_node: exp.Null, _scope: Scope) -> Expression:
    return NULL_LITERAL


@compiles(exp.Paren)
def _paren(node: exp.Paren, scope: Scope) -> Expression:
    inner = compile_expression(node.this, scope)
    return replace(inner, sql=f"({inner.sql})")


@compiles(exp.Column)
def _column(node: exp.Column, scope: Scope) -> Expression:
    if isinstance(node.this, exp.Star):
        raise refusal("* as an expression", node, scope)
    parts = [part for part in node.parts if isinstance(part, exp.Identifier)]
    return scope.resolve(parts)


@compiles(exp.Dot)
def _dot(node: exp.Dot, scope: Scope) -> Expression:
    path = dotted_path(node)
    if path is not None:
        return scope.resolve(path)
    if not isinstance(node.expression, exp.Identifier):
        raise refusal(f"the function {node.sql('bigquery')[:60]}", node, scope)
    return get_field(compile_expression(node.this, scope), node.expression, scope.compilation.sql)


def dotted_path(node: exp.Expr) -> list[exp.Identifier] | None:
    """The names of ``a.b.c``, or None for anything else."""
    if isinstance(node, exp.Column):
        names = [part for part in node.parts if isinstance(part, exp.Identifier)]
        return names if len(names) == len(node.parts) else None
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        head = dotted_path(node.this)
        return [*head, node.expression] if head is not None else None
    return None


@compiles(exp.Parameter)
def _parameter(node: exp.Parameter, scope: Scope) -> Expression:
    name = node.name if isinstance(node.this, exp.Var) else ""
    value = scope.compilation.parameters.get(name.lower())
    if value is None:
        shown = name or node.sql("bigquery")
        sql = scope.compilation.sql
        place = offset_position(sql, max(sql.find(f"@{shown}"), 0))
        raise BigQueryError.invalid_query(f"Query parameter '{shown}' not found", place)
    return value


# -- operators


def operands(node: exp.Binary, scope: Scope) -> tuple[Expression, Expression]:
    """Both sides, compiled."""
    return compile_expression(node.this, scope), compile_expression(node.expression, scope)


def no_signature(name: str, types: Sequence[Type | str], node: exp.Expr, scope: Scope) -> Exception:
    """BigQuery's complaint about argument types."""
    shown = ", ".join(str(t) for t in types)
    return invalid(f"No matching signature for {name} for argument types: {shown}", node, scope)


def as_bool(node: exp.Expr, scope: Scope, where: str) -> Expression:
    """A condition.

    Raises:
        BigQueryError: It is not BOOL.
    """
    expression = compile_expression(node, scope)
    if not coercible(expression, BOOL):
        message = f"{where} should return type BOOL, but returns {expression.type}"
        raise invalid(message, node, scope)
    return coerce(expression, BOOL)


@compiles(exp.And, exp.Or)
def _connector(node: exp.Connector, scope: Scope) -> Expression:
    name = "AND" if isinstance(node, exp.And) else "OR"
    # The parser nests long chains to the left; a loop keeps Python's stack short.
    parts = [as_bool(part, scope, name) for part in node.flatten()]
    return combine("(" + f" {name} ".join(p.sql for p in parts) + ")", BOOL, *parts)


@compiles(exp.Not)
def _not(node: exp.Not, scope: Scope) -> Expression:
    inner = as_bool(node.this, scope, "NOT")
    return combine(f"(NOT {inner.sql})", BOOL, inner)


_COMPARISONS: Final[dict[type[exp.Expr], tuple[str, str, str]]] = {
    exp.EQ: ("=", "({0} = {1})", "bq_equal({0}, {1})"),
    exp.NEQ: ("!=", "({0} <> {1})", "(NOT bq_equal({0}, {1}))"),
    exp.LT: ("<", "({0} < {1})", "bq_less({0}, {1})"),
    exp.GT: (">", "({0} > {1})", "bq_less({1}, {0})"),
    exp.LTE: ("<=", "({0} <= {1})", "bq_less_or_equal({0}, {1})"),
    exp.GTE: (">=", "({0} >= {1})", "bq_less_or_equal({1}, {0})"),
    exp.NullSafeEQ: (
        "IS NOT DISTINCT FROM",
        "({0} IS NOT DISTINCT FROM {1})",
        "({0} IS NOT DISTINCT FROM {1})",
    ),
    exp.NullSafeNEQ: (
        "IS DISTINCT FROM",
        "({0} IS DISTINCT FROM {1})",
        "({0} IS DISTINCT FROM {1})",
    ),
}


_UNCHAINED: Final = (*_COMPARISONS, exp.Is, exp.Like, exp.In, exp.Between, exp.Not)


def unchained(node: exp.Expr, scope: Scope) -> None:
    """Refuse ``a = b = c`` and ``a IS NULL IS TRUE``, which the parser reads from the left.

    Raises:
        BigQueryError: The left operand is a comparison without parentheses.
    """
    if isinstance(node.this, _UNCHAINED):
        message = "Syntax error: Expression to the left of a comparison must be parenthesized"
        raise invalid(message, node, scope)


@compiles(*_COMPARISONS)
def _comparison(node: exp.Binary, scope: Scope) -> Expression:
    unchained(node, scope)
    left, right = operands(node, scope)
    name, plain, floating = _COMPARISONS[type(node)]
    type_ = comparable_type([left, right], f"operator {name}", node, scope)
    left, right = coerce(left, type_), coerce(right, type_)
    template = floating if type_ == FLOAT64 else plain
    return expand(template.format, BOOL, left, right)


def comparable_type(expressions: list[Expression], name: str, node: exp.Expr, scope: Scope) -> Type:
    """The type in which the expressions can be compared.

    Raises:
        BigQueryError: There is none, or the stand-in does not compare values of that type.
    """
    type_ = common_type(expressions)
    if type_ is None:
        raise no_signature(name, [e.type for e in expressions], node, scope)
    if type_ == NULL:
        return INT64
    if type_.kind not in COMPARABLE:
        raise refusal(f"{name} on {type_.kind} values", node, scope)
    return type_


@compiles(exp.Between)
def _between(node: exp.Between, scope: Scope) -> Expression:
    only(node, scope, "this", "low", "high")
    unchained(node, scope)
    value, low, high = (compile_expression(node.args[k], scope) for k in ("this", "low", "high"))
    type_ = comparable_type([value, low, high], "operator BETWEEN", node, scope)
    value, low, high = (coerce(e, type_) for e in (value, low, high))
    template = "({0} BETWEEN {1} AND {2})"
    if type_ == FLOAT64:
        template = "(bq_less_or_equal({1}, {0}) AND bq_less_or_equal({0}, {2}))"
    return expand(template.format, BOOL, value, low, high)


@compiles(exp.Is)
def _is(node: exp.Is, scope: Scope) -> Expression:
    unchained(node, scope)
    value = compile_expression(node.this, scope)
    if isinstance(node.expression, exp.Null):
        return combine(f"({value.sql} IS NULL)", BOOL, value)
    if isinstance(node.expression, exp.Boolean):
        wanted = "TRUE" if node.expression.this else "FALSE"
        value = as_bool(node.this, scope, "IS")
        return combine(f"({value.sql} IS {wanted})", BOOL, value)
    raise refusal(f"IS {node.expression.sql('bigquery')}", node, scope)


@compiles(exp.Like)
def _like(node: exp.Like, scope: Scope) -> Expression:
    unchained(node, scope)
    left, right = operands(node, scope)
    if not (coercible(left, STRING) and coercible(right, STRING)):
        raise no_signature("operator LIKE", [left.type, right.type], node, scope)
    left, right = coerce(left, STRING), coerce(right, STRING)
    return combine(f"({left.sql} LIKE {right.sql} ESCAPE '\\')", BOOL, left, right, fallible=True)


@compiles(exp.DPipe)
def _concatenation(node: exp.DPipe, scope: Scope) -> Expression:
    left, right = operands(node, scope)
    if not (coercible(left, STRING) and coercible(right, STRING)):
        if Kind.ARRAY in (left.type.kind, right.type.kind):
            raise refusal("|| on arrays (ARRAY_CONCAT is supported)", node, scope)
        raise no_signature("operator ||", [left.type, right.type], node, scope)
    left, right = coerce(left, STRING), coerce(right, STRING)
    return combine(f"({left.sql} || {right.sql})", STRING, left, right)


_ARITHMETIC: Final[dict[type[exp.Expr], str]] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}


@compiles(*_ARITHMETIC)
def _arithmetic(node: exp.Binary, scope: Scope) -> Expression:
    sign = _ARITHMETIC[type(node)]
    if isinstance(node.this, exp.Interval) or isinstance(node.expression, exp.Interval):
        raise refusal("arithmetic on INTERVAL (DATE_ADD is supported)", node, scope)
    left, right = operands(node, scope)
    if left.type == DATE and right.type == INT64 and sign != "*":
        shifted = f"CAST({left.sql} {sign} CAST({right.sql} AS INTEGER) AS DATE)"
        return combine(shifted, DATE, left, right, fallible=True)
    return arithmetic(sign, left, right, node, scope)


def arithmetic(
    sign: str, left: Expression, right: Expression, node: exp.Expr, scope: Scope
) -> Expression:
    """``left sign right`` on numbers, failing where BigQuery fails."""
    type_ = common_type([left, right])
    type_ = INT64 if type_ == NULL else type_
    if type_ is None or type_.kind not in NUMBERS:
        raise no_signature(f"operator {sign}", [left.type, right.type], node, scope)
    a, b = coerce(left, type_), coerce(right, type_)
    template = f"({{0}} {sign} {{1}})"
    if type_ == FLOAT64:
        template = f"bq_checked({template}, {{0}}, ' {sign} ', {{1}})"
    elif type_ == NUMERIC:
        template = f"CAST({template} AS {duck_type(NUMERIC)})"
    return expand(template.format, type_, a, b, fallible=True)


@compiles(exp.Div)
def _division(node: exp.Div, scope: Scope) -> Expression:
    left, right = operands(node, scope)
    if common_type([left, right]) == NUMERIC:
        raise refusal("division of NUMERIC", node, scope)
    if not (coercible(left, FLOAT64) and coercible(right, FLOAT64)):
        raise no_signature("operator /", [left.type, right.type], node, scope)
    left, right = coerce(left, FLOAT64), coerce(right, FLOAT64)
    return expand("bq_divide({0}, {1})".format, FLOAT64, left, right, fallible=True)


@compiles(exp.Neg)
def _negation(node: exp.Neg, scope: Scope) -> Expression:
    if isinstance(node.this, exp.Literal) and not node.this.is_string:
        # -9223372036854775808 is a literal although its magnitude is none.
        return _number(f"-{node.this.name}", node, scope)
    inner = compile_expression(node.this, scope)
    if inner.type.kind not in NUMBERS and inner.type != NULL:
        raise no_signature("operator -", [inner.type], node, scope)
    return combine(f"(-{inner.sql})", inner.type, inner, fallible=True)


# -- conditionals


def unify(
    expressions: list[Expression], name: str, node: exp.Expr, scope: Scope
) -> tuple[Type, list[Expression]]:
    """All expressions in one type.

    Raises:
        BigQueryError: They have none in common.
    """
    type_ = common_type(expressions)
    if type_ is None:
        raise no_signature(name, [e.type for e in expressions], node, scope)
    return type_, [coerce(e, type_) for e in expressions]


@compiles(exp.If)
def _if(node: exp.If, scope: Scope) -> Expression:
    if node.args.get("false") is None:
        raise invalid("No matching signature for function IF", node, scope)
    condition = as_bool(node.this, scope, "IF")
    branches = [compile_expression(node.args[k], scope) for k in ("true", "false")]
    type_, (yes, no) = unify(branches, "function IF", node, scope)
    sql = f"CASE WHEN {condition.sql} THEN {yes.sql} ELSE {no.sql} END"
    return combine(f"({sql})", type_, condition, yes, no)


@compiles(exp.Case)
def _case(node: exp.Case, scope: Scope) -> Expression:
    only(node, scope, "this", "ifs", "default")
    subject = compile_expression(node.this, scope) if node.this is not None else None
    conditions = [_when(branch.this, subject, scope) for branch in node.args["ifs"]]
    default = node.args.get("default")
    results = [compile_expression(branch.args["true"], scope) for branch in node.args["ifs"]]
    results.append(compile_expression(default, scope) if default is not None else NULL_LITERAL)
    type_, results = unify(results, "CASE", node, scope)
    whens = zip(conditions, results, strict=False)
    body = " ".join(f"WHEN {c.sql} THEN {r.sql}" for c, r in whens)
    sql = f"(CASE {body} ELSE {results[-1].sql} END)"
    return combine(sql, type_, *conditions, *results)


def _when(node: exp.Expr, subject: Expression | None, scope: Scope) -> Expression:
    if subject is None:
        return as_bool(node, scope, "CASE condition")
    value = compile_expression(node, scope)
    type_ = comparable_type([subject, value], "CASE", node, scope)
    left, right = coerce(subject, type_), coerce(value, type_)
    template = _COMPARISONS[exp.EQ][2 if type_ == FLOAT64 else 1]
    return expand(template.format, BOOL, left, right)


# -- arrays and structs


def array_literal(items: list[Expression], node: exp.Expr, scope: Scope) -> Expression:
    """An array of the items."""
    if not items:
        return replace(literal([], array_of(NULL)), flexible=True)
    element, items = unify(items, "ARRAY", node, scope)
    if element.element is not None:
        raise invalid("Cannot construct array with element type ARRAY", node, scope)
    inner = ", ".join(item.sql for item in items)
    built = combine(f"[{inner}]", array_of(element), *items)
    values = [item.constant for item in items]
    known = all(item.flexible for item in items)
    return replace(built, constant=values, flexible=True) if known else built


@compiles(exp.Tuple)
def _tuple(node: exp.Tuple, scope: Scope) -> Expression:
    values = [compile_expression(item, scope) for item in node.expressions]
    return struct_expression(struct_of([Field("", v.type) for v in values]), values)


_BRACKET_FORMS: Final[dict[tuple[int | None, bool], tuple[str, Callable[[str], str]]]] = {
    (None, False): ("bq_element", str),
    (0, False): ("bq_element", str),
    (1, False): ("bq_element", "({0} - 1)".format),
    (0, True): ("bq_safe_element", str),
    (1, True): ("bq_safe_element", "({0} - 1)".format),
}


@compiles(exp.Bracket)
def _bracket(node: exp.Bracket, scope: Scope) -> Expression:
    only(node, scope, "this", "expressions", "offset", "safe")
    array = compile_expression(node.this, scope)
    form = _BRACKET_FORMS.get((node.args.get("offset"), bool(node.args.get("safe"))))
    if array.type.element is None or len(node.expressions) != 1 or form is None:
        raise refusal(f"[] on a value of type {array.type}", node, scope)
    place = compile_expression(node.expressions[0], scope)
    if not coercible(place, INT64):
        raise invalid("Array position in [] must be coercible to INT64", node, scope)
    place = coerce(place, INT64)
    macro, shift = form
    element = expand(
        lambda items, index: f"{macro}({items}, {shift(index)})",
        array.type.element,
        array,
        place,
        fallible=True,
    )
    return replace(element, origin=array.origin)


def require_constant_int(node: exp.Expr, scope: Scope, what: str) -> int:
    """A non-negative INT64 known while compiling.

    Raises:
        BigQueryError: It is not one.
    """
    value = constant(node, scope, Kind.INT64, what)
    if value < 0:
        raise invalid(f"{what} expects a non-negative integer", node, scope)
    return int(value)
