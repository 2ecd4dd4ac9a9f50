"""Bounds of a child process: it dies with its supervisor, and eats no more memory than it may.

**Dying with the supervisor.** The portable sign is the end of the control stream, which a child
notices when its loop turns. On Linux the kernel also kills it (`PR_SET_PDEATHSIG`), turning or not.
That signal is sent when the *thread* that made the child ends: children are therefore made by the
thread of the loop and never by a worker thread, which trio would end when it is idle.

**Memory** has two bounds. The supervisor looks at the resident memory twice a second and kills a
child that is above its limit; that is exact, but late by up to one look. Against one that eats
faster, the child itself sets `RLIMIT_DATA` (private writable memory) above the limit by
`HEADROOM`, where allocation fails with MemoryError. The headroom is for what is reserved and never
touched, such as the stacks of threads and the arenas of allocators.

Rejected: `RLIMIT_AS`, which also counts mapped files and reservations of gigabytes that nobody
uses; a cgroup for each child, which needs a delegated hierarchy that a container seldom has. A
cgroup around the whole service remains the operator's to set, and its kill is told in words.
"""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Final

from troupe.common.units import GiB, MiB

HEADROOM: Final = 1 * GiB
_PR_SET_PDEATHSIG: Final = 1
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def resident_memory(pid: int) -> int:
    """Bytes of memory that a process has in use, 0 if it is gone or cannot be seen (Linux only)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def die_with_supervisor() -> None:
    """Have the kernel kill this process when its parent dies (Linux); call it first of all.

    A parent that died before shows in the control stream, which has ended then.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def confine(memory_limit: int) -> None:
    """Bound this process's memory, and leave no core dumps, which would hold secrets.

    Args:
        memory_limit: MiB; 0: no bound.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_limit:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = memory_limit * MiB + HEADROOM
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
