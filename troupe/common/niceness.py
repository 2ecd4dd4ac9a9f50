"""How far a process gives way to others: niceness that counts beyond its own session.

Where the kernel groups processes by session (autogroups; on by default on most systems, and in
force where no cgroup divides the processors), `nice` is heard only among processes of one session.
Each session process of PostgreSQL is a session of its own, so that its niceness alone would mean
nothing at all. The session's own niceness is set beside it (sched(7), "The autogroup feature").

Somebody without privileges may do that ten times a second, on the whole machine; whoever comes too
early is told to ask again.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from troupe.common.units import MILLISECONDS

PAUSE: Final = 120 * MILLISECONDS
"""After which it is worth asking again."""
TRIES: Final = 20
"""After so many, others are asking all the time, and it stays as it is."""


def be_nice(pid: int, niceness: int) -> bool:
    """Let a process give way to others; if it leads its session, the whole session.

    Args:
        pid: Whose, of this host.
        niceness: 0 to 19.

    Returns:
        Whether that is done; otherwise to be asked again after `PAUSE`.

    Raises:
        OSError: It is not ours to say, or there is no such process.
    """
    os.setpriority(os.PRIO_PROCESS, pid, niceness)
    session = Path(f"/proc/{pid}/autogroup")
    if os.getsid(pid) != pid or not session.exists():
        return True
    try:
        session.write_text(str(niceness), encoding="ascii")
    except BlockingIOError:
        return False
    return True


def give_way(niceness: int = 0) -> None:
    """Let this process be nicer by so much, and its session with it if it leads one.

    Blocks for `TRIES` times `PAUSE` at most. Where it is not allowed, it stays as it is.
    """
    niceness = os.nice(niceness)
    with contextlib.suppress(OSError):
        for _ in range(TRIES if niceness > 0 else 0):
            if be_nice(os.getpid(), niceness):
                break
            time.sleep(PAUSE)
