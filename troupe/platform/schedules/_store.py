"""Schedules as one tenant's people see them: make, change, list, look ahead and back."""

import base64
import binascii
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from troupe.common.audit_trail import Who, append_entry
from troupe.common.database import Database
from troupe.common.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from troupe.common.ids import TenantId, new_id
from troupe.common.sql import load
from troupe.platform.schedules._cron import read_timetable, upcoming
from troupe.platform.schedules._model import NewSchedule, Page, Schedule, ScheduleChange, Slot

QUERIES: Final = load(__package__, "schedules.sql")
LARGEST_PAGE: Final = 1000
FURTHEST_PREVIEW: Final = 1000

Instants = list[datetime]
_TIMING: Final = frozenset({"cron", "zone", "enabled"})


class ScheduleStore:
    """Schedules of one tenant at a time. Every call is one transaction of the tenant.

    Args:
        database: Where.
        who: Makes the changes, for the tenant's audit log.
    """

    def __init__(self, database: Database, who: Who = ("system", None)) -> None:
        self._database = database
        self._who = who

    async def create(
        self, tenant: TenantId, new: NewSchedule, *, most: int | None = None
    ) -> Schedule:
        """Make a schedule. Its first slot is the first one after this moment.

        Args:
            tenant: Whose.
            new: What it is made of.
            most: Schedules that the tenant may have; None: any number.

        Raises:
            InvalidInput: Something of it cannot be used.
            Conflict: The tenant has a schedule of this name, or as many as it may have.
        """

        async def unit(connection: asyncpg.Connection) -> Schedule:
            new.check(await connection.fetchval(QUERIES["now"]))
            if most is not None:
                await connection.execute(QUERIES["serialise"], tenant)
                if await connection.fetchval(QUERIES["count"], tenant) >= most:
                    raise Conflict(f"There are {most} schedules already, and may not be more.")
            values = (*_row(new), new.cron, new.zone, new.enabled)
            made = _found(await connection.fetchrow(QUERIES["create"], new_id(), *values))
            await self._note(connection, "schedule.created", made)
            return made

        return await self._named(unit, tenant)

    async def get(self, tenant: TenantId, schedule_id: uuid.UUID) -> Schedule:
        """One schedule.

        Raises:
            NotFound: The tenant has no such schedule.
        """
        return _found(
            await self._database.fetch_row(
                QUERIES["get"], tenant, schedule_id, tenant=tenant, read_only=True
            )
        )

    async def list(
        self, tenant: TenantId, *, cursor: str | None = None, limit: int = 50
    ) -> Page[Schedule]:
        """Schedules by name.

        Args:
            tenant: Whose.
            cursor: `Page.next_cursor` of the page before.
            limit: At most this many, up to 1000.

        Raises:
            InvalidInput: The cursor or the limit cannot be used.
        """
        _check_limit(limit)
        after = _decoded(cursor) if cursor is not None else None

        async def unit(connection: asyncpg.Connection) -> Page[Schedule]:
            rows = await connection.fetch(QUERIES["list"], tenant, after, limit + 1)
            total = await connection.fetchval(QUERIES["count"], tenant)
            data = [Schedule.from_row(row) for row in rows]
            return _page(data, [schedule.name for schedule in data], limit, total)

        return await self._database.run(unit, tenant=tenant, read_only=True)

    async def change(
        self,
        tenant: TenantId,
        schedule_id: uuid.UUID,
        change: ScheduleChange,
        *,
        version: int | None = None,
    ) -> Schedule:
        """Change a schedule.

        Another line, another zone, or switching it on counts from this moment: slots before it that
        have not happened never will.

        Args:
            tenant: Whose.
            schedule_id: Which.
            change: What to change.
            version: The version that the caller has seen; None: whichever there is.

        Raises:
            NotFound: The tenant has no such schedule.
            PreconditionFailed: It has been changed since that version.
            InvalidInput: Something of it cannot be used.
            Conflict: The tenant has another schedule of this name.
        """

        async def unit(connection: asyncpg.Connection) -> Schedule:
            row = await connection.fetchrow(QUERIES["get_for_change"], tenant, schedule_id)
            present = _found(row)
            if version is not None and version != present.version:
                raise PreconditionFailed("The schedule has been changed by somebody else.")
            wanted = _changed(present, change)
            wanted.check(await connection.fetchval(QUERIES["now"]))
            key = (tenant, schedule_id)
            row = await connection.fetchrow(QUERIES["rewrite"], *key, *_row(wanted))
            fields = [
                name
                for name in NewSchedule.__dataclass_fields__
                if getattr(wanted, name) != getattr(present, name)
            ]
            if not _TIMING.isdisjoint(fields):
                timing = (wanted.cron, wanted.zone, wanted.enabled)
                row = await connection.fetchrow(QUERIES["retime"], *key, *timing)
            changed = _found(row)
            if fields:
                await self._note(connection, "schedule.changed", changed, fields=fields)
            return changed

        return await self._named(unit, tenant)

    async def enable(self, tenant: TenantId, schedule_id: uuid.UUID) -> Schedule:
        """Switch a schedule on, from this moment; on already, it stays as it is."""
        return await self.change(tenant, schedule_id, ScheduleChange(enabled=True))

    async def disable(self, tenant: TenantId, schedule_id: uuid.UUID) -> Schedule:
        """Switch a schedule off. Jobs that it has made stay."""
        return await self.change(tenant, schedule_id, ScheduleChange(enabled=False))

    async def delete(self, tenant: TenantId, schedule_id: uuid.UUID) -> None:
        """Delete a schedule and the history of its slots. Jobs that it has made stay.

        Raises:
            NotFound: The tenant has no such schedule.
        """

        async def unit(connection: asyncpg.Connection) -> None:
            row = await connection.fetchrow(QUERIES["get_for_change"], tenant, schedule_id)
            present = _found(row)
            await connection.fetchval(QUERIES["delete"], tenant, schedule_id)
            await self._note(connection, "schedule.deleted", present)

        await self._database.run(unit, tenant=tenant)

    async def upcoming(self, tenant: TenantId, schedule_id: uuid.UUID, count: int = 10) -> Instants:
        """The next instants (UTC) at which a schedule will be due; none if it is switched off.

        Raises:
            NotFound: The tenant has no such schedule.
            InvalidInput: The count does not lie between 1 and 1000.
        """
        _check_limit(count, FURTHEST_PREVIEW)

        async def unit(connection: asyncpg.Connection) -> tuple[Schedule, datetime]:
            row = await connection.fetchrow(QUERIES["get"], tenant, schedule_id)
            return _found(row), await connection.fetchval(QUERIES["now"])

        schedule, now = await self._database.run(unit, tenant=tenant, read_only=True)
        if not schedule.enabled:
            return []
        return upcoming(read_timetable(schedule.cron, schedule.zone), now, count)

    async def slots(
        self,
        tenant: TenantId,
        schedule_id: uuid.UUID,
        *,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Slot]:
        """What became of a schedule's slots, latest first.

        Raises:
            NotFound: The tenant has no such schedule.
            InvalidInput: The cursor or the limit cannot be used.
        """
        _check_limit(limit)
        before = _instant(cursor) if cursor is not None else None

        async def unit(connection: asyncpg.Connection) -> Page[Slot]:
            key = (tenant, schedule_id)
            _found(await connection.fetchrow(QUERIES["get"], *key))
            rows = await connection.fetch(QUERIES["slots"], *key, before, limit + 1)
            total = await connection.fetchval(QUERIES["count_slots"], *key)
            data = [Slot.from_row(row) for row in rows]
            return _page(data, [slot.instant.isoformat() for slot in data], limit, total)

        return await self._database.run(unit, tenant=tenant, read_only=True)

    async def _note(
        self, connection: asyncpg.Connection, action: str, schedule: Schedule, **detail: Any
    ) -> None:
        detail |= {
            "kind": schedule.kind,
            "cron": schedule.cron,
            "zone": schedule.zone,
            "enabled": schedule.enabled,
        }
        await append_entry(connection, self._who, action, str(schedule.id), detail)

    async def _named(self, unit: Any, tenant: TenantId) -> Schedule:
        try:
            schedule: Schedule = await self._database.run(unit, tenant=tenant)
        except asyncpg.UniqueViolationError as error:
            raise Conflict("There is a schedule of this name already.") from error
        return schedule


