"""Commands about jobs: start an ingestion, list, show, cancel, run again, watch."""

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
import trio
from rich.console import Console
from rich.table import Table

from troupe.actors.auth.tenants import Tenant
from troupe.actors.data.availability import read_coverage, read_gaps
from troupe.actors.data.job_requests import (
    IMPORT_MASTER_DATA,
    import_job,
    ingest_days_job,
    ingest_job,
)
from troupe.actors.data.master_reports import read_report
from troupe.cli.boundary import JobNotDone, LeftRunning, reported
from troupe.cli.context import Settings, as_json, database_of
from troupe.cli.following import follow
from troupe.cli.operators import find_tenant
from troupe.common.config import Configuration
from troupe.common.database import Database
from troupe.common.dates import DateRange
from troupe.common.errors import InvalidInput, NotFound
from troupe.common.ids import TenantId
from troupe.platform.jobs import (
    Job,
    JobState,
    JobStore,
    KindAtWork,
    kinds_at_work,
    pause_kind,
    resume_kind,
)

_tenant = click.argument("tenant")
_job = click.argument("job", type=click.UUID)
_day = click.DateTime(formats=["%Y-%m-%d"])
_instant = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


def as_record(job: Job) -> dict[str, Any]:
    """A job as JSON shows it."""
    progress = job.progress
    return {
        "id": str(job.id),
        "kind": job.kind,
        "state": job.state.value,
        "arguments": dict(job.arguments),
        "attempt": job.attempt,
        "done": progress.done,
        "total": progress.total,
        "phase": progress.phase,
        "message": progress.message,
        **progress.detail,
        "error": job.error.message if job.error else None,
        "created_at": job.created_at.isoformat(),
        "finished_at": job.finished_at.isoformat() if job.finished_at else None,
    }


def _range_of(
    configuration: Configuration, first: datetime | None, last: datetime | None, *, needed: bool
) -> DateRange | None:
    """The days between two options; None if neither is given and none are needed.

    Raises:
        InvalidInput: One of them is missing, they are backwards, or lie too far apart.
    """
    if first is None and last is None and not needed:
        return None
    if first is None or last is None:
        raise InvalidInput("Say which days to load: --from and --to, or --gaps.")
    days = DateRange(first.date(), last.date())
    if days.end < days.start:
        raise InvalidInput("The range ends before it begins: --to must not be before --from.")
    if days.days > configuration.data.maximum_days:
        raise InvalidInput(f"At most {configuration.data.maximum_days} days at a time.")
    return days


@click.command()
@_tenant
@click.option("--from", "first", type=_day, help="First day, YYYY-MM-DD.")
@click.option("--to", "last", type=_day, help="Last day, included.")
@click.option(
    "--gaps",
    is_flag=True,
    help="Only days that are missing, failed or stale; without dates, of all that is known.",
)
@click.option("--no-wait", is_flag=True, help="Only start it.")
@as_json
@click.pass_obj
@reported
def ingest(
    settings: Settings,
    tenant: str,
    *,
    first: datetime | None,
    last: datetime | None,
    gaps: bool,
    no_wait: bool,
    json_output: bool,
) -> None:
    """Load days of a tenant's export, and show how far it is."""
    configuration = settings.load()
    days = _range_of(configuration, first, last, needed=not gaps)

    async def work() -> Job:
        async with database_of(configuration) as database:
            found = await find_tenant(database, tenant)
            store = JobStore(database)
            coverage = await read_coverage(database, found.tenant_id)
            now, most = datetime.now(UTC), configuration.data.maximum_days
            if days is not None:
                coverage.refuse_removed(days, now, "--from")
            if gaps or days is None:
                missing = await read_gaps(
                    database, found.tenant_id, coverage, days, now=now, most=most
                )
                wanted = ingest_days_job(missing)
            else:
                wanted = ingest_job(days.start, days.end)
            job = await store.enqueue(found.tenant_id, wanted)
            return job if no_wait else await followed(store, found, job, json_output=json_output)

    report_end(trio.run(work), json_output=json_output)


