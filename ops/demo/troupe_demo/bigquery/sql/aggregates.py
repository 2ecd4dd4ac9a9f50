"""Aggregate functions, over rows and over the elements of one array, and window functions.

A subquery over one array, ``(SELECT SUM(quantity) FROM UNNEST(items))``, is compiled to DuckDB list
functions (see ``subqueries``); its aggregates then work on a list. Everywhere else they become
DuckDB's aggregates, with an optional OVER clause.
"""

from dataclasses import dataclass, field
from typing import Final

from sqlglot import exp

from troupe_demo.bigquery.sql.calls import FUNCTIONS, Call
from troupe_demo.bigquery.sql.compilation import (
    compile_expression,
    compiles,
    invalid,
    only,
    refusal,
)
from troupe_demo.bigquery.sql.expressions import (
    NULL_LITERAL,
    Expression,
    coerce,
    combine,
    text,
)
from troupe_demo.bigquery.sql.scalars import as_bool, comparable_type, require_constant_int, unify
from troupe_demo.bigquery.sql.scopes import Elements, Scope
from troupe_demo.bigquery.types import (
    BOOL,
    FLOAT64,
    INT64,
    NULL,
    NUMBERS,
    NUMERIC,
    STRING,
    Kind,
    Type,
    array_of,
)


class NotAList(Exception):
    """The construct cannot be expressed with list functions; use a subquery."""


@dataclass(slots=True)
class Modifiers:
    """What stands inside an aggregate's parentheses besides its arguments."""

    distinct: bool = False
    ignore_nulls: bool = False
    order: list[exp.Ordered] = field(default_factory=list)
    limit: int | None = None


def _unwrap(call: Call) -> tuple[Modifiers, Call]:
    """Take the modifiers off; the parser wraps them around the last argument."""
    modifiers = Modifiers()
    nodes = list(call.nodes)
    while nodes:
        last = nodes[-1]
        if isinstance(last, exp.Limit):
            modifiers.limit = require_constant_int(last.expression, call.scope, "LIMIT")
            nodes[-1] = last.this
        elif isinstance(last, exp.Order):
            modifiers.order = last.expressions
            nodes[-1] = last.this
        elif isinstance(last, exp.IgnoreNulls):
            modifiers.ignore_nulls = True
            nodes[-1] = last.this
        elif isinstance(last, exp.RespectNulls):
            nodes[-1] = last.this
        elif isinstance(last, exp.Distinct):
            only(last, call.scope, "expressions")
            modifiers.distinct = True
            nodes[-1:] = last.expressions
        else:
            break
    return modifiers, Call(call.name, call.node, nodes, call.scope)


def order_keys(ordered: exp.Ordered, key: Expression, scope: Scope) -> list[tuple[str, str]]:
    """DuckDB text and direction of sort keys: NULL first when ascending, then NaN, as BigQuery."""
    only(ordered, scope, "this", "desc", "nulls_first")
    if key.type != NULL:
        comparable_type([key], "ORDER BY", ordered, scope)
    nulls = "FIRST" if ordered.args.get("nulls_first") else "LAST"
    direction = f"{'DESC' if ordered.args.get('desc') else 'ASC'} NULLS {nulls}"
    keys = [(key.sql, direction)]
    if key.type == FLOAT64:
        keys.insert(0, (f"(NOT isnan({key.sql}))", direction))
    return keys


