"""Connecting to PostgreSQL where it is now: one URL may name several servers.

``postgresql://role:password@db1:5432,db2:5432/troupe`` names a primary and its standbys, in any
order. After a failover another of them takes changes, and whoever connects must find out which,
soon, and without anybody starting anything again.

asyncpg can read such a URL, but shares one deadline among all servers: a machine that vanished
without a word uses it up before the next one is asked. So each server is asked by itself here,
within its share of the time, and the one that answered last is asked first the next time. Unless
the URL says otherwise (``target_session_attrs``), only a server that takes changes counts: a
standby would serve old answers and refuse every change.

Rejected: asking all at once (every new connection would cost a login at each of them).
"""

from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import asyncpg

_PREFERRED: Final[dict[tuple[str, ...], str]] = {}
"""The servers of a URL, and which of them answered last; as many entries as there are URLs."""
_ATTRIBUTE: Final = "target_session_attrs"


def hosts_of(url: str) -> tuple[str, ...]:
    """The servers in a URL, each as ``host`` or ``host:port``.

    >>> hosts_of("postgresql://me:secret@db1:5432,db2/troupe")
    ('db1:5432', 'db2')
    """
    return tuple(urlsplit(url).netloc.rpartition("@")[2].split(","))


def _only(url: str, host: str) -> str:
    """The URL with one of its servers."""
    parts = urlsplit(url)
    account, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{account}{at}{host}").geturl()


async def dial(url: str, *, deadline: float, **options: Any) -> Any:
    """A connection to the server that `url` names, or to the one of several that takes changes.

    Args:
        url: ``postgresql://…``.
        deadline: Seconds for everything.
        **options: Of `asyncpg.connect`.

    Returns:
        An `asyncpg.Connection`, or what `connection_class` says.

    Raises:
        Exception: asyncpg's, or the operating system's: of the server that said most.
    """
    hosts = hosts_of(url)
    if len(hosts) == 1:
        return await asyncpg.connect(url, timeout=deadline, **options)
    if _ATTRIBUTE not in parse_qs(urlsplit(url).query):
        options[_ATTRIBUTE] = "read-write"
    first = _PREFERRED.get(hosts)
    failures: list[Exception] = []
    for host in sorted(hosts, key=lambda host: host != first):
        try:
            connection = await asyncpg.connect(
                _only(url, host), timeout=deadline / len(hosts), **options
            )
        except Exception as error:  # noqa: BLE001 - the next one may be well; raised below
            failures.append(error)
        else:
            _PREFERRED[hosts] = host
            return connection
    # What a server says outweighs that another one is not there.
    raise next((e for e in failures if isinstance(e, asyncpg.PostgresError)), failures[-1])
