"""How one tenant's figures are cut and named, read from its row: it may change at any time."""

from typing import TYPE_CHECKING, Final

from troupe.actors.data.publication import Reporting
from troupe.common.connections import BigQueryConfig, NotConnected, load_connection
from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.secrets import Vault
from troupe.common.sql import load
from troupe.common.tenant_settings import TenantSettings
from troupe.common.units import HOURS

if TYPE_CHECKING:
    import asyncpg

TENANT: Final = load(__package__, "ingest.sql")["tenant"]


def reporting_of(
    tenant: TenantId, row: "asyncpg.Record", settings: TenantSettings, property_zone: str | None
) -> Reporting:
    """From a row of the statement `TENANT`.

    Args:
        tenant: Whose.
        row: As read.
        settings: Those in the row.
        property_zone: Zone of the export's days; None: the reporting zone.
    """
    zone: str = row["reporting_time_zone"]
    return Reporting(
        tenant=tenant,
        zone=zone,
        currency=row["reporting_currency"],
        property_zone=property_zone or zone,
        failed_search_event=settings.failed_search_event,
        cart_idle=settings.cart_idle_hours * HOURS,
    )


async def reporting_in(
    connection: "asyncpg.Connection[asyncpg.Record]", tenant: TenantId, property_zone: str | None
) -> tuple[Reporting, TenantSettings]:
    """As it is in the transaction that is open.

    Raises:
        NotFound: There is no such tenant, or it is not active.
    """
    row = await connection.fetchrow(TENANT, tenant)
    if row is None or row["state"] != "active":
        raise NotFound("The tenant is not active.")
    settings = TenantSettings.model_validate(row["settings"])
    return reporting_of(tenant, row, settings, property_zone), settings


async def property_zone_of(database: Database, vault: Vault, tenant: TenantId) -> str | None:
    """Zone of the export's days; None: the tenant has no export, or it does not say.

    Raises:
        DatabaseError: PostgreSQL failed.
    """
    try:
        connection = await load_connection(database, vault, tenant, "bigquery")
    except NotConnected:
        return None
    config = connection.config
    return config.property_time_zone if isinstance(config, BigQueryConfig) else None
