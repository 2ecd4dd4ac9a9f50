"""Rows at rest, and how they are read again: a query's result or a stored table.

Both are read in Arrow batches from any row on, and REST pages and Storage Read streams are made
from these. Rows of REST (nested ``{"f": [{"v": …}]}``) are built by DuckDB from a batch as text:
in Python they would take longer than the query.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from troupe_demo.bigquery.catalogue import Table
from troupe_demo.bigquery.sql.expressions import text
from troupe_demo.bigquery.types import Field, Kind, Type, arrow_schema, field_names, quote

TABLE_BATCH = 8_192  # rows


class Rows(Protocol):
    """Rows that can be read from any place."""

    @property
    def columns(self) -> tuple[Field, ...]:
        """The columns."""

    def __len__(self) -> int:
        """Number of rows."""

    def batches(self, start: int, names: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Batches from row ``start`` on, of the columns named, in BigQuery's Arrow types."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a query in an Arrow file; ``starts`` holds the first row of each batch."""

    path: Path
    columns: tuple[Field, ...]
    starts: tuple[int, ...]
    count: int
    size: int

    def __len__(self) -> int:
        return self.count

    def batches(self, start: int, names: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Batches from row ``start`` on, read from the file one at a time."""
        if start >= self.count:
            return
        # Not mapped: mapped pages would count as this process's memory until somebody needs them.
        with pa.OSFile(str(self.path), "rb") as source, pa.ipc.open_file(source) as file:
            first = bisect_right(self.starts, start) - 1
            for place in range(first, file.num_record_batches):
                batch = file.get_batch(place)
                if place == first:
                    batch = batch.slice(start - self.starts[first])
                yield batch if names is None else batch.select(names)

    def discard(self) -> None:
        """Remove the file; readers that have it open are not disturbed."""
        self.path.unlink(missing_ok=True)


class ResultWriter:
    """Writes a result batch by batch."""

    def __init__(self, path: Path, columns: tuple[Field, ...], schema: pa.Schema) -> None:
        self._path = path
        self._columns = columns
        self._schema = schema
        self._starts: list[int] = []
        self._count = 0
        self._sink = pa.OSFile(str(path), "wb")
        self._file = pa.ipc.new_file(self._sink, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch, in the types in which DuckDB gave it."""
        if batch.num_rows:
            self._file.write_batch(batch.cast(self._schema))
            self._starts.append(self._count)
            self._count += batch.num_rows

    def finish(self) -> Result:
        """Close the file."""
        self._file.close()
        size = self._sink.tell()
        self._sink.close()
        return Result(self._path, self._columns, tuple(self._starts), self._count, size)

    def discard(self) -> None:
        """Close and remove the file of a query that failed."""
        self._sink.close()
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of a stored table."""

    table: Table

    @property
    def columns(self) -> tuple[Field, ...]:
        """The table's columns."""
        return self.table.columns

    def __len__(self) -> int:
        return self.table.rows

    def batches(self, start: int, names: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Batches from row ``start`` on; row groups before it are skipped unread."""
        wanted = [c for c in self.columns if names is None or c.name in names]
        schema = arrow_schema(wanted)
        metadata = self.table.stored.metadata
        first, skip = 0, start
        while first < metadata.num_row_groups and skip >= metadata.row_group(first).num_rows:
            skip -= metadata.row_group(first).num_rows
            first += 1
        if first == metadata.num_row_groups:
            return
        groups = list(range(first, metadata.num_row_groups))
        with pq.ParquetFile(self.table.path) as file:
            batches = file.iter_batches(
                TABLE_BATCH, row_groups=groups, columns=[c.name for c in wanted]
            )
            for batch in batches:
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                yield batch.slice(skip).select(schema.names).cast(schema)
                skip = 0


def row_text(columns: tuple[Field, ...], *, int64_timestamps: bool) -> str:
    """DuckDB text of an expression that gives a row as REST's JSON."""
    cells = " || ',' || ".join(
        _cell(quote(column.name), column.type, 0, int64_timestamps) for column in columns
    )
    return f"'{{\"f\":[' || {cells} || ']}}'"


def _cell(value: str, type_: Type, depth: int, int64_timestamps: bool) -> str:
    inner = _value(value, type_, depth, int64_timestamps)
    return f"coalesce('{{\"v\":' || {inner} || '}}', '{{\"v\":null}}')"


_TEXTS = {
    Kind.STRING: "CAST(to_json({0}) AS VARCHAR)",
    Kind.DATETIME: "'\"' || strftime({0}, '%Y-%m-%dT%H:%M:%S.%f') || '\"'",
    Kind.BYTES: "'\"' || base64({0}) || '\"'",
    Kind.NUMERIC: "'\"' || bq_numeric_text({0}) || '\"'",
    Kind.FLOAT64: "'\"' || bq_rest_float({0}) || '\"'",
}


def _value(value: str, type_: Type, depth: int, int64_timestamps: bool) -> str:
    if type_.element is not None:
        item = f"e{depth}"
        cell = _cell(item, type_.element, depth + 1, int64_timestamps)
        cells = f"list_transform({value}, lambda {item}: {cell})"
        return f"('[' || coalesce(array_to_string({cells}, ','), '') || ']')"
    if type_.kind is Kind.STRUCT:
        cells = " || ',' || ".join(
            _cell(f"struct_extract({value}, {text(name)})", part.type, depth, int64_timestamps)
            for name, part in zip(field_names(type_), type_.fields, strict=True)
        )
        return f"(CASE WHEN {value} IS NOT NULL THEN '{{\"f\":[' || {cells} || ']}}' END)"
    if type_.kind is Kind.TIMESTAMP:
        micros = f"epoch_us({value})"
        moment = micros if int64_timestamps else f"({micros} / 1000000.0)"
        return f"('\"' || CAST({moment} AS VARCHAR) || '\"')"
    template = _TEXTS.get(type_.kind, "'\"' || CAST({0} AS VARCHAR) || '\"'")
    return f"({template.format(value)})"
