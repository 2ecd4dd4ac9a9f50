"""Taking a file in: read and checked off the loop, written behind the job's fence, noted, reported.

It does not matter here where the file comes from. What this promises stands in master_data.py.
"""

import hashlib
import io
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import asyncpg

from troupe.actors.data.branches import follow_customers
from troupe.actors.data.master_held import QUERIES
from troupe.actors.data.master_reports import KEPT_FOR, KEPT_REPORTS, packed_errors
from troupe.actors.data.master_rows import (
    CheckedTable,
    Form,
    RowError,
    TooManyBadRows,
    check_table,
)
from troupe.actors.data.master_selection import Found
from troupe.actors.data.publication import DERIVE
from troupe.actors.data.reporting import reporting_in
from troupe.common.bridge import call_trio
from troupe.common.database import Database
from troupe.common.errors import DatabaseError, PeerError
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.units import MINUTES, SECONDS
from troupe.platform.jobs import JobRun, JobValue
from troupe.platform.threads import Threads

WRITE_DEADLINE: Final = 10 * MINUTES
NOTE_DEADLINE: Final = 10 * SECONDS
UNSETTLED: Final = timedelta(minutes=1)
"""A file written this shortly before it was imported may have been written again since."""
READING: Final = 1
"""Raise it when files are to be read again because we read them differently now."""
KEPT_ERRORS: Final = 100
"""Faults that a job's result tells; the report has more."""