@dataclass(frozen=True, slots=True)
class Aggregation:
    """What an aggregate function needs to know of one call.

    ``over`` is the OVER clause, or empty.
    """

    call: Call
    modifiers: Modifiers
    over: str = ""

    @property
    def elements(self) -> Elements | None:
        """The array under aggregation, in a subquery over one."""
        return self.call.scope.elements if not self.over else None

    def permit(self, *names: str) -> None:
        """Refuse the modifiers that the function does not take."""
        for name in ("distinct", "ignore_nulls", "order", "limit"):
            if getattr(self.modifiers, name) not in (False, None, []) and name not in names:
                shown = name.replace("_", " ").upper()
                raise self.call.refuse(f"{shown} in {self.call.name}")

    def list_of(self, value: Expression) -> str:
        """DuckDB text of the list of the argument's values over the elements."""
        elements = self.elements
        if elements is None or value.relational:
            raise NotAList
        return f"list_transform({elements.items}, lambda {elements.parameter}: {value.sql})"

    def result(
        self, value: Expression, type_: Type, rows: str, items: str, *, fallible: bool = False
    ) -> Expression:
        """The aggregate: ``rows`` with {0} the argument and {over}, ``items`` with {0} the list."""
        if self.elements is not None:
            if self.modifiers.distinct:
                raise NotAList
            return combine(items.format(self.list_of(value)), type_, value, fallible=fallible)
        distinct = "DISTINCT " if self.modifiers.distinct else ""
        sql = rows.format(value.sql, over=self.over, distinct=distinct)
        return combine(sql, type_, value, fallible=fallible)

    def order_by(self) -> tuple[str, list[Expression]]:
        """DuckDB's ORDER BY inside the aggregate, and what it reads."""
        scope = self.call.scope
        keys = [compile_expression(o.this, scope) for o in self.modifiers.order]
        pairs = zip(self.modifiers.order, keys, strict=True)
        texts = [f"{sql} {way}" for o, key in pairs for sql, way in order_keys(o, key, scope)]
        return (" ORDER BY " + ", ".join(texts) if texts else ""), keys


def _count(a: Aggregation) -> Expression:
    a.permit("distinct")
    if len(a.call) == 1 and isinstance(a.call.nodes[0], exp.Star):
        if a.elements is not None:
            return Expression(f"len({a.elements.items})", INT64)
        return Expression(f"count(*){a.over}", INT64)
    a.call.take(1)
    value = a.call.arguments[0]
    if a.modifiers.distinct:
        comparable_type([value], "COUNT(DISTINCT)", a.call.node, a.call.scope)
    items = "list_aggregate({0}, 'count')"
    return a.result(value, INT64, "count({distinct}{0}){over}", items)


def _count_if(a: Aggregation) -> Expression:
    a.permit()
    a.call.take(1)
    value = as_bool(a.call.nodes[0], a.call.scope, "COUNTIF")
    items = "len(list_filter({0}, lambda hit: hit))"
    return a.result(value, INT64, "count(CASE WHEN {0} THEN 1 END){over}", items)


def _sum(a: Aggregation) -> Expression:
    a.permit("distinct")
    a.call.take(1)
    value = _numeric_argument(a)
    if value.type == FLOAT64:
        total = "sum({distinct}{0}){over}"
        finite = "bool_and(isfinite({0})){over}"
        guarded = f"(CASE WHEN isinf({total}) AND {finite} THEN error('double overflow')"
        rows = f"{guarded} ELSE {total} END)"
        return a.result(value, FLOAT64, rows, "bq_list_sum({0})", fallible=True)
    cast = "BIGINT" if value.type == INT64 else "DECIMAL(38,9)"
    rows = f"CAST(sum({{distinct}}{{0}}){{over}} AS {cast})"
    return a.result(value, value.type, rows, f"CAST(list_sum({{0}}) AS {cast})", fallible=True)


def _average(a: Aggregation) -> Expression:
    a.permit("distinct")
    a.call.take(1)
    value = _numeric_argument(a)
    if value.type == NUMERIC:
        raise a.call.refuse("AVG of NUMERIC")
    if value.type == FLOAT64 and a.elements is None:
        mean = "avg({distinct}{0}){over}"
        wild = f"isinf({mean}) AND bool_and(isfinite({{0}})){{over}}"
        rows = f"(CASE WHEN {wild} THEN bq_refuse('an AVG whose sum overflows') ELSE {mean} END)"
    else:
        rows = "avg({distinct}{0}){over}"
    return a.result(value, FLOAT64, rows, "bq_list_avg({0})", fallible=True)


def _numeric_argument(a: Aggregation) -> Expression:
    value = a.call.arguments[0]
    if value.type == NULL:
        return coerce(value, INT64)
    if value.type.kind not in NUMBERS:
        raise a.call.mismatch()
    return value


def _extreme(a: Aggregation) -> Expression:
    a.permit("distinct")
    a.call.take(1)
    value = a.call.arguments[0]
    type_ = comparable_type([value], f"function {a.call.name}", a.call.node, a.call.scope)
    value, name = coerce(value, type_), a.call.name.lower()
    rows, items = f"{name}({{0}}){{over}}", f"list_aggregate({{0}}, '{name}')"
    if type_ == FLOAT64:
        nan = "WHEN bool_or(isnan({0})){over} THEN CAST('nan' AS DOUBLE)"
        rows = f"(CASE {nan} ELSE {rows} END)"
        nan = "WHEN list_contains({0}, CAST('nan' AS DOUBLE)) THEN CAST('nan' AS DOUBLE)"
        items = f"(CASE {nan} ELSE {items} END)"
    return a.result(value, type_, rows, items)


