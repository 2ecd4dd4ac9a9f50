"""Pages by which people come in, and whether they stay: METRICS "Page performance".

A page is judged against the whole site in the same period and under the same filters, and only
where enough sessions began with it for a rate to mean something. They are listed by how many
sessions the difference has cost, not by the rate: a rate of few is loud, and a page that loses a
little of many costs more than one that loses all of thirty.

Without filters the figures are added up from ``data.entrances``, day by day; with them, and where
the last day is cut at an hour, from sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from troupe.actors.analytics.answers import Snapshot
from troupe.actors.analytics.filters import EVERYTHING, Filters
from troupe.actors.analytics.periods import Period
from troupe.common.dates import DateRange

FEWEST_SESSIONS: Final = 30
"""A page that fewer sessions began with is not listed."""


@dataclass(frozen=True, slots=True)
class Entrances:
    """Sessions that begin with something, and what became of them."""

    sessions: int
    bounces: int
    conversions: int = 0


@dataclass(frozen=True, slots=True)
class EntryPage:
    """One page.

    Attributes:
        page: Address without query.
        now: Its entrances.
        before: Those in the period compared with; None when nothing is compared.
        excess: Sessions that bounced beyond what the site's rate would give; less than nothing
            where the page is better than the site.
    """

    page: str
    now: Entrances
    before: Entrances | None
    excess: Decimal


@dataclass(frozen=True, slots=True)
class EntryPages:
    """Some pages, those that cost most first.

    Attributes:
        pages: In order.
        site: The whole site; None on an empty page.
        site_before: Likewise in the period compared with.
        total: How many pages there are in all.
        place: Where the next page of the list begins, None when this is the last one.
    """

    pages: list[EntryPage]
    site: Entrances | None
    site_before: Entrances | None
    total: int
    place: tuple[Decimal, str] | None


async def read_entry_pages(
    snapshot: Snapshot,
    periods: Sequence[DateRange | Period],
    filters: Filters = EVERYTHING,
    *,
    after: tuple[Decimal, str] | None = None,
    limit: int,
) -> EntryPages:
    """One page of the list.

    Args:
        snapshot: Of the tenant's data.
        periods: One, or two: the second is what the first is compared with.
        filters: What to look at.
        after: `EntryPages.place` of the page before.
        limit: At most so many.
    """
    wanted = [Period.of(period) for period in periods]
    own = (FEWEST_SESSIONS, *(after or (None, None)), limit + 1)
    if filters == EVERYTHING and not any(period.until for period in wanted):
        first_days = [period.days.start for period in wanted]
        last_days = [period.days.end for period in wanted]
        rows = await snapshot.look("entry_pages_by_day", first_days, last_days, *own)
    else:
        rows = await snapshot.fetch("entry_pages", wanted, filters, *own)
    if not rows:
        return EntryPages([], None, None, 0, None)
    compared = len(periods) > 1
    pages = [
        EntryPage(
            row["page"],
            Entrances(row["sessions"], row["bounces"], row["conversions"]),
            Entrances(row["sessions_before"], row["bounces_before"], row["conversions_before"])
            if compared
            else None,
            row["excess"],
        )
        for row in rows[:limit]
    ]
    first = rows[0]
    last = pages[-1]
    return EntryPages(
        pages,
        Entrances(first["site_sessions"], first["site_bounces"]),
        Entrances(first["site_sessions_before"], first["site_bounces_before"])
        if compared
        else None,
        first["total"],
        (last.excess, last.page) if len(rows) > limit else None,
    )
