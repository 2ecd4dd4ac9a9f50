"""What is known of source days: in the database, and in the course of one ingestion."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import asyncpg

from troupe.actors.data.bigquery import ExportTable
from troupe.actors.data.flattening import RANK, Family
from troupe.actors.data.pace import Pace
from troupe.common.ids import TenantId
from troupe.common.sql import load
from troupe.platform.jobs import JobValue

QUERIES = load(__package__, "days.sql")


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
        reading: Days that are being read, and the part of each that has arrived.
        rows_pace: How fast rows arrive.
        days_pace: How fast days are settled, parts of days included.
    """

    days: list[date]
    done: set[date] = field(default_factory=set)
    rows: int = 0
    bytes: int = 0
    unchanged: int = 0
    missing: list[date] = field(default_factory=list)
    failed: dict[date, str] = field(default_factory=dict)
    reading: dict[date, float] = field(default_factory=dict)
    rows_pace: Pace = field(default_factory=Pace)
    days_pace: Pace = field(default_factory=Pace)

    def checkpoint(self, finished: Iterable[date]) -> dict[str, JobValue]:
        """What to save together with the publication of days."""
        done = sorted({*self.done, *finished})
        return {"done": [day.isoformat() for day in done], "rows": self.rows}

    def restore(self, checkpoint: JobValue) -> None:
        """Continue where an earlier attempt stopped."""
        if isinstance(checkpoint, dict):
            done = {date.fromisoformat(text) for text in checkpoint["done"]}
            self.done = done & set(self.days)
            self.rows = int(checkpoint["rows"])
            self.rows_pace, self.days_pace = Pace(self.rows), Pace(len(self.done))

    def arrived(self, day: date, rows: int, size: int, of: int) -> None:
        """Count a batch of a day that has `of` rows in all, as far as the source knows."""
        self.rows += rows
        self.bytes += size
        # What is left of a day after its last row is publishing it.
        self.reading[day] = min(self.reading.get(day, 0.0) + 0.9 * rows / max(of, rows), 0.9)

    def progress(self) -> dict[str, Any]:
        """Arguments of `JobRun.progress`: days, rows, bytes, rows per second, seconds left."""
        settled = {*self.done, *self.failed, *self.missing}
        share = len(settled) + sum(part for day, part in self.reading.items() if day not in settled)
        self.rows_pace.note(self.rows)
        self.days_pace.note(share)
        return {
            "done": len(settled),
            "total": len(self.days),
            "rows": self.rows,
            "bytes": self.bytes,
            "rate": round(self.rows_pace.per_second or 0),
            "seconds_left": self.days_pace.seconds_left(len(self.days) - share),
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
