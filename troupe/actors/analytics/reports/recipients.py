"""Who gets reports: the recipients of each branch."""

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from troupe.actors.analytics.reports.mail import check_address
from troupe.actors.analytics.reports.records import Recipient
from troupe.actors.analytics.reports.statements import (
    QUERIES,
    Actor,
    audit,
    found_or,
    once,
    outdated,
)
from troupe.actors.analytics.reports.zones import settle_zones
from troupe.common.database import Database
from troupe.common.errors import Conflict, InvalidInput, NotFound
from troupe.common.ids import TenantId, new_id
from troupe.platform.schedules import CronTimetable

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

MOST_RECIPIENTS: Final = 5000
SECRET_BYTES: Final = 16
_TAKEN: Final = "The address is listed for this branch already."


class Recipients:
    """The recipients of one tenant at a time.

    Args:
        database: The group's pool.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        tenant: TenantId,
        *,
        after: tuple[str, str] | None = None,
        limit: int,
        location: str | None = None,
    ) -> tuple[list[Recipient], tuple[str, str] | None, int]:
        """Some recipients by branch and address, where the next page begins, and how many."""

        async def unit(
            connection: "Connection",
        ) -> tuple[list[Recipient], tuple[str, str] | None, int]:
            rows = await connection.fetch(
                QUERIES["recipients"], tenant, *(after or (None, None)), limit + 1, location
            )
            total = await connection.fetchval(QUERIES["count_recipients"], tenant, location)
            last = rows[limit - 1] if len(rows) > limit else None
            place = None if last is None else (last["sort_location"], last["sort_address"])
            return [Recipient.of(row) for row in rows[:limit]], place, total

        return await self._database.run(unit, tenant=tenant, read_only=True)

    async def one(self, tenant: TenantId, recipient_id: UUID) -> Recipient:
        """One recipient.

        Raises:
            NotFound: The tenant has no such recipient.
        """
        row = await self._database.fetch_row(
            QUERIES["recipient"], tenant, recipient_id, tenant=tenant, read_only=True
        )
        return Recipient.of(found_or(row, "recipient"))

    async def add(self, tenant: TenantId, new: Recipient, actor: Actor) -> Recipient:
        """Add a recipient.

        Raises:
            InvalidInput: Its address, branch or zone cannot be used.
            Conflict: The address is listed for the branch, or there are too many.
        """
        wanted = _checked_recipient(new)
        identifier = new_id()

        async def unit(connection: "Connection") -> Recipient:
            await connection.execute(QUERIES["lock_reports"], tenant)
            if (
                await connection.fetchval(QUERIES["count_recipients"], tenant, None)
                >= MOST_RECIPIENTS
            ):
                raise Conflict(f"There are {MOST_RECIPIENTS} recipients already.")
            await _know_location(connection, tenant, wanted.location_id)
            await connection.execute(
                QUERIES["create_recipient"], tenant, identifier, *wanted.values(),
                secrets.token_bytes(SECRET_BYTES),
            )  # fmt: skip
            await settle_zones(connection, tenant)
            detail = {"location_id": wanted.location_id}
            await audit(connection, actor, "report.recipient_added", str(identifier), detail)
            row = await connection.fetchrow(QUERIES["recipient"], tenant, identifier)
            return Recipient.of(found_or(row, "recipient"))

        return await once(self._database, unit, tenant, _TAKEN)

    async def change(self, tenant: TenantId, wanted: Recipient, actor: Actor) -> Recipient:
        """Change a recipient, to the version that `wanted` was made from.

        Raises:
            PreconditionFailed: Another version is there.
            InvalidInput: Its address, branch or zone cannot be used.
            Conflict: The address is listed for the branch already.
        """
        wanted = _checked_recipient(wanted)

        async def unit(connection: "Connection") -> Recipient:
            await connection.execute(QUERIES["lock_reports"], tenant)
            await _know_location(connection, tenant, wanted.location_id)
            key = (tenant, wanted.id)
            written = await connection.fetchval(
                QUERIES["change_recipient"], *key, wanted.version, *wanted.values()
            )
            if written is None:
                raise outdated()
            await settle_zones(connection, tenant)
            await audit(connection, actor, "report.recipient_changed", str(wanted.id), {})
            return Recipient.of(
                found_or(await connection.fetchrow(QUERIES["recipient"], *key), "recipient")
            )

        return await once(self._database, unit, tenant, _TAKEN)

    async def remove(self, tenant: TenantId, recipient_id: UUID, actor: Actor) -> None:
        """Remove a recipient; mails that are queued for them still go.

        Raises:
            NotFound: The tenant has no such recipient.
        """

        async def unit(connection: "Connection") -> None:
            await connection.execute(QUERIES["lock_reports"], tenant)
            gone = await connection.fetchval(QUERIES["delete_recipient"], tenant, recipient_id)
            if gone is None:
                raise NotFound("There is no such recipient.")
            await settle_zones(connection, tenant)
            await audit(connection, actor, "report.recipient_removed", str(recipient_id), {})

        await self._database.run(unit, tenant=tenant)


async def _know_location(connection: "Connection", tenant: TenantId, location: str | None) -> None:
    if location is None:
        return
    if not await connection.fetchval(QUERIES["known_location"], tenant, location):
        raise InvalidInput(
            "The recipient cannot be stored.",
            [("/location_id", "is not a branch of the master data")],
        )


def _checked_recipient(recipient: Recipient) -> Recipient:
    try:
        CronTimetable("0 8 * * *", recipient.time_zone)
    except InvalidInput:
        raise InvalidInput(
            "The recipient cannot be stored.",
            [("/time_zone", "is not a time zone, such as Europe/Berlin")],
        ) from None
    return replace(recipient, address=check_address(recipient.address))
