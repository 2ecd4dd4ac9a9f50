"""How a process gives way to others: niceness beyond its own session, and processors it keeps off.

Where the kernel groups processes by session (autogroups; on by default on most systems, and in
force where no cgroup divides the processors), `nice` is heard only among processes of one session.
Each session process of PostgreSQL is a session of its own, so that its niceness alone would mean
nothing at all. The session's own niceness is set beside it (sched(7), "The autogroup feature").

Somebody without privileges may do that ten times a second, on the whole machine; whoever comes too
early is told to ask again.

Niceness divides what is computed in a second; it does not say who computes first. Linux lets a
process finish its slice, nice or not, so that an answer, which is many short turns of several
processes, waits up to a tick (4 ms) for some while every processor is busy. Those who answer
people therefore have processors to themselves (ADR 28).
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from troupe.common.units import MILLISECONDS

PAUSE: Final = 120 * MILLISECONDS
"""After which it is worth asking again."""
TRIES: Final = 20
"""After so many, others are asking all the time, and it stays as it is."""


def reserved(count: int) -> frozenset[int]:
    """The processors that whoever gives way keeps off: the first of those that we may use.

    Args:
        count: At most so many; one is always left to those who give way.
    """
    if not hasattr(os, "sched_getaffinity"):
        return frozenset()
    usable = sorted(os.sched_getaffinity(0))
    return frozenset(usable[: min(count, len(usable) - 1)])


def keep_off(pid: int, processors: frozenset[int], *, with_children: bool = False) -> None:
    """Let no thread of a process run on these, unless it may run nowhere else.

    Processes that it starts from now on inherit that. Where it is not ours to say, it stays as it
    is.

    Args:
        pid: Whose, of this host.
        processors: Which.
        with_children: Also the processes that it has started.
    """
    if not processors:
        return
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            if left := os.sched_getaffinity(int(thread.name)) - processors:
                os.sched_setaffinity(int(thread.name), left)
            for child in (thread / "children").read_text().split() if with_children else ():
                keep_off(int(child), processors)


@contextlib.contextmanager
def thread_keeps_off(processors: frozenset[int]) -> Iterator[None]:
    """Inside, the calling thread does not run on these, unless it may run nowhere else.

    Where that is not allowed, it stays as it is.
    """
    usable = os.sched_getaffinity(0) if processors else set()
    left = usable - processors
    with contextlib.suppress(OSError):
        if left:
            os.sched_setaffinity(0, left)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if left:
                os.sched_setaffinity(0, usable)


def run_anywhere(pid: int) -> None:
    """Let a process run wherever we may; where it is not ours to say, it stays as it is."""
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, os.sched_getaffinity(0))


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
