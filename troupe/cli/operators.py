"""Commands of an operator about tenants and the running system."""

import json
from typing import Any
from uuid import UUID

import click
import trio
from rich.console import Console
from rich.table import Table

from troupe.actors.auth.access_tokens import issue_token
from troupe.actors.auth.tenants import Tenant, create_tenant, load_tenant
from troupe.cli.boundary import reported
from troupe.cli.context import Settings, as_json, database_of
from troupe.cli.status import status
from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.tenants import active_tenants


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


def add_to(root: click.Group) -> None:
    """Add the commands to the root command."""
    root.add_command(tenants)
    root.add_command(status)
