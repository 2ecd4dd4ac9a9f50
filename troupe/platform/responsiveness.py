"""What keeps a loop responsive beside threads and processes that compute.

A request is answered in many short turns of the loop, and what delays one delays it as often.

* **The interpreter's lock.** A thread that computes keeps it for the switch interval before it must
  hand it to the loop, each time the loop wakes up. Python's 5 ms make five turns 25 ms late; a
  tenth of that costs the thread 2 % of its speed.
* **Garbage.** A full collection walks over everything that lives, most of which is modules and
  classes that never die: some 100 ms during which nothing else happens, every few minutes or, while
  rows pour in, seconds. What is there when the program has been loaded is set aside from that.
  What comes later can be as much: two thousand connections of slow clients are a pause of 150 ms
  for everybody else, and with Python's thresholds there is one for every quarter that is added.
  Here it takes thousands of smaller collections, so that a pause concerns less than one request in
  a hundred; most garbage has died young by then. The smaller ones are kept small for the same
  reason. Python counts what is made less what goes: while two thousand connections come and as
  many go, it counts nothing, and the next collection of the youngest finds 30,000 objects, which
  is a pause of 16 ms. `keep_collections_short` collects by the clock as well. The price is memory:
  cycles among what had grown old are held for longer.

Processors are shared by the kernel: groups that work in the background are nicer than those that
answer people (`groups.….niceness`).

Rejected: a nicer worker thread beside the loop (it may be put aside while it has the interpreter's
lock, and the loop with it); a cgroup's ``cpu.weight`` (needs a delegated hierarchy, see ADR 11).
"""

import gc
import sys
import time
from typing import Final, NoReturn

import trio

from troupe.common.units import MILLISECONDS

SWITCH_INTERVAL: Final = 0.5 * MILLISECONDS
YOUNG: Final = 500
"""Objects that are made, and not yet gone, between two collections of the youngest."""
MIDDLE: Final = 5
"""Of these, between two of the middle generation."""
FULL: Final = 4_000
"""Of these, between two of everything: at least some minutes."""
SHORT: Final = 0.4 * MILLISECONDS
"""What one by the clock may take before there is one more often."""
OFTENEST: Final = 20 * MILLISECONDS
RAREST: Final = 200 * MILLISECONDS


def favour_the_loop() -> None:
    """Prepare this process, once everything is imported and before the loop runs."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, FULL)


async def keep_collections_short() -> NoReturn:
    """Collect young garbage by the clock, as often as keeps that short, until cancelled."""
    pause = RAREST
    while True:
        all_short = True
        for generation in (*[0] * (MIDDLE - 1), 1):
            await trio.sleep(pause)
            begin = time.perf_counter()
            gc.collect(generation)
            if time.perf_counter() - begin > SHORT:
                pause, all_short = max(OFTENEST, pause / 2), False
        if all_short:
            pause = min(RAREST, pause * 1.25)
