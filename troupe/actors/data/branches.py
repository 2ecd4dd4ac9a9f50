"""Sessions follow the master data; see branches.sql.

Runs in the transaction that changes customers, so that readers see a customer and everything they
did at one branch, the old or the new. Only rows are moved and rolled: no events are read, so days
need not be loaded or derived anew.
"""

from datetime import date
from typing import TYPE_CHECKING, Final

from troupe.actors.data.carts import CARTS, fold_episodes
from troupe.actors.data.publication import DAYS, DERIVE, Reporting, roll
from troupe.actors.data.searches import mark_searches
from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

_BRANCHES: Final = load(__package__, "branches.sql")
_NO_DAY: Final = date.min
"""In place of the source day that is being replaced: none is."""


async def follow_customers(
    connection: "asyncpg.Connection[asyncpg.Record]", reporting: Reporting
) -> int:
    """Move what customers did to the branches that they belong to now.

    The tenant's version must be locked, and is to be raised by the caller.

    Returns:
        How many sessions have moved.
    """
    tenant = reporting.tenant
    await connection.execute(DAYS["planner_settings"])
    await connection.execute(_BRANCHES["open_session_bench"])
    await connection.execute(_BRANCHES["note_moved_sessions"], tenant)
    moved: int = await connection.fetchval(_BRANCHES["move_sessions"], tenant)
    if not moved:
        return 0
    await connection.execute(DERIVE["move_purchases"], tenant, _NO_DAY)
    await connection.execute(DERIVE["move_refunds"], tenant, _NO_DAY)
    await mark_searches(connection, reporting)
    await connection.execute(CARTS["open_cart_bench"])
    await connection.execute(CARTS["move_cart_events"], tenant, _NO_DAY)
    await fold_episodes(connection, reporting)
    await roll(connection, reporting)
    return moved