def _changed(present: Schedule, change: ScheduleChange) -> NewSchedule:
    """What the schedule is to be."""
    names = NewSchedule.__dataclass_fields__
    values = {name: getattr(present, name) for name in names} | change.wanted()
    return NewSchedule(**values)


def _row(schedule: NewSchedule) -> tuple[Any, ...]:
    return (
        schedule.name,
        schedule.group,
        schedule.kind,
        dict(schedule.arguments),
        schedule.policy.value,
        schedule.grace,
        schedule.catch_up_limit,
        schedule.priority,
        schedule.max_attempts,
    )


def _found(row: asyncpg.Record | None) -> Schedule:
    if row is None:
        raise _unknown()
    return Schedule.from_row(row)


def _unknown() -> NotFound:
    return NotFound("There is no such schedule.")


def _check_limit(limit: int, largest: int = LARGEST_PAGE) -> None:
    if not 1 <= limit <= largest:
        problem = ("?limit", f"must lie between 1 and {largest}")
        raise InvalidInput("The limit cannot be used.", [problem])


def _page(data: Sequence[Any], keys: Sequence[str], limit: int, total: int) -> Page[Any]:
    """A page of what was read: one more than asked for, if there is more."""
    more = len(data) > limit
    return Page(tuple(data[:limit]), _encoded(keys[limit - 1]) if more else None, total)


def _encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).rstrip(b"=").decode()


def _decoded(cursor: str) -> str:
    try:
        padding = "=" * (-len(cursor) % 4)
        key = base64.b64decode(cursor + padding, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise _unusable_cursor() from None
    if not key.isprintable():
        raise _unusable_cursor()
    return key


def _instant(cursor: str) -> datetime:
    try:
        instant = datetime.fromisoformat(_decoded(cursor))
    except ValueError:
        raise _unusable_cursor() from None
    if instant.tzinfo is None:
        raise _unusable_cursor()
    return instant


def _unusable_cursor() -> InvalidInput:
    problem = ("?cursor", "is not one that this list gave out")
    return InvalidInput("The cursor cannot be used.", [problem])
