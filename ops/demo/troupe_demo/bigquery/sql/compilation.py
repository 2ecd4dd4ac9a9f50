"""What all parts of one query share while it is compiled, and the table of what compiles what.

Each kind of syntax node has one handler, registered by its module with ``@compiles``; a node
without a handler is refused by name. That is the whole safety of the translation: DuckDB never
sees a construct that this package has not written out itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlglot import exp

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql.dialect import position
from troupe_demo.bigquery.sql.expressions import UNKNOWN, Expression, Leaf
from troupe_demo.bigquery.sql.scopes import Scope
from troupe_demo.bigquery.types import Kind, Type


class TableSource(Protocol):
    """Where a query finds its tables: one consistent view, unmoved by files being replaced."""

    def table(self, project: str, dataset: str, name: str) -> Any:
        """The stored table, or a BigQueryError."""

    def names(self, project: str, dataset: str) -> list[str]:
        """The names of a dataset's tables, or a BigQueryError."""


@dataclass(frozen=True, slots=True)
class TableReference:
    """The stored tables behind one name in FROM.

    ``read`` gives those that are read, once WHERE has spared some.
    """

    read: Callable[[], list[Any]]


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column of a query's result."""

    name: str | None
    type: Type
    reads: frozenset[Leaf]
    origin: Leaf | None


@dataclass(frozen=True, slots=True)
class CompiledQuery:
    """DuckDB text whose columns are named ``c0``, ``c1`` …, and what is known of them.

    ``reads`` is what the rows depend on (conditions, grouping), whichever columns are used.
    """

    sql: str
    columns: tuple[OutputColumn, ...]
    reads: frozenset[Leaf]


@dataclass(slots=True)
class Compilation:
    """One query on its way to DuckDB.

    Attributes:
        sql: The query's text, for places in error messages.
        project: The caller's project; the default project of table names.
        dataset: The default dataset of table names, or None.
        parameters: Values by lower-case name; the n-th positional one is ``?n``.
        source: Where the tables are.
        evaluate: Runs a DuckDB query over constants and gives its first column.
        now: What CURRENT_TIMESTAMP is, zoneless in UTC.
        references: What the query refers to; ``Leaf.table`` indexes it.
    """

    sql: str
    project: str
    dataset: str | None
    parameters: dict[str, Expression]
    source: TableSource
    evaluate: Callable[[str], list[Any]]
    now: datetime
    references: list[TableReference] = field(default_factory=list)
    _aliases: int = 0

    def alias(self, prefix: str) -> str:
        """A DuckDB alias that nothing else in the query has."""
        self._aliases += 1
        return f"{prefix}{self._aliases}"


Handler = Callable[[Any, Scope], Expression]
_HANDLERS: dict[type[exp.Expr], Handler] = {}


def compiles(*nodes: type[exp.Expr]) -> Callable[[Handler], Handler]:
    """Register the handler of these nodes."""

    def register(handler: Handler) -> Handler:
        for node in nodes:
            _HANDLERS[node] = handler
        return handler

    return register


def compile_expression(node: exp.Expr, scope: Scope) -> Expression:
    """The node as DuckDB text.

    Raises:
        BigQueryError: ``invalidQuery``: the query is wrong, or the stand-in does not support it.
    """
    handler = _HANDLERS.get(type(node))
    if handler is None:
        raise refusal(_construct(node), node, scope)
    return handler(node, scope)


def _construct(node: exp.Expr) -> str:
    return f"{node.key.upper()} ({node.sql('bigquery')[:60]})"


def refusal(construct: str, node: exp.Expr, scope: Scope) -> BigQueryError:
    """What to raise for a construct that would otherwise be evaluated wrongly."""
    return invalid(f"The stand-in does not support {construct}", node, scope)


def only(node: exp.Expr, scope: Scope, *known: str) -> None:
    """Refuse a node that has more to it than the arguments the caller is about to read."""
    for name, value in node.args.items():
        if value and name not in known:
            construct = f"{name.strip('_').upper().replace('_', ' ')} in {node.key.upper()}"
            raise refusal(construct, node, scope)


def invalid(message: str, node: exp.Expr, scope: Scope) -> BigQueryError:
    """``invalidQuery`` with the node's place."""
    sql = scope.compilation.sql
    return BigQueryError.invalid_query(message, position(node, sql))


def constant(node: exp.Expr, scope: Scope, kind: Kind, what: str) -> Any:
    """The value of an expression that must be known while compiling.

    Raises:
        BigQueryError: It is not, or it is of another type, or NULL.
    """
    expression = compile_expression(node, scope)
    value = expression.constant
    if value is UNKNOWN or value is None or expression.type.kind is not kind:
        raise refusal(f"{what} that is not a {kind} literal or parameter", node, scope)
    return value
