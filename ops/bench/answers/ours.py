"""The analytics group in a process of its own, wired and prepared as the program does it.

Takes from the environment: PORT, DATABASE_URL (of troupe_runtime), STATE (a directory), and LEVEL
(of the log; info has a line for each request).
"""

import os
from pathlib import Path

import trio

from troupe.common import logs
from troupe.common.bridge import open_bridge
from troupe.common.config import load
from troupe.common.niceness import reserved
from troupe.http.server import bind, url_of
from troupe.platform.responsiveness import favour_the_loop, keep_collections_short
from troupe.platform.supervision import Supervisor
from troupe.wiring import Site, compose, key_ring


async def main() -> None:
    """Serve until killed."""
    configuration = load(
        environment={},
        overrides={
            "state_directory": os.environ["STATE"],
            # One tenant is the only one here, and asks for as much as there is.
            "http": {"tenant_rate": 2_400_000},
        },
    )
    with bind("127.0.0.1", int(os.environ["PORT"])) as listener:
        url = url_of(listener)
        trees: list[Supervisor] = []
        site = Site(
            configuration=configuration,
            sockets={"analytics": listener},
            urls={"analytics": url, "auth": "http://127.0.0.1:1", "data": "http://127.0.0.1:2"},
            runtime_url=lambda: os.environ["DATABASE_URL"],
            keys=key_ring(configuration),
            snapshot=lambda: trees[0].snapshot(),  # noqa: PLW0108 - there is none yet
            reserved=reserved(configuration.processors.reserved),
        )
        (group,) = compose(site, ["analytics"])
        trees.append(group.supervisor())
        async with open_bridge(), trio.open_nursery() as nursery:
            await nursery.start(trees[0].serve)
            nursery.start_soon(keep_collections_short)
            await trio.sleep_forever()


if __name__ == "__main__":
    Path(os.environ["STATE"]).mkdir(parents=True, exist_ok=True)
    logs.configure(level=os.environ["LEVEL"])
    favour_the_loop()
    trio.run(main)
