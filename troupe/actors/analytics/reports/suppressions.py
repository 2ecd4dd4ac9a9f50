"""Addresses that get no mail, whichever branches they are listed for."""

from typing import TYPE_CHECKING

from troupe.actors.analytics.reports.mail import check_address
from troupe.actors.analytics.reports.records import Suppression
from troupe.actors.analytics.reports.statements import QUERIES, Actor, audit
from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]


class Suppressions:
    """The suppressed addresses of one tenant at a time.

    Args:
        database: The group's pool.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, tenant: TenantId, *, after: str | None = None, limit: int
    ) -> tuple[list[Suppression], str | None]:
        """Some suppressed addresses, and where the next page begins."""
        rows = await self._database.fetch(
            QUERIES["suppressions"], tenant, after, limit + 1, tenant=tenant, read_only=True
        )
        found = [
            Suppression(
                row["address"], row["hard_bounces"], row["last_bounce"], row["suppressed_at"],
                row["reason"],
            )
            for row in rows[:limit]
        ]  # fmt: skip
        return found, found[-1].address if len(rows) > limit else None

    async def add(self, tenant: TenantId, address: str, actor: Actor) -> None:
        """Let an address have no more mail."""
        lowered = check_address(address).lower()

        async def unit(connection: "Connection") -> None:
            await connection.execute(QUERIES["suppress"], tenant, lowered, "person")
            await audit(connection, actor, "report.suppressed", lowered, {})

        await self._database.run(unit, tenant=tenant)

    async def lift(self, tenant: TenantId, address: str, actor: Actor) -> None:
        """Let an address have mail again.

        Raises:
            NotFound: It is not suppressed.
        """

        async def unit(connection: "Connection") -> None:
            lowered = address.lower()
            if await connection.fetchval(QUERIES["lift"], tenant, lowered) is None:
                raise NotFound("The address is not suppressed.")
            await audit(connection, actor, "report.suppression_lifted", lowered, {})

        await self._database.run(unit, tenant=tenant)
