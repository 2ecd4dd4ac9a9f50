"""Carts of one source day, and the episodes of everybody whom the day concerns; see carts.sql."""

from datetime import date
from typing import TYPE_CHECKING, Final

from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

    from troupe.actors.data.publication import Reporting

    Connection = asyncpg.Connection[asyncpg.Record]

CARTS: Final = load(__package__, "carts.sql")


async def derive_cart_events(
    connection: "Connection", reporting: "Reporting", source_day: date
) -> None:
    """Replace what a source day did to carts; its sessions must be derived already.

    Whom that concerns is noted on the cart bench, for `fold_episodes`.
    """
    tenant = reporting.tenant
    await connection.execute(CARTS["note_persons"], tenant, source_day)
    await connection.execute(CARTS["drop_cart_events"], tenant, source_day)
    await connection.execute(CARTS["derive_cart_events"], tenant, source_day, reporting.currency)
    await connection.execute(CARTS["note_persons"], tenant, source_day)
    await connection.execute(CARTS["move_cart_events"], tenant, source_day)


async def fold_episodes(connection: "Connection", reporting: "Reporting") -> None:
    """Put together anew the episodes of everybody who was noted."""
    await connection.execute(CARTS["drop_episodes"], reporting.tenant)
    await connection.execute(
        CARTS["fold_episodes"], reporting.tenant, reporting.cart_idle, reporting.zone
    )
