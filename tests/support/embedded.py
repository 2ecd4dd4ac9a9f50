"""What the tests of the embedded PostgreSQL share."""

import asyncio
import os
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from troupe.common.errors import ConfigurationError, TroupeError
from troupe.common.postgres import ClusterSettings, start_embedded_sync
from troupe.common.units import SECONDS

QUICK: Final = ClusterSettings(durable=False, max_connections=20, lock_deadline=20 * SECONDS)
"""Settings for servers that live for one test."""

ROOT_ONLY: Final = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def fetch(url: str, sql: str) -> list[asyncpg.Record]:
    """Rows of one statement, on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(sql)
        return rows
    finally:
        await connection.close()


def value(url: str, sql: str) -> object:
    """The first column of the first row, for tests outside trio."""
    rows = asyncio.run(fetch(url, sql))
    return rows[0][0] if rows else None


def refuses(
    state: Path,
    words: str,
    *,
    settings: ClusterSettings = QUICK,
    kind: type[TroupeError] = ConfigurationError,
) -> None:
    """Assert that no server starts on ``state`` and that the reason holds ``words`` (a pattern)."""
    with pytest.raises(kind, match=words), start_embedded_sync(state, settings):
        pytest.fail("it started")
