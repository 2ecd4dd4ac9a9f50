"""Commands about schedules: list, show, make, change, pause, delete, look ahead and back."""

import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import trio
from rich.console import Console
from rich.table import Table

from troupe.actors.auth.tenants import Tenant
from troupe.actors.data.job_requests import SCHEDULABLE
from troupe.cli.boundary import reported
from troupe.cli.context import Settings, as_json, database_of
from troupe.cli.operators import find_tenant
from troupe.common.errors import InvalidInput, NotFound
from troupe.common.ids import TenantId
from troupe.platform.schedules import (
    NewSchedule,
    Policy,
    Schedule,
    ScheduleChange,
    ScheduleStore,
    check_interval,
    schedulable,
)

T = TypeVar("T")

_tenant = click.argument("tenant")
_schedule = click.argument("schedule")
_policy = click.Choice([policy.value for policy in Policy])
_count = click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True)


def as_record(schedule: Schedule) -> dict[str, Any]:
    """A schedule as JSON shows it."""
    return {
        "id": str(schedule.id),
        "name": schedule.name,
        "kind": schedule.kind,
        "arguments": dict(schedule.arguments),
        "cron": schedule.cron,
        "zone": schedule.zone,
        "policy": schedule.policy.value,
        "grace_seconds": schedule.grace,
        "catch_up_limit": schedule.catch_up_limit,
        "enabled": schedule.enabled,
        "version": schedule.version,
        "problem": schedule.problem,
        "created_at": schedule.created_at.isoformat(),
        "changed_at": schedule.changed_at.isoformat(),
    }


def arguments_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Arguments given as ``name=value``; a value that is JSON means what JSON says.

    >>> arguments_of(("last_days=7", "include_today=true", "note=early"))
    {'last_days': 7, 'include_today': True, 'note': 'early'}

    Raises:
        InvalidInput: One is not of that form.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not name or not separator:
            raise InvalidInput(f"{pair!r} is not of the form name=value.")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _explained(error: InvalidInput) -> InvalidInput:
    """The error with what is wrong in its one sentence: a terminal shows no pointers."""
    wrong = "; ".join(f"{where.rpartition('/')[2]} {what}" for where, what in error.errors)
    return InvalidInput(f"{error} {wrong}".strip(), error.errors)


def _run(
    settings: Settings, tenant: str, work: Callable[[ScheduleStore, Tenant], Awaitable[T]]
) -> T:
    async def connected() -> T:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            try:
                return await work(ScheduleStore(database, ("operator", None)), found)
            except InvalidInput as error:
                raise _explained(error) from None

    return trio.run(connected)


async def _find(store: ScheduleStore, tenant: TenantId, text: str) -> Schedule:
    """The schedule with this identifier or name.

    Raises:
        NotFound: There is none.
    """
    try:
        return await store.get(tenant, uuid.UUID(text))
    except ValueError:
        cursor: str | None = None
        while True:
            page = await store.list(tenant, cursor=cursor, limit=1000)
            for schedule in page.data:
                if schedule.name == text:
                    return schedule
            cursor = page.next_cursor
            if cursor is None:
                raise NotFound(f"There is no schedule {text!r}.") from None


def _show(schedule: Schedule, *, json_output: bool) -> None:
    record = as_record(schedule)
    if json_output:
        click.echo(json.dumps(record))
        return
    for key, value in record.items():
        if value is not None:
            click.echo(f"{key:<16}{json.dumps(value) if isinstance(value, dict) else value}")


@click.group()
def schedules() -> None:
    """Look at a tenant's schedules and change them."""


@schedules.command(name="list")
@_tenant
@as_json
@click.pass_obj
@reported
def list_schedules(settings: Settings, tenant: str, *, json_output: bool) -> None:
    """List a tenant's schedules, by name."""
    page = _run(settings, tenant, lambda store, found: store.list(found.tenant_id, limit=1000))
    if json_output:
        click.echo(json.dumps([as_record(schedule) for schedule in page.data]))
        return
    table = Table("name", "kind", "cron", "zone", "state", "arguments", "problem")
    for schedule in page.data:
        table.add_row(
            schedule.name,
            schedule.kind,
            schedule.cron,
            schedule.zone,
            "on" if schedule.enabled else "paused",
            json.dumps(dict(schedule.arguments)),
            schedule.problem or "",
        )
    Console().print(table)


@schedules.command()
@as_json
def kinds(*, json_output: bool) -> None:
    """Show what may be scheduled, and with which arguments."""
    schemas = {name: kind.arguments.model_json_schema() for name, kind in SCHEDULABLE.items()}
    if json_output:
        click.echo(json.dumps(schemas))
        return
    for name, kind in sorted(SCHEDULABLE.items()):
        click.echo(f"{name}: {kind.summary}")
        for argument, field in kind.arguments.model_fields.items():
            said = " ".join((field.description or "").split())
            click.echo(f"  {argument} = {json.dumps(field.default)}: {said}")


