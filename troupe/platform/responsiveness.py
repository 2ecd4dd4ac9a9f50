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
  Here it takes two million objects more, so that a pause concerns less than one request in a
  hundred; most garbage has died young by then, in collections of a millisecond. The two before it
  are kept small for the same reason: beside those connections 20,000 objects took 30 to 50 ms. The
  price is memory: cycles among what had grown old are held for longer.

Processors are shared by the kernel: groups that work in the background are nicer than those that
answer people (`groups.….niceness`).

Rejected: a nicer worker thread beside the loop (it may be put aside while it has the interpreter's
lock, and the loop with it); a cgroup's ``cpu.weight`` (needs a delegated hierarchy, see ADR 11).
"""

import gc
import sys
from typing import Final

from troupe.common.units import MILLISECONDS

SWITCH_INTERVAL: Final = 0.5 * MILLISECONDS
YOUNG: Final = 500
"""Objects that are made, and not yet gone, between two collections of the youngest."""
MIDDLE: Final = 4
"""Of these, between two of the middle generation."""
FULL: Final = 1_000
"""Of these, between two of everything."""


def favour_the_loop() -> None:
    """Prepare this process, once everything is imported and before the loop runs."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, FULL)
