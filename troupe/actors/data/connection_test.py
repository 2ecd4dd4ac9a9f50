"""The job ``test_connection``: try a tenant's connection with the code that will use it.

That a connection does not work is what a test is there to find out, so it is a result and no
failure of the job: which step went well, which did not, and one sentence for the person who typed
it in. The job fails when *we* cannot try (our own database, a secret that does not open).

Each try is bounded by a deadline of its own, well below a person's patience, and changes nothing at
the other side: tables are listed, a query is priced but not run, files are looked at, a sender is
offered and taken back.

An SFTP server that shows a key which nobody has pinned is told apart from one that cannot be
reached: the key goes into the result, for the person to compare and pin. Nothing is sent to it
before.
"""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args

import trio

from troupe.actors.data.bigquery import Export
from troupe.actors.data.master_errors import HostKeyChanged, HostKeyNotPinned
from troupe.actors.data.master_rows import forms_of
from troupe.actors.data.master_selection import Pattern
from troupe.actors.data.master_sftp import open_source
from troupe.actors.data.master_ssh import SftpDeadlines
from troupe.actors.data.master_trust import shown_key
from troupe.common.connections import (
    BigQueryConfig,
    Connection,
    ConnectionKind,
    NotConnected,
    SftpConfig,
    SmtpConfig,
    load_connection,
)
from troupe.common.database import Database
from troupe.common.errors import CallerError, PeerError
from troupe.common.ids import TenantId
from troupe.common.mail_server import accepts_sender, mail_session
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import Vault
from troupe.common.units import MINUTES, SECONDS
from troupe.platform.jobs import JobKind, JobRun, JobValue
from troupe.platform.threads import Threads