def _logical(a: Aggregation) -> Expression:
    a.permit()
    a.call.take(1)
    value = as_bool(a.call.nodes[0], a.call.scope, a.call.name)
    name = "bool_or" if a.call.name == "LOGICAL_OR" else "bool_and"
    return a.result(value, BOOL, f"{name}({{0}}){{over}}", f"list_aggregate({{0}}, '{name}')")


def _any_value(a: Aggregation) -> Expression:
    a.permit()
    a.call.take(1)
    if isinstance(a.call.nodes[0], exp.HavingMax):
        raise a.call.refuse("HAVING in ANY_VALUE")
    value = a.call.arguments[0]
    return a.result(value, value.type, "any_value({0}){over}", "list_aggregate({0}, 'any_value')")


def _approximate_count(a: Aggregation) -> Expression:
    a.permit()
    a.call.take(1)
    value = a.call.arguments[0]
    comparable_type([value], "APPROX_COUNT_DISTINCT", a.call.node, a.call.scope)
    if a.elements is not None or a.over:
        raise a.call.refuse("APPROX_COUNT_DISTINCT here")
    return a.result(value, INT64, "count(DISTINCT {0})", "")  # exact is a good approximation


def _array_agg(a: Aggregation) -> Expression:
    a.permit("distinct", "ignore_nulls", "order", "limit")
    a.call.take(1)
    value = a.call.arguments[0]
    if value.type.element is not None:
        raise a.call.refuse("ARRAY_AGG of arrays, as does BigQuery")
    value = coerce(value, INT64) if value.type == NULL else value
    items, keys = _collected(a, value, keep_nulls=not a.modifiers.ignore_nulls)
    return combine(items, array_of(value.type), value, *keys)


def _collected(
    a: Aggregation, value: Expression, *, keep_nulls: bool
) -> tuple[str, list[Expression]]:
    """DuckDB text of the list of values (NULL for none), and what its order reads."""
    m, keys = a.modifiers, list[Expression]()
    if a.elements is not None:
        if m.distinct or m.order:
            raise NotAList
        sql = a.list_of(value)
        sql = sql if keep_nulls else f"list_filter({sql}, lambda item: item IS NOT NULL)"
        sql = f"nullif({sql}, [])"
    else:
        if a.over and (m.order or m.distinct or m.limit is not None):
            raise a.call.refuse(f"this use of {a.call.name} with OVER")
        order, keys = a.order_by()
        where = "" if keep_nulls else f" FILTER (WHERE {value.sql} IS NOT NULL)"
        distinct = "DISTINCT " if m.distinct else ""
        sql = f"list({distinct}{value.sql}{order}){where}{a.over}"
    return (sql if m.limit is None else f"({sql})[1:{m.limit}]"), keys


def _string_agg(a: Aggregation) -> Expression:
    a.permit("distinct", "order", "limit")
    a.call.take(1, 2)
    value = a.call.argument(0, STRING)
    between = ","
    if len(a.call) == 2:
        between = a.call.constant(1, Kind.STRING, "a delimiter of STRING_AGG")
    items, keys = _collected(a, value, keep_nulls=False)
    return combine(f"array_to_string({items}, {text(between)})", STRING, value, *keys)


AGGREGATES: Final = {
    "ANY_VALUE": _any_value,
    "APPROX_COUNT_DISTINCT": _approximate_count,
    "ARRAY_AGG": _array_agg,
    "AVG": _average,
    "COUNT": _count,
    "COUNTIF": _count_if,
    "LOGICAL_AND": _logical,
    "LOGICAL_OR": _logical,
    "MAX": _extreme,
    "MIN": _extreme,
    "STRING_AGG": _string_agg,
    "SUM": _sum,
}


def _aggregate(call: Call, over: str = "") -> Expression:
    modifiers, bare = _unwrap(call)
    return AGGREGATES[call.name](Aggregation(bare, modifiers, over))


FUNCTIONS.update(dict.fromkeys(AGGREGATES, _aggregate))


def is_aggregate(node: exp.Expr) -> bool:
    """Whether the node is a call of an aggregate function (OVER or not)."""
    return isinstance(node, exp.Anonymous) and node.name.upper() in AGGREGATES


