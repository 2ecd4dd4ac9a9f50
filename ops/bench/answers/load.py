"""Loads the shop's last day again, ``changed`` or ``as-before``.

Says which version that made, and when. It gives way to those who answer as the data group does: its
process, and its session of PostgreSQL.
"""

import asyncio
import json
import os
import sys
import time

import asyncpg

from ops.bench.answers import data
from troupe.common.config import load
from troupe.common.database._niceness import place
from troupe.common.niceness import give_way, keep_off, reserved


async def main(url: str, events: int, what: str) -> None:
    """Stage, seal, publish."""
    configuration = load(environment={})
    niceness = configuration.groups.data.niceness
    processors = reserved(configuration.processors.reserved)
    give_way(niceness)
    keep_off(os.getpid(), processors)
    sessions, visitors = data.sizes(data.SHOP, events)
    connection = await asyncpg.connect(url)
    try:
        await place(connection, niceness, processors)
        if what == "changed":
            sessions += 1 + time.time_ns() % 50
        staged = await data.stage_day(connection, data.SHOP, data.LAST_DAY, sessions, visitors)
        version = await data.publish_day(connection, data.SHOP, staged)
        # perf_counter is the one monotonic clock that processes of a machine share.
        print(json.dumps({"version": version, "committed_at": time.perf_counter()}))
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
