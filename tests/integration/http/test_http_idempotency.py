"""The store of claims and answers, over PostgreSQL and under row-level security."""

from uuid import uuid4

import pytest
import trio

from tests.support.postgres import TestDatabase
from troupe.common.bridge import aio
from troupe.common.database import Database
from troupe.common.errors import Conflict, InvalidInput
from troupe.common.ids import TenantId
from troupe.common.postgres.roles import connected
from troupe.http.idempotency import Claim, KeptAnswer, PostgresIdempotencyStore

ROUTE = "/api/v1/ingestions"
DIGEST = b"\x01" * 32


async def run_as_admin(database: TestDatabase, statement: str, *values: object) -> None:
    async def work() -> None:
        async with connected(database.admin_url) as connection:
            await connection.execute(statement, *values)

    await aio(work())


@pytest.fixture
async def tenants(fresh_database: TestDatabase, bridge: None) -> list[TenantId]:
    made = [TenantId(uuid4()), TenantId(uuid4())]
    for tenant in made:
        await run_as_admin(
            fresh_database,
            "INSERT INTO platform.tenants (tenant_id, name) VALUES ($1, $2)",
            tenant,
            str(tenant),
        )
    return made


@pytest.fixture
def store(database: Database) -> PostgresIdempotencyStore:
    return PostgresIdempotencyStore(database)


async def claim(store: PostgresIdempotencyStore, tenant: TenantId, key: str = "k") -> Claim:
    claimed = await store.begin(tenant, key, ROUTE, DIGEST)
    assert isinstance(claimed, Claim)
    return claimed


async def test_the_first_claims_and_the_second_hears_the_answer(
    store: PostgresIdempotencyStore, tenants: list[TenantId]
) -> None:
    first = await claim(store, tenants[0])
    with pytest.raises(Conflict, match="still running"):
        await store.begin(tenants[0], "k", ROUTE, DIGEST)
    await store.complete(first, 201, b'{"id":1}')
    assert await store.begin(tenants[0], "k", ROUTE, DIGEST) == KeptAnswer(201, b'{"id":1}')
    with pytest.raises(InvalidInput, match="another request"):
        await store.begin(tenants[0], "k", ROUTE, b"\x02" * 32)


async def test_keys_belong_to_a_tenant_and_a_route(
    store: PostgresIdempotencyStore, tenants: list[TenantId]
) -> None:
    first = await claim(store, tenants[0])
    await store.complete(first, 201, b"secret of the first")
    assert isinstance(await store.begin(tenants[1], "k", ROUTE, DIGEST), Claim)
    assert isinstance(await store.begin(tenants[0], "k", "/other", DIGEST), Claim)


async def test_what_is_abandoned_can_be_done_anew(
    store: PostgresIdempotencyStore, tenants: list[TenantId]
) -> None:
    first = await claim(store, tenants[0])
    await store.abandon(first)
    second = await claim(store, tenants[0])
    await store.complete(second, 201, b"second")
    await store.abandon(second)  # too late: there is an answer
    assert await store.begin(tenants[0], "k", ROUTE, DIGEST) == KeptAnswer(201, b"second")


async def test_a_claim_that_was_taken_over_changes_nothing(
    store: PostgresIdempotencyStore, tenants: list[TenantId], fresh_database: TestDatabase
) -> None:
    slow = await claim(store, tenants[0])
    await run_as_admin(
        fresh_database,
        "UPDATE platform.idempotency_keys SET created_at = created_at - interval '3 minutes'",
    )
    taken_over = await claim(store, tenants[0])
    await store.complete(slow, 201, b"of the slow one")
    await store.abandon(slow)
    with pytest.raises(Conflict):
        await store.begin(tenants[0], "k", ROUTE, DIGEST)
    await store.complete(taken_over, 201, b"right")
    assert await store.begin(tenants[0], "k", ROUTE, DIGEST) == KeptAnswer(201, b"right")


async def test_answers_are_forgotten(
    store: PostgresIdempotencyStore, tenants: list[TenantId], fresh_database: TestDatabase
) -> None:
    for key in ("old", "older", "new"):
        await store.complete(await claim(store, tenants[0], key), 201, b"kept")
    await run_as_admin(
        fresh_database,
        "UPDATE platform.idempotency_keys SET created_at = now() - interval '25 hours'"
        " WHERE key <> 'new'",
    )
    assert isinstance(await store.begin(tenants[0], "old", ROUTE, b"\x02" * 32), Claim)
    await store.forget(tenants[0])
    assert isinstance(await store.begin(tenants[0], "older", ROUTE, b"\x02" * 32), Claim)
    assert await store.begin(tenants[0], "new", ROUTE, DIGEST) == KeptAnswer(201, b"kept")


async def test_of_many_at_once_one_claims(
    store: PostgresIdempotencyStore, tenants: list[TenantId]
) -> None:
    claims: list[Claim] = []
    refused = 0

    async def attempt() -> None:
        nonlocal refused
        try:
            claims.append(await claim(store, tenants[0]))
        except Conflict:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(attempt)
    assert (len(claims), refused) == (1, 19)
