"""Answers kept for repeated requests do not stay for ever, whoever's they are."""

import asyncpg
import trio

from tests.support.postgres import TestDatabase
from troupe.actors.auth.tenants import create_tenant
from troupe.common.bridge import aio
from troupe.common.database import Database
from troupe.http.idempotency import sweep_answers

KEEP = "INSERT INTO platform.idempotency_keys (tenant_id, key, route, request_sha256, created_at)"


async def test_outdated_answers_of_every_tenant_are_forgotten(
    database: Database, fresh_database: TestDatabase
) -> None:
    tenants = [await create_tenant(database, name) for name in ("First", "Second")]
    admin = await aio(asyncpg.connect(fresh_database.admin_url))
    try:
        for tenant in tenants:
            for key, age in (("old", "2 days"), ("new", "1 minute")):
                values = f"VALUES ($1, $2, '/', '', now() - interval '{age}')"
                await aio(admin.execute(f"{KEEP} {values}", tenant, key))
        stopping = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sweep_answers, database, stopping)
            with trio.fail_after(10):
                while (
                    await aio(admin.fetchval("SELECT count(*) FROM platform.idempotency_keys")) > 2
                ):
                    await trio.sleep(0.02)
            stopping.set()
        left = await aio(admin.fetch("SELECT tenant_id, key FROM platform.idempotency_keys"))
        assert {(row["tenant_id"], row["key"]) for row in left} == {(t, "new") for t in tenants}
    finally:
        await aio(admin.close())
