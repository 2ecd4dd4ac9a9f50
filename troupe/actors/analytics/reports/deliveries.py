"""What was sent, and what became of it: runs and their deliveries, to look at.

They are changed by `planning` and `dispatch` alone.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.records import Delivery, HistoryStep, Run
from troupe.actors.analytics.reports.statements import QUERIES, found_or
from troupe.common.database import Database
from troupe.common.ids import TenantId

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]


class Runs:
    """The runs of one tenant at a time.

    Args:
        database: The group's pool.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def one(self, tenant: TenantId, run_id: UUID) -> Run:
        """One run.

        Raises:
            NotFound: The tenant has no such run.
        """
        row = await self._database.fetch_row(
            QUERIES["run"], tenant, run_id, tenant=tenant, read_only=True
        )
        return Run.of(found_or(row, "report run"))

    async def page(
        self, tenant: TenantId, *, before: UUID | None = None, limit: int
    ) -> tuple[list[tuple[Run, Mapping[str, int]]], UUID | None]:
        """Some runs, newest first, each with its deliveries by state."""

        async def unit(
            connection: "Connection",
        ) -> tuple[list[tuple[Run, Mapping[str, int]]], UUID | None]:
            rows = await connection.fetch(QUERIES["runs"], tenant, before, limit + 1)
            runs = [Run.of(row) for row in rows[:limit]]
            counts = await _counts(connection, tenant, [run.id for run in runs])
            place = runs[-1].id if len(rows) > limit else None
            return [(run, counts.get(run.id, {})) for run in runs], place

        return await self._database.run(unit, tenant=tenant, read_only=True)

    async def counts(self, tenant: TenantId, run_id: UUID) -> Mapping[str, int]:
        """Deliveries of a run by state."""

        async def unit(connection: "Connection") -> Mapping[str, int]:
            return (await _counts(connection, tenant, [run_id])).get(run_id, {})

        return await self._database.run(unit, tenant=tenant, read_only=True)


class Deliveries:
    """The deliveries of one tenant at a time.

    Args:
        database: The group's pool.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        tenant: TenantId,
        *,
        before: UUID | None = None,
        limit: int,
        run_id: UUID | None = None,
        state: State | None = None,
    ) -> tuple[list[Delivery], UUID | None]:
        """Some deliveries, newest first, and where the next page begins."""
        rows = await self._database.fetch(
            QUERIES["deliveries"], tenant, before, limit + 1, run_id,
            None if state is None else state.value, tenant=tenant, read_only=True,
        )  # fmt: skip
        found = [Delivery.of(row) for row in rows[:limit]]
        return found, found[-1].id if len(rows) > limit else None

    async def one(self, tenant: TenantId, delivery_id: UUID) -> Delivery:
        """One delivery.

        Raises:
            NotFound: The tenant has no such delivery.
        """
        row = await self._database.fetch_row(
            QUERIES["delivery"], tenant, delivery_id, tenant=tenant, read_only=True
        )
        return Delivery.of(found_or(row, "delivery"))

    async def history(self, tenant: TenantId, delivery_id: UUID) -> list[HistoryStep]:
        """Every step of a delivery, in order."""
        rows = await self._database.fetch(
            QUERIES["history"], tenant, delivery_id, tenant=tenant, read_only=True
        )
        return [
            HistoryStep(
                row["step"], State(row["state"]), row["attempts"], row["server_answer"], row["at"]
            )
            for row in rows
        ]


async def _counts(
    connection: "Connection", tenant: TenantId, runs: Sequence[UUID]
) -> dict[UUID, dict[str, int]]:
    found: dict[UUID, dict[str, int]] = {}
    for row in await connection.fetch(QUERIES["run_counts"], tenant, list(runs)):
        found.setdefault(row["run_id"], {})[row["state"]] = row["count"]
    return found
