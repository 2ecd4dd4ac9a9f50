"""Bringing in what lies at a tenant's server, and what a tenant has uploaded.

What this promises stands in master_data.py; how one file is taken in, in master_loading.py.
"""

import io
import posixpath
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from troupe.actors.data.master_errors import (
    FileForbidden,
    FileMissing,
    FileRefused,
    FilesNotImported,
    StillBeingWritten,
)
from troupe.actors.data.master_held import (
    HOLD_DEADLINE,
    HeldUpload,
    hold_transfer,
    read_held,
    release,
    release_transfer,
    resume_transfer,
)
from troupe.actors.data.master_loading import Arrival, Known, Loading
from troupe.actors.data.master_rows import Form
from troupe.actors.data.master_selection import Candidate, Pattern
from troupe.actors.data.master_sftp import SftpSource
from troupe.common.database import Database
from troupe.common.errors import DatabaseError, PeerError, PeerRefused, PeerUnavailable
from troupe.common.logs import get_logger
from troupe.common.units import MINUTES, MiB
from troupe.platform.errors import JobInterrupted
from troupe.platform.jobs import JobRun, JobValue

WORTH_HOLDING: Final = 1 * MiB
"""Bytes of a broken transfer; fewer have arrived again before they are looked up."""
GROWING: Final = 1 * MINUTES
"""Until a file that is still being written is looked at again."""

_log = get_logger(__name__)


