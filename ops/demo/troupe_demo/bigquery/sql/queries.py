"""SELECT, set operations, WITH and ORDER BY."""

# ruff: noqa: S608 - this package writes SQL; values enter it through expressions.text alone

from dataclasses import dataclass, replace
from typing import Final

from sqlglot import exp

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql.aggregates import NotAList, order_keys
from troupe_demo.bigquery.sql.compilation import (
    CompiledQuery,
    OutputColumn,
    compile_expression,
    invalid,
    only,
    refusal,
)
from troupe_demo.bigquery.sql.expressions import Expression, Leaf, coerce, common_type, text
from troupe_demo.bigquery.sql.scalars import as_bool, comparable_type, require_constant_int
from troupe_demo.bigquery.sql.scans import Scan
from troupe_demo.bigquery.sql.scopes import (
    RangeVariable,
    Scope,
    select_field,
    struct_expression,
)
from troupe_demo.bigquery.sql.sources import FromClause, build_from
from troupe_demo.bigquery.types import NULL, Field, Kind, struct_of


@dataclass(frozen=True, slots=True)
class Item:
    """One column of a SELECT list."""

    name: str | None
    value: Expression


@dataclass(frozen=True, slots=True)
class _Body:
    """A query without its ORDER BY and LIMIT.

    ``sql`` names its columns c0, c1 … and its sort keys k0, k1 …; ``directions`` belong to these.
    """

    sql: str
    columns: tuple[OutputColumn, ...]
    reads: frozenset[Leaf]
    directions: tuple[str, ...]

    def ordered(self) -> str:
        return ", ".join(f"k{i} {text}" for i, text in enumerate(self.directions))


def compile_query(node: exp.Expr, scope: Scope) -> CompiledQuery:
    """A query as DuckDB text with columns c0, c1 … in the order asked for."""
    node = _unparenthesised(node, scope)
    ctes = _with(node, scope)
    body = _body(node, scope)
    sql = body.sql
    tail = _limit(node, scope)
    if body.directions:
        names = ", ".join(f"c{i}" for i in range(len(body.columns)))
        sql = f"SELECT {names} FROM ({sql}) ORDER BY {body.ordered()}{tail}"
    elif tail:
        sql = f"SELECT * FROM ({sql}){tail}"
    return CompiledQuery(ctes + sql, body.columns, body.reads)


def compile_array_query(node: exp.Expr, outer: Scope) -> CompiledQuery:
    """A query of one column as a query of one array.

    The order is given to the aggregate that builds the array: an ORDER BY inside a correlated
    subquery would not survive DuckDB's decorrelation.
    """
    scope = outer.child()
    node = _unparenthesised(node, scope)
    ctes = _with(node, scope)
    body = _body(node, scope)
    order = f" ORDER BY {body.ordered()}" if body.directions else ""
    items = f"coalesce(list(c0{order}), [])"
    limit = node.args.get("limit")
    if limit is not None:
        offset = node.args.get("offset")
        skip = require_constant_int(offset.expression, scope, "OFFSET") if offset else 0
        count = require_constant_int(limit.expression, scope, "LIMIT")
        items = f"({items})[{skip + 1}:{skip + count}]"
    sql = f"{ctes}SELECT {items} AS c0 FROM ({body.sql})"
    return CompiledQuery(sql, body.columns, body.reads)


def _unparenthesised(node: exp.Expr, scope: Scope) -> exp.Expr:
    while isinstance(node, exp.Subquery):
        only(node, scope, "this")
        node = node.this
    return node


def _with(node: exp.Expr, scope: Scope) -> str:
    clause = node.args.get("with_")
    if clause is None:
        return ""
    only(clause, scope, "expressions")
    pieces = []
    for cte in clause.expressions:
        only(cte, scope, "this", "alias")
        if cte.args["alias"].args.get("columns"):
            raise refusal("column names in WITH", cte, scope)
        query = compile_query(cte.this, Scope(scope.compilation, tables=dict(scope.tables)))
        name = scope.compilation.alias("w")
        pieces.append(f"{name} AS ({query.sql})")
        scope.tables[cte.alias.lower()] = replace(query, sql=f"FROM {name}")
    return f"WITH {', '.join(pieces)} "


