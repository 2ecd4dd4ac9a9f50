"""A source that plays a recorded export back."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from ops.bench.ingest.corpus import Corpus
from troupe.actors.data.bigquery import ExportTable
from troupe.actors.data.flattening import Family, FlattenQuery


class Playback:
    """A `Source` whose answers lie in files.

    Args:
        corpus: What was recorded.
        touched: Days whose tables were written again since.
    """

    def __init__(self, corpus: Corpus, touched: frozenset[date] = frozenset()) -> None:
        self.name = corpus.directory.name
        self._answers = corpus.answers
        tables = [recorded.table() for recorded in corpus.tables()]
        self._tables = {
            table.day: replace(table, modified=table.modified + timedelta(hours=1))
            if table.day in touched
            else table
            for table in tables
        }
        self._scanned = {table.name: table.scanned_bytes for table in corpus.tables()}
        self._names = {table.name: table.day for table in tables}

    def close(self) -> None:
        """Nothing is open."""

    def days(self, first: date, last: date) -> dict[date, Family]:
        """The family that each day has."""
        return {day: t.family for day, t in self._tables.items() if first <= day <= last}

    def table(self, day: date, family: Family) -> ExportTable:  # noqa: ARG002 - there is one
        """What the source said."""
        return self._tables[day]

    def estimate(self, query: FlattenQuery) -> int:
        """What the dry run said."""
        return self._scanned[self._name_in(query)]

    def start(self, query: FlattenQuery, *, at_most: int | None = None) -> Path:  # noqa: ARG002 - free
        """The file with the answer."""
        return self._answers / f"{self._names[self._name_in(query)]}.arrow"

    def wait(self, started: Path) -> None:
        """It is there."""

    def batches(self, started: Path) -> Iterator[pa.RecordBatch]:
        """The messages as they came."""
        # Read and decompressed as if it had come by a socket: a mapped file would only be counted
        # as memory of ours.
        with pa.OSFile(str(started)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)

    def cancel(self, started: Path) -> None:
        """It has ended."""

    def _name_in(self, query: FlattenQuery) -> str:
        return next(name for name in self._names if f"`{name}`" in query.sql)