class ServerImport:
    """One attempt at importing what lies at the server.

    Args:
        run: The attempt.
        database: The group's pool.
        loading: Takes files in.
        source: An open session at the server.
        archives: Whether files are put away once they are loaded.
    """

    def __init__(
        self,
        *,
        run: JobRun,
        database: Database,
        loading: Loading,
        source: SftpSource,
        archives: bool,
    ) -> None:
        self._run = run
        self._database = database
        self._loading = loading
        self._source = source
        self._archives = archives
        self._tenant = run.job.tenant_id
        self._failures: list[PeerError] = []
        self._done = 0
        self._total = 0

    async def perform(self, forms: list[Form]) -> JobValue:
        """Import files, one after the other; returns the job's result.

        Raises:
            PeerRefused: A file was left; the others are imported.
            PeerUnavailable: The server failed; files before that are imported. Or a file was still
                being written; the others are imported.
        """
        known = {} if self._run.arguments.get("again") else await self._loading.known()
        self._total = len(forms)
        for form in forms:
            await self._tell(phase="fetching", message=f"Looking for {form.name}")
            arrival = self._arrival(form, form.file)
            try:
                candidates = await self._source.find(Pattern(form.file), form.take)
            except FileMissing as error:
                await self._miss(arrival, error)
            except (FileForbidden, FileRefused) as error:
                await self._leave(arrival, error)
            except PeerError as error:
                await self._loading.note_problem(arrival, error)
                raise
            else:
                if not candidates:
                    await self._miss(arrival, FileMissing(f"No file matches {form.name}."))
                if form.take == "newest":
                    candidates = self._not_superseded(form, candidates, known)
                await self._import_all(form, candidates, known)
        self._raise_failures()
        await self._tell(phase="done", message="All files are imported")
        return self._loading.result()

    def _not_superseded(
        self, form: Form, candidates: list[Candidate], known: Mapping[str, Known]
    ) -> list[Candidate]:
        """The candidates without those that are older than a file that was imported before.

        The newest file may be gone, put away by us or by somebody else. What is then the newest of
        the others must not turn back what the one before has said.
        """
        pattern = Pattern(form.file)
        directory = posixpath.dirname(self._source.path(form.file))
        imported = [
            order
            for file in known.values()
            if file.content == form.content and posixpath.dirname(file.path) == directory
            if (order := pattern.order_of(posixpath.basename(file.path), file.found)) is not None
        ]
        left = []
        for candidate in candidates:
            order = pattern.order_of(candidate.name, candidate.found)
            if pattern.is_plain or order is None or all(order >= other for other in imported):
                left.append(candidate)
            else:
                self._done += 1
                outcome = {"file": candidate.name, "state": "superseded"}
                self._loading.note_outcome(f"{form.content} {candidate.file}", outcome)
        return left

    async def _import_all(
        self, form: Form, candidates: list[Candidate], known: Mapping[str, Known]
    ) -> None:
        self._total += len(candidates) - 1
        fresh = []
        for candidate in candidates:
            arrival = self._arrival(form, candidate.file, candidate)
            before = known.get(self._loading.known_as(arrival))
            if self._loading.has(arrival):
                self._done += 1
            elif before is not None and before.looks_like(candidate.found):
                await self._loading.leave_unchanged(arrival)
                await self._put_away(arrival)
                self._done += 1
            else:
                fresh.append(candidate)
        growing = await self._source.growing(fresh)
        for candidate in fresh:
            if self._run.stopping.is_set():
                raise self._run.leave()
            arrival = self._arrival(form, candidate.file, candidate)
            await self._tell(phase="fetching", message=f"Fetching {arrival.form.name}")
            before = known.get(self._loading.known_as(arrival))
            try:
                if candidate.file in growing:
                    raise _growing(f"{candidate.name} is still being written.")
                content = await self._fetch(arrival, candidate)
                await self._loading.load(arrival, content, before)
                await self._put_away(arrival)
            except (FileMissing, FileForbidden, FileRefused, StillBeingWritten) as error:
                await self._leave(arrival, error)
            except PeerError as error:
                await self._loading.note_problem(arrival, error)
                raise
            self._done += 1

    async def _fetch(self, arrival: Arrival, candidate: Candidate) -> io.BytesIO:
        """Read a file, from where an earlier attempt had to stop."""
        content = await resume_transfer(self._database, self._tenant, arrival.path, candidate.found)
        resumed = content.tell()
        try:
            await self._source.read(candidate.file, candidate.found, self._arrived, content)
        except StillBeingWritten:
            await self._forget_transfer(arrival)
            raise
        except (PeerUnavailable, JobInterrupted):
            if content.tell() - resumed >= WORTH_HOLDING:
                await self._hold(arrival, candidate, content)
            raise
        if resumed:
            await self._forget_transfer(arrival)
        return content

    async def _hold(self, arrival: Arrival, candidate: Candidate, content: io.BytesIO) -> None:
        async def unit(connection: asyncpg.Connection) -> None:
            await self._run.fence(connection)
            await hold_transfer(
                connection,
                self._tenant,
                content=arrival.form.content,
                path=arrival.path,
                found=candidate.found,
                arrived=content,
            )

        try:
            await self._database.run(unit, tenant=self._tenant, deadline=HOLD_DEADLINE)
        except DatabaseError as error:
            # The next attempt begins at the beginning then; why this one failed matters more.
            _log.warning("transfer_not_held", file=arrival.form.name, error=str(error))

    async def _forget_transfer(self, arrival: Arrival) -> None:
        await self._database.run(
            lambda connection: release_transfer(connection, self._tenant, arrival.path),
            tenant=self._tenant,
        )

    async def _put_away(self, arrival: Arrival) -> None:
        """Move a file that has been taken in; one that cannot be moved is still taken in."""
        if not self._archives:
            return
        try:
            name = await self._source.put_away(arrival.form.file)
        except PeerRefused as error:
            self._loading.tell(arrival, archive_problem=str(error))
            _log.warning("master_file_not_archived", file=arrival.form.name, error=str(error))
        else:
            self._loading.tell(arrival, archived_as=name)

    async def _miss(self, arrival: Arrival, error: FileMissing) -> None:
        """There is no file: as it should be where the last one was put away."""
        self._done += 1
        if self._archives:
            outcome = {"file": arrival.form.name, "state": "absent"}
            self._loading.note_outcome(arrival.key, outcome)
        else:
            await self._leave(arrival, error)

    async def _leave(self, arrival: Arrival, error: PeerError) -> None:
        await self._loading.note_problem(arrival, error)
        self._failures.append(error)

    def _raise_failures(self) -> None:
        failures = self._failures
        if len(failures) == 1:
            raise failures[0]
        told = " ".join(map(str, failures))
        if any(isinstance(failure, StillBeingWritten) for failure in failures):
            raise _growing(told)
        if failures:
            raise FilesNotImported(told)

    def _arrival(self, form: Form, file: str, candidate: Candidate | None = None) -> Arrival:
        modified = candidate.found.modified if candidate is not None else None
        return Arrival(form.of_file(file), self._source.path(file), modified)

    async def _arrived(self, count: int) -> None:
        await self._run.progress(bytes=count)
        if self._run.stopping.is_set():
            raise self._run.leave()

    async def _tell(self, **others: Any) -> None:
        await self._run.progress(done=self._done, total=self._total, **others)


def _growing(told: str) -> StillBeingWritten:
    return StillBeingWritten(told, retry_after=GROWING)


async def import_upload(
    run: JobRun, database: Database, loading: Loading, upload: HeldUpload, form: Form
) -> JobValue:
    """Import a file that was uploaded; returns the job's result.

    It is held until it has been taken in or refused.

    Raises:
        PeerRefused: It was refused.
    """
    tenant = run.job.tenant_id
    arrival = Arrival(form.of_file(upload.name), f"uploads/{upload.name}", None)

    async def let_go(connection: asyncpg.Connection) -> None:
        await release(connection, tenant, upload.file_id)

    await run.progress(done=0, total=1, phase="checking", message=f"Reading {form.name}")
    known = {} if run.arguments.get("again") else await loading.known()
    content = await read_held(database, tenant, upload.file_id)
    try:
        await loading.load(arrival, content, known.get(loading.known_as(arrival)), let_go)
    except PeerRefused as error:
        await loading.note_problem(arrival, error)
        await database.run(let_go, tenant=tenant)
        raise
    await run.progress(done=1, total=1, phase="done", message="The file is imported")
    return loading.result()
