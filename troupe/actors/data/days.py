"""What is known of source days: in the database, and in the course of one ingestion."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import asyncpg
import trio

from troupe.actors.data.bigquery import ExportTable
from troupe.actors.data.flattening import RANK, Family
from troupe.common.ids import TenantId
from troupe.common.sql import load
from troupe.platform.jobs import JobValue, NewJob

QUERIES = load(__package__, "days.sql")


GROUP = "data"
"""The group whose processes run the jobs."""
INGEST = "ingest"
"""The kind's name."""


def ingest_job(first: date, last: date) -> NewJob:
    """A job that loads the source days `first` to `last`, both included.

    While one for the same days waits or runs, enqueueing it gives that one back.
    """
    if last < first:
        raise ValueError(f"{last} is before {first}")
    arguments = {"start_date": first.isoformat(), "end_date": last.isoformat()}
    return NewJob(group=GROUP, kind=INGEST, arguments=arguments, unique_key=f"{first}/{last}")


def days_of(arguments: Mapping[str, JobValue]) -> list[date]:
    """The days that an ``ingest`` job was asked for, in order."""
    first = date.fromisoformat(arguments["start_date"])
    last = date.fromisoformat(arguments["end_date"])
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


@dataclass(frozen=True, slots=True)
class Known:
    """What the last look at a day found.

    Attributes:
        state: ``loaded``, ``stale``, ``failed`` or ``missing``.
        family: That the loaded rows come from; None when none were loaded.
        modified: When that table had last been written.
        rows: Rows that it had.
        extraction: Fingerprint of the query that read it.
    """

    state: str
    family: Family | None
    modified: datetime | None
    rows: int | None
    extraction: str | None

    def is_current(self, table: ExportTable, fingerprint: str) -> bool:
        """Whether reading `table` again would give what is there."""
        return (
            self.state == "loaded"
            and table.settled
            and self.family == table.family
            and self.modified == table.modified
            and self.rows == table.rows
            and self.extraction == fingerprint
        )

    def outranks(self, family: Family) -> bool:
        """Whether what is there comes from a better table than `family`'s."""
        return self.family is not None and RANK[self.family] < RANK[family]


@dataclass(slots=True)
class Tally:
    """How far an ingestion is; the checkpoint carries it from one attempt to the next.

    Attributes:
        days: All that were asked for.
        done: Those that are as the source has them now.
        rows: Rows copied.
        bytes: Bytes copied by this attempt.
        unchanged: Days that did not have to be read.
        missing: Days without a table.
        failed: Days that this attempt gave up, with the reason.
        rows_before: Rows of earlier attempts.
        days_before: Days of earlier attempts.
        began: When this attempt began, by trio's clock.
    """

    days: list[date]
    done: set[date] = field(default_factory=set)
    rows: int = 0
    bytes: int = 0
    unchanged: int = 0
    missing: list[date] = field(default_factory=list)
    failed: dict[date, str] = field(default_factory=dict)
    rows_before: int = 0
    days_before: int = 0
    began: float = field(default_factory=trio.current_time)

    def checkpoint(self, finished: date) -> dict[str, JobValue]:
        """What to save together with a day's publication."""
        done = sorted({*self.done, finished})
        return {"done": [day.isoformat() for day in done], "rows": self.rows}

    def restore(self, checkpoint: JobValue) -> None:
        """Continue where an earlier attempt stopped."""
        if isinstance(checkpoint, dict):
            done = {date.fromisoformat(text) for text in checkpoint["done"]}
            self.done = done & set(self.days)
            self.rows = self.rows_before = int(checkpoint["rows"])
            self.days_before = len(self.done)

    def progress(self) -> dict[str, Any]:
        """Arguments of `JobRun.progress`: days, rows, bytes, rows per second, seconds left."""
        seconds = max(trio.current_time() - self.began, 0.001)
        settled = len(self.done) + len(self.failed) + len(self.missing)
        here = settled - self.days_before
        left = len(self.days) - settled
        return {
            "done": settled,
            "total": len(self.days),
            "rows": self.rows,
            "bytes": self.bytes,
            "rate": round((self.rows - self.rows_before) / seconds),
            "seconds_left": math.ceil(seconds / here * left) if here else None,
        }


async def read_known(
    connection: asyncpg.Connection, tenant: TenantId, first: date, last: date
) -> dict[date, Known]:
    """What was found at each day of a range; days never looked at are left out."""
    return {
        row["source_day"]: Known(
            state=row["state"],
            family=Family(row["family"]) if row["family"] else None,
            modified=row["source_modified"],
            rows=row["source_rows"],
            extraction=row["extraction"],
        )
        for row in await connection.fetch(QUERIES["known_days"], tenant, first, last)
    }
