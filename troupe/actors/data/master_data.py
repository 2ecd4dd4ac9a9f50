"""The job ``import_master_data``: customers and locations, from a tenant's SFTP server.

The connection names up to two files. Each is taken or left as a whole, in a transaction of its own
behind the job's fence:

- A file that looks as it did when it was last imported (size and time of writing) is not read;
  one that was written again with the same content (SHA-256) is not parsed. A time within a minute
  of the last import proves nothing, because servers tell it in seconds and may write twice in one.
  A change of the configuration makes every file a new one.
- A row that is bad is left out and reported; too many of them, or a missing header, and the file
  changes nothing (see master_rows.py).
- Rows are upserted by their id. Rows that are no longer in the file stay as they are: a file that
  was cut short must not make customers disappear.
- The tenant's data version is raised when a row has changed, because answers show these names. It
  is locked first, as a publication does, so that neither waits for the other half-way.

Branches of sessions are worked out when a day is derived (derive.sql). A customer who moves to
another branch takes along what is loaded from then on; days that were loaded before keep the branch
that they were derived with.

Whose fault a failure is decides what it stops: one file (missing, forbidden, malformed), or all of
it (credentials, host key, server away). The job tells of every file that was left, in one sentence.
"""

from typing import Final

from troupe.actors.data.master_errors import NoFilesConfigured
from troupe.actors.data.master_import import Import
from troupe.actors.data.master_rows import forms_of
from troupe.actors.data.master_sftp import SftpDeadlines, open_source
from troupe.common.connections import BigQueryConfig, NotConnected, SftpConfig, load_connection
from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import Vault
from troupe.common.sql import load
from troupe.common.units import MINUTES
from troupe.platform.jobs import JobKind, JobRun, JobValue, NewJob
from troupe.platform.threads import Threads

IMPORT_MASTER_DATA: Final = "import_master_data"
"""The kind's name."""
JOB_TIMEOUT: Final = 60 * MINUTES
CONCURRENT_IMPORTS: Final = 2

_TENANT: Final = load(__package__, "ingest.sql")["tenant"]


def import_job(*, again: bool = False) -> NewJob:
    """What to enqueue; while one waits or runs for a tenant, that one is given back.

    Args:
        again: Read the files also if they look unchanged.
    """
    return NewJob(
        group="data", kind=IMPORT_MASTER_DATA, arguments={"again": again}, unique_key="sftp"
    )


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
        await run.progress(phase="connecting", message="Connecting to the SFTP server")
        row = await self._database.fetch_row(_TENANT, tenant, tenant=tenant, read_only=True)
        if row is None or row["state"] != "active":
            raise NotFound("The tenant is not active.")
        connection = await load_connection(self._database, self._vault, tenant, "sftp")
        config = connection.config
        if not isinstance(config, SftpConfig):
            raise TypeError(f"an sftp connection has {type(config).__name__}")
        forms = forms_of(config)
        if not forms:
            raise NoFilesConfigured("The SFTP connection names no file to import.")
        zone = row["reporting_time_zone"]
        async with open_source(config, connection.secret, self._guard, self._deadlines) as source:
            importing = Import(
                run=run,
                database=self._database,
                threads=self._threads,
                source=source,
                config=config,
                zones=(zone, await self._property_zone(tenant) or zone),
            )
            return await importing.perform(forms)

    async def _property_zone(self, tenant: TenantId) -> str | None:
        """Zone of the export's days, which the data version's bounds are reckoned in."""
        try:
            connection = await load_connection(self._database, self._vault, tenant, "bigquery")
        except NotConnected:
            return None
        config = connection.config
        return config.property_time_zone if isinstance(config, BigQueryConfig) else None


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
