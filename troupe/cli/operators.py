"""Commands of an operator about tenants and the running system."""

import json
from typing import Any
from uuid import UUID

import click
import httpx2
import trio
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from troupe.actors.auth.access_tokens import issue_token
from troupe.actors.auth.tenants import Tenant, create_tenant, load_tenant
from troupe.cli.boundary import reported
from troupe.cli.context import Settings, as_json, database_of
from troupe.common.database import Database
from troupe.common.errors import DatabaseUnavailable, NotFound
from troupe.common.tenants import active_tenants
from troupe.common.units import SECONDS
from troupe.supervisor import read_run_file

STATUS_DEADLINE = 5 * SECONDS


async def find_tenant(database: Database, text: str) -> Tenant:
    """The tenant with this identifier or exactly this name.

    Raises:
        NotFound: There is none, or several have the name.
    """
    found = [tenant for tenant in await all_tenants(database) if _is_called(tenant, text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(f"Several tenants are called {text!r}: use the identifier.")
    raise NotFound(f"There is no tenant {text!r}; 'troupe tenants list' shows them.")


def _is_called(tenant: Tenant, text: str) -> bool:
    return text in {str(tenant.tenant_id), tenant.name}


async def all_tenants(database: Database) -> list[Tenant]:
    """Every active tenant, by name."""
    tenants = [await load_tenant(database, tenant) for tenant in await active_tenants(database)]
    return sorted(tenants, key=lambda tenant: tenant.name)


@click.group()
def tenants() -> None:
    """Look at tenants and make new ones."""


@tenants.command(name="list")
@as_json
@click.pass_obj
@reported
def list_tenants(settings: Settings, *, json_output: bool) -> None:
    """List the active tenants."""

    async def work() -> list[Tenant]:
        async with database_of(settings.load()) as database:
            return await all_tenants(database)

    found = trio.run(work)
    if json_output:
        click.echo(json.dumps([{"id": str(t.tenant_id), "name": t.name} for t in found]))
        return
    table = Table("id", "name", "zone", "currency")
    for tenant in found:
        table.add_row(
            str(tenant.tenant_id),
            tenant.name,
            tenant.reporting_time_zone,
            tenant.reporting_currency,
        )
    Console().print(table)


@tenants.command()
@click.argument("name")
@click.option("--zone", default="UTC", show_default=True, help="Reporting time zone.")
@click.option("--currency", default="EUR", show_default=True, help="Reporting currency.")
@as_json
@click.pass_obj
@reported
def create(settings: Settings, name: str, *, zone: str, currency: str, json_output: bool) -> None:
    """Create a tenant."""

    async def work() -> UUID:
        async with database_of(settings.load()) as database:
            return await create_tenant(
                database, name, reporting_time_zone=zone, reporting_currency=currency
            )

    identifier = trio.run(work)
    click.echo(json.dumps({"id": str(identifier)}) if json_output else str(identifier))


@tenants.command()
@click.argument("tenant")
@click.option("--name", "token_name", required=True, help="What the token is for.")
@click.option(
    "--role",
    type=click.Choice(["viewer", "analyst", "admin", "owner"]),
    default="viewer",
    show_default=True,
)
@click.pass_obj
@reported
def token(settings: Settings, tenant: str, *, token_name: str, role: Any) -> None:
    """Issue a bearer token for a tenant; it is shown this once."""

    async def work() -> str:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            issued = await issue_token(database, found.tenant_id, name=token_name, role=role)
            return issued.token

    click.echo(trio.run(work))


_COLOURS = {"running": "green", "stopped": "dim", "failed": "red", "backing_off": "red"}


def _add_branch(tree: Tree, node: dict[str, Any]) -> None:
    colour = _COLOURS.get(node["state"], "yellow")
    line = f"{node['name']} [dim]{node['kind']}[/dim] [{colour}]{node['state']}[/{colour}]"
    if node["restarts"]:
        line += f" restarts {node['restarts']}"
    details = node["details"]
    if "tasks_limit" in details:
        line += f" tasks {details['tasks_running']}/{details['tasks_limit']}"
    if "mailbox_depth" in details:
        line += f" mailbox {details['mailbox_depth']}"
    if node["last_error"]:
        line += f" [red]{node['last_error']}[/red]"
    branch = tree.add(line)
    for child in node["children"]:
        _add_branch(branch, child)


async def _trees(urls: dict[str, str]) -> dict[str, dict[str, Any] | None]:
    found: dict[str, dict[str, Any] | None] = {}
    async with httpx2.AsyncClient(timeout=STATUS_DEADLINE) as client:
        for name, url in urls.items():
            try:
                answer = await client.get(f"{url}/health/ready")
                found[name] = answer.json()["parts"]
            except (httpx2.HTTPError, ValueError, KeyError):
                found[name] = None
    return found


@click.command()
@as_json
@click.pass_obj
@reported
def status(settings: Settings, *, json_output: bool) -> None:
    """Show the live tree of every group: state, restarts, tasks, last error."""
    run_file = read_run_file(settings.load().state_directory)
    found = trio.run(_trees, run_file.urls)
    if json_output:
        click.echo(json.dumps({"urls": run_file.urls, "groups": found}))
    else:
        tree = Tree(f"troupe (process {run_file.pid})")
        for name, node in found.items():
            if node is None:
                tree.add(f"{name} [red]does not answer on {run_file.urls[name]}[/red]")
            else:
                _add_branch(tree, node)
        Console().print(tree)
    if None in found.values():
        raise DatabaseUnavailable("not every group answers")


def add_to(root: click.Group) -> None:
    """Add the commands to the root command."""
    root.add_command(tenants)
    root.add_command(status)
