"""The demonstration's tenants: made by the product's own functions, loaded over its own API."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
import trio
from rich.progress import Progress

from troupe.actors.analytics.reports.periods import ReportPeriod
from troupe.actors.analytics.reports.records import Recipient, ReportSchedule
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.auth.access_tokens import issue_token
from troupe.actors.auth.connections import put_connection
from troupe.actors.auth.members import add_member
from troupe.actors.auth.providers import put_identity_provider
from troupe.actors.auth.tenants import create_tenant
from troupe.cli.boundary import JobNotDone
from troupe.cli.operators import all_tenants
from troupe.common.database import Database, open_database
from troupe.common.errors import DatabaseUnavailable, PeerRefused
from troupe.common.ids import TenantId
from troupe.common.secrets import Vault
from troupe.common.units import MINUTES, SECONDS
from troupe.supervisor import Installation
from troupe.wiring import key_ring
from troupe_demo.bigquery.accounts import create_service_account
from troupe_demo.ga4 import TenantProfile

if TYPE_CHECKING:
    from troupe_demo.stage import Plan

POLL: Final = 0.3 * SECONDS
PATIENCE: Final = 20 * SECONDS
INGESTION_DEADLINE: Final = 60 * MINUTES
READER: Final = "dana@demo.example"
"""Who gets the reports; the mailbox of the demonstration shows all mail."""
_ENDED: Final = frozenset({"done", "failed", "cancelled", "dead"})


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """One tenant of the demonstration, with a token good for all three ports."""

    id: str
    name: str
    token: str


@dataclass(frozen=True, slots=True, repr=False)
class Surroundings:
    """Where the stand-ins are, and how to get in."""

    exports: Path
    bigquery_url: str
    bigquery_grpc: str
    sftp: Mapping[str, Any]
    sftp_users: Mapping[str, Mapping[str, str]]
    issuer: str
    client_id: str
    client_secret: str
    subject: str
    mail: str


async def prepare_tenants(
    profiles: Sequence[TenantProfile], installation: Installation, surroundings: Surroundings
) -> list[DemoTenant]:
    """Make the tenants, or find them again; connect them to the stand-ins of this run."""
    vault = Vault(key_ring(installation.configuration))
    async with open_database(
        installation.runtime_url, connections=2, application_name="troupe demo"
    ) as database:
        known = {tenant.name: tenant.tenant_id for tenant in await all_tenants(database)}
        return [
            await _prepare(profile, database, vault, surroundings, known.get(profile.name))
            for profile in profiles
        ]


async def _prepare(
    profile: TenantProfile,
    database: Database,
    vault: Vault,
    surroundings: Surroundings,
    known: TenantId | None,
) -> DemoTenant:
    tenant = known or await create_tenant(
        database,
        profile.name,
        reporting_time_zone=profile.zone,
        reporting_currency=profile.currency,
    )
    await put_identity_provider(
        database,
        vault,
        tenant,
        label="Development login",
        issuer=surroundings.issuer,
        client_id=surroundings.client_id,
        client_secret=surroundings.client_secret,
        listed=True,
    )
    await add_member(
        database,
        tenant,
        issuer=surroundings.issuer,
        subject=surroundings.subject,
        role="owner",
        name="Dana Demo",
    )
    account = create_service_account(
        surroundings.exports, profile.project, f"{surroundings.bigquery_url}/token"
    )
    await put_connection(
        database,
        vault,
        tenant,
        "bigquery",
        {
            "project": profile.project,
            "dataset": profile.dataset,
            "property_time_zone": profile.zone,
            "api_endpoint": surroundings.bigquery_url,
            "storage_endpoint": surroundings.bigquery_grpc,
        },
        json.dumps(account).encode(),
    )
    await put_connection(
        database,
        vault,
        tenant,
        "sftp",
        _files(profile, surroundings.sftp),
        surroundings.sftp_users[profile.project]["password"].encode(),
    )
    host, _, port = surroundings.mail.partition(":")
    sender = f"reports@{profile.project}.example"
    mailing = {"host": host, "port": int(port), "security": "none", "sender": sender}
    await put_connection(database, vault, tenant, "smtp", mailing, None)
    await _schedule_reports(database, tenant, profile)
    token = await issue_token(database, tenant, name="demonstration", role="owner")
    return DemoTenant(str(tenant), profile.name, token.token)


async def _schedule_reports(database: Database, tenant: TenantId, profile: TenantProfile) -> None:
    """A report every morning and every week for the whole company, unless they are there."""
    store, actor = ReportStore(database), ("operator", None)
    _, _, present = await store.schedules.page(tenant, limit=1)
    if present:
        return
    reader = Recipient(
        location_id=None, address=READER, name="Dana", time_zone=profile.zone, language="en"
    )
    await store.recipients.add(tenant, reader, actor)
    now = datetime.now(UTC)
    for name, period, cron in (
        ("Every morning", ReportPeriod.DAY, "0 8 * * *"),
        ("Every Monday", ReportPeriod.WEEK, "15 8 * * MON"),
    ):
        schedule = ReportSchedule(name=name, period=period, cron=cron)
        await store.schedules.add(tenant, schedule, actor, now=now)


def _files(profile: TenantProfile, server: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the SFTP connection: where the files are and what their headers mean."""
    master = profile.master
    return {
        "host": server["host"],
        "port": server["port"],
        "username": profile.project,
        "host_key": server["host_key"],
        "delimiter": master.delimiter,
        "encoding": master.encoding,
        "locations": {"file": "locations.csv", "columns": dict(master.location_columns)},
        "customers": {"file": "customers.csv", "columns": dict(master.customer_columns)},
    }


