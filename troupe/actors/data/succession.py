"""Which of the days that are ready are published together.

Neighbours share what is added up by day, so publishing some days at once costs less than one after
the other; and while some are published, others are read. But whoever waits for a day's figures does
not want to wait for other days, and a tenant's turn must not last too long.
"""

from contextlib import suppress
from typing import Final

import trio

from troupe.actors.data.digest import Digest
from troupe.actors.data.publication import StagedDay
from troupe.common.units import SECONDS

DAYS_AT_ONCE: Final = 4
"""Published together at most."""
ROWS_AT_ONCE: Final = 1_000_000
"""To days that have as many rows together none is added."""
LONGEST_WAIT: Final = 5 * SECONDS
"""Of a day that is ready, for others that it could be published with."""


async def next_together(
    ready: trio.MemoryReceiveChannel[tuple[StagedDay, Digest]],
) -> dict[StagedDay, Digest]:
    """Wait for a day, and a little for some that follow it.

    Raises:
        trio.EndOfChannel: No more days come.
    """
    days = dict([await ready.receive()])
    with trio.move_on_after(LONGEST_WAIT), suppress(trio.EndOfChannel):
        while len(days) < DAYS_AT_ONCE and sum(day.rows for day in days) < ROWS_AT_ONCE:
            days |= [await ready.receive()]
    return days
