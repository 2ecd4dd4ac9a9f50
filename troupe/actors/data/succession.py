"""Days of one load on their way from being begun to taking effect.

Some are read at the same time, and handed over when they are ready; the publisher takes those that
are ready together. Neighbours share what is added up by day, so publishing some days at once costs
less than one after the other. But whoever waits for a day's figures does not want to wait for other
days, and a tenant's turn must not last too long.

The more days wait to take effect, the fewer are begun meanwhile: what keeps them waiting may be
just those that are being read, on the same processors. Reading far ahead gains nothing, and is what
a killed attempt loses.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import trio

from troupe.actors.data.digest import Digest
from troupe.actors.data.publication import StagedDay
from troupe.common.units import MILLISECONDS

DAYS_AT_ONCE: Final = 4
"""Published together at most, and ready to be published beside those that are at most."""
ROWS_AT_ONCE: Final = 1_000_000
"""To days that have as many rows together none is added."""
LONGEST_WAIT: Final = 300 * MILLISECONDS
"""Of a day that is ready, for others that were begun at the same time."""


class Succession:
    """Counts days, and hands them from those who read to the one who publishes.

    Args:
        days_in_flight: Read at the same time at most.
    """

    def __init__(self, days_in_flight: int) -> None:
        self._days_in_flight = days_in_flight
        self._loading = 0
        self._behind = 0
        self._room = trio.Event()
        self._send, self._receive = trio.open_memory_channel[tuple[StagedDay, Digest]](DAYS_AT_ONCE)

    async def room(self) -> None:
        """Wait until another day may be begun."""
        while self._loading >= max(1, self._days_in_flight - self._behind):
            await self._room.wait()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Around the reading of a day."""
        self._loading += 1
        try:
            yield
        finally:
            self._loading -= 1
            self._make_room()

    async def hand_over(self, day: StagedDay, digest: Digest) -> None:
        """Have a day published; waits while as many as `DAYS_AT_ONCE` wait."""
        self._behind += 1
        await self._send.send((day, digest))

    def close(self) -> None:
        """No more days come."""
        self._send.close()

    async def next_together(self) -> dict[StagedDay, Digest]:
        """Wait for a day, and a moment for some that follow it.

        Raises:
            trio.EndOfChannel: No more days come.
        """
        days = dict([await self._receive.receive()])
        with trio.move_on_after(LONGEST_WAIT), suppress(trio.EndOfChannel):
            while len(days) < DAYS_AT_ONCE and sum(day.rows for day in days) < ROWS_AT_ONCE:
                days |= [await self._receive.receive()]
        return days

    def published(self, days: Collection[StagedDay]) -> None:
        """These have taken effect."""
        self._behind -= len(days)
        self._make_room()

    def _make_room(self) -> None:
        self._room.set()
        self._room = trio.Event()
