"""Faults of the database, each under load, in one form for the short tests and the long ones."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.support.chaos.fleet import open_fleet
from tests.support.chaos.ground import Ground, open_ground
from tests.support.chaos.pgbouncer import open_pgbouncer
from tests.support.chaos.proxy import open_proxy
from tests.support.chaos.recovery import SLOTS, Recovery, Size, survive
from tests.support.chaos.server import Server, open_server
from tests.support.chaos.worker import Options
from troupe.common.bridge import open_bridge
from troupe.common.units import MILLISECONDS, SECONDS

KILL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'troupe%'
"""
ROUNDS, PAUSE = 5, 300 * MILLISECONDS
OUTAGE = 5 * SECONDS

Fault = Callable[[], Awaitable[None]]


class Stage:
    """A server of the test's own, prepared."""

    def __init__(self, server: Server, ground: Ground, logs: Path, size: Size) -> None:
        self.server = server
        self.ground = ground
        self._logs = logs
        self._size = size

    async def survive(
        self, fault: Fault, *, url: str = "", listen_url: str = "", statement_cache_size: int = 200
    ) -> tuple[Recovery, list[str]]:
        """Run a fault with a worker that connects to ``url``, the server itself if empty."""
        options = Options(
            url=url or self.server.where.runtime_url,
            listen_url=listen_url or self.server.where.runtime_url,
            slots=SLOTS,
            statement_cache_size=statement_cache_size,
        )
        async with open_fleet(self._logs) as fleet:
            return await survive(self.ground, fleet, options, self._size, fault)


@asynccontextmanager
async def open_stage(state: Path, logs: Path, size: Size) -> AsyncIterator[Stage]:
    """A server and its database."""
    async with open_bridge(), open_server(state) as server, open_ground(server.where) as ground:
        yield Stage(server, ground, logs, size)


async def fast_restart(stage: Stage) -> tuple[Recovery, list[str]]:
    """PostgreSQL is restarted in order."""
    return await stage.survive(stage.server.restart)


async def immediate_restart(stage: Stage) -> tuple[Recovery, list[str]]:
    """PostgreSQL is restarted as after a crash."""

    async def fault() -> None:
        await stage.server.restart(immediately=True)

    return await stage.survive(fault)


async def killed_backends(stage: Stage) -> tuple[Recovery, list[str]]:
    """All sessions are ended, again and again."""

    async def fault() -> None:
        for _ in range(ROUNDS):
            await stage.ground.change(KILL)
            await trio.sleep(PAUSE)

    return await stage.survive(fault)


async def half_open_connections(stage: Stage) -> tuple[Recovery, list[str]]:
    """Every connection falls silent, that for notifications too; new ones work at once."""
    async with (
        open_proxy(stage.server.where.runtime_url) as pool,
        open_proxy(stage.server.where.runtime_url) as listener,
    ):

        async def fault() -> None:
            pool.silence()
            listener.silence()
            await trio.lowlevel.checkpoint()

        return await stage.survive(fault, url=pool.url, listen_url=listener.url)


async def black_hole(stage: Stage) -> tuple[Recovery, list[str]]:
    """Every connection falls silent, and so does every new one for a while."""
    async with open_proxy(stage.server.where.runtime_url) as proxy:

        async def fault() -> None:
            proxy.silences_new = True
            proxy.silence()
            await trio.sleep(OUTAGE)
            proxy.silences_new = False

        return await stage.survive(fault, url=proxy.url, listen_url=proxy.url)


async def pooler_with_killed_backends(stage: Stage) -> tuple[Recovery, list[str]]:
    """Through PgBouncer in transaction mode, all sessions of the server are ended."""
    async with open_pgbouncer(stage.server.where.runtime_url) as pooler:

        async def fault() -> None:
            for _ in range(ROUNDS):
                await stage.ground.change(KILL)
                await trio.sleep(PAUSE)

        return await stage.survive(fault, url=pooler.url, statement_cache_size=0)


async def pooler_restart(stage: Stage) -> tuple[Recovery, list[str]]:
    """PgBouncer in transaction mode is killed and started again."""
    async with open_pgbouncer(stage.server.where.runtime_url) as pooler:

        async def fault() -> None:
            await pooler.kill()
            await trio.sleep(1 * SECONDS)
            await pooler.start()

        return await stage.survive(fault, url=pooler.url, statement_cache_size=0)


async def restart_behind_pooler(stage: Stage) -> tuple[Recovery, list[str]]:
    """PostgreSQL is restarted behind PgBouncer in transaction mode."""
    async with open_pgbouncer(stage.server.where.runtime_url) as pooler:
        return await stage.survive(stage.server.restart, url=pooler.url, statement_cache_size=0)


FAULTS: tuple[Callable[[Stage], Awaitable[tuple[Recovery, list[str]]]], ...] = (
    fast_restart,
    immediate_restart,
    killed_backends,
    half_open_connections,
    black_hole,
    pooler_with_killed_backends,
    pooler_restart,
    restart_behind_pooler,
)
