"""The job ``import_master_data``: customers and locations, from a tenant's SFTP server or uploaded.

The connection names up to two files, or patterns of names. Each file is taken or left as a whole,
in a transaction of its own behind the job's fence:

- A file that looks as it did when it was last imported (size and time of writing) is not read;
  one that was written again with the same content (SHA-256) is not parsed. A time within a minute
  of the last import proves nothing, because servers tell it in seconds and may write twice in one.
  A change of the configuration makes every file a new one.
- A file that grows while it is looked at, or changes while it is read, is left for the next
  attempt.
- A row that is bad is left out and reported; too many of them, or a missing header, and the file
  changes nothing (see master_rows.py). The report can be downloaded (master_reports.py).
- Rows are upserted by their id. Rows that are no longer in the file stay as they are: a file that
  was cut short must not make customers disappear.
- The tenant's data version is raised when a row has changed, because answers show these names. It
  is locked first, as a publication does, so that neither waits for the other half-way.
- A file that has been taken is put away, if the tenant wants it.

A customer who moves to another branch takes along whatever they did without naming one: sessions,
purchases and everything that is added up from them follow in the same transaction (branches.py).

Whose fault a failure is decides what it stops: one file (missing, forbidden, malformed), or all of
it (credentials, host key, server away). The job tells of every file that was left, in one sentence.
"""

from typing import Final, cast
from uuid import UUID

from troupe.actors.data.job_requests import SCHEDULABLE_IMPORT
from troupe.actors.data.master_errors import NoFilesConfigured
from troupe.actors.data.master_held import HeldUpload, find_upload
from troupe.actors.data.master_import import ServerImport, import_upload
from troupe.actors.data.master_loading import Loading
from troupe.actors.data.master_rows import Content, form_of_upload, forms_of
from troupe.actors.data.master_sftp import open_source
from troupe.actors.data.master_ssh import SftpDeadlines
from troupe.common.connections import (
    BigQueryConfig,
    NotConnected,
    SftpConfig,
    load_connection,
    read_connection,
)
from troupe.common.database import Database
from troupe.common.errors import InvalidInput, NotFound
from troupe.common.ids import TenantId
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import Vault
from troupe.common.sql import load
from troupe.common.units import MINUTES
from troupe.platform.jobs import JobKind, JobRun, JobValue
from troupe.platform.schedules import SLOT_ARGUMENT
from troupe.platform.threads import Threads

JOB_TIMEOUT: Final = 60 * MINUTES
CONCURRENT_IMPORTS: Final = 2

_TENANT: Final = load(__package__, "ingest.sql")["tenant"]


class MasterDataImporter:
    """Runs ``import_master_data`` jobs of one group.

    Args:
        database: The group's pool.
        vault: Opens the connections' secrets.
        guard: Checks the hosts that tenants name.
        threads: The group's worker threads.
        deadlines: Of the servers.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        guard: OutboundGuard,
        threads: Threads,
        deadlines: SftpDeadlines,
    ) -> None:
        self._database = database
        self._vault = vault
        self._guard = guard
        self._threads = threads
        self._deadlines = deadlines

    async def handle(self, run: JobRun) -> JobValue:
        """Do one attempt at a job; see the module's text."""
        tenant = run.job.tenant_id
        row = await self._database.fetch_row(_TENANT, tenant, tenant=tenant, read_only=True)
        if row is None or row["state"] != "active":
            raise NotFound("The tenant is not active.")
        zone = row["reporting_time_zone"]
        zones = (zone, await self._property_zone(tenant) or zone)
        given = {key: value for key, value in run.arguments.items() if key != SLOT_ARGUMENT}
        upload = given.pop("upload", None)
        SCHEDULABLE_IMPORT.checked(given)
        if upload is not None:
            return await self._take_upload(run, zones, _identifier(upload))
        return await self._take_from_server(run, zones)

    async def _take_from_server(self, run: JobRun, zones: tuple[str, str]) -> JobValue:
        await run.progress(phase="connecting", message="Connecting to the SFTP server")
        connection = await load_connection(self._database, self._vault, run.job.tenant_id, "sftp")
        config = cast("SftpConfig", connection.config)
        forms = forms_of(config)
        if not forms:
            raise NoFilesConfigured("The SFTP connection names no file to import.")
        async with open_source(config, connection.secret, self._guard, self._deadlines) as source:
            importing = ServerImport(
                run=run,
                database=self._database,
                loading=self._loading(run, zones, [config.host, config.port, config.username]),
                source=source,
                archives=bool(config.archive_directory),
            )
            return await importing.perform(forms)

    async def _take_upload(self, run: JobRun, zones: tuple[str, str], identifier: UUID) -> JobValue:
        tenant = run.job.tenant_id
        upload: HeldUpload = await find_upload(self._database, tenant, identifier)
        try:
            connection = await read_connection(self._database, tenant, "sftp")
        except NotConnected:
            config = None
        else:
            config = cast("SftpConfig", connection.config)
        form = form_of_upload(cast("Content", upload.content), config)
        loading = self._loading(run, zones, ["upload"])
        return await import_upload(run, self._database, loading, upload, form)

    def _loading(self, run: JobRun, zones: tuple[str, str], origin: list[JobValue]) -> Loading:
        return Loading(
            run=run, database=self._database, threads=self._threads, origin=origin, zones=zones
        )

    async def _property_zone(self, tenant: TenantId) -> str | None:
        """Zone of the export's days, which the data version's bounds are reckoned in."""
        try:
            connection = await read_connection(self._database, tenant, "bigquery")
        except NotConnected:
            return None
        return cast("BigQueryConfig", connection.config).property_time_zone


def _identifier(text: JobValue) -> UUID:
    try:
        return UUID(text)
    except (TypeError, ValueError, AttributeError):
        raise InvalidInput(
            "The job names no upload.", [("/arguments/upload", "must be an identifier")]
        ) from None


def master_data_kind(
    database: Database,
    vault: Vault,
    guard: OutboundGuard,
    threads: Threads,
    deadlines: SftpDeadlines | None = None,
) -> JobKind:
    """The kind ``import_master_data`` for a `JobRunner`; arguments as `MasterDataImporter`'s."""
    importer = MasterDataImporter(database, vault, guard, threads, deadlines or SftpDeadlines())
    return JobKind(handler=importer.handle, concurrency=CONCURRENT_IMPORTS, timeout=JOB_TIMEOUT)
