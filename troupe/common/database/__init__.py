"""PostgreSQL from trio: a bounded pool, units of work in one transaction, LISTEN.

How a unit runs stands in ``_session``, how connections are shared in ``_pool``.
"""

from troupe.common.database._failures import CommitUnknown, UnitBroken
from troupe.common.database._json import dumps, loads
from troupe.common.database._listener import MISSED
from troupe.common.database._pool import Database, PoolStatistics, Unit, open_database
from troupe.common.database._settings import CACHED_STATEMENTS, PoolSettings

__all__ = [
    "CACHED_STATEMENTS",
    "MISSED",
    "CommitUnknown",
    "Database",
    "PoolSettings",
    "PoolStatistics",
    "Unit",
    "UnitBroken",
    "dumps",
    "loads",
    "open_database",
]