DEADLINE: Final = 45 * SECONDS
"""Of one try."""
JOB_TIMEOUT: Final = 2 * MINUTES
CONCURRENT_TESTS: Final = 4
DAYS_LOOKED_AT: Final = 14
KEY_DEADLINE: Final = 10 * SECONDS


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried.

    Attributes:
        name: One or two words.
        ok: Whether it went well.
        message: One sentence for a person, without a secret.
    """

    name: str
    ok: bool
    message: str


@dataclass(slots=True)
class Findings:
    """What a try found so far; `under_way` is what it is doing."""

    steps: list[Step] = field(default_factory=list)
    under_way: str = "connecting"

    def well(self, name: str, message: str) -> None:
        """A step went well."""
        self.steps.append(Step(name, ok=True, message=message))

    def badly(self, message: str) -> None:
        """What is under way did not."""
        self.steps.append(Step(self.under_way, ok=False, message=message))

    def result(self, kind: str, version: int) -> dict[str, Any]:
        """What the job answers."""
        failed = next((step for step in self.steps if not step.ok), None)
        return {
            "connection": kind,
            "version": version,
            "works": failed is None,
            "message": failed.message if failed else "The connection works.",
            "steps": [asdict(step) for step in self.steps],
        }


class ConnectionTester:
    """Runs ``test_connection`` jobs.

    Args:
        database: The group's pool.
        vault: Opens the connections' secrets.
        guard: Checks the hosts that tenants name.
        threads: The group's worker threads.
        deadline: Seconds for one try.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        guard: OutboundGuard,
        threads: Threads,
        *,
        deadline: float = DEADLINE,
    ) -> None:
        self._database = database
        self._vault = vault
        self._guard = guard
        self._threads = threads
        self._deadline = deadline

    async def handle(self, run: JobRun) -> JobValue:
        """Do one attempt at a job."""
        kind: ConnectionKind = run.arguments["connection"]
        if kind not in get_args(ConnectionKind):
            raise NotConnected(f"There is no connection of the kind {kind}.")
        await run.progress(phase="testing", message="Trying the connection")
        connection = await load_connection(self._database, self._vault, run.job.tenant_id, kind)
        findings = Findings()
        await self._bounded(findings, run.job.tenant_id, connection)
        return findings.result(kind, connection.version)

    async def _bounded(self, findings: Findings, tenant: TenantId, connection: Connection) -> None:
        with trio.move_on_after(self._deadline) as scope:
            try:
                await self._try(connection, findings)
            except (HostKeyNotPinned, HostKeyChanged) as error:
                findings.badly(f"{error} {await self._host_key(tenant)}")
            except (PeerError, CallerError) as error:
                findings.badly(str(error))
        if scope.cancelled_caught:
            findings.badly(
                f"It did not answer within {self._deadline:g} seconds while {findings.under_way}."
            )

    async def _try(self, connection: Connection, findings: Findings) -> None:
        match connection.config:
            case BigQueryConfig() as config:
                await self._bigquery(config, connection.secret, findings)
            case SftpConfig() as config:
                await self._sftp(connection, config, findings)
            case SmtpConfig() as config:
                await self._smtp(config, connection.secret, findings)

    async def _bigquery(
        self, config: BigQueryConfig, secret: bytes | None, findings: Findings
    ) -> None:
        def make() -> Export:
            return Export(
                config,
                secret,
                labels={"troupe_job": "test_connection"},
                query_deadline=self._deadline,
                guard=self._guard,
            )

        findings.under_way = "signing in"
        export = await self._threads.run(make, abandon=True)
        try:
            findings.under_way = "listing tables"
            today = datetime.now(UTC).date()
            first = today - timedelta(days=DAYS_LOOKED_AT)
            days = await self._threads.run(export.days, first, today, abandon=True)
            findings.well("signing in", "BigQuery accepts the service account.")
            newest = f"the newest is {max(days)}" if days else "none is that new"
            findings.well(
                "listing tables",
                f"{export.name} has export tables for {len(days)} of the last {DAYS_LOOKED_AT}"
                f" days; {newest}.",
            )
            findings.under_way = "querying"
            await self._threads.run(export.may_query, abandon=True)
            findings.well("querying", "The account may run queries.")
        finally:
            with trio.move_on_after(KEY_DEADLINE, shield=True):
                await self._threads.run(export.close, abandon=True)

    async def _sftp(self, connection: Connection, config: SftpConfig, findings: Findings) -> None:
        findings.under_way = "connecting"
        deadlines = SftpDeadlines(connect=self._deadline, answer=self._deadline)
        async with open_source(config, connection.secret, self._guard, deadlines) as source:
            findings.well("connecting", "The server shows the pinned key and lets us in.")
            for form in forms_of(config):
                findings.under_way = f"looking for {form.file}"
                files = await source.find(Pattern(form.file), form.take)
                if not files:
                    findings.badly("No file matches.")
                for file in files:
                    size = file.found.size
                    told = "of unknown size" if size is None else f"of {size} bytes"
                    findings.well(findings.under_way, f"{file.name} is there, {told}.")

    async def _host_key(self, tenant: TenantId) -> str:
        """The key that the server shows, as a person compares it, or why it shows none."""
        try:
            with trio.move_on_after(KEY_DEADLINE):
                shown = await shown_key(self._database, tenant, self._guard, KEY_DEADLINE)
                return f"It shows: {shown.public_key} ({shown.fingerprint})"
        except PeerError as error:
            return str(error)
        return "It shows none in time."

    async def _smtp(self, config: SmtpConfig, secret: bytes | None, findings: Findings) -> None:
        findings.under_way = "connecting"
        async with mail_session(config, secret, self._guard, deadline=self._deadline) as client:
            how = "unencrypted" if config.security == "none" else "encrypted"
            signed = f" as {config.username}" if config.username else ""
            findings.well("connecting", f"The mail server takes us in{signed}, {how}.")
            findings.under_way = "offering the sender"
            await accepts_sender(client, config.sender)
            findings.well("offering the sender", f"Mail may come from {config.sender}.")


def connection_test_kind(
    database: Database,
    vault: Vault,
    guard: OutboundGuard,
    threads: Threads,
    *,
    deadline: float = DEADLINE,
) -> JobKind:
    """The kind ``test_connection`` for a `JobRunner`; arguments as `ConnectionTester`'s."""
    tester = ConnectionTester(database, vault, guard, threads, deadline=deadline)
    return JobKind(handler=tester.handle, concurrency=CONCURRENT_TESTS, timeout=JOB_TIMEOUT)
