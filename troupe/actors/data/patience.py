"""Publishing behind readers: again and again rather than making everybody wait."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg
import trio

from troupe.common.database import Database
from troupe.common.errors import DatabaseUnavailable
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.units import MINUTES, SECONDS

PUBLISH_DEADLINE: Final = 10 * MINUTES
PUBLISH_ATTEMPTS: Final = 10
LOCK_PAUSE: Final = 1 * SECONDS

T = TypeVar("T")
_log = get_logger(__name__)


async def publish_patiently(
    database: Database, tenant: TenantId, unit: Callable[[asyncpg.Connection], Awaitable[T]]
) -> T:
    """Run a unit that takes a day's place; behind a reader that is too long, again and again.

    Raises:
        DatabaseUnavailable: It was being read all the time.
    """
    for _ in range(PUBLISH_ATTEMPTS):
        try:
            return await database.run(unit, tenant=tenant, deadline=PUBLISH_DEADLINE)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            _log.info("publication_postponed", tenant_id=str(tenant))
            await trio.sleep(LOCK_PAUSE)
    raise DatabaseUnavailable("The day could not be replaced: it was being read all the time.")