# -- OVER

_RANKS: Final = {"ROW_NUMBER": "row_number", "RANK": "rank", "DENSE_RANK": "dense_rank"}
_NEIGHBOURS: Final = {"LAG", "LEAD"}
_ENDS: Final = {"FIRST_VALUE", "LAST_VALUE"}


@compiles(exp.Window)
def _window(node: exp.Window, scope: Scope) -> Expression:
    only(node, scope, "this", "partition_by", "order", "spec", "over")
    inner = node.this
    ignore = isinstance(inner, exp.IgnoreNulls)
    inner = inner.this if isinstance(inner, (exp.IgnoreNulls, exp.RespectNulls)) else inner
    if not isinstance(inner, exp.Anonymous):
        raise refusal(f"OVER on {inner.sql('bigquery')[:40]}", node, scope)
    over, reads = _over(node, scope)
    call = Call(inner.name.upper(), inner, inner.expressions, scope)
    if call.name in AGGREGATES and not ignore:
        value = _aggregate(call, over)
    else:
        value = _navigation(call, over, ignore=ignore)
    return combine(value.sql, value.type, value, *reads)


def _navigation(call: Call, over: str, *, ignore: bool) -> Expression:
    modifiers, call = _unwrap(call)
    nulls = " IGNORE NULLS" if ignore or modifiers.ignore_nulls else ""
    if call.name in _RANKS:
        call.take(0)
        return Expression(f"{_RANKS[call.name]}(){over}", INT64)
    if call.name in _ENDS:
        call.take(1)
        value = call.arguments[0]
        return combine(f"{call.name.lower()}({value.sql}{nulls}){over}", value.type, value)
    if call.name in _NEIGHBOURS and not nulls:
        call.take(1, 3)
        value = call.arguments[0]
        places = (
            require_constant_int(call.nodes[1], call.scope, "an offset") if len(call) > 1 else 1
        )
        default = call.arguments[2] if len(call) == 3 else NULL_LITERAL
        name = f"function {call.name}"
        type_, (value, default) = unify([value, default], name, call.node, call.scope)
        sql = f"{call.name.lower()}({value.sql}, {places}, {default.sql}){over}"
        return combine(sql, type_, value, default)
    raise call.refuse(f"{call.name}{nulls} with OVER")


def _over(node: exp.Window, scope: Scope) -> tuple[str, list[Expression]]:
    parts = node.args.get("partition_by") or []
    partitions = [scope.hoist(compile_expression(part, scope)) for part in parts]
    for part in partitions:
        comparable_type([part], "PARTITION BY", node, scope)
    order = node.args.get("order")
    ordered = order.expressions if order is not None else []
    keys = [scope.hoist(compile_expression(o.this, scope)) for o in ordered]
    pairs = zip(ordered, keys, strict=True)
    texts = [f"{sql} {way}" for o, key in pairs for sql, way in order_keys(o, key, scope)]
    clauses = []
    if partitions:
        clauses.append("PARTITION BY " + ", ".join(part.sql for part in partitions))
    if texts:
        clauses.append("ORDER BY " + ", ".join(texts))
    if node.args.get("spec") is not None:
        clauses.append(_frame(node.args["spec"], scope))
    return f" OVER ({' '.join(clauses)})", [*partitions, *keys]


def _frame(spec: exp.WindowSpec, scope: Scope) -> str:
    only(spec, scope, "kind", "start", "start_side", "end", "end_side")
    start = _bound(spec, "start", scope)
    end = _bound(spec, "end", scope) if spec.args.get("end") else "CURRENT ROW"
    offsets = any(bound[0].isdigit() for bound in (start, end))
    if spec.args["kind"] == "RANGE" and offsets:
        raise refusal("RANGE frames with offsets", spec, scope)
    return f"{spec.args['kind']} BETWEEN {start} AND {end}"


def _bound(spec: exp.WindowSpec, which: str, scope: Scope) -> str:
    value, side = spec.args.get(which), spec.args.get(f"{which}_side")
    if value == "CURRENT ROW":
        return "CURRENT ROW"
    if value == "UNBOUNDED":
        return f"UNBOUNDED {side}"
    if not isinstance(value, exp.Expr):
        raise invalid("Window frame bound is not understood", spec, scope)
    return f"{require_constant_int(value, scope, 'a window frame')} {side}"