def _limit(node: exp.Expr, scope: Scope) -> str:
    limit, offset = node.args.get("limit"), node.args.get("offset")
    if limit is None:
        if offset is not None:
            raise invalid("Syntax error: OFFSET without LIMIT", offset, scope)
        return ""
    if not isinstance(limit, exp.Limit):
        raise refusal("FETCH", limit, scope)
    only(limit, scope, "expression")
    tail = f" LIMIT {require_constant_int(limit.expression, scope, 'LIMIT')}"
    if offset is not None:
        tail += f" OFFSET {require_constant_int(offset.expression, scope, 'OFFSET')}"
    return tail


def _body(node: exp.Expr, scope: Scope) -> _Body:
    if isinstance(node, exp.Select):
        return _select(node, scope)
    if isinstance(node, exp.SetOperation):
        return _set_operation(node, scope)
    raise refusal(f"{node.key.upper()} as a query", node, scope)


# -- set operations

_SETS: Final[dict[tuple[type[exp.Expr], bool], str]] = {
    (exp.Union, False): "UNION ALL",
    (exp.Union, True): "UNION",
    (exp.Intersect, True): "INTERSECT",
    (exp.Except, True): "EXCEPT",
}


def _set_operation(node: exp.SetOperation, scope: Scope) -> _Body:
    only(node, scope, "this", "expression", "distinct", "order", "limit", "offset", "with_")
    word = _SETS.get((type(node), bool(node.args.get("distinct"))))
    if word is None:
        raise refusal(f"{node.key.upper()} ALL", node, scope)
    branches = [compile_query(side, scope.child()) for side in (node.this, node.expression)]
    left, right = branches
    if len(left.columns) != len(right.columns):
        raise invalid("Queries in a set operation have mismatched column count", node, scope)
    columns: list[OutputColumn] = []
    casts: tuple[list[str], list[str]] = ([], [])
    for place, pair in enumerate(zip(left.columns, right.columns, strict=True)):
        values = [Expression(f"c{place}", column.type) for column in pair]
        type_ = common_type(values)
        if type_ is None:
            message = f"Column {place + 1} in a set operation has incompatible types"
            raise invalid(f"{message}: {pair[0].type}, {pair[1].type}", node, scope)
        if word != "UNION ALL" and type_ != NULL:
            comparable_type([Expression("", type_)], word, node, scope)
        for texts, value in zip(casts, values, strict=True):
            texts.append(f"{coerce(value, type_).sql} AS c{place}")
        reads = pair[0].reads | pair[1].reads
        columns.append(OutputColumn(pair[0].name, type_, reads, None))
    sides = [
        f"(SELECT {', '.join(t)} FROM ({b.sql}))" for t, b in zip(casts, branches, strict=True)
    ]
    distinct = frozenset[Leaf]() if word == "UNION ALL" else _all_reads(columns)
    reads = left.reads | right.reads | distinct
    return _sorted_outputs(node, f" {word} ".join(sides), columns, reads, scope)


def _all_reads(columns: list[OutputColumn]) -> frozenset[Leaf]:
    return frozenset().union(*(column.reads for column in columns))


def _sorted_outputs(
    node: exp.Expr,
    sql: str,
    columns: list[OutputColumn],
    reads: frozenset[Leaf],
    scope: Scope,
    selected: "_Selected | None" = None,
) -> _Body:
    """Sort by output columns alone, as after DISTINCT or a set operation.

    After DISTINCT a key may also repeat an expression of the SELECT list (``selected``).
    """
    outputs = [Expression(f"c{i}", c.type, c.reads) for i, c in enumerate(columns)]
    visible = _with_aliases(Scope(scope.compilation), [c.name for c in columns], outputs)
    keys, directions, more = _keys(node, outputs, visible, selected)
    if not keys:
        return _Body(sql, tuple(columns), reads, ())
    listed = ", ".join(f"{key} AS k{i}" for i, key in enumerate(keys))
    return _Body(f"SELECT *, {listed} FROM ({sql})", tuple(columns), reads | more, directions)


@dataclass(frozen=True, slots=True)
class _Selected:
    """The SELECT list of a DISTINCT query, to recognize its expressions in ORDER BY."""

    scope: Scope
    values: list[Expression]

    def place(self, node: exp.Expr) -> int | None:
        """Which item the expression repeats."""
        try:
            key = compile_expression(node, self.scope)
        except BigQueryError:
            return None  # not one of the query's own names, then
        texts = [value.sql for value in self.values]
        return texts.index(key.sql) if key.sql in texts else None


