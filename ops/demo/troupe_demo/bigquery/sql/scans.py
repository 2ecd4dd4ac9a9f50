"""Reading stored tables: one table, or all that a wildcard matches.

Tables behind a wildcard may differ, since exports gain columns over time. BigQuery answers with the
columns of the newest table; a column that another table lacks is NULL there, one that it holds in
another type cannot be read. Tables with equal schemas are read in one go.
"""

# ruff: noqa: S608 - this package writes SQL; values enter it through expressions.text alone

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql.compilation import Compilation
from troupe_demo.bigquery.sql.expressions import text
from troupe_demo.bigquery.types import Field, Kind, Type, duck_type, quote


class _Conflict(Exception):
    pass


@dataclass(slots=True)
class Scan:
    """Stored tables as one relation.

    Attributes:
        tables: All that the name matches.
        columns: Those of the newest table.
        wildcard: The part of the name before ``*``, or None for a single table.
        problems: Why a column cannot be read, by name.
        spared: Names of tables that WHERE rules out.
        reference: The place among the query's table references.
    """

    tables: tuple[Any, ...]
    columns: tuple[Field, ...]
    wildcard: str | None = None
    problems: dict[str, str] = field(default_factory=dict)
    spared: set[str] = field(default_factory=set)
    reference: int = 0

    @classmethod
    def of(cls, project: str, dataset: str, name: str, compilation: Compilation) -> "Scan":
        """The tables behind a name in FROM.

        Raises:
            BigQueryError: There is none, or the caller may not read it.
        """
        source = compilation.source
        if not name.endswith("*"):
            table = source.table(project, dataset, name)
            return cls((table,), tuple(table.columns))
        prefix = name[:-1]
        names = [n for n in source.names(project, dataset) if n.startswith(prefix) and n != prefix]
        if not names:
            raise BigQueryError.query_failed(
                f"{project}:{dataset}.{name} does not match any table."
            )
        tables = tuple(source.table(project, dataset, n) for n in names)
        newest = max(tables, key=lambda table: (table.created, table.name))
        scan = cls(tables, tuple(newest.columns), wildcard=prefix)
        for table in tables:
            scan._compare(table)
        return scan

    def suffixes(self) -> dict[str, str]:
        """``_TABLE_SUFFIX`` of each table, by table name."""
        return {table.name: table.name[len(self.wildcard or "") :] for table in self.tables}

    def read(self) -> list[Any]:
        """The tables that are not spared."""
        return [table for table in self.tables if table.name not in self.spared]

    def _compare(self, table: Any) -> None:
        have = {column.name.lower(): column for column in table.columns}
        for column in self.columns:
            stored = have.get(column.name.lower())
            try:
                _conform("x", stored.type if stored is not None else None, column.type)
            except _Conflict as conflict:
                message = f"Cannot read field '{column.name}' of type {conflict}"
                self.problems[column.name] = f"{message} in table {table.name}"

    def sql(self) -> str:
        """DuckDB text of a query over the tables that are not spared."""
        groups: dict[Any, list[Any]] = {}
        for table in self.read():
            groups.setdefault(table.signature, []).append(table)
        if not groups:
            nothing = [
                f"CAST(NULL AS {duck_type(c.type)}) AS {quote(c.name)}" for c in self.columns
            ]
            return f"SELECT {', '.join([*nothing, 'NULL AS _TABLE_SUFFIX'])} WHERE false"
        return " UNION ALL ".join(self._read(tables) for tables in groups.values())

    def _read(self, tables: Sequence[Any]) -> str:
        have = {column.name.lower(): column for column in tables[0].columns}
        items = []
        for column in self.columns:
            stored = have.get(column.name.lower())
            if column.name in self.problems or stored is None:
                value = f"CAST(NULL AS {duck_type(column.type)})"
            else:
                value = quote(stored.name)
                if stored.name not in tables[0].native:
                    value = f"CAST({value} AS {duck_type(stored.type)})"
                value = _conform(value, stored.type, column.type)
            items.append(f"{value} AS {quote(column.name)}")
        if self.wildcard is not None:
            start = len(self.wildcard) + 1
            items.append(f"substr(parse_filename(filename, true), {start}) AS _TABLE_SUFFIX")
        paths = ", ".join(text(str(table.path)) for table in tables)
        options = f"[{paths}], filename = true, hive_partitioning = false"
        return f"SELECT {', '.join(items)} FROM read_parquet({options})"


def _conform(value: str, have: Type | None, want: Type, depth: int = 0) -> str:
    """DuckDB text of a stored value in the type of the newest table."""
    if have is None:
        return f"CAST(NULL AS {duck_type(want)})"
    if duck_type(have) == duck_type(want):
        return value
    if have.element is not None and want.element is not None:
        item = f"x{depth}"
        inner = _conform(item, have.element, want.element, depth + 1)
        return f"list_transform({value}, lambda {item}: {inner})"
    if have.kind is not Kind.STRUCT or want.kind is not Kind.STRUCT:
        raise _Conflict(f"{have} as {want}")
    parts = []
    for wanted in want.fields:
        stored = have.field(wanted.name)
        access = f"struct_extract({value}, {text(stored.name)})" if stored is not None else ""
        part = _conform(access, stored.type if stored else None, wanted.type, depth)
        parts.append(f"{text(wanted.name)}: {part}")
    return f"(CASE WHEN {value} IS NOT NULL THEN {{{', '.join(parts)}}} END)"
