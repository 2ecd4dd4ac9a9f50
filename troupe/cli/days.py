"""Commands about the days of an export: which are there, and how they compare with the source."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
import trio
from rich.console import Console
from rich.table import Table

from troupe.actors.data.availability import (
    MAX_LISTED_DAYS,
    Reconciliation,
    SourceDayStatus,
    gaps_of,
    read_coverage,
    read_days,
    reconcile,
    stretches,
)
from troupe.actors.data.job_requests import reconcile_job
from troupe.cli.boundary import reported
from troupe.cli.context import Settings, as_json, database_of
from troupe.cli.jobs import followed, report_end
from troupe.cli.operators import find_tenant
from troupe.common.dates import DateRange
from troupe.common.errors import InvalidInput
from troupe.platform.jobs import Job, JobStore

MOST_COMPARED_DAYS: Final = 92

_tenant = click.argument("tenant")
_day = click.DateTime(formats=["%Y-%m-%d"])


@click.group()
def days() -> None:
    """Look at the days of a tenant's export."""


@days.command(name="list")
@_tenant
@click.option("--from", "first", type=_day, help="First day; the first that is known.")
@click.option("--to", "last", type=_day, help="Last day, included; the last that is known.")
@as_json
@click.pass_obj
@reported
def list_days(
    settings: Settings,
    tenant: str,
    *,
    first: datetime | None,
    last: datetime | None,
    json_output: bool,
) -> None:
    """Show which days are loaded, stale, failed, missing or removed, and the gaps."""
    if first is not None and last is not None:
        _range_of(first, last, most=MAX_LISTED_DAYS)

    async def work() -> tuple[list[SourceDayStatus], list[DateRange]]:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            coverage = await read_coverage(database, found.tenant_id)
            listed = await read_days(
                database,
                found.tenant_id,
                first=first.date() if first else None,
                last=last.date() if last else None,
                limit=MAX_LISTED_DAYS,
            )
            now = datetime.now(UTC)
            yesterday = now.astimezone(coverage.zone).date() - timedelta(days=1)
            gaps = gaps_of(listed, first=coverage.kept_from(now), last=yesterday)
            return listed, stretches(gaps)

    listed, gaps = trio.run(work)
    if json_output:
        told = {
            "days": [asdict(day) for day in listed],
            "gaps": [{"first_day": gap.start, "last_day": gap.end} for gap in gaps],
        }
        click.echo(json.dumps(told, default=str))
        return
    table = Table("day", "state", "family", "rows", "difference", "problem")
    for day in listed:
        values = (day.state, day.family, day.loaded_rows, day.difference, day.problem)
        table.add_row(str(day.day), *map(_cell, values))
    Console().print(table)
    for gap in gaps:
        click.echo(f"gap: {gap.start} to {gap.end}")


@days.command()
@_tenant
@click.option("--from", "first", type=_day, required=True, help="First day, YYYY-MM-DD.")
@click.option("--to", "last", type=_day, required=True, help="Last day, included.")
@as_json
@click.pass_obj
@reported
def compare(
    settings: Settings, tenant: str, *, first: datetime, last: datetime, json_output: bool
) -> None:
    """Show what the source has and what is loaded, by day and event, as it was counted last."""
    wanted = _range_of(first, last, most=MOST_COMPARED_DAYS)

    async def work() -> Reconciliation:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            coverage = await read_coverage(database, found.tenant_id)
            return await reconcile(database, found.tenant_id, wanted, coverage.currency)

    found = trio.run(work)
    if json_output:
        told = {"days": list(map(dict, found.days)), "events": list(map(dict, found.events))}
        click.echo(json.dumps(told, default=str))
        return
    table = Table("day", "event", "source", "loaded", "difference")
    for day in found.days:
        table.add_row(str(day["day"]), day["state"], *_counts(dict(day)), style="bold")
        for event in found.events:
            if event["source_day"] == day["day"]:
                table.add_row("", event["event_name"], *_counts(dict(event)))
    Console().print(table)


@days.command()
@_tenant
@click.option("--from", "first", type=_day, required=True, help="First day, YYYY-MM-DD.")
@click.option("--to", "last", type=_day, required=True, help="Last day, included.")
@as_json
@click.pass_obj
@reported
def count(
    settings: Settings, tenant: str, *, first: datetime, last: datetime, json_output: bool
) -> None:
    """Count events at the source, for `compare`; it costs a scan of their names."""
    wanted = _range_of(first, last, most=MOST_COMPARED_DAYS)

    async def work() -> Job:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            store = JobStore(database)
            job = await store.enqueue(found.tenant_id, reconcile_job(wanted))
            return await followed(store, found, job, json_output=json_output)

    report_end(trio.run(work), json_output=json_output)


def _range_of(first: datetime, last: datetime, *, most: int) -> DateRange:
    """The days between two options.

    Raises:
        InvalidInput: They are backwards, or lie too far apart.
    """
    wanted = DateRange(first.date(), last.date())
    if wanted.end < wanted.start:
        raise InvalidInput("The range ends before it begins: --to must not be before --from.")
    if wanted.days > most:
        raise InvalidInput(f"At most {most} days at a time.")
    return wanted


def _counts(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return _cell(row["source_rows"]), _cell(row["loaded_rows"]), _cell(row["difference"])


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def add_to(root: click.Group) -> None:
    """Add the commands to the root command."""
    root.add_command(days)
