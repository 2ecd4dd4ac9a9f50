"""Subqueries in expressions: scalar, ARRAY(…), EXISTS(…) and IN (…).

GA4 keeps parameters and items in arrays, so nearly every query asks, per row,
``(SELECT value.int_value FROM UNNEST(event_params) WHERE key = 'x')``. DuckDB answers that as
written by joining the table with itself, which costs seconds for a hundred thousand rows and ten
such columns. Compiled to list functions it is one vectorised pass, twenty times faster. So a
subquery over one array is first tried as a pipeline of lists (filter, then transform or aggregate);
what does not fit, such as grouping or sorting by a value, is left to DuckDB's own subqueries.
A lambda cannot hold a subquery, so a pipeline whose inner part turns out to need one is given up
as a whole (``NotAList``).
"""

from dataclasses import dataclass, replace

from sqlglot import exp

from troupe_demo.bigquery.sql.aggregates import NotAList, is_aggregate
from troupe_demo.bigquery.sql.compilation import (
    CompiledQuery,
    compile_expression,
    compiles,
    invalid,
    only,
    refusal,
)
from troupe_demo.bigquery.sql.expressions import Expression, coerce, combine, expand, literal
from troupe_demo.bigquery.sql.queries import compile_array_query, compile_query, select_row
from troupe_demo.bigquery.sql.scalars import (
    array_literal,
    as_bool,
    comparable_type,
    require_constant_int,
    unchained,
)
from troupe_demo.bigquery.sql.scopes import Elements, Scope
from troupe_demo.bigquery.sql.sources import Unnested, array_in_from, element_variables
from troupe_demo.bigquery.types import BOOL, FLOAT64, INT64, NULL, Type, array_of

_LIST_CLAUSES = frozenset({"expressions", "from_", "where", "order", "limit", "offset", "kind"})


def _bare(node: exp.Expr) -> exp.Expr:
    while isinstance(node, (exp.Subquery, exp.Paren)) and not node.args.get("alias"):
        node = node.this
    return node


@compiles(exp.Subquery)
def _scalar(node: exp.Subquery, scope: Scope) -> Expression:
    query = _bare(node)
    pipeline = _pipeline(query, scope)
    if pipeline is not None:
        return pipeline.single
    compiled = _relational(query, scope)
    column = _one_column(compiled, node, scope)
    return Expression(
        f"({compiled.sql})",
        column,
        reads=compiled.reads | compiled.columns[0].reads,
        fallible=True,
        relational=True,
    )


@compiles(exp.Exists)
def _exists(node: exp.Exists, scope: Scope) -> Expression:
    query = _bare(node.this)
    pipeline = _pipeline(query, scope)
    if pipeline is not None:
        return combine(f"(len({pipeline.items.sql}) > 0)", BOOL, pipeline.items)
    compiled = _relational(query, scope)
    return Expression(
        f"EXISTS ({compiled.sql})", BOOL, reads=compiled.reads, fallible=True, relational=True
    )


@compiles(exp.Array)
def _array(node: exp.Array, scope: Scope) -> Expression:
    """``[a, b]`` or ``ARRAY(SELECT …)``; the parser gives both the same node."""
    query = _bare(node.expressions[0]) if len(node.expressions) == 1 else node
    if node.args.get("value_constructor") is False or not isinstance(query, exp.Query):
        items = [compile_expression(item, scope) for item in node.expressions]
        return array_literal(items, node, scope)
    pipeline = _pipeline(query, scope)
    if pipeline is not None:
        return pipeline.items
    if scope.lambda_depth:
        raise NotAList
    compiled = compile_array_query(query, scope)
    element = _one_column(compiled, node, scope)
    element = INT64 if element == NULL else element
    return Expression(
        f"({compiled.sql})",
        array_of(element),
        reads=compiled.reads | compiled.columns[0].reads,
        fallible=True,
        relational=True,
    )


def _relational(query: exp.Expr, scope: Scope) -> CompiledQuery:
    if scope.lambda_depth:
        raise NotAList
    return compile_query(query, scope.child())


def _one_column(compiled: CompiledQuery, node: exp.Expr, scope: Scope) -> Type:
    if len(compiled.columns) != 1:
        raise invalid("A subquery here must have exactly one column", node, scope)
    return compiled.columns[0].type


# -- IN


@compiles(exp.In)
def _in(node: exp.In, scope: Scope) -> Expression:
    only(node, scope, "this", "expressions", "query", "unnest")
    unchained(node, scope)
    value = compile_expression(node.this, scope)
    if node.args.get("unnest") is not None:
        arrays = node.args["unnest"].expressions
        return _in_array(value, compile_expression(arrays[0], scope), node, scope)
    if node.args.get("query") is not None:
        return _in_query(value, _bare(node.args["query"]), node, scope)
    items = [compile_expression(item, scope) for item in node.expressions]
    type_ = comparable_type([value, *items], "operator IN", node, scope)
    value, items = coerce(value, type_), [coerce(item, type_) for item in items]
    listed = ", ".join(item.sql for item in items)
    if type_ == FLOAT64:
        array = combine(f"[{listed}]", array_of(FLOAT64), *items)
        return expand("bq_in_float_array({0}, {1})".format, BOOL, value, array)
    return combine(f"({value.sql} IN ({listed}))", BOOL, value, *items)


