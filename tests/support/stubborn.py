"""The program itself, whose worker threads are waited for whatever happens; for tests only.

``python -m tests.support.stubborn ARGUMENTS`` is ``troupe ARGUMENTS``, with threads that cannot be
left: as if somebody had forgotten to allow it, where a library then hangs.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import trio

from troupe import instance, placement
from troupe.cli import main
from troupe.platform.threads import Threads

INSTANCE = "--instance"


async def run(
    self: Threads, function: Callable[..., Any], *args: Any, abandon: bool = False
) -> Any:
    """In place of `Threads.run`."""
    return await trio.to_thread.run_sync(function, *args, limiter=self._limiter)


if __name__ == "__main__":
    Threads.run = run
    placement.COMMAND = (sys.executable, "-m", "tests.support.stubborn", INSTANCE)
    if sys.argv[1:2] == [INSTANCE]:
        os._exit(instance.main(int(sys.argv[2])))
    main()