def _keys(
    node: exp.Expr,
    outputs: list[Expression],
    scope: Scope,
    selected: _Selected | None = None,
) -> tuple[list[str], tuple[str, ...], frozenset[Leaf]]:
    """Sort keys, the direction of each, and what they read."""
    keys, directions, reads = [], [], frozenset[Leaf]()
    order = node.args.get("order")
    for ordered in order.expressions if order is not None else []:
        key = _ordinal(ordered.this, outputs, "ORDER BY", scope)
        if key is None and selected is not None:
            place = selected.place(ordered.this)
            key = None if place is None else outputs[place]
        key = key or compile_expression(ordered.this, scope)
        reads |= key.reads
        for sql, direction in order_keys(ordered, key, scope):
            keys.append(sql)
            directions.append(direction)
    return keys, tuple(directions), reads


def _ordinal(
    node: exp.Expr, values: list[Expression], clause: str, scope: Scope
) -> Expression | None:
    """The SELECT item that a literal number names."""
    if not isinstance(node, exp.Literal) or node.is_string:
        return None
    place = int(node.name) if node.name.isdigit() else 0
    if not 1 <= place <= len(values):
        message = f"{clause} is out of SELECT column number range: {node.name}"
        raise invalid(message, node, scope)
    return values[place - 1]


# -- SELECT


def _select(node: exp.Select, scope: Scope) -> _Body:
    only(
        node,
        scope,
        *("expressions", "from_", "joins", "where", "group", "having", "qualify", "order"),
        *("limit", "offset", "distinct", "kind", "with_"),
    )
    clause = build_from(node, scope, compile_query)
    reads = clause.reads
    conditions = ""
    if node.args.get("where") is not None:
        condition = as_bool(node.args["where"].this, scope, "WHERE clause")
        _spare_tables(node.args["where"].this, clause, scope)
        conditions += f" WHERE {condition.sql}"
        reads |= condition.reads
    items = _row_items(node, scope)
    values = [item.value for item in items]
    aliased = _with_aliases(scope, [item.name for item in items], values)
    groups = _groups(node, values, scope, aliased)
    if groups:
        conditions += " GROUP BY " + ", ".join(dict.fromkeys(g.sql for g in groups))
        reads = reads.union(*(g.reads for g in groups))
    for name, word in (("having", "HAVING"), ("qualify", "QUALIFY")):
        if node.args.get(name) is not None:
            condition = as_bool(node.args[name].this, aliased, f"{word} clause")
            conditions += f" {word} {condition.sql}"
            reads |= condition.reads
    columns = [
        OutputColumn(item.name, item.value.type, item.value.reads, item.value.origin)
        for item in items
    ]
    listed = [f"{value.sql} AS c{place}" for place, value in enumerate(values)]
    if node.args.get("distinct") is not None:
        only(node.args["distinct"], scope)
        for value in values:
            comparable_type([value], "SELECT DISTINCT", node, scope)
        source = clause.sql() + scope.hoisted_sql()
        sql = f"SELECT DISTINCT {', '.join(listed)}{source}{conditions}"
        selected = _Selected(scope, values)
        return _sorted_outputs(node, sql, columns, reads | _all_reads(columns), scope, selected)
    keys, directions, more = _keys(node, values, aliased)
    listed += [f"{key} AS k{place}" for place, key in enumerate(keys)]
    sql = f"SELECT {', '.join(listed)}{clause.sql()}{scope.hoisted_sql()}{conditions}"
    return _Body(sql, tuple(columns), reads | more, directions)


def _with_aliases(scope: Scope, names: list[str | None], values: list[Expression]) -> Scope:
    """The scope in which later clauses see SELECT aliases."""
    aliases: dict[str, Expression] = {}
    ambiguous = set()
    for name, value in zip(names, values, strict=True):
        lowered = (name or "").lower()
        if lowered in aliases and aliases[lowered].sql != value.sql:
            ambiguous.add(lowered)
        if lowered:
            aliases[lowered] = value
    return replace(scope, aliases=aliases, ambiguous=frozenset(ambiguous))


def _groups(
    node: exp.Select, values: list[Expression], scope: Scope, aliased: Scope
) -> list[Expression]:
    group = node.args.get("group")
    if group is None:
        return []
    only(group, scope, "expressions")
    keys = []
    for part in group.expressions:
        key = _ordinal(part, values, "GROUP BY", scope)
        if key is None:
            # A bare name may be an alias; inside an expression only columns are meant.
            bare = isinstance(part, exp.Column) and len(part.parts) == 1
            key = compile_expression(part, aliased if bare else scope)
        comparable_type([key], "GROUP BY", part, scope)
        keys.append(key)
    return keys


