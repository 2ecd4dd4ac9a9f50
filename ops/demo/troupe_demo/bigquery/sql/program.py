"""From a query's text to something that DuckDB can run, with its schema and its cost."""

# ruff: noqa: S608 - this package writes SQL; values enter it through expressions.text alone

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql.compilation import (
    Compilation,
    OutputColumn,
    TableReference,
    TableSource,
)
from troupe_demo.bigquery.sql.dialect import parse
from troupe_demo.bigquery.sql.expressions import Leaf, text
from troupe_demo.bigquery.sql.parameters import read_parameters
from troupe_demo.bigquery.sql.queries import compile_query
from troupe_demo.bigquery.sql.scopes import Scope
from troupe_demo.bigquery.types import INT64, NULL, Field, Kind, Type, array_of, field_names, quote


@dataclass(frozen=True, slots=True)
class Program:
    """A query ready to run.

    Attributes:
        sql: DuckDB text.
        columns: The result's columns.
        reads: Stored leaves that are read.
        references: What ``Leaf.table`` counts.
    """

    sql: str
    columns: tuple[Field, ...]
    reads: frozenset[Leaf]
    references: tuple[TableReference, ...]

    def bytes_read(self) -> int:
        """What BigQuery would bill: the logical bytes of the leaves read, each counted once."""
        paths: dict[tuple[str, str, str], set[tuple[str, ...]]] = {}
        tables: dict[tuple[str, str, str], Any] = {}
        for leaf in self.reads:
            for table in self.references[leaf.table].read():
                key = (table.project, table.dataset, table.name)
                tables[key] = table
                paths.setdefault(key, set()).add(leaf.path)
        return sum(tables[key].bytes_under(found) for key, found in paths.items())


def compile_program(
    query: str,
    *,
    project: str,
    dataset: str | None,
    parameters: list[dict[str, Any]],
    source: TableSource,
    evaluate: Callable[[str], list[Any]],
    now: datetime,
) -> Program:
    """Compile one query.

    Args:
        query: GoogleSQL.
        project: The caller's project.
        dataset: Default dataset of table names, or None.
        parameters: As in the REST API's ``queryParameters``.
        source: Where the tables are.
        evaluate: Runs DuckDB text over constants and gives its first column.
        now: The query's present, zoneless in UTC.

    Raises:
        BigQueryError: The query is wrong, refused, or names what is not there.
    """
    tree, sql = parse(query)
    compilation = Compilation(
        sql, project, dataset, read_parameters(parameters), source, evaluate, now
    )
    compiled = compile_query(tree, Scope(compilation))
    columns = _named(compiled.columns)
    listed = ", ".join(
        f"{_written(f'c{place}', field.type, field.name, stored=column.origin is not None)}"
        f" AS {quote(field.name)}"
        for place, (field, column) in enumerate(zip(columns, compiled.columns, strict=True))
    )
    reads = compiled.reads.union(*(column.reads for column in compiled.columns))
    program = f"SELECT {listed} FROM ({compiled.sql})"
    return Program(program, columns, reads, tuple(compilation.references))


def _named(columns: tuple[OutputColumn, ...]) -> tuple[Field, ...]:
    """Columns with BigQuery's names for those that have none.

    Raises:
        BigQueryError: Two share a name.
    """
    fields: list[Field] = []
    anonymous = 0
    for column in columns:
        name = column.name
        if not name:
            name, anonymous = f"f{anonymous}_", anonymous + 1
        fields.append(Field(name, _settled(column.type)))
    names = [field.name.lower() for field in fields]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        message = (
            "Duplicate column names in the result are not supported when a destination table is "
            f"present. Found duplicate(s): {', '.join(repeated)}"
        )
        raise BigQueryError.query_failed(message)
    return tuple(fields)


def _settled(type_: Type) -> Type:
    """A type without the untyped NULL, which BigQuery writes as INT64."""
    if type_.element is not None:
        return array_of(_settled(type_.element))
    if type_.kind is Kind.STRUCT:
        fields = tuple(Field(f.name, _settled(f.type)) for f in type_.fields)
        return Type(Kind.STRUCT, fields=fields)
    return INT64 if type_ == NULL else type_


def _written(value: str, type_: Type, column: str, *, stored: bool, depth: int = 0) -> str:
    """DuckDB text of a value as it is written to a result: arrays are never NULL there."""
    if type_.element is not None:
        element = type_.element
        if element.element is not None:
            raise BigQueryError.query_failed("Cannot write an array of arrays to a result")
        checked = f"coalesce({value}, [])" if stored else f"bq_repeated({value}, {text(column)})"
        if not _holds_array(element):
            return checked
        item = f"r{depth}"
        inner = _written(item, element, column, stored=stored, depth=depth + 1)
        return f"list_transform({checked}, lambda {item}: {inner})"
    if type_.kind is Kind.STRUCT and _holds_array(type_):
        pairs = []
        for name, field in zip(field_names(type_), type_.fields, strict=True):
            access = f"struct_extract({value}, {text(name)})"
            part = _written(access, field.type, column, stored=stored, depth=depth)
            pairs.append(f"{text(name)}: {part}")
        return f"(CASE WHEN {value} IS NOT NULL THEN {{{', '.join(pairs)}}} END)"
    return value


def _holds_array(type_: Type) -> bool:
    return type_.element is not None or any(_holds_array(f.type) for f in type_.fields)
