"""FROM: stored tables, wildcards, metadata views, arrays, derived tables and joins."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from sqlglot import exp

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql.compilation import (
    CompiledQuery,
    TableReference,
    compile_expression,
    invalid,
    only,
    refusal,
)
from troupe_demo.bigquery.sql.expressions import Expression, Leaf, coerce, combine
from troupe_demo.bigquery.sql.metadata import metadata_view
from troupe_demo.bigquery.sql.scalars import as_bool, comparable_type
from troupe_demo.bigquery.sql.scans import Scan
from troupe_demo.bigquery.sql.scopes import Column, RangeVariable, Scope, select_field, stored
from troupe_demo.bigquery.types import BOOL, INT64, STRING, Kind, Type, quote

CompileQuery = Callable[[exp.Expr, Scope], CompiledQuery]


@dataclass(slots=True)
class Source:
    """One item of FROM.

    ``render`` gives its DuckDB text late, because a wildcard learns from WHERE what it need not
    read. ``lateral`` items see the items before them.
    """

    variables: list[RangeVariable]
    render: Callable[[], str]
    lateral: bool = False
    scan: Scan | None = None
    reads: frozenset[Leaf] = frozenset()


@dataclass(slots=True)
class FromClause:
    """A whole FROM clause."""

    pieces: list[Callable[[], str]] = field(default_factory=list)
    reads: frozenset[Leaf] = frozenset()
    wildcards: list[Scan] = field(default_factory=list)

    def sql(self) -> str:
        """DuckDB text, with the keyword; empty without a FROM clause."""
        return " FROM " + " ".join(piece() for piece in self.pieces) if self.pieces else ""


def build_from(node: exp.Select, scope: Scope, compile_query: CompileQuery) -> FromClause:
    """Compile FROM and its joins; the scope gains their range variables."""
    clause = FromClause()
    if node.args.get("from_") is None:
        return clause
    first = _source(node.args["from_"].this, scope, compile_query)
    clause.pieces.append(first.render)
    _admit(first, scope, clause)
    joins = node.args.get("joins") or []
    for join in joins:
        _join(join, scope, clause, compile_query)
    # WHERE may only spare tables whose absence cannot turn a row into one padded with NULLs.
    sides = {join.side for join in joins}
    if sides <= {""}:
        return clause
    keep = first.scan is not None and sides <= {"", "LEFT"}
    clause.wildcards = [w for w in clause.wildcards if keep and w is first.scan]
    return clause


def _admit(source: Source, scope: Scope, clause: FromClause) -> None:
    for variable in source.variables:
        name = (variable.name or "").lower()
        if name and any((v.name or "").lower() == name for v in scope.variables):
            raise BigQueryError.invalid_query(f"Duplicate table alias {variable.name} in FROM")
    scope.variables = [*scope.variables, *source.variables]
    clause.reads |= source.reads
    if source.scan is not None and source.scan.wildcard is not None:
        clause.wildcards.append(source.scan)


def _source(node: exp.Expr, scope: Scope, compile_query: CompileQuery) -> Source:
    if isinstance(node, exp.Unnest):
        return _unnest(_unnested(node, scope), scope)
    if isinstance(node, exp.Subquery):
        return _derived(node, scope, compile_query)
    if isinstance(node, exp.Table):
        return _table(node, scope)
    raise refusal(f"{node.key.upper()} in FROM", node, scope)


# -- derived tables and common table expressions


def _derived(node: exp.Subquery, scope: Scope, compile_query: CompileQuery) -> Source:
    only(node, scope, "this", "alias")
    if isinstance(node.this, exp.Table):
        raise refusal("joins in parentheses", node, scope)
    # It sees the enclosing query, not the other items of this FROM.
    fresh = Scope(scope.compilation, scope.parent, dict(scope.tables))
    fresh.lambda_depth = scope.lambda_depth
    return _of_query(compile_query(node.this, fresh), node.alias or None, scope)


def _of_query(query: CompiledQuery, name: str | None, scope: Scope) -> Source:
    alias = scope.compilation.alias("q")
    columns = []
    for place, column in enumerate(query.columns):
        sql = f"{alias}.c{place}"
        value = Expression(sql, column.type, column.reads, column.origin, column.name)
        columns.append(Column(column.name, value))
    return Source(
        [RangeVariable(name, tuple(columns))],
        lambda: f"({query.sql}) AS {alias}",
        reads=query.reads,
    )


# -- stored tables


def _table(node: exp.Table, scope: Scope) -> Source:
    only(node, scope, "this", "db", "catalog", "alias", "joins")
    if node.args.get("joins"):
        raise refusal("this form of join", node, scope)
    parts = [part.name for part in node.parts]
    alias_node = node.args.get("alias")
    if alias_node is not None and alias_node.args.get("columns"):
        raise refusal("column names in a table alias", node, scope)
    if len(parts) == 1 and parts[0].lower() in scope.tables:
        return _of_query(scope.tables[parts[0].lower()], node.alias or parts[0], scope)
    if len(parts) > 1 and isinstance(scope.find(parts[0]), RangeVariable):
        return _unnest(_unnested(node, scope), scope)
    project, dataset, name = _qualified(".".join(parts), node, scope)
    if name == "__TABLES__" or name.upper().startswith("INFORMATION_SCHEMA."):
        return _metadata(project, dataset, name, node, scope)
    scan = Scan.of(project, dataset, name, scope.compilation)
    alias = scope.compilation.alias("t")
    index = len(scope.compilation.references)
    scope.compilation.references.append(TableReference(scan.read))
    scan.reference = index
    columns = tuple(
        Column(
            column.name,
            stored(f"{alias}.{quote(column.name)}", column.type, index, (column.name,)),
            scan.problems.get(column.name),
        )
        for column in scan.columns
    )
    hidden = {}
    if scan.wildcard is not None:
        hidden["_TABLE_SUFFIX"] = Expression(f"{alias}._TABLE_SUFFIX", STRING, suffix_of=index)
    variable = RangeVariable(node.alias or name, columns, hidden=hidden)
    return Source([variable], lambda: f"({scan.sql()}) AS {alias}", scan=scan)


def _qualified(path: str, node: exp.Expr, scope: Scope) -> tuple[str, str, str]:
    """Project, dataset and table of a name as written."""
    compilation = scope.compilation
    parts = path.split(".")
    split = next((i for i, p in enumerate(parts) if p.upper() == "INFORMATION_SCHEMA"), None)
    if split is not None:
        parts = [*parts[:split], ".".join(parts[split:]).upper()]
    if parts[0].lower().startswith("region-") or len(parts) > 3:
        raise refusal(f"the table name {path}", node, scope)
    if len(parts) == 1:
        if compilation.dataset is None:
            message = f'Table "{path}" must be qualified with a dataset (e.g. dataset.table).'
            raise BigQueryError.query_failed(message)
        parts.insert(0, compilation.dataset)
    if len(parts) == 2:
        parts.insert(0, compilation.project)
    return parts[0], parts[1], parts[2]


def _metadata(project: str, dataset: str, view: str, node: exp.Expr, scope: Scope) -> Source:
    columns, rows = metadata_view(project, dataset, view, scope.compilation.source)
    if columns is None:
        raise refusal(f"the view {view}", node, scope)
    alias = scope.compilation.alias("m")
    variable = RangeVariable(
        node.alias or view.rpartition(".")[2],
        tuple(Column(c.name, Expression(f"{alias}.{quote(c.name)}", c.type)) for c in columns),
    )
    return Source([variable], lambda: f"({rows}) AS {alias}")


# -- arrays


@dataclass(frozen=True, slots=True)
class Unnested:
    """``UNNEST(array) AS alias WITH OFFSET AS offset``."""

    array: Expression
    element: Type
    alias: str | None
    offset: str | None


def array_in_from(query: exp.Select, scope: Scope) -> Unnested | None:
    """The one array that a subquery runs over, or None when its FROM is anything else."""
    clause = query.args.get("from_")
    if clause is None:
        return None
    node = clause.this
    if isinstance(node, exp.Table):
        head = node.parts[0].name
        of_array = len(node.parts) > 1 and isinstance(scope.find(head), RangeVariable)
        if not of_array:
            return None
    elif not isinstance(node, exp.Unnest):
        return None
    return _unnested(node, scope)


def _unnested(node: exp.Unnest | exp.Table, scope: Scope) -> Unnested:
    if isinstance(node, exp.Table):
        only(node, scope, "this", "db", "catalog", "alias")
        path = [part for part in node.parts if isinstance(part, exp.Identifier)]
        array, offset = scope.resolve(path), None
        default: str | None = path[-1].name
    else:
        only(node, scope, "expressions", "alias", "offset")
        if len(node.expressions) != 1:
            raise refusal("UNNEST of several arrays", node, scope)
        array, offset = compile_expression(node.expressions[0], scope), node.args.get("offset")
        default = None
    if array.type.element is None:
        message = f"Values referenced in UNNEST must be arrays; found {array.type}"
        raise invalid(message, node, scope)
    alias = node.args.get("alias")
    names = alias.args.get("columns") if alias is not None else None
    name = names[0].name if names else (node.alias or default)
    element = array.type.element
    element = INT64 if element.kind is Kind.NULL else element
    return Unnested(array, element, name or None, offset.name if offset else None)


def element_variables(unnested: Unnested, element: str, offset: str | None) -> list[RangeVariable]:
    """What an array's rows offer: the element, its fields if it is a struct, and its offset."""
    origin = unnested.array.origin
    if origin is not None:
        value = stored(element, unnested.element, origin.table, origin.path)
        value = replace(value, sql=element)
    else:
        value = Expression(element, unnested.element, reads=unnested.array.reads)
    value = value.named(unnested.alias)
    if unnested.element.kind is Kind.STRUCT:
        columns = tuple(
            Column(f.name or None, select_field(value, f)) for f in unnested.element.fields
        )
    else:
        columns = (Column(unnested.alias, value),)
    variables = [RangeVariable(unnested.alias, columns, value=value)]
    if unnested.offset is not None and offset is not None:
        place = Expression(offset, INT64, name=unnested.offset)
        column = Column(unnested.offset, place)
        variables.append(RangeVariable(unnested.offset, (column,), value=place))
    return variables


