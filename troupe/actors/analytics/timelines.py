"""Timelines: what happened in a session, and to a person, event by event.

A person's events lie in many days and on several devices. Reading all of them for the newest fifty
would take as long as the person is old, so it is done in steps: which days a visitor was seen on is
known (``data.user_day``), the newest of these days are read, and only if they do not fill the page
the days before them. A page therefore costs what it shows, whatever the person's past.

The place between two pages is an instant and how many events of that very instant have been shown:
events have no id of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

TIMELINES: Final = load(__package__, "timelines.sql")
DAYS_AT_ONCE: Final = 14
"""Days on which a person was seen that are read together, at most."""
_DAYS: Final = TIMELINES["days"].format(
    visitors="$2::text[]", until="$3", count="$4::integer", zone="$5::text"
)
"""$1 tenant, $2 visitors; see ``timelines.sql`` for the others."""
_PERSON: Final = TIMELINES["person"].format(
    days=TIMELINES["days"].format(
        visitors="(SELECT h.visitors FROM head h)::text[]",
        until="$4",
        count="(SELECT n.days FROM enough n)",
        zone="$6::text",
    )
)
_ONE: Final = "= ($2::text[])[1]"
_OF_CUSTOMER: Final = "coalesce(s.customer_id, e.customer_id) = $3::text"
EVENTS_OF_VISITOR: Final = TIMELINES["person_events"].format(
    are_these=_ONE, theirs="$3::text IS NULL"
)
EVENTS_OF_CUSTOMER: Final = TIMELINES["person_events"].format(are_these=_ONE, theirs=_OF_CUSTOMER)
EVENTS_ON_DEVICES: Final = TIMELINES["person_events"].format(
    are_these="= ANY ($2::text[])", theirs=_OF_CUSTOMER
)
"""Of a customer who came with several."""


class Event(NamedTuple):
    """One event of a timeline.

    Attributes:
        event_at: When.
        event_name: What.
        user_pseudo_id: The visitor: one per device and browser.
        stream_id: With `ga_session_id` the session.
        ga_session_id: None outside of sessions.
        gap: Since the event before it on this timeline; None where none is known.
        details: The other columns that are not empty.
    """

    event_at: datetime
    event_name: str
    user_pseudo_id: str
    stream_id: str | None
    ga_session_id: int | None
    gap: timedelta | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contact:
    """Who somebody is, as the master data has it; empty where it does not know."""

    company: str
    contact: str
    email: str
    phone: str
    location_id: str
    location_name: str | None

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "Contact":
        """From a row with the columns of the master data."""
        return cls(
            company=row["company"] or "",
            contact=row["contact"] or "",
            email=row["customer_email"] or "",
            phone=row["phone"] or "",
            location_id=row["location_id"],
            location_name=row["location_name"],
        )


@dataclass(frozen=True, slots=True)
class SessionHead:
    """A session as a whole."""

    stream_id: str
    user_pseudo_id: str
    ga_session_id: int
    started_at: datetime
    ended_at: datetime
    engaged: bool
    customer_id: str | None
    channel: str
    source: str | None
    medium: str | None
    campaign: str | None
    device_category: str | None
    country: str | None
    landing_page: str | None
    events: int
    page_views: int
    purchases: int


@dataclass(frozen=True, slots=True)
class SessionTimeline:
    """A session and a page of its events, in order; `place`: so many were shown, more follow."""

    head: SessionHead
    contact: Contact
    events: list[Event]
    place: int | None


@dataclass(frozen=True, slots=True)
class Device:
    """What a person came with."""

    user_pseudo_id: str
    device_category: str
    stream_id: str
    sessions: int
    first_at: datetime
    last_at: datetime

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "Device":
        """From a row of `person`."""
        return cls(
            row["user_pseudo_id"],
            row["device_category"],
            row["stream_id"],
            row["device_sessions"],
            row["device_first_at"],
            row["device_last_at"],
        )


@dataclass(frozen=True, slots=True)
class PersonHead:
    """A person as a whole."""

    is_customer: bool
    person_id: str
    customer_id: str | None
    sessions: int
    engaged_sessions: int
    purchases: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of a person's events ends: an instant, and how many of it have been shown."""

    at: datetime
    shown: int


@dataclass(frozen=True, slots=True)
class PersonTimeline:
    """A person and a page of their events, latest first; `place` leads to the events before."""

    head: PersonHead
    contact: Contact
    devices: list[Device]
    events: list[Event]
    place: Place | None