def _row_items(node: exp.Select, scope: Scope) -> list[Item]:
    """The SELECT list, expanded; AS STRUCT and AS VALUE make one column of it."""
    items = [item for part in node.expressions for item in _items(part, scope)]
    kind = str(node.args.get("kind") or "")
    if kind == "STRUCT":
        fields = [Field(item.name or "", item.value.type) for item in items]
        return [Item(None, struct_expression(struct_of(fields), [i.value for i in items]))]
    if kind:
        raise refusal(f"SELECT AS {kind}", node, scope)
    if not items:
        raise invalid("SELECT list must not be empty", node, scope)
    return items


def select_row(node: exp.Select, scope: Scope) -> Expression:
    """The row of a one-column SELECT.

    Raises:
        NotAList: It has several columns.
    """
    items = _row_items(node, scope)
    if len(items) != 1:
        raise NotAList
    return items[0].value


def _items(node: exp.Expr, scope: Scope) -> list[Item]:
    if isinstance(node, exp.Alias):
        return [Item(node.alias, compile_expression(node.this, scope))]
    if isinstance(node, exp.Star):
        if not scope.variables:
            raise invalid("SELECT * must have a FROM clause", node, scope)
        return _modified(node, scope.star(), scope)
    if isinstance(node, (exp.Column, exp.Dot)):
        last = node.this if isinstance(node, exp.Column) else node.expression
        if isinstance(last, exp.Star):
            return _modified(last, _qualified_star(node, scope), scope)
    value = compile_expression(node, scope)
    return [Item(value.name, value)]


def _qualified_star(
    node: exp.Column | exp.Dot, scope: Scope
) -> list[tuple[str | None, Expression]]:
    if isinstance(node, exp.Column):
        path = [part for part in node.parts if isinstance(part, exp.Identifier)]
        found = scope.find(path[0].name) if len(path) == 1 else None
        if isinstance(found, RangeVariable):
            return [(column.name, column.read()) for column in found.columns]
        value = scope.resolve(path)
    else:
        value = compile_expression(node.this, scope)
    if value.type.kind is not Kind.STRUCT:
        raise invalid(f"Dot-star is not supported for type {value.type}", node, scope)
    return [(f.name or None, select_field(value, f)) for f in value.type.fields]


def _modified(
    star: exp.Star, columns: list[tuple[str | None, Expression]], scope: Scope
) -> list[Item]:
    """``* EXCEPT (…) REPLACE (…)``."""
    only(star, scope, "except_", "replace")
    dropped = {part.name.lower(): part for part in star.args.get("except_") or []}
    replaced = {part.alias.lower(): part for part in star.args.get("replace") or []}
    names = {(name or "").lower() for name, _ in columns}
    for name, part in (dropped | replaced).items():
        if name not in names:
            raise invalid(f"Column {part.alias_or_name} does not exist", part, scope)
    items = []
    for name, value in columns:
        key = (name or "").lower()
        if key in replaced:
            items.append(Item(name, compile_expression(replaced[key].this, scope)))
        elif key not in dropped:
            items.append(Item(name, value))
    return items


# -- sparing tables


def _spare_tables(condition: exp.Expr, clause: FromClause, scope: Scope) -> None:
    """Let wildcards skip the tables that a condition on ``_TABLE_SUFFIX`` alone rules out."""
    parts = list(condition.flatten()) if isinstance(condition, exp.And) else [condition]
    for scan in clause.wildcards:
        for part in parts:
            if _concerns_suffix_alone(part, scan, scope):
                scan.spared |= _ruled_out(part, scan, scope)


def _concerns_suffix_alone(part: exp.Expr, scan: Scan, scope: Scope) -> bool:
    if part.find(exp.Query) is not None:
        return False
    columns = list(part.find_all(exp.Column))
    values = [compile_expression(column, scope) for column in columns]
    return bool(values) and all(value.suffix_of == scan.reference for value in values)


def _ruled_out(part: exp.Expr, scan: Scan, scope: Scope) -> set[str]:
    compiled = as_bool(part, scope, "WHERE clause")
    alias = compile_expression(next(part.find_all(exp.Column)), scope).sql.partition(".")[0]
    pairs = [f"({text(name)}, {text(suffix)})" for name, suffix in scan.suffixes().items()]
    rows = f"(VALUES {', '.join(pairs)}) AS {alias}(name, _TABLE_SUFFIX)"
    sql = f"SELECT name FROM {rows} WHERE ({compiled.sql}) IS NOT TRUE"
    try:
        return set(scope.compilation.evaluate(sql))
    except BigQueryError:
        return set()  # it fails for some table; the query itself will say so, or never get there