def _unnest(unnested: Unnested, scope: Scope) -> Source:
    alias = scope.compilation.alias("u")
    array = unnested.array
    columns = f"unnest({array.sql}) AS element"
    if unnested.offset is not None:
        columns += f", generate_subscripts({array.sql}, 1) - 1 AS place"
    return Source(
        element_variables(unnested, f"{alias}.element", f"{alias}.place"),
        lambda: f"(SELECT {columns}) AS {alias}",
        lateral=True,
        reads=frozenset() if array.origin else array.reads,
    )


# -- joins

_SIDES: Final = {"": "JOIN", "LEFT": "LEFT JOIN", "RIGHT": "RIGHT JOIN", "FULL": "FULL JOIN"}


def _join(join: exp.Join, scope: Scope, clause: FromClause, compile_query: CompileQuery) -> None:
    only(join, scope, "this", "side", "kind", "on", "using")
    if join.side not in _SIDES or join.kind not in ("", "INNER", "OUTER", "CROSS"):
        raise refusal(f"{join.side} {join.kind} JOIN".strip(), join, scope)
    source = _source(join.this, scope, compile_query)
    before = list(scope.variables)
    _admit(source, scope, clause)
    condition, using = join.args.get("on"), join.args.get("using")
    if source.lateral and join.side in ("RIGHT", "FULL"):
        raise refusal(f"{join.side} JOIN with an array", join, scope)
    if using:
        on = _using(join, before, source.variables, scope)
    elif condition is not None:
        on = as_bool(condition, scope, "ON clause")
    else:
        if not (source.lateral or join.kind == "CROSS" or not join.side):
            raise invalid(f"{join.side} JOIN must have an ON or USING clause", join, scope)
        on = Expression("true", BOOL)
    clause.reads |= on.reads
    lateral = " LATERAL" if source.lateral else ""
    word = _SIDES[join.side]
    clause.pieces.append(lambda: f"{word}{lateral} {source.render()} ON {on.sql}")


def _using(
    join: exp.Join, before: list[RangeVariable], joined: list[RangeVariable], scope: Scope
) -> Expression:
    """The condition of USING; its columns become one."""
    earlier = replace(scope, variables=before, parent=None, aliases={})
    later = Scope(scope.compilation, variables=joined)
    conditions = []
    for name in join.args["using"]:
        left, right = earlier.resolve([name]), later.resolve([name])
        type_ = comparable_type([left, right], "USING", join, scope)
        a, b = coerce(left, type_), coerce(right, type_)
        equal = "bq_equal({0}, {1})" if type_.kind is Kind.FLOAT64 else "({0} = {1})"
        conditions.append(combine(equal.format(a.sql, b.sql), BOOL, a, b))
        if join.side == "FULL":
            merged = combine(f"coalesce({a.sql}, {b.sql})", type_, a, b)
        else:
            merged = right if join.side == "RIGHT" else left
        scope.merge(name.name, merged)
    return combine(" AND ".join(c.sql for c in conditions), BOOL, *conditions)