async def ingest(tenants: Sequence[DemoTenant], plan: "Plan", url: str, progress: Progress) -> None:
    """Load every tenant's files and days through the data group's jobs, and wait for them.

    Raises:
        JobNotDone: A job ended otherwise than done.
    """
    with trio.fail_after(INGESTION_DEADLINE):
        async with trio.open_nursery() as nursery:
            for tenant, profile in zip(tenants, plan.profiles, strict=True):
                last = plan.last_day(profile)
                first = last - timedelta(days=plan.days - 1)
                nursery.start_soon(_ingest_one, tenant, url, first, last, progress)


async def _ingest_one(
    tenant: DemoTenant, url: str, first: date, last: date, progress: Progress
) -> None:
    task = progress.add_task(f"loading {tenant.name}", total=None, note="customers, branches")
    headers = {"Authorization": f"Bearer {tenant.token}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30 * SECONDS) as client:
        # Master data first: a session without a branch of its own takes the customer's.
        await _finish(client, tenant, "/api/v1/imports", {}, lambda _job: None)
        days = {"start_date": first.isoformat(), "end_date": last.isoformat()}
        await _finish(
            client, tenant, "/api/v1/ingestions", days, lambda job: _show(job, task, progress)
        )


async def _finish(
    client: httpx2.AsyncClient,
    tenant: DemoTenant,
    path: str,
    body: Mapping[str, Any],
    show: Callable[[Mapping[str, Any]], None],
) -> None:
    job = await _ask(client, "POST", path, body)
    while job["state"] not in _ENDED:
        await trio.sleep(POLL)
        job = await _ask(client, "GET", f"/api/v1/jobs/{job['id']}")
        show(job)
    if job["state"] != "done":
        reason = (job["error"] or {}).get("message", "no reason given")
        raise JobNotDone(f"Loading {tenant.name} ended as {job['state']}: {reason}")


async def _ask(
    client: httpx2.AsyncClient, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One answer of the data group; a 503 is asked again for a while.

    Raises:
        DatabaseUnavailable: It stays away.
        PeerRefused: It says no.
    """
    end = trio.current_time() + PATIENCE
    while True:
        answer = await client.request(method, path, json=body)
        document: dict[str, Any] = answer.json()
        if answer.is_success:
            return document
        detail = f"{method} {path}: {document['detail']}"
        if answer.status_code != 503:
            raise PeerRefused(detail)
        if trio.current_time() > end:
            raise DatabaseUnavailable(detail)
        await trio.sleep(POLL)


def _show(job: Mapping[str, Any], task: Any, progress: Progress) -> None:
    state = job["progress"]
    progress.update(
        task,
        completed=state["done"] or 0,
        total=state["total"] or None,
        note=f"days, {state['rows'] or 0:,} events",
    )
