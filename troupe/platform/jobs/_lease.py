"""A process's lease on everything it runs, kept by a heartbeat in the database's time.

The database decides who is alive: whoever extends is, until somebody else finds the lease run out
and declares the process dead. The process cannot know that in time if it is cut off, so it also
watches its own clock, from before the last heartbeat that succeeded: once a whole lease has passed
there, it must assume that its jobs belong to others. The local clock can only make it give up; it
never makes it go on.
"""

import os
import socket
import uuid

import trio

from troupe.common.database import Database
from troupe.common.ids import new_id
from troupe.platform.jobs._enqueue import QUERIES


class Lease:
    """One process's lease.

    Args:
        database: Where it is kept.
        group: Whose jobs the process runs.
        seconds: Without a heartbeat for this long it is dead.

    Attributes:
        process_id: Its name; a new one after it was declared dead.
    """

    def __init__(self, database: Database, group: str, seconds: float) -> None:
        self.process_id: uuid.UUID = new_id()
        self._database = database
        self._group = group
        self._seconds = seconds
        self._confirmed = trio.current_time()

    @property
    def run_out(self) -> bool:
        """Whether the process must assume that it was declared dead."""
        return trio.current_time() - self._confirmed > self._seconds

    async def register(self) -> None:
        """Begin a lease under a new name.

        Raises:
            DatabaseError: It may or may not have begun; under a new name it can be tried again.
        """
        process_id = new_id()
        asked = trio.current_time()
        await self._database.execute(
            QUERIES["register_process"],
            process_id,
            self._group,
            socket.gethostname(),
            os.getpid(),
            self._seconds,
            deadline=self._seconds,
        )
        self.process_id, self._confirmed = process_id, asked

    async def extend(self) -> bool:
        """Send a heartbeat; False: the process was declared dead.

        Raises:
            DatabaseError: It may or may not have arrived.
        """
        asked = trio.current_time()
        alive: bool = await self._database.fetch_value(
            # So that a second try fits into the lease when the first one's connection is silent.
            QUERIES["extend_lease"],
            self.process_id,
            deadline=self._seconds / 6,
        )
        if alive:
            self._confirmed = asked
        return alive

    async def release(self, *, deadline: float) -> int:
        """End the lease and give back all jobs under it; returns how many there were.

        Raises:
            DatabaseError: It may or may not have ended; left alone, it runs out.
        """
        released: int = await self._database.fetch_value(
            QUERIES["release_process"], self.process_id, deadline=deadline
        )
        return released
