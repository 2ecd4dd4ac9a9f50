"""Compiling without running: tables that exist in memory only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql import Program, compile_program
from troupe_demo.bigquery.types import (
    FLOAT64,
    INT64,
    STRING,
    TIMESTAMP,
    Field,
    array_of,
    struct_of,
)

VALUE = struct_of([Field("string_value", STRING), Field("int_value", INT64)])
PARAMETERS = array_of(struct_of([Field("key", STRING), Field("value", VALUE)]))
DEVICE = struct_of([Field("category", STRING), Field("language", STRING)])
COLUMNS = (
    Field("event_name", STRING),
    Field("event_timestamp", INT64),
    Field("event_params", PARAMETERS),
    Field("device", DEVICE),
    Field("revenue", FLOAT64),
    Field("loaded_at", TIMESTAMP),
)
# Every leaf weighs a power of two, so that a sum tells which leaves are in it.
LEAVES = {
    ("event_name",): 1,
    ("event_timestamp",): 2,
    ("event_params", "key"): 4,
    ("event_params", "value", "string_value"): 8,
    ("event_params", "value", "int_value"): 16,
    ("device", "category"): 32,
    ("device", "language"): 64,
    ("revenue",): 128,
    ("loaded_at",): 256,
}


@dataclass(frozen=True)
class MemoryTable:
    name: str
    columns: tuple[Field, ...] = COLUMNS
    project: str = "p"
    dataset: str = "d"
    created: int = 0

    native = frozenset(column.name for column in COLUMNS)
    signature = "one"
    path = "/nowhere"

    def bytes_under(self, paths: set[tuple[str, ...]]) -> int:
        return sum(
            weight
            for leaf, weight in LEAVES.items()
            if any(leaf[:n] in paths for n in range(1, len(leaf) + 1))
        )


class MemoryTables:
    def __init__(self, *tables: MemoryTable) -> None:
        self._tables = {table.name: table for table in tables or (MemoryTable("t"),)}

    def table(self, project: str, dataset: str, name: str) -> MemoryTable:
        if name not in self._tables:
            raise BigQueryError.not_found(f"Table {project}:{dataset}.{name}")
        return self._tables[name]

    def names(self, _project: str, _dataset: str) -> list[str]:
        return sorted(self._tables)


def _no_evaluation(_sql: str) -> list[Any]:
    raise BigQueryError.query_failed("nothing is evaluated in a unit test")


def compiled(
    sql: str,
    *tables: MemoryTable,
    parameters: list[dict[str, Any]] | None = None,
    evaluate: Any = _no_evaluation,
) -> Program:
    return compile_program(
        sql,
        project="p",
        dataset="d",
        parameters=parameters or [],
        source=MemoryTables(*tables),
        evaluate=evaluate,
        now=datetime.fromisoformat("2026-01-05T12:00:00"),
    )


def refusal_of(sql: str, **options: Any) -> str:
    try:
        compiled(sql, **options)
    except BigQueryError as error:
        return error.message
    raise AssertionError(f"accepted: {sql}")
