"""What an ingestion needs of a GA4 export, wherever it lies.

BigQuery is the one source there is (bigquery.py); the benchmark plays recorded answers back, so
that only our own work is measured.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any, Protocol

import pyarrow as pa

from troupe.actors.data.bigquery import ExportTable
from troupe.actors.data.flattening import Family, FlattenQuery


class Source(Protocol):
    """A dataset of export tables. Its methods block; each raises `PeerError`.

    Attributes:
        name: Of the dataset, for people.
    """

    name: str

    def close(self) -> None:
        """Give up the connections; a read that is under way in another thread fails."""

    def days(self, first: date, last: date) -> dict[date, Family]:
        """The best family that each day has; days without any are left out."""

    def table(self, day: date, family: Family) -> ExportTable:
        """What the source says about one table."""

    def estimate(self, query: FlattenQuery) -> int:
        """Bytes that the query would scan; costs nothing."""

    def start(self, query: FlattenQuery, *, at_most: int | None = None) -> Any:
        """Send a query; returns as soon as the source has it.

        Args:
            query: What to ask.
            at_most: Bytes that it may be billed for; None: any number.

        Returns:
            What the next three take; nobody else looks into it.
        """

    def wait(self, started: Any) -> None:
        """Wait for a query's end."""

    def batches(self, started: Any) -> Iterator[pa.RecordBatch]:
        """The rows of a query that has ended, in batches as they arrive."""

    def cancel(self, started: Any) -> None:
        """Ask the source to end a query."""
