"""The end by force of a process whose orderly end is held up.

Problem. Everything that stops in order can be held up by what does not take part: a thread that
hangs in somebody's library and is waited for, an actor that computes and lets no loop turn. The
loop then never comes to the point of ending the process, whatever deadlines are written down in it.

Choice. A thread of its own, which needs no loop. It is started by the signal itself: Python runs a
handler between two instructions of the main thread, so that also a spinning loop is interrupted for
it. When the time is up the process ends as it is. Nothing depends on a clean end: PostgreSQL's
keeper and the processes of groups notice that their supervisor is gone and end, jobs are taken over
when their lease is over, and what was acknowledged was committed.

What it cannot end is a main thread inside of C code that never returns to Python; a service manager
can (`TimeoutStopSec=`).
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from troupe.common.logs import get_logger

FORCED: Final = 1
"""The exit code of a process that was ended so."""
_log = get_logger(__name__)
_called_off = threading.Event()


def call_off() -> None:
    """What could be held up is over; the rest takes the time that it takes."""
    _called_off.set()


@contextmanager
def forced_end(*signals: signal.Signals, after: Callable[[], float]) -> Iterator[None]:
    """While the context is open, each of the signals also starts the countdown.

    Enter it when the handlers of these signals are in place: they are called first.

    Args:
        *signals: Which.
        after: Seconds from the first of them to the end by force; asked when it comes.
    """
    _called_off.clear()
    before = {number: signal.getsignal(number) for number in signals}
    countdown = threading.Thread(target=_count_down, args=(after,), name="last resort", daemon=True)

    def handle(number: int, frame: FrameType | None) -> None:
        if countdown.ident is None:
            countdown.start()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in signals:
        signal.signal(number, handle)
    try:
        yield
    finally:
        _called_off.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _count_down(after: Callable[[], float]) -> None:
    seconds = after()
    if _called_off.wait(seconds):
        return
    _log.error("ended_by_force", seconds=seconds)
    sys.stderr.flush()
    os._exit(FORCED)
