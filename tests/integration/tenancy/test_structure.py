"""What the catalogue of a freshly migrated database says about tenancy; tests/e2e asks the rows."""

import asyncio

import asyncpg

from tests.support import tenancy
from tests.support.postgres import TestDatabase


def test_a_fresh_database_holds_what_tenancy_needs(fresh_database: TestDatabase) -> None:
    async def check() -> list[str]:
        admin = await asyncpg.connect(fresh_database.admin_url)
        try:
            return await tenancy.structure(admin)
        finally:
            await admin.close()

    assert asyncio.run(check()) == []


def test_the_owner_sees_no_more_than_the_tenant_of_its_transaction(
    fresh_database: TestDatabase,
) -> None:
    async def check() -> tuple[int, int]:
        admin = await asyncpg.connect(fresh_database.admin_url)
        owner = await asyncpg.connect(fresh_database.owner_url)
        try:
            await admin.execute(
                "INSERT INTO platform.tenants (tenant_id, name)"
                " SELECT gen_random_uuid(), 'tenant ' || n FROM generate_series(1, 2) n"
            )
            tenant = await admin.fetchval("SELECT tenant_id FROM platform.tenants LIMIT 1")
            without = await owner.fetchval("SELECT count(*) FROM platform.tenants")
            async with owner.transaction():
                await owner.execute("SELECT set_config('troupe.tenant_id', $1, true)", str(tenant))
                with_one = await owner.fetchval("SELECT count(*) FROM platform.tenants")
        finally:
            await owner.close()
            await admin.close()
        return without, with_one

    assert asyncio.run(check()) == (0, 1)