def _in_array(value: Expression, array: Expression, node: exp.Expr, scope: Scope) -> Expression:
    element = array.type.element
    if element is None:
        raise invalid("Second argument of IN UNNEST must be an array", node, scope)
    if element == NULL:
        return literal(False, BOOL)
    sample = Expression("", element, flexible=array.flexible)
    type_ = comparable_type([value, sample], "operator IN UNNEST", node, scope)
    value = coerce(value, type_)
    if array.flexible and array.constant is not None:
        array = literal(
            [coerce(literal(v, element), type_).constant for v in array.constant], array_of(type_)
        )
    elif element != type_:
        raise refusal(f"IN UNNEST of {array.type} for a {type_}", node, scope)
    macro = "bq_in_float_array" if type_ == FLOAT64 else "bq_in_array"
    return expand(f"{macro}({{0}}, {{1}})".format, BOOL, value, array)


def _in_query(value: Expression, query: exp.Expr, node: exp.In, scope: Scope) -> Expression:
    pipeline = _pipeline(query, scope)
    if pipeline is not None:
        return _in_array(value, pipeline.items, node, scope)
    compiled = _relational(query, scope)
    found = _one_column(compiled, node, scope)
    type_ = comparable_type([value, Expression("", found)], "operator IN", node, scope)
    if type_ == FLOAT64 or found != type_:
        raise refusal(f"IN (SELECT {found}) for a {type_}", node, scope)
    value = coerce(value, type_)
    membership = combine(f"({value.sql} IN ({compiled.sql}))", BOOL, value, fallible=True)
    reads = membership.reads | compiled.reads | compiled.columns[0].reads
    return replace(membership, reads=reads, relational=True)


# -- the pipeline of lists


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """A subquery over one array: the list of its rows' values, and the value if there is one."""

    items: Expression
    single: Expression


def _pipeline(query: exp.Expr, scope: Scope) -> _Pipeline | None:
    """The subquery as list functions, or None when it needs more than they can do."""
    if not isinstance(query, exp.Select) or scope.elements is not None:
        return None
    if any(value and name not in _LIST_CLAUSES for name, value in query.args.items()):
        return None
    source = array_in_from(query, scope)
    if source is None or query.find(exp.Window) is not None:
        return None
    try:
        return _compile_pipeline(query, source, scope)
    except NotAList:
        return None


def _compile_pipeline(query: exp.Select, source: Unnested, scope: Scope) -> _Pipeline:
    inner = scope.child()
    inner.lambda_depth = scope.lambda_depth + 1
    parameter = f"e{inner.lambda_depth}"
    items = source.array.sql if source.array.origin else f"coalesce({source.array.sql}, [])"
    element, offset = parameter, None
    if source.offset is not None:
        place = f"i{inner.lambda_depth}"
        pair = f"{{'element': {parameter}, 'place': {place} - 1}}"
        items = f"list_transform({items}, lambda {parameter}, {place}: {pair})"
        element = f"struct_extract({parameter}, 'element')"
        offset = f"struct_extract({parameter}, 'place')"
    inner.variables = element_variables(source, element, offset)
    reads: list[Expression] = [] if source.array.origin else [source.array]
    if query.args.get("where") is not None:
        condition = _inline(as_bool(query.args["where"].this, inner, "WHERE clause"))
        items = f"list_filter({items}, lambda {parameter}: {condition.sql})"
        reads.append(condition)
    items = _sorted(query, source, items)
    return _selected(query, inner, Elements(_limited(query, items, scope), parameter), reads)


def _inline(expression: Expression) -> Expression:
    if expression.relational:
        raise NotAList
    return expression


def _sorted(query: exp.Select, source: Unnested, items: str) -> str:
    """Only sorting by the offset is a matter of lists: it is their order already."""
    order = query.args.get("order")
    if order is None:
        return items
    keys = order.expressions
    column = keys[0].this
    by_offset = isinstance(column, exp.Column) and not column.args.get("table")
    name = column.name.lower()
    shadowed = any(item.alias.lower() == name for item in query.expressions)
    if len(keys) != 1 or not by_offset or name != (source.offset or "").lower() or shadowed:
        raise NotAList
    return f"list_reverse({items})" if keys[0].args.get("desc") else items


def _limited(query: exp.Select, items: str, scope: Scope) -> str:
    limit, offset = query.args.get("limit"), query.args.get("offset")
    if limit is None:
        return items
    skip = require_constant_int(offset.expression, scope, "OFFSET") if offset is not None else 0
    count = require_constant_int(limit.expression, scope, "LIMIT")
    return f"({items})[{skip + 1}:{skip + count}]"


def _selected(
    query: exp.Select, inner: Scope, elements: Elements, reads: list[Expression]
) -> _Pipeline:
    if _aggregates(query):
        if query.args.get("limit") is not None or query.args.get("order") is not None:
            raise NotAList
        inner.elements = elements
        value = _inline(select_row(query, inner))
        single = combine(value.sql, value.type, value, *reads)
        return _Pipeline(combine(f"[{value.sql}]", array_of(value.type), single), single)
    value = _inline(select_row(query, inner))
    type_ = INT64 if value.type == NULL else value.type
    listed = f"list_transform({elements.items}, lambda {elements.parameter}: {value.sql})"
    items = combine(listed, array_of(type_), value, *reads)
    return _Pipeline(items, combine(f"bq_single({listed})", type_, items, fallible=True))


def _aggregates(query: exp.Select) -> bool:
    """Whether the SELECT list aggregates, subqueries aside."""

    def within(node: exp.Expr) -> bool:
        if is_aggregate(node):
            return True
        return any(
            within(child)
            for child in node.iter_expressions()
            if not isinstance(child, (exp.Query, exp.Subquery))
        )

    return any(within(item) for item in query.expressions)
