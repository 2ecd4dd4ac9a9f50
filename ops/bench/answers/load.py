"""Loads the shop's last day again, with other sessions; says which version that made, and when."""

import asyncio
import json
import sys
import time

import asyncpg

from ops.bench.answers import data


async def main(url: str, events: int) -> None:
    """Stage, seal, publish."""
    sessions, visitors = data.sizes(data.SHOP, events)
    connection = await asyncpg.connect(url)
    try:
        changed = sessions + 1 + time.time_ns() % 50
        staged = await data.stage_day(connection, data.SHOP, data.LAST_DAY, changed, visitors)
        version = await data.publish_day(connection, data.SHOP, staged)
        # perf_counter is the one monotonic clock that processes of a machine share.
        print(json.dumps({"version": version, "committed_at": time.perf_counter()}))
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