Also = Callable[[asyncpg.Connection], Awaitable[None]]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """A file as it was last imported."""

    content: str
    path: str
    size: int
    modified: datetime | None
    sha256: bytes
    imported: datetime

    @property
    def found(self) -> Found:
        """What the server said of it."""
        return Found(self.size, self.modified)

    def looks_like(self, found: Found) -> bool:
        """Whether it need not be read to know that it is the same."""
        return (
            found.modified is not None
            and found.modified == self.modified
            and found.size == self.size
            and self.imported - found.modified > UNSETTLED
        )


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that is at hand.

    Attributes:
        form: What it is agreed to be like; its name is the file's own.
        path: What it is known by.
        modified: When it was written; None: nobody said.
    """

    form: Form
    path: str
    modified: datetime | None

    @property
    def key(self) -> str:
        """What its outcome is kept under."""
        return f"{self.form.content} {self.path}"


class Loading:
    """What one attempt at one job has taken in, and how it takes in more.

    Args:
        run: The attempt.
        database: The group's pool.
        threads: The group's worker threads.
        origin: Where the files come from: what makes a file of the same path another one.
        zones: The reporting zone and the property's.
    """

    def __init__(
        self,
        *,
        run: JobRun,
        database: Database,
        threads: Threads,
        origin: Sequence[JobValue],
        zones: tuple[str, str],
    ) -> None:
        self._run = run
        self._database = database
        self._threads = threads
        self._origin = origin
        self._zones = zones
        self._tenant: TenantId = run.job.tenant_id
        checkpoint = run.checkpoint if isinstance(run.checkpoint, dict) else {}
        self._outcomes: dict[str, dict[str, JobValue]] = dict(checkpoint.get("outcomes", {}))
        self._version: int | None = checkpoint.get("data_version")

    def has(self, arrival: Arrival) -> bool:
        """Whether this attempt or an earlier one has taken the file in already."""
        return arrival.key in self._outcomes

    def note_outcome(self, key: str, outcome: dict[str, JobValue]) -> None:
        """Tell of something that was not loaded, in the job's result."""
        self._outcomes[key] = outcome

    def tell(self, arrival: Arrival, **more: JobValue) -> None:
        """Tell more about a file, in the job's result."""
        self._outcomes[arrival.key] |= more

    async def known(self) -> Mapping[str, Known]:
        """The files of earlier imports by `Arrival.key`, as far as they were read as now."""
        rows = await self._database.fetch(
            QUERIES["known_files"], self._tenant, tenant=self._tenant, read_only=True
        )
        return {
            f"{row['content']} {row['path']} {row['reading']}": Known(
                row["content"],
                row["path"],
                row["size"],
                row["modified_at"],
                row["sha256"],
                row["imported_at"],
            )
            for row in rows
            if row["imported_at"] is not None
        }

    def known_as(self, arrival: Arrival) -> str:
        """The file's key in `known`."""
        return f"{arrival.key} {self._reading(arrival.form)}"

    async def load(
        self, arrival: Arrival, content: io.BytesIO, before: Known | None, also: Also | None = None
    ) -> None:
        """Take a file in, as a whole or not at all.

        Args:
            arrival: The file.
            content: All of it.
            before: As it was last imported.
            also: Done in the transaction that takes it in.

        Raises:
            FileMalformed: It cannot be used.
            TooManyBadRows: Too many of its rows cannot.
        """
        form = arrival.form
        size = content.seek(0, io.SEEK_END)
        digest = await self._threads.run(_digest, content, abandon=True)
        if before is not None and before.sha256 == digest:
            await self.leave_unchanged(arrival, also)
            return
        await self._run.progress(phase="checking", message=f"Checking {form.name}")
        try:
            table = await self._threads.run(check_table, content, form, abandon=True)
        except TooManyBadRows as error:
            # A failed job has no result; the first of the faults stay with its progress.
            await self._run.progress(errors=_told(form, error.table.errors[:KEPT_ERRORS]))
            await self._report_refused(arrival, error.table)
            raise
        content.close()
        await self._write(arrival, table, size, digest, also)

    async def leave_unchanged(self, arrival: Arrival, also: Also | None = None) -> None:
        """Note that a file is as it was."""
        await self._note("note_unchanged", arrival, arrival.modified, also)
        self._outcomes[arrival.key] = {"file": arrival.form.name, "state": "unchanged"}

    async def note_problem(self, arrival: Arrival, error: PeerError) -> None:
        """Note why a file was not taken in."""
        try:
            await self._note("note_problem", arrival, str(error))
        except DatabaseError as unnoted:
            # What is told is why the file was left, not that we could not write it down.
            _log.warning("failed_master_file_not_noted", file=arrival.form.name, error=str(unnoted))

    def result(self) -> JobValue:
        """What the job tells when it is done."""
        files = [
            {"content": key.partition(" ")[0], **outcome} for key, outcome in self._outcomes.items()
        ]
        errors = [error for file in files for error in file.pop("errors", [])]
        return {
            "files": files,
            "rows": sum(file.get("rows", 0) for file in files),
            "changed": sum(file.get("inserted", 0) + file.get("updated", 0) for file in files),
            "skipped": sum(file["state"] == "unchanged" for file in files),
            "data_version": self._version,
            "errors": errors[:KEPT_ERRORS],
            "errors_total": sum(file.pop("errors_total", 0) for file in files),
        }

    async def _write(
        self, arrival: Arrival, table: CheckedTable, size: int, digest: bytes, also: Also | None
    ) -> None:
        """Write a file's rows, all of them or none."""
        form, tenant = arrival.form, self._tenant
        await self._run.progress(phase="writing", message=f"Writing {form.name}")
        room = KEPT_ERRORS - sum(len(known.get("errors", [])) for known in self._outcomes.values())

        async def unit(connection: asyncpg.Connection) -> tuple[dict[str, JobValue], int | None]:
            await self._run.fence(connection)
            await connection.execute(DERIVE["ensure_version"], tenant)
            await connection.execute(DERIVE["lock_tenant"], tenant)
            upsert = QUERIES[f"upsert_{form.content}"]
            inserted = updated = 0
            for number, batch in enumerate(table.batches, start=1):
                [counts] = await connection.fetch(upsert, tenant, batch)
                inserted += counts["inserted"]
                updated += counts["updated"]
                rows = table.rows * number // len(table.batches)
                await call_trio(partial(self._run.progress, rows=rows, rows_total=table.rows))
            await connection.execute(
                QUERIES["note_imported"],
                tenant,
                form.content,
                arrival.path,
                size,
                arrival.modified,
                digest,
                self._reading(form),
                table.rows,
                table.bad_rows,
            )
            await connection.execute(QUERIES["forget_files"], tenant)
            if table.bad_rows:
                await self._report_in(connection, arrival, table, taken=True)
            if also is not None:
                await also(connection)
            version = self._version
            if form.content == "customers" and (inserted or updated):
                reporting, _ = await reporting_in(connection, tenant, None)
                await follow_customers(connection, reporting)
            if inserted or updated:
                version = await connection.fetchval(DERIVE["raise_version"], tenant, *self._zones)
                await connection.execute(DERIVE["announce"], str(tenant))
            outcome = {
                "file": form.name,
                "state": "imported",
                "rows": table.rows,
                "inserted": inserted,
                "updated": updated,
                "bad_rows": table.bad_rows,
                "errors_total": table.errors_total,
                "errors": _told(form, table.errors[: max(room, 0)]),
            }
            await self._run.save_checkpoint_in(
                connection,
                {"outcomes": {**self._outcomes, arrival.key: outcome}, "data_version": version},
            )
            return outcome, version

        self._outcomes[arrival.key], self._version = await self._database.run(
            unit, tenant=tenant, deadline=WRITE_DEADLINE
        )
        _log.info(
            "master_file_imported",
            tenant_id=str(tenant),
            content=form.content,
            rows=table.rows,
            bad_rows=table.bad_rows,
            data_version=self._version,
        )

    async def _report_refused(self, arrival: Arrival, table: CheckedTable) -> None:
        async def unit(connection: asyncpg.Connection) -> None:
            await self._run.fence(connection)
            await self._report_in(connection, arrival, table, taken=False)

        await self._database.run(unit, tenant=self._tenant, deadline=NOTE_DEADLINE)

    async def _report_in(
        self, connection: asyncpg.Connection, arrival: Arrival, table: CheckedTable, *, taken: bool
    ) -> None:
        await connection.execute(
            QUERIES["report_rows"],
            self._tenant,
            self._run.job.id,
            arrival.form.content,
            arrival.path,
            taken,
            table.bad_rows,
            table.errors_total,
            packed_errors(table.errors),
        )
        await connection.execute(QUERIES["forget_reports"], self._tenant, KEPT_REPORTS, KEPT_FOR)

    def _reading(self, form: Form) -> str:
        """Fingerprint of where a file comes from and what is made of it."""
        parts = [
            READING,
            *self._origin,
            form.encoding,
            form.delimiter,
            form.format,
            form.sheet,
            sorted(form.headers.items()),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    async def _note(
        self, query: str, arrival: Arrival, what: object, also: Also | None = None
    ) -> None:
        async def unit(connection: asyncpg.Connection) -> None:
            await self._run.fence(connection)
            await connection.execute(
                QUERIES[query], self._tenant, arrival.form.content, arrival.path, what
            )
            if also is not None:
                await also(connection)

        await self._database.run(unit, tenant=self._tenant, deadline=NOTE_DEADLINE)


def _digest(content: io.BytesIO) -> bytes:
    return hashlib.sha256(content.getbuffer()).digest()


def _told(form: Form, errors: Sequence[RowError]) -> list[dict[str, Any]]:
    return [
        {"file": form.name, "line": error.line, "column": error.column, "message": error.message}
        for error in errors
    ]
