"""How a companion process that speaks asyncio begins and ends.

It says that it is ready by one line of JSON on standard output, logs to standard error, and ends
within two seconds when it is told to: by SIGTERM, by SIGINT, or because whoever started it is gone
and its standard input, a pipe, reaches its end.
"""

import asyncio
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from troupe.common.units import SECONDS

DRAIN: Final = 1.2 * SECONDS
"""How long a companion may take to close its connections by itself."""
CANCEL: Final = 0.4 * SECONDS
"""How long it may then take to be cancelled."""


def announce(record: Mapping[str, object]) -> None:
    """Say on standard output that the companion is ready, and where."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def run(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `serve` until the process is told to end; the event it is given is set then."""
    asyncio.run(_run(serve))


async def _run(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _watch_input(loop, stop)
    serving = asyncio.ensure_future(serve(stop))
    ending = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({serving}, timeout=DRAIN)
    ending.cancel()
    if not serving.done():
        serving.cancel()
        await asyncio.wait({serving}, timeout=CANCEL)
    if serving.done() and not serving.cancelled():
        serving.result()


def _watch_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set `stop` when standard input ends, if it is something that can end.

    A thread reads it, because the loop cannot wait for every kind of descriptor. The thread dies
    with the process. With ``/dev/null`` or a file for input, the end says nothing.
    """
    descriptor = 0
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)):
        return

    def read_to_the_end() -> None:
        try:
            while os.read(descriptor, 4096):
                pass
            loop.call_soon_threadsafe(stop.set)
        except (OSError, RuntimeError):
            return  # the input was taken away, or the loop ended first: nothing is left to stop

    threading.Thread(target=read_to_the_end, name="standard-input", daemon=True).start()
