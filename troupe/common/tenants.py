"""Which tenants there are, for work that visits each of them."""

from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.sql import load

_QUERIES = load(__package__, "tenants.sql")


async def active_tenants(database: Database) -> list[TenantId]:
    """Identifiers of all active tenants; what they are called is each tenant's own to tell."""
    rows = await database.fetch(_QUERIES["active_tenants"], read_only=True)
    return [TenantId(row["tenant_id"]) for row in rows]


async def all_tenants(database: Database) -> dict[TenantId, str]:
    """Identifiers of all tenants with their state, the deactivated ones included."""
    rows = await database.fetch(_QUERIES["all_tenants"], read_only=True)
    return {TenantId(row["tenant_id"]): row["state"] for row in rows}