class Timelines:
    """Timelines of all tenants.

    Args:
        database: The group's pool.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def session(
        self, tenant: TenantId, key: tuple[str, str, int], *, after: int, limit: int
    ) -> SessionTimeline:
        """One session.

        Args:
            tenant: Whose.
            key: Stream, visitor and session id.
            after: So many events have been shown.
            limit: At most so many.

        Raises:
            NotFound: The tenant has no such session.
            DatabaseError: The database failed.
        """

        async def unit(connection: "Connection") -> SessionTimeline:
            row = await connection.fetchrow(TIMELINES["session"], tenant, *key)
            if row is None:
                raise NotFound("There is no such session.")
            # One more in front tells the gap before the first.
            lead = min(after, 1)
            found = await connection.fetch(
                TIMELINES["session_events"],
                tenant,
                *key,
                row["source_days"],
                row["started_at"],
                row["ended_at"],
                after - lead,
                lead + limit + 1,
            )
            events = _forward(found)[lead : lead + limit]
            more = len(found) > lead + limit
            head = SessionHead(**{name: row[name] for name in SessionHead.__slots__})
            contact = Contact.of(row)
            return SessionTimeline(head, contact, events, after + limit if more else None)

        return await self._database.run(
            unit, tenant=tenant, read_only=True, isolation="repeatable_read"
        )

    async def person(
        self,
        tenant: TenantId,
        *,
        is_customer: bool,
        person_id: str,
        zone: ZoneInfo,
        after: Place | None,
        limit: int,
    ) -> PersonTimeline:
        """One person, on all of their devices.

        Args:
            tenant: Whose.
            is_customer: Whether `person_id` is a customer's, else a visitor's.
            person_id: Whom.
            zone: The reporting zone, whose days ``data.user_day`` counts.
            after: `PersonTimeline.place` of the page before.
            limit: At most so many.

        Raises:
            NotFound: The tenant knows nobody by this id.
            DatabaseError: The database failed.
        """

        async def unit(connection: "Connection") -> PersonTimeline:
            # The newest days come along, which saves the way for them.
            rows = await connection.fetch(
                _PERSON,
                tenant,
                is_customer,
                person_id,
                after.at.astimezone(zone).date() if after else None,
                DAYS_AT_ONCE,
                zone.key,
                limit + 1,
            )
            if not rows:
                raise NotFound("There is no such person.")
            row = rows[0]
            reading = _Reading(
                connection, tenant, row["visitors"], person_id if is_customer else None, zone
            )
            found = await reading.events(row, after, limit + 1)
            events = _backward(found)[:limit]
            place = _place(found[:limit], after) if len(found) > limit else None
            head = PersonHead(
                is_customer,
                person_id,
                row["customer_id"],
                row["sessions"],
                row["engaged_sessions"],
                row["purchases"],
                row["first_at"],
                row["last_at"],
            )
            return PersonTimeline(
                head,
                Contact.of(row),
                [Device.of(device) for device in rows],
                events,
                place,
            )

        return await self._database.run(
            unit, tenant=tenant, read_only=True, isolation="repeatable_read"
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    connection: "Connection"
    tenant: TenantId
    visitors: Sequence[str]
    customer: str | None
    zone: ZoneInfo

    async def events(
        self, days: "asyncpg.Record | None", after: Place | None, wanted: int
    ) -> "list[asyncpg.Record]":
        """The newest events of these days, and of those before them, that have not been shown."""
        found: list[asyncpg.Record] = []
        events = EVENTS_OF_VISITOR if self.customer is None else EVENTS_OF_CUSTOMER
        if len(self.visitors) > 1:
            events = EVENTS_ON_DEVICES
        while days is not None and days["began"] is not None:
            found += await self.connection.fetch(
                events,
                self.tenant,
                self.visitors,
                self.customer,
                days["source_days"],
                days["began"],
                days["ended"],
                after.at if after else None,
                after.shown if after else 0,
                wanted - len(found),
            )
            after = None  # what lies before these days has not been shown
            if len(found) >= wanted or days["earlier"] is None:
                break
            days = await self.connection.fetchrow(
                _DAYS, self.tenant, self.visitors, days["earlier"], DAYS_AT_ONCE, self.zone.key
            )
        return found


def _place(shown: "Sequence[asyncpg.Record]", after: Place | None) -> Place:
    at = shown[-1]["event_at"]
    same = sum(row["event_at"] == at for row in shown)
    if after is not None and after.at == at:
        same += after.shown
    return Place(at, same)


def _forward(rows: "Sequence[asyncpg.Record]") -> list[Event]:
    """Rows in the order of time."""
    before: datetime | None = None
    events = []
    for row in rows:
        events.append(_event(row, before))
        before = row["event_at"]
    return events


def _backward(rows: "Sequence[asyncpg.Record]") -> list[Event]:
    """Rows, latest first."""
    earlier = [row["event_at"] for row in rows[1:]]
    return [_event(row, before) for row, before in zip(rows, [*earlier, None], strict=False)]


def _event(row: "asyncpg.Record", before: datetime | None) -> Event:
    details = {name: value for name, value in row.items() if value is not None}
    event_at = details.pop("event_at")
    return Event(
        event_at,
        details.pop("event_name"),
        details.pop("user_pseudo_id"),
        details.pop("stream_id", None),
        details.pop("ga_session_id", None),
        None if before is None else event_at - before,
        details,
    )