@click.command(name="import")
@_tenant
@click.option("--again", is_flag=True, help="Read the files also if they look unchanged.")
@click.option("--no-wait", is_flag=True, help="Only start it.")
@as_json
@click.pass_obj
@reported
def import_files(
    settings: Settings, tenant: str, *, again: bool, no_wait: bool, json_output: bool
) -> None:
    """Import a tenant's customers and locations from its SFTP server, and show how far it is."""

    async def work() -> Job:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            store = JobStore(database)
            job = await store.enqueue(found.tenant_id, import_job(again=again))
            return job if no_wait else await followed(store, found, job, json_output=json_output)

    report_end(trio.run(work), json_output=json_output)


@click.group()
def jobs() -> None:
    """Look at jobs and act on them."""


@jobs.command(name="list")
@_tenant
@click.option("--state", type=click.Choice([state.value for state in JobState]))
@click.option("--kind", help="Jobs of this kind only.")
@click.option("--since", type=_instant, help="Made at this time (UTC) or later.")
@click.option("--before", type=_instant, help="Made before this time (UTC).")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@as_json
@click.pass_obj
@reported
def list_jobs(
    settings: Settings,
    tenant: str,
    *,
    state: str | None,
    kind: str | None,
    since: datetime | None,
    before: datetime | None,
    limit: int,
    json_output: bool,
) -> None:
    """List a tenant's jobs, newest first."""

    async def work() -> tuple[Job, ...]:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            page = await JobStore(database).list(
                found.tenant_id,
                state=JobState(state) if state else None,
                kind=kind,
                since=since and since.replace(tzinfo=UTC),
                before=before and before.replace(tzinfo=UTC),
                limit=limit,
            )
            return page.data

    found = trio.run(work)
    if json_output:
        click.echo(json.dumps([as_record(job) for job in found]))
        return
    table = Table("id", "kind", "state", "progress", "created", "error")
    for job in found:
        table.add_row(
            str(job.id),
            job.kind,
            job.state.value,
            f"{job.progress.done or 0}/{job.progress.total or '?'}",
            job.created_at.isoformat(timespec="seconds"),
            job.error.message if job.error else "",
        )
    Console().print(table)


Operation = Callable[[JobStore, TenantId, uuid.UUID], Awaitable[Job]]


def _command(name: str, help_text: str, operation: Operation) -> None:
    """Add a command that does one thing to one job and shows it as it is then."""

    @jobs.command(name=name, help=help_text)
    @_tenant
    @_job
    @as_json
    @click.pass_obj
    @reported
    def act(settings: Settings, tenant: str, job: uuid.UUID, *, json_output: bool) -> None:
        async def work() -> Job:
            async with database_of(settings.load()) as database:
                found = await find_tenant(database, tenant)
                return await operation(JobStore(database), found.tenant_id, job)

        record = as_record(trio.run(work))
        if json_output:
            click.echo(json.dumps(record))
            return
        for key, value in record.items():
            if value is not None:
                click.echo(f"{key:<14}{value}")


_command("show", "Show one job.", JobStore.get)
_command("cancel", "Ask for a job's end.", JobStore.request_cancel)
_command("retry", "Run a job again that failed, was cancelled or is dead.", JobStore.retry)


@jobs.command()
@_tenant
@_job
@as_json
@click.pass_obj
@reported
def watch(settings: Settings, tenant: str, job: uuid.UUID, *, json_output: bool) -> None:
    """Follow a job until it ends."""

    async def work() -> Job:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            store = JobStore(database)
            present = await store.get(found.tenant_id, job)
            return await followed(store, found, present, json_output=json_output)

    report_end(trio.run(work), json_output=json_output)


