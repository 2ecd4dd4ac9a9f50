"""Sessions of background work that give way to others, where the server runs on this host.

A group that works in the background may be nice (`groups.….niceness`), but most of what a load
computes is computed by the server's process of its session, which knows nothing of that. PostgreSQL
has no setting for it; the kernel has. The process is ours to touch only if it is beyond doubt the
one at the other end of our connection: its title names our end of it. Elsewhere, such as on another
host, behind a pooler or in another container, nothing happens.

The cost: a nice process may be put aside while it has a lock that others wait for; the kernel still
gives it its share, a tenth and more.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any, cast

import asyncpg

from troupe.common.niceness import PAUSE, TRIES, be_nice, keep_off


async def make_nice(
    connection: asyncpg.Connection, niceness: int, processors: frozenset[int] = frozenset()
) -> bool:
    """Let the server's process of a session give way to others.

    Args:
        connection: The session.
        niceness: 0 to 19; 0 leaves it as it is.
        processors: Which it keeps off.

    Returns:
        Whether it does now.
    """
    transport = cast("Any", connection)._transport  # noqa: SLF001 - there is no other way
    name = transport.get_extra_info("sockname")
    pid = connection.get_server_pid()
    if not niceness or not isinstance(name, tuple):
        return False
    with contextlib.suppress(OSError):
        if _serves(pid, name[1]):
            keep_off(pid, processors)
            for _ in range(TRIES):
                if be_nice(pid, niceness):
                    return True
                await asyncio.sleep(PAUSE)
    return False


def _serves(pid: int, port: int) -> bool:
    """Whether a process is PostgreSQL's, for a client at that port."""
    title = Path(f"/proc/{pid}/cmdline").read_bytes()
    return title.startswith(b"postgres:") and f"({port})".encode() in title
