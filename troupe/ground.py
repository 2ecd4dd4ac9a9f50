"""What the groups stand on: PostgreSQL and its tables, as children of the root."""

from dataclasses import dataclass
from typing import Final

import trio

from troupe.common.bridge import aio
from troupe.common.config import Configuration
from troupe.common.migrate import migrate
from troupe.common.niceness import keep_off, reserved
from troupe.common.postgres import (
    ClusterSettings,
    EmbeddedPostgres,
    prepare_external,
    start_embedded,
)
from troupe.common.units import MINUTES, SECONDS
from troupe.platform.last_resort import call_off
from troupe.platform.supervision import Backoff, ChildContext, ChildSpec, Restart

POSTGRES_START: Final = 3 * MINUTES
POSTGRES_STOP: Final = 45 * SECONDS
MIGRATION_DEADLINE: Final = 30 * MINUTES


@dataclass
class DatabaseUrls:
    """Where PostgreSQL is; known once it runs, and again after it was restarted elsewhere."""

    owner: str = ""
    runtime: str = ""


def postgres_child(
    configuration: Configuration, urls: DatabaseUrls, max_connections: int
) -> ChildSpec:
    """The embedded server; `urls` lead to it while it runs."""
    processors = reserved(configuration.processors.reserved)
    settings = ClusterSettings(
        max_connections=max_connections,
        account=configuration.database.embedded_account,
    )

    async def start(child: ChildContext) -> None:
        async with start_embedded(configuration.state_directory, settings) as server:
            # Before there are sessions, each of which is told where it runs: what is left is the
            # server's own work, such as autovacuum after a load.
            keep_off(server.pid, processors, with_children=True)
            _adopt(urls, server)
            child.started(server.port)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_fail_on_death, server)
                await child.stopping.wait()
                call_off()  # every group is gone
                nursery.cancel_scope.cancel()

    return ChildSpec(
        name="postgres",
        start=start,
        kind="process",
        start_deadline=POSTGRES_START,
        shutdown=POSTGRES_STOP,
        backoff=Backoff(first=0.5 * SECONDS, limit=10 * SECONDS),
    )


def _adopt(urls: DatabaseUrls, server: EmbeddedPostgres) -> None:
    urls.owner, urls.runtime = server.owner_url, server.runtime_url


async def _fail_on_death(server: EmbeddedPostgres) -> None:
    raise await server.wait_death()


def migrations_child(configuration: Configuration, urls: DatabaseUrls) -> ChildSpec:
    """Roles and tables, brought up to date once before any group starts."""

    async def start(child: ChildContext) -> None:
        if configuration.database.url.get_secret_value():
            await aio(prepare_external(urls.owner, urls.runtime))
        await migrate(urls.owner)
        child.started()

    return ChildSpec(
        name="migrations",
        start=start,
        restart=Restart.TRANSIENT,
        start_deadline=MIGRATION_DEADLINE,
    )
