"""``INFORMATION_SCHEMA`` and ``__TABLES__``: what a dataset says of its tables."""

# ruff: noqa: S608 - this package writes SQL; values enter it through expressions.text alone

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from troupe_demo.bigquery.sql.compilation import TableSource
from troupe_demo.bigquery.sql.expressions import literal
from troupe_demo.bigquery.types import INT64, STRING, TIMESTAMP, Field, Kind, Type, duck_type, quote

_NAME: Final = [
    Field("table_catalog", STRING),
    Field("table_schema", STRING),
    Field("table_name", STRING),
]
_VIEWS: Final[dict[str, list[Field]]] = {
    "__TABLES__": [
        Field("project_id", STRING),
        Field("dataset_id", STRING),
        Field("table_id", STRING),
        Field("creation_time", INT64),
        Field("last_modified_time", INT64),
        Field("row_count", INT64),
        Field("size_bytes", INT64),
        Field("type", INT64),
    ],
    "INFORMATION_SCHEMA.TABLES": [
        *_NAME,
        Field("table_type", STRING),
        Field("is_insertable_into", STRING),
        Field("creation_time", TIMESTAMP),
    ],
    "INFORMATION_SCHEMA.COLUMNS": [
        *_NAME,
        Field("column_name", STRING),
        Field("ordinal_position", INT64),
        Field("is_nullable", STRING),
        Field("data_type", STRING),
    ],
    "INFORMATION_SCHEMA.COLUMN_FIELD_PATHS": [
        *_NAME,
        Field("column_name", STRING),
        Field("field_path", STRING),
        Field("data_type", STRING),
    ],
    "INFORMATION_SCHEMA.PARTITIONS": [
        *_NAME,
        Field("partition_id", STRING),
        Field("total_rows", INT64),
        Field("total_logical_bytes", INT64),
        Field("last_modified_time", TIMESTAMP),
        Field("storage_tier", STRING),
    ],
}


def metadata_view(
    project: str, dataset: str, view: str, source: TableSource
) -> tuple[list[Field] | None, str]:
    """Columns of a view and DuckDB text of its rows; no columns for a view that is not offered."""
    columns = _VIEWS.get(view)
    if columns is None:
        return None, ""
    tables = [source.table(project, dataset, name) for name in source.names(project, dataset)]
    rows = [row for table in tables for row in _rows(view, table, (project, dataset, table.name))]
    return columns, _values(columns, rows)


def _rows(view: str, table: Any, name: tuple[str, str, str]) -> Iterator[tuple[Any, ...]]:
    match view:
        case "__TABLES__":
            yield (*name, table.created, table.modified, table.rows, table.size, 1)
        case "INFORMATION_SCHEMA.TABLES":
            yield (*name, "BASE TABLE", "YES", _moment(table.created))
        case "INFORMATION_SCHEMA.COLUMNS":
            for place, column in enumerate(table.columns, start=1):
                yield (*name, column.name, place, _nullable(column.type), str(column.type))
        case "INFORMATION_SCHEMA.COLUMN_FIELD_PATHS":
            for column in table.columns:
                for path, type_ in _paths(column.name, column.type):
                    yield (*name, column.name, path, str(type_))
        case _:
            modified = _moment(table.modified)
            yield (*name, None, table.rows, table.size, modified, "ACTIVE")


def _nullable(type_: Type) -> str:
    return "NO" if type_.kind is Kind.ARRAY else "YES"


def _paths(path: str, type_: Type) -> Iterator[tuple[str, Type]]:
    yield path, type_
    inner = type_.element or type_
    for field in inner.fields:
        yield from _paths(f"{path}.{field.name}", field.type)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)


def _values(columns: list[Field], rows: list[tuple[Any, ...]]) -> str:
    names = ", ".join(quote(column.name) for column in columns)
    types = [column.type for column in columns]
    if not rows:
        nothing = ", ".join(
            f"CAST(NULL AS {duck_type(t)}) AS {quote(c.name)}"
            for c, t in zip(columns, types, strict=True)
        )
        return f"SELECT {nothing} WHERE false"
    lines = (
        "(" + ", ".join(literal(v, t).sql for v, t in zip(r, types, strict=True)) + ")"
        for r in rows
    )
    return f"SELECT * FROM (VALUES {', '.join(lines)}) AS v({names})"
