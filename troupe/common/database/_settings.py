"""How a pool behaves; everything has a default."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from troupe.common.units import MINUTES, SECONDS

CACHED_STATEMENTS: Final = 200


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How a pool treats its connections. Durations are in seconds.

    Attributes:
        deadline: For a unit of work that names none: waiting for a connection, connecting, every
            statement and the commit together.
        connect_deadline: For one attempt to connect. Too short: a busy server is never reached.
        begin_deadline: For the answer to BEGIN. A connection that is silent for longer is replaced
            before the unit has begun, and so are the idle ones: this is what finds a connection
            whose other end vanished without a word.
        clean_up_deadline: How long a cancelled unit may still roll back or commit before its
            connection is given up. It is the most by which a deadline can be overrun.
        max_age: A connection is replaced when it gets this old (it sheds memory in the server and
            follows a moved server).
        age_jitter: The share of ``max_age`` by which connections differ, so that those opened
            together are not replaced together. Between 0 and 1.
        max_idle: A connection unused for this long is closed rather than used again.
        statement_cache_size: Prepared statements kept per connection. 0 for a pooler that gives
            every transaction another server connection (PgBouncer in transaction mode).
        probe_interval: How often a listener asks its connection whether it is alive.
        niceness: How far the server's processes of these sessions give way to others, 0 to 19, if
            they run on this host.
        keep_off: The processors that they leave to others then. Of a server that leaves them to
            others as a whole, sessions without niceness are let onto them.
        server_settings: Session settings given when connecting; PgBouncer accepts only a few.
    """

    deadline: float = 30 * SECONDS
    connect_deadline: float = 10 * SECONDS
    begin_deadline: float = 5 * SECONDS
    clean_up_deadline: float = 2 * SECONDS
    max_age: float = 30 * MINUTES
    age_jitter: float = 0.2
    max_idle: float = 5 * MINUTES
    statement_cache_size: int = CACHED_STATEMENTS
    probe_interval: float = 15 * SECONDS
    niceness: int = 0
    keep_off: frozenset[int] = frozenset()
    server_settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
