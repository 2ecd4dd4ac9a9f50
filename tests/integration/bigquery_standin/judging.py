"""The same query by the stand-in and by the oracle, and whether they agree."""

import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlglot

from tests.integration.bigquery_standin.oracle import OracleError, oracle
from tests.integration.bigquery_standin.shop import write_table
from troupe_demo.bigquery.engine import Engine, QueryRequest, Running
from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.types import Field, Type, arrow_schema

REFUSAL = "stand-in does not support"


@dataclass(frozen=True)
class Verdict:
    """What both said of one query: rows with types, or why not."""

    query: str
    stand_in: Any
    oracle: Any

    @property
    def refused(self) -> bool:
        return isinstance(self.stand_in, str) and REFUSAL in self.stand_in

    @property
    def both_fail(self) -> bool:
        return isinstance(self.stand_in, str) and isinstance(self.oracle, str)

    @property
    def agrees(self) -> bool:
        if isinstance(self.stand_in, str) or isinstance(self.oracle, str):
            return bool(self.stand_in == self.oracle)
        (types, rows), (expected_types, expected_rows) = self.stand_in, self.oracle
        if not _ordered(self.query):
            rows, expected_rows = sorted(rows, key=repr), sorted(expected_rows, key=repr)
        return bool(types == expected_types and rows == expected_rows)


class Court:
    """Rows that both know under the name ``t``."""

    def __init__(self, root: Path, columns: Sequence[Field], rows: Sequence[Mapping[str, Any]]):
        write_table(root, "p", "d", "t", rows, arrow_schema(list(columns)))
        self.columns, self.rows = columns, rows
        self.engine = Engine(root)

    def judge(
        self, query: str, parameters: Mapping[str, tuple[Type, Any]] | None = None
    ) -> Verdict:
        return Verdict(
            query, self._stand_in(query, parameters or {}), self._oracle(query, parameters)
        )

    def _stand_in(self, query: str, parameters: Mapping[str, tuple[Type, Any]]) -> Any:
        described = [
            {"name": name, **_described(type_, value)}
            for name, (type_, value) in parameters.items()
        ]
        try:
            with self.engine.snapshot("p") as snapshot:
                request = QueryRequest("p", query, "d", described)
                program = self.engine.prepare(request, snapshot, check=False)
                result = self.engine.run(program, Running())
        except BigQueryError as error:
            return error.message
        rows = [
            tuple(_plain(value) for value in row.values())
            for batch in result.batches(0)
            for row in batch.to_pylist()
        ]
        result.discard()
        return [column.type for column in program.columns], rows

    def _oracle(self, query: str, parameters: Mapping[str, tuple[Type, Any]] | None) -> Any:
        try:
            answer = oracle().evaluate(query, {"t": (self.columns, self.rows)}, parameters)
        except OracleError as error:
            return str(error)
        types = [column.type for column in answer.columns]
        # Where BigQuery writes a result, an array that is NULL becomes empty.
        rows = [
            tuple(
                [] if value is None and type_.element is not None else _plain(value)
                for value, type_ in zip(row, types, strict=True)
            )
            for row in answer.rows
        ]
        return types, rows


@contextmanager
def court(root: Path, columns: Sequence[Field], rows: Sequence[Mapping[str, Any]]):
    opened = Court(root, columns, rows)
    try:
        yield opened
    finally:
        opened.engine.close()


def _ordered(query: str) -> bool:
    """Without an ORDER BY of its own a query may give its rows in any order, and the same engine
    gives another one the next time."""
    return sqlglot.parse_one(query, dialect="bigquery").args.get("order") is not None


def _described(type_: Type, value: Any) -> dict[str, Any]:
    if type_.element is not None:
        kind = {"type": "ARRAY", "arrayType": {"type": str(type_.element)}}
        return {
            "parameterType": kind,
            "parameterValue": {"arrayValues": [{"value": str(item)} for item in value]},
        }
    given = {} if value is None else {"value": str(value)}
    return {"parameterType": {"type": str(type_)}, "parameterValue": given}


def _plain(value: Any) -> Any:
    """Comparable: NaN equals itself, structs are tuples, there is one zero."""
    if isinstance(value, Mapping):
        return tuple(_plain(item) for item in value.values())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value or 0.0
    return value
