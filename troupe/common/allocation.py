"""Memory that was used once is given back to the system.

Problem. A transfer takes buffers of mebibytes and lets go of them a moment later, in one thread
after the other. Allocators keep such blocks for the next time: Arrow's own pool per thread; glibc
in an arena per thread, and from the first large block that is freed on it takes blocks of that
size for ones worth keeping. A process that never held more than 60 MiB of rows grew by 240.

Choice. Arrow allocates by the C library, and the C library is told once that blocks from 256 KiB on
come from the system and go back to it, whatever it sees later, and that threads share two arenas.

What it costs: pages that are zeroed anew, some tenths of a microsecond per row. Other C libraries
keep their own way.
"""

import ctypes
from typing import Final

from troupe.common.units import KiB

LARGE: Final = 256 * KiB
ARENAS: Final = 2
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8


def give_large_blocks_back() -> bool:
    """Tell the C library of this process; whether it is one that listens."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    told = [
        bool(mallopt(name, value))
        for name, value in ((_MMAP_THRESHOLD, LARGE), (_ARENA_MAX, ARENAS))
    ]
    return all(told)
