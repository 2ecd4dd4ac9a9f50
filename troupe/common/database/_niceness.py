"""Where the server's processes run, and how far they give way, if the server is on this host.

A group that works in the background may be nice (`groups.….niceness`), but most of what a load
computes is computed by the server's process of its session, which knows nothing of that. PostgreSQL
has no setting for it; the kernel has. The process is ours to touch only if it is beyond doubt the
one at the other end of our connection: its title names our end of it. Elsewhere, such as on another
host, behind a pooler or in another container, nothing happens.

The embedded server keeps off the processors of those who answer people, with all of its processes
(`troupe.ground`): what it does by itself, such as autovacuum, nobody waits for. Sessions that give
way to nobody are let onto them again.

The cost: a nice process may be put aside while it has a lock that others wait for; the kernel still
gives it its share, a tenth and more.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any, cast

import asyncpg

from troupe.common.niceness import PAUSE, TRIES, be_nice, keep_off, run_anywhere


async def place(
    connection: asyncpg.Connection, niceness: int, processors: frozenset[int] = frozenset()
) -> bool:
    """Say where the server's process of a session runs, and let it give way to others.

    Args:
        connection: The session.
        niceness: 0 to 19; 0 gives way to nobody.
        processors: Which it keeps off if it gives way; none: nobody has processors to himself.

    Returns:
        Whether it gives way now.
    """
    transport = cast("Any", connection)._transport  # noqa: SLF001 - there is no other way
    name = transport.get_extra_info("sockname")
    pid = connection.get_server_pid()
    if not (niceness or processors) or not isinstance(name, tuple):
        return False
    with contextlib.suppress(OSError):
        if _serves(pid, name[1]):
            if not niceness:
                run_anywhere(pid)
                return False
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