@schedules.command()
@_tenant
@click.argument("name")
@click.option("--kind", required=True, help="What to do; 'troupe schedules kinds' lists them.")
@click.option("--cron", required=True, help='Such as "30 5 * * *".')
@click.option("--zone", help="Whose clock the line reads; the tenant's by default.")
@click.option("--set", "pairs", multiple=True, help="An argument of the job: last_days=4.")
@click.option("--policy", type=_policy, default=Policy.COALESCE.value, show_default=True)
@click.option("--paused", is_flag=True, help="Make it, but do not let it run.")
@as_json
@click.pass_obj
@reported
def create(
    settings: Settings,
    tenant: str,
    name: str,
    *,
    kind: str,
    cron: str,
    zone: str | None,
    pairs: tuple[str, ...],
    policy: str,
    paused: bool,
    json_output: bool,
) -> None:
    """Make a schedule."""
    most = settings.load().data.maximum_schedules

    async def work(store: ScheduleStore, found: Tenant) -> Schedule:
        chosen = schedulable(SCHEDULABLE, kind)
        new = NewSchedule(
            name=name,
            group=chosen.group,
            kind=chosen.kind,
            cron=cron,
            zone=zone or found.reporting_time_zone,
            arguments=chosen.checked(arguments_of(pairs)),
            policy=Policy(policy),
            enabled=not paused,
        )
        check_interval(new.cron, new.zone, datetime.now(UTC))
        return await store.create(found.tenant_id, new, most=most)

    _show(_run(settings, tenant, work), json_output=json_output)


@schedules.command()
@_tenant
@_schedule
@click.option("--name", help="Another name.")
@click.option("--cron", help="Another line.")
@click.option("--zone", help="Another time zone.")
@click.option("--set", "pairs", multiple=True, help="Arguments; what is not named stays.")
@click.option("--policy", type=_policy)
@as_json
@click.pass_obj
@reported
def change(
    settings: Settings,
    tenant: str,
    schedule: str,
    *,
    name: str | None,
    cron: str | None,
    zone: str | None,
    pairs: tuple[str, ...],
    policy: str | None,
    json_output: bool,
) -> None:
    """Change a schedule; what is not given stays."""

    async def work(store: ScheduleStore, found: Tenant) -> Schedule:
        present = await _find(store, found.tenant_id, schedule)
        arguments = None
        if pairs:
            given = {**present.arguments, **arguments_of(pairs)}
            arguments = schedulable(SCHEDULABLE, present.kind).checked(given)
        if cron or zone:
            check_interval(cron or present.cron, zone or present.zone, datetime.now(UTC))
        wanted = ScheduleChange(
            name=name,
            cron=cron,
            zone=zone,
            arguments=arguments,
            policy=Policy(policy) if policy else None,
        )
        return await store.change(found.tenant_id, present.id, wanted, version=present.version)

    _show(_run(settings, tenant, work), json_output=json_output)


def _command(
    name: str,
    help_text: str,
    operation: Callable[[ScheduleStore, TenantId, uuid.UUID], Awaitable[Schedule]],
) -> None:
    """Add a command that does one thing to one schedule and shows it as it is then."""

    @schedules.command(name=name, help=help_text)
    @_tenant
    @_schedule
    @as_json
    @click.pass_obj
    @reported
    def act(settings: Settings, tenant: str, schedule: str, *, json_output: bool) -> None:
        async def work(store: ScheduleStore, found: Tenant) -> Schedule:
            present = await _find(store, found.tenant_id, schedule)
            return await operation(store, found.tenant_id, present.id)

        _show(_run(settings, tenant, work), json_output=json_output)


_command("show", "Show one schedule.", ScheduleStore.get)
_command("pause", "Let a schedule rest.", ScheduleStore.disable)
_command("resume", "Let a schedule run again, from now on.", ScheduleStore.enable)


@schedules.command()
@_tenant
@_schedule
@click.pass_obj
@reported
def delete(settings: Settings, tenant: str, schedule: str) -> None:
    """Delete a schedule and the history of its slots; jobs that it has made stay."""

    async def work(store: ScheduleStore, found: Tenant) -> str:
        present = await _find(store, found.tenant_id, schedule)
        await store.delete(found.tenant_id, present.id)
        return present.name

    click.echo(f"{_run(settings, tenant, work)} is deleted")


@schedules.command(name="next")
@_tenant
@_schedule
@_count
@as_json
@click.pass_obj
@reported
def next_runs(
    settings: Settings, tenant: str, schedule: str, *, count: int, json_output: bool
) -> None:
    """Show when a schedule runs next (UTC)."""

    async def work(store: ScheduleStore, found: Tenant) -> list[datetime]:
        present = await _find(store, found.tenant_id, schedule)
        return await store.upcoming(found.tenant_id, present.id, count)

    runs = [run.isoformat() for run in _run(settings, tenant, work)]
    click.echo(json.dumps(runs) if json_output else "\n".join(runs) or "never: it is paused")


@schedules.command()
@_tenant
@_schedule
@_count
@as_json
@click.pass_obj
@reported
def slots(settings: Settings, tenant: str, schedule: str, *, count: int, json_output: bool) -> None:
    """Show what became of a schedule's slots, latest first."""

    async def work(store: ScheduleStore, found: Tenant) -> list[dict[str, Any]]:
        present = await _find(store, found.tenant_id, schedule)
        page = await store.slots(found.tenant_id, present.id, limit=count)
        return [
            {
                "slot": slot.instant.isoformat(),
                "outcome": slot.outcome.value,
                "job_id": str(slot.job_id) if slot.job_id else None,
                "job_state": slot.job_state.value if slot.job_state else None,
            }
            for slot in page.data
        ]

    records = _run(settings, tenant, work)
    if json_output:
        click.echo(json.dumps(records))
        return
    table = Table("slot", "outcome", "job", "state")
    for record in records:
        table.add_row(*(value or "" for value in record.values()))
    Console().print(table)


def add_to(root: click.Group) -> None:
    """Add the commands to the root command."""
    root.add_command(schedules)
