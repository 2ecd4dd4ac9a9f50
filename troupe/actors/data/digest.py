"""The digest of a source day: what follows from its rows alone, before anything is locked.

Problem. Neighbouring days share sessions, rollups and duplicates, so the days of one tenant are
published one after the other. What is done in a publication therefore bounds the rate of a whole
load, however many cores there are; and most of it, by time, looks at nothing but the day itself.

Choice. That part is done as soon as the day is sealed, in a transaction that locks nothing, beside
the reading of other days and the publication of an earlier one. It fills tables beside the staged
one, a tenth of its size, which the publication reads instead of events; only sessions that span
days are looked up among the events again. Deriving a day anew, or taking one away, works out the
same digest at the beginning of its own transaction, by the same statements.

What it costs: four more tables per day in schema staging. They are not logged. A crash of
PostgreSQL empties them, so a publication compares them with what is remembered here and works the
digest out again when it must; likewise when it was made under other settings, or when somebody was
erased since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

    from troupe.actors.data.publication import Reporting

    Connection = asyncpg.Connection[asyncpg.Record]

DIGEST: Final = load(__package__, "digest.sql")


@dataclass(frozen=True, slots=True)
class EventCount:
    """Rows of one event on a source day.

    Attributes:
        event_name: Which.
        loaded_rows: How many.
        without_visitor: Of them without a visitor's id.
        without_session: Of them without a session's, or a visitor's.
        duplicates: Rows that say the same as another one, but for one.
    """

    event_name: str
    loaded_rows: int
    without_visitor: int
    without_session: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Digest:
    """What is known of a day's rows; the greater part lies in tables beside them.

    Attributes:
        rows: How many there are.
        first_event_at: The earliest; None when there are none.
        last_event_at: The latest.
        counts: By event.
        days: In the reporting zone, on which there are events.
        activity: Rows of ``day_activity``, by which a lost digest is noticed.
        erasures: Identifiers that were to stay forgotten when it was made.
        derived_as: `Reporting.derived_as` when it was made.
    """

    rows: int
    first_event_at: datetime | None
    last_event_at: datetime | None
    counts: Sequence[EventCount]
    days: Sequence[date]
    activity: int
    erasures: int
    derived_as: str


async def digest_day(
    connection: "Connection", reporting: "Reporting", source_day: date, table: str | None
) -> Digest:
    """Work a day's digest out; the workbench is open, and the digest's tables are empty.

    Args:
        connection: In a transaction of the tenant's.
        reporting: What cuts and names its figures.
        source_day: Which.
        table: The staged table; None: the day is published already.
    """
    tenant, zone, failed = reporting.tenant, reporting.zone, reporting.failed_search_event
    erasures = await connection.fetchval(DIGEST["count_erasures"], tenant)
    [clock] = await connection.fetch(DIGEST["read_clock"], tenant, source_day, zone)
    beginnings, days, hours = clock["beginnings"], clock["days"], clock["hours"]
    await connection.execute(
        DIGEST["digest_sessions"], tenant, source_day, [source_day], zone, True, failed
    )
    told = await connection.execute(
        DIGEST["digest_activity"], tenant, source_day, failed, beginnings, days, hours
    )
    await connection.execute(
        DIGEST["digest_interests"], tenant, source_day, failed, beginnings, days
    )
    await connection.execute(DIGEST["digest_acts"], tenant, source_day, failed)
    counts = await connection.fetch(DIGEST["count_events"], tenant, source_day)
    await connection.execute(DIGEST["measure_digest"], tenant, table)
    return Digest(
        rows=clock["rows"],
        first_event_at=clock["first_event_at"],
        last_event_at=clock["last_event_at"],
        counts=[EventCount(**row) for row in counts],
        days=sorted(set(days)),
        activity=int(told.removeprefix("INSERT 0 ")),
        erasures=erasures,
        derived_as=reporting.derived_as,
    )


async def holds(connection: "Connection", reporting: "Reporting", digest: Digest) -> bool:
    """Whether a digest that was made earlier is whole and still right."""
    tenant = reporting.tenant
    return bool(
        digest.derived_as == reporting.derived_as
        and digest.erasures == await connection.fetchval(DIGEST["count_erasures"], tenant)
        and digest.activity == await connection.fetchval(DIGEST["count_activity"], tenant)
    )
