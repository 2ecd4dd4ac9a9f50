"""Pages of rows for the REST API."""

import json
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from troupe.common.units import MiB
from troupe_demo.bigquery.engine import Engine
from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.results import Rows, row_text
from troupe_demo.bigquery.types import Field

PAGE_BYTES: Final = 10 * MiB
PAGE_ROWS: Final = 100_000


def number(query: Mapping[str, Any], name: str, default: int) -> int:
    """A number in a request.

    Raises:
        BigQueryError: ``invalid``.
    """
    value = query.get(name)
    if value in (None, ""):
        return default
    try:
        parsed = int(str(value))
    except ValueError:
        parsed = -1
    if parsed < 0:
        raise BigQueryError.invalid(f"Invalid value for {name}: {value}")
    return parsed


def page(
    engine: Engine, rows: Rows, query: Mapping[str, Any], envelope: Mapping[str, Any]
) -> bytes:
    """A page of rows as JSON, with the rest of the answer in ``envelope``.

    A page ends after ``maxResults`` rows or some 10 MB, whichever comes first; ``pageToken`` is the
    number of the row after it.
    """
    start = number(query, "pageToken", number(query, "startIndex", 0))
    limit = min(number(query, "maxResults", PAGE_ROWS), PAGE_ROWS)
    selected = _selected(rows.columns, str(query.get("selectedFields") or ""))
    int64 = str(query.get("formatOptions.useInt64Timestamp", "")).lower() == "true"
    lines: list[str] = []
    size = 0
    if limit:
        for batch in rows.batches(start, [column.name for column in selected]):
            for line in _lines(engine, batch.slice(0, limit - len(lines)), selected, int64=int64):
                size += len(line)
                if size > PAGE_BYTES and lines:
                    break
                lines.append(line)
            if size > PAGE_BYTES or len(lines) >= limit:
                break
    answer = {**envelope, "totalRows": str(len(rows))}
    if limit and start + len(lines) < len(rows):
        answer["pageToken"] = str(start + len(lines))
    text = json.dumps(answer)
    if lines:
        text = f'{text[:-1]}, "rows": [{",".join(lines)}]}}'
    return text.encode()


def _selected(columns: tuple[Field, ...], wanted: str) -> tuple[Field, ...]:
    if not wanted:
        return columns
    names = wanted.split(",")
    if any("." in name for name in names):
        raise BigQueryError.invalid("The stand-in does not support parts of a record here")
    known = {column.name.lower() for column in columns}
    for name in names:
        if name.lower() not in known:
            raise BigQueryError.invalid(f"No such field: {name}")
    lowered = {name.lower() for name in names}
    return tuple(column for column in columns if column.name.lower() in lowered)


def _lines(
    engine: Engine, batch: pa.RecordBatch, columns: tuple[Field, ...], *, int64: bool
) -> list[str]:
    text = row_text(columns, int64_timestamps=int64)
    with engine.cursor() as cursor:
        cursor.register("page", pa.Table.from_batches([batch]))
        return [row[0] for row in cursor.execute(f"SELECT {text} FROM page").fetchall()]  # noqa: S608 - written by row_text