@jobs.command()
@_tenant
@_job
@click.pass_obj
@reported
def errors(settings: Settings, tenant: str, job: uuid.UUID) -> None:
    """Print which rows an import has left out, and why, as CSV."""

    async def work() -> bytes:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            present = await JobStore(database).get(found.tenant_id, job)
            if present.kind != IMPORT_MASTER_DATA:
                raise NotFound("The job is not an import.")
            return await read_report(database, found.tenant_id, job)

    click.echo(trio.run(work), nl=False)


@jobs.command()
@_tenant
@click.option("--kind", help="Jobs of this kind only.")
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True)
@as_json
@click.pass_obj
@reported
def redrive(
    settings: Settings, tenant: str, *, kind: str | None, limit: int, json_output: bool
) -> None:
    """Run jobs again that are dead or failed, oldest first."""

    async def work() -> tuple[Job, ...]:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            return await JobStore(database).redrive(found.tenant_id, kind=kind, limit=limit)

    revived = trio.run(work)
    if json_output:
        click.echo(json.dumps([as_record(job) for job in revived]))
    else:
        click.echo(f"{len(revived)} jobs run again")


@jobs.command()
@as_json
@click.pass_obj
@reported
def kinds(settings: Settings, *, json_output: bool) -> None:
    """Show what each kind of job has to do, over all tenants."""

    async def work() -> list[KindAtWork]:
        async with database_of(settings.load()) as database:
            return await kinds_at_work(database)

    found = trio.run(work)
    if json_output:
        click.echo(json.dumps([_kind_record(kind) for kind in found]))
        return
    table = Table("group", "kind", "waiting", "oldest", "delayed", "running", "paused since")
    for kind in found:
        table.add_row(
            kind.group,
            kind.kind,
            str(kind.waiting),
            "" if kind.oldest_seconds is None else f"{kind.oldest_seconds:.0f} s",
            str(kind.delayed),
            str(kind.running),
            kind.paused_at.isoformat(timespec="seconds") if kind.paused_at else "",
        )
    Console().print(table)


def _kind_record(kind: KindAtWork) -> dict[str, Any]:
    record = asdict(kind)
    return record | {"paused_at": kind.paused_at.isoformat() if kind.paused_at else None}


def _switch(
    name: str, help_text: str, operation: Callable[[Database, str], Awaitable[None]]
) -> None:
    """Add a command that pauses or resumes a kind."""

    @jobs.command(name=name, help=help_text)
    @click.argument("kind")
    @click.pass_obj
    @reported
    def act(settings: Settings, kind: str) -> None:
        async def work() -> None:
            async with database_of(settings.load()) as database:
                await operation(database, kind)

        trio.run(work)
        click.echo(f"{kind}: {name}d")


_switch("pause", "Start no more jobs of a kind, of any tenant; those that run go on.", pause_kind)
_switch("resume", "Start jobs of a kind again.", resume_kind)


async def followed(store: JobStore, tenant: Tenant, job: Job, *, json_output: bool) -> Job:
    """Show how far a job is until it has ended; returns it.

    Raises:
        LeftRunning: Whoever looked on went away.
    """
    try:
        return await follow(store, tenant.tenant_id, tenant.name, job, quiet=json_output)
    except LeftRunning as left:
        if json_output:
            click.echo(json.dumps(as_record(left.job)))
        raise


def report_end(job: Job, *, json_output: bool) -> None:
    """Print how it ended.

    Raises:
        JobNotDone: It ended otherwise than done.
    """
    if json_output:
        click.echo(json.dumps(as_record(job)))
    if job.state.finished and job.state is not JobState.DONE:
        raise JobNotDone(job.error.message if job.error else f"The job is {job.state.value}.")
    if not json_output:
        click.echo(f"job {job.id} {job.state.value}")


def add_to(root: click.Group) -> None:
    """Add the commands to the root command."""
    root.add_command(ingest)
    root.add_command(import_files)
    root.add_command(jobs)
