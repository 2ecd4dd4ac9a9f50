"""A minute of real time under ten times more messages than an actor handles (``make soak``).

Flat means: between the tenth second and the last, while some 100,000 messages come and go, what
Python has allocated grows by less than `TRACED` (three bytes a message would exceed it), and the
process by less than `RESIDENT`, which is coarser because the allocator keeps pages.
"""

import resource
import sys
import tracemalloc
from pathlib import Path

import pytest
import trio

from tests.unit.platform.overload import Overload
from troupe.common.units import SECONDS, KiB, MiB
from troupe.platform.mailbox import Overflow

DURATION = 60 * SECONDS
WARM_UP = 10 * SECONDS
TRACED = 256 * KiB
RESIDENT = 8 * MiB


def traced() -> int:
    """Bytes that Python objects occupy."""
    return tracemalloc.get_traced_memory()[0]


def resident() -> int:
    """Bytes of the process in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


@pytest.mark.parametrize("overflow", list(Overflow))
def test_a_minute_of_overload_leaves_memory_flat_and_loses_no_message(overflow, capsys):
    run = Overload(
        overflow,
        duration=DURATION,
        warm_up=WARM_UP,
        measures={"traced": traced, "resident": resident},
    )
    tracemalloc.start()
    try:
        trio.run(run.run)
    finally:
        tracemalloc.stop()
    books = run.actor.statistics().mailbox
    dead = {reason.value: count for reason, count in run.dead_letters.counts().items()}
    figures = (
        f"told {books.sent}, delivered {books.delivered}, dead {dead};"
        f" traced {run.growth('traced') / KiB:+.0f} KiB,"
        f" resident {run.growth('resident') / MiB:+.1f} MiB;"
        f" deepest {run.deepest}, longest line {run.longest_line}"
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{overflow.value}: {figures}\n")
    run.check_books()
    assert run.growth("traced") < TRACED
    assert run.growth("resident") < RESIDENT
