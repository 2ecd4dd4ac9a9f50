"""What sessions were interested in, and how far they got in the funnel; part of a publication.

Two things that answers need and that only events know. *Interests* are pages, products and search
terms, one row per session, subject and source day: a tenth of the events, and small ones, so that
"top products of the last month on mobile devices" reads no events. The *funnel* is three numbers
per session: the shortest time in which it gets from a product view to the cart, to checkout, to a
purchase. Any window that somebody asks for is then a comparison with these.

Rejected: counters per day and subject (no filter but the branch could be applied to them); the
times of all steps (a window would be a search through them, per question); a fixed window.
"""

from datetime import date
from typing import TYPE_CHECKING, Final

from troupe.common.ids import TenantId
from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

SHOPPING: Final = load(__package__, "shopping.sql")


async def put_interests(connection: "Connection", tenant: TenantId, source_day: date) -> None:
    """Replace the interests of one source day by those of its digest; before its activity is.

    Args:
        connection: In the publication's transaction, with its workbench open.
        tenant: Whose.
        source_day: The day that is replaced.
    """
    days = await connection.fetchval(SHOPPING["days_of_activity"], tenant, source_day)
    await connection.execute(SHOPPING["drop_interests"], tenant, source_day, days)
    await connection.execute(SHOPPING["put_interests"], tenant)


async def derive_funnels(connection: "Connection", tenant: TenantId, source_day: date) -> None:
    """Measure how far each changed session got; after it is known which purchases count."""
    others = await connection.fetchval(SHOPPING["funnel_source_days"], tenant, source_day)
    await connection.execute(SHOPPING["derive_funnels"], tenant, others)
