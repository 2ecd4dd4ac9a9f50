"""``Idempotency-Key``: a repeated POST is answered, not done again.

A client that got no answer cannot know whether its POST was done. With a key of its own choice it
may simply send it again: the first request claims the key in PostgreSQL, does the work and keeps
the answer (status and body) for a day; a repetition gets that answer. The same key with another
body is a mistake of the client and says so (422); a repetition while the first still runs gets 409
with ``Retry-After``.

Not kept are answers that a repetition should ask for anew: failures of ours (5xx), conflicts and
rate limits. The claim is not in the transaction that does the work, because the two belong to
different modules; a process that dies between that commit and `complete` leaves a claim without an
answer, which counts as abandoned after two minutes, and the repetition then does the work again.
So does one whose commit was not answered (`CommitUnknown`). Where that matters the work carries a
unique key of its own, as jobs do.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import trio

from troupe.common.database import Database
from troupe.common.errors import Conflict, InvalidInput
from troupe.common.ids import TenantId
from troupe.common.sql import load
from troupe.common.tenants import active_tenants
from troupe.common.units import DAYS, HOURS, MINUTES, SECONDS, KiB

KEY_HEADER: Final = "Idempotency-Key"
REPLAY_HEADER: Final = "Idempotency-Replayed"
MAX_KEY_CHARACTERS: Final = 255
ANSWERS_KEPT: Final = 1 * DAYS
ABANDONED_AFTER: Final = 2 * MINUTES
STORE_DEADLINE: Final = 5 * SECONDS
KEPT_BODY_BYTES: Final = 256 * KiB
SWEEP_PAUSE: Final = 1 * HOURS

_QUERIES = load(__package__, "idempotency.sql")


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do the work of one key; give it back with `complete` or `abandon`."""

    tenant: TenantId
    key: str
    route: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What the first request with the key was answered."""

    status: int
    body: bytes


class IdempotencyStore(Protocol):
    """Where claims and answers are kept."""

    async def begin(
        self, tenant: TenantId, key: str, route: str, request_sha256: bytes
    ) -> Claim | KeptAnswer:
        """Claim the key, or hear what it was answered.

        Raises:
            InvalidInput: The key belongs to another request.
            Conflict: The first request with this key still runs.
        """
        ...

    async def complete(self, claim: Claim, status: int, body: bytes) -> None:
        """Keep the answer."""
        ...

    async def abandon(self, claim: Claim) -> None:
        """Let a repetition do the work anew."""
        ...


def is_worth_keeping(status: int, body: bytes) -> bool:
    """Whether a repetition shall get this answer instead of being done."""
    return status < 500 and status not in {409, 429} and len(body) <= KEPT_BODY_BYTES


class PostgresIdempotencyStore:
    """Claims and answers in ``platform.idempotency_keys``, under row-level security."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self, tenant: TenantId, key: str, route: str, request_sha256: bytes
    ) -> Claim | KeptAnswer:
        """See `IdempotencyStore.begin`."""
        created_at = await self._database.fetch_value(
            _QUERIES["begin"],
            tenant,
            key,
            route,
            request_sha256,
            ANSWERS_KEPT,
            ABANDONED_AFTER,
            tenant=tenant,
            deadline=STORE_DEADLINE,
        )
        if isinstance(created_at, datetime):
            return Claim(tenant, key, route, created_at)
        kept = await self._database.fetch_row(
            _QUERIES["read"], tenant, key, route, tenant=tenant, deadline=STORE_DEADLINE
        )
        if kept is not None and kept["request_sha256"] != request_sha256:
            raise InvalidInput(
                "This idempotency key was used for another request.",
                [(f"header:{KEY_HEADER}", "choose a new key for a new request")],
            )
        if kept is None or kept["status"] is None:
            raise Conflict("A request with this idempotency key is still running.")
        return KeptAnswer(kept["status"], kept["body"] or b"")

    async def complete(self, claim: Claim, status: int, body: bytes) -> None:
        """See `IdempotencyStore.complete`."""
        await self._finish("complete", claim, status, body)

    async def abandon(self, claim: Claim) -> None:
        """See `IdempotencyStore.abandon`."""
        await self._finish("abandon", claim)

    async def forget(self, tenant: TenantId) -> None:
        """Delete a batch of the tenant's outdated answers."""
        await self._database.execute(
            _QUERIES["forget"], tenant, ANSWERS_KEPT, tenant=tenant, deadline=STORE_DEADLINE
        )

    async def _finish(self, query: str, claim: Claim, *values: object) -> None:
        await self._database.execute(
            _QUERIES[query],
            claim.tenant,
            claim.key,
            claim.route,
            claim.created_at,
            *values,
            tenant=claim.tenant,
            deadline=STORE_DEADLINE,
        )


async def sweep_answers(database: Database, stopping: trio.Event) -> None:
    """Forget outdated answers of every tenant, once an hour, until `stopping` is set.

    Raises:
        DatabaseError: PostgreSQL is away; whoever supervises this starts it again.
    """
    store = PostgresIdempotencyStore(database)
    while not stopping.is_set():
        for tenant in await active_tenants(database):
            await store.forget(tenant)
        with trio.move_on_after(SWEEP_PAUSE):
            await stopping.wait()
