"""Bringing a tenant's files in, one after the other: known or new, read, checked, written.

What this promises stands in master_data.py.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import asyncpg

from troupe.actors.data.master_errors import (
    FileForbidden,
    FileMissing,
    FileRefused,
    FilesNotImported,
)
from troupe.actors.data.master_rows import (
    KEPT_ERRORS,
    CheckedTable,
    Form,
    RowError,
    TooManyBadRows,
    check_table,
)
from troupe.actors.data.master_sftp import Found, SftpSource
from troupe.actors.data.publication import DERIVE
from troupe.common.bridge import call_trio
from troupe.common.connections import SftpConfig
from troupe.common.database import Database
from troupe.common.errors import DatabaseError, PeerError, PeerRefused
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.sql import load
from troupe.common.units import MINUTES, SECONDS
from troupe.platform.jobs import JobRun, JobValue
from troupe.platform.threads import Threads

WRITE_DEADLINE: Final = 10 * MINUTES
NOTE_DEADLINE: Final = 10 * SECONDS
UNSETTLED: Final = timedelta(minutes=1)
"""A file written this shortly before it was imported may have been written again since."""
READING: Final = 1
"""Raise it when files are to be read again because we read them differently now."""

_QUERIES: Final = load(__package__, "master_data.sql")
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """A file as it was last imported."""

    size: int
    modified: datetime | None
    sha256: bytes
    imported: datetime

    def looks_like(self, found: Found) -> bool:
        """Whether it need not be read to know that it is the same."""
        return (
            found.modified is not None
            and found.modified == self.modified
            and found.size == self.size
            and self.imported - found.modified > UNSETTLED
        )


@dataclass(frozen=True, slots=True)
class _Read:
    """A file that has been read and checked."""

    form: Form
    path: str
    found: Found
    size: int
    sha256: bytes
    reading: str
    table: CheckedTable


class Import:
    """One attempt at one job.

    Args:
        run: The attempt.
        database: The group's pool.
        threads: The group's worker threads.
        source: An open session at the server.
        config: Where and as whom it is open.
        zones: The reporting zone and the property's.
    """

    def __init__(
        self,
        *,
        run: JobRun,
        database: Database,
        threads: Threads,
        source: SftpSource,
        config: SftpConfig,
        zones: tuple[str, str],
    ) -> None:
        self._run = run
        self._database = database
        self._threads = threads
        self._source = source
        self._config = config
        self._zones = zones
        self._tenant: TenantId = run.job.tenant_id
        checkpoint = run.checkpoint if isinstance(run.checkpoint, dict) else {}
        self._outcomes: dict[str, dict[str, JobValue]] = dict(checkpoint.get("files", {}))
        self._version: int | None = checkpoint.get("data_version")

    async def perform(self, forms: list[Form]) -> JobValue:
        """Import files, one after the other; returns the job's result.

        Raises:
            PeerRefused: A file was left; the others are imported.
            PeerUnavailable: The server failed; files before that are imported.
        """
        failures: list[PeerRefused] = []
        known = {} if self._run.arguments.get("again") else await self._known()
        for number, form in enumerate(forms):
            if self._run.stopping.is_set():
                raise self._run.leave()
            await self._tell(number, len(forms), phase="fetching", message=f"Fetching {form.name}")
            if form.content not in self._outcomes:
                try:
                    await self._import(form, known)
                except (FileMissing, FileForbidden, FileRefused) as error:
                    await self._note_problem(form, error)
                    failures.append(error)
                except PeerError as error:
                    await self._note_problem(form, error)
                    raise
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise FilesNotImported(" ".join(map(str, failures)))
        result = self._result()
        await self._tell(len(forms), len(forms), phase="done", message="All files are imported")
        return result

    async def _import(self, form: Form, known: Mapping[tuple[str, str, str], _Known]) -> None:
        path, reading = self._source.path(form.file), self._reading(form)
        before = known.get((form.content, path, reading))
        found = await self._source.look(form.file)
        if before is not None and before.looks_like(found):
            await self._leave_unchanged(form, found)
            return
        content = await self._source.read(form.file, found, self._count_bytes)
        size = content.tell()
        digest = await self._threads.run(_digest, content, abandon=True)
        if before is not None and before.sha256 == digest:
            await self._leave_unchanged(form, found)
            return
        await self._run.progress(phase="checking", message=f"Checking {form.name}")
        try:
            table = await self._threads.run(check_table, content, form, abandon=True)
        except TooManyBadRows as error:
            # A failed job has no result; the report stays with its progress.
            await self._run.progress(errors=_told(form, error.table.errors))
            raise
        content.close()
        await self._write(_Read(form, path, found, size, digest, reading, table))

    async def _leave_unchanged(self, form: Form, found: Found) -> None:
        await self._note("note_unchanged", form, found.modified)
        self._outcomes[form.content] = {"file": form.name, "state": "unchanged"}

    async def _write(self, read: _Read) -> None:
        """Write a file's rows, all of them or none."""
        form, table, tenant = read.form, read.table, self._tenant
        await self._run.progress(phase="writing", message=f"Writing {form.name}")

        async def unit(connection: asyncpg.Connection) -> tuple[dict[str, JobValue], int | None]:
            await self._run.fence(connection)
            await connection.execute(DERIVE["ensure_version"], tenant)
            await connection.execute(DERIVE["lock_tenant"], tenant)
            upsert = _QUERIES[f"upsert_{form.content}"]
            inserted = updated = 0
            for number, batch in enumerate(table.batches, start=1):
                [counts] = await connection.fetch(upsert, tenant, batch)
                inserted += counts["inserted"]
                updated += counts["updated"]
                rows = table.rows * number // len(table.batches)
                await call_trio(partial(self._run.progress, rows=rows, rows_total=table.rows))
            await connection.execute(
                _QUERIES["note_imported"],
                tenant,
                form.content,
                read.path,
                read.size,
                read.found.modified,
                read.sha256,
                read.reading,
                table.rows,
                table.bad_rows,
            )
            version = self._version
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
                "errors": _told(form, table.errors),
            }
            await self._run.save_checkpoint_in(
                connection,
                {"files": {**self._outcomes, form.content: outcome}, "data_version": version},
            )
            return outcome, version

        self._outcomes[form.content], self._version = await self._database.run(
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

    # ---- what is known and noted

    async def _known(self) -> dict[tuple[str, str, str], _Known]:
        rows = await self._database.fetch(
            _QUERIES["known_files"], self._tenant, tenant=self._tenant, read_only=True
        )
        return {
            (row["content"], row["path"], row["reading"]): _Known(
                row["size"], row["modified_at"], row["sha256"], row["imported_at"]
            )
            for row in rows
        }

    def _reading(self, form: Form) -> str:
        """Fingerprint of where a file is read and what is made of it."""
        config = self._config
        parts = [
            READING,
            config.host,
            config.port,
            config.username,
            form.encoding,
            form.delimiter,
            sorted(form.headers.items()),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    async def _note_problem(self, form: Form, error: PeerError) -> None:
        try:
            await self._note("note_problem", form, str(error))
        except DatabaseError as unnoted:
            # What is told is why the file was left, not that we could not write it down.
            _log.warning("failed_master_file_not_noted", file=form.name, error=str(unnoted))

    async def _note(self, query: str, form: Form, what: object) -> None:
        path = self._source.path(form.file)

        async def unit(connection: asyncpg.Connection) -> None:
            await self._run.fence(connection)
            await connection.execute(_QUERIES[query], self._tenant, form.content, path, what)

        await self._database.run(unit, tenant=self._tenant, deadline=NOTE_DEADLINE)

    # ---- what is told

    async def _count_bytes(self, count: int) -> None:
        await self._run.progress(bytes=count)

    async def _tell(self, done: int, total: int, **others: Any) -> None:
        await self._run.progress(done=done, total=total, **others)

    def _result(self) -> JobValue:
        files = [{"content": content, **outcome} for content, outcome in self._outcomes.items()]
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


def _digest(content: io.BytesIO) -> bytes:
    return hashlib.sha256(content.getbuffer()).digest()


def _told(form: Form, errors: list[RowError]) -> list[dict[str, JobValue]]:
    return [
        {"file": form.name, "line": error.line, "column": error.column, "message": error.message}
        for error in errors
    ]
