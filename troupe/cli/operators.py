"""Commands of an operator about tenants and the running system.

The operator makes tenants, closes and opens them, and deletes them; what is inside is the tenant's
own.
"""

import json
from typing import Any, Literal
from uuid import UUID

import click
import trio
from rich.console import Console
from rich.table import Table

from troupe.actors.auth.access_tokens import issue_token
from troupe.actors.auth.audit import OPERATOR
from troupe.actors.auth.invitations import MAX_LIFETIME, Invitation
from troupe.actors.auth.invitations import invite as invite_address
from troupe.actors.auth.tenants import (
    Tenant,
    TenantChange,
    change_tenant,
    create_tenant,
    load_tenant,
    set_tenant_state,
)
from troupe.cli.boundary import reported
from troupe.cli.context import Settings, as_json, database_of
from troupe.cli.status import status
from troupe.common.database import Database
from troupe.common.erasure import erase_tenant
from troupe.common.errors import InvalidInput, NotFound
from troupe.common.tenants import all_tenants as known_tenants
from troupe.common.units import DAYS


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
    """Every tenant, the deactivated ones included, by name."""
    tenants = [await load_tenant(database, tenant) for tenant in await known_tenants(database)]
    return sorted(tenants, key=lambda tenant: tenant.name)


@click.group()
def tenants() -> None:
    """Look at tenants and make new ones."""


@tenants.command(name="list")
@as_json
@click.pass_obj
@reported
def list_tenants(settings: Settings, *, json_output: bool) -> None:
    """List the tenants."""

    async def work() -> list[Tenant]:
        async with database_of(settings.load()) as database:
            return await all_tenants(database)

    found = trio.run(work)
    if json_output:
        click.echo(
            json.dumps([{"id": str(t.tenant_id), "name": t.name, "state": t.state} for t in found])
        )
        return
    table = Table("id", "name", "state", "zone", "currency")
    for tenant in found:
        table.add_row(
            str(tenant.tenant_id),
            tenant.name,
            tenant.state,
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


@tenants.command()
@click.argument("tenant")
@click.argument("email")
@click.option(
    "--role",
    type=click.Choice(["viewer", "analyst", "admin", "owner"]),
    default="viewer",
    show_default=True,
)
@click.option(
    "--days",
    type=click.IntRange(1, int(MAX_LIFETIME / DAYS)),
    default=7,
    show_default=True,
    help="Within which they have to log in.",
)
@click.option("--provider", type=click.UUID, help="Who vouches, if the tenant has several.")
@as_json
@click.pass_obj
@reported
def invite(
    settings: Settings,
    tenant: str,
    email: str,
    *,
    role: Any,
    days: int,
    provider: UUID | None,
    json_output: bool,
) -> None:
    """Let in whoever logs in with a verified e-mail address, once. Nothing is sent."""

    async def work() -> tuple[Tenant, Invitation]:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            return found, await invite_address(
                database,
                found.tenant_id,
                email=email,
                role=role,
                lifetime=days * DAYS,
                provider=provider,
                by="owner",
                invited_by=None,
                actor=OPERATOR,
            )

    found, made = trio.run(work)
    if json_output:
        told = {
            "id": str(made.invitation_id),
            "email": made.email,
            "role": made.role,
            "expires_at": made.expires_at.isoformat(),
        }
        click.echo(json.dumps(told))
        return
    click.echo(
        f"{made.email} becomes {made.role} of {found.name} by logging in before "
        f"{made.expires_at:%Y-%m-%d %H:%M} UTC."
    )


@tenants.command()
@click.argument("tenant")
@click.argument("name")
@click.pass_obj
@reported
def rename(settings: Settings, tenant: str, name: str) -> None:
    """Give a tenant another name."""

    async def work() -> None:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            await change_tenant(
                database,
                found.tenant_id,
                TenantChange(name=name),
                version=found.version,
                actor=OPERATOR,
            )

    trio.run(work)


@tenants.command()
@click.argument("tenant")
@click.pass_obj
@reported
def deactivate(settings: Settings, tenant: str) -> None:
    """Close a tenant to everybody; everything is kept."""
    _set_state(settings, tenant, "deactivated")


@tenants.command()
@click.argument("tenant")
@click.pass_obj
@reported
def activate(settings: Settings, tenant: str) -> None:
    """Open a deactivated tenant again."""
    _set_state(settings, tenant, "active")


def _set_state(settings: Settings, tenant: str, state: Literal["active", "deactivated"]) -> None:
    async def work() -> None:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            await set_tenant_state(database, found.tenant_id, state)

    trio.run(work)


@tenants.command()
@click.argument("tenant")
@click.option(
    "--confirm", required=True, metavar="NAME", help="The tenant's name, spelt out once more."
)
@click.pass_obj
@reported
def delete(settings: Settings, tenant: str, *, confirm: str) -> None:
    """Delete a tenant with everything that belongs to it. This cannot be undone."""

    async def work() -> None:
        async with database_of(settings.load()) as database:
            found = await find_tenant(database, tenant)
            if confirm != found.name:
                raise InvalidInput(f"The tenant is called {found.name!r}; nothing was deleted.")
            await set_tenant_state(database, found.tenant_id, "deactivated")
            await erase_tenant(database, found.tenant_id)

    trio.run(work)


def add_to(root: click.Group) -> None:
    """Add the commands to the root command."""
    root.add_command(tenants)
    root.add_command(status)
