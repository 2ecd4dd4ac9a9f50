"""An instance like any other, whose HTTP server can also be told to misbehave; for tests only.

Started in place of ``python -m troupe.instance``. More paths exist: ``/fault/spin`` blocks the loop
for good, ``/fault/hang`` waits for a thread that never ends, ``/fault/eat`` takes memory until
something happens, ``/fault/hold`` answers after two seconds, ``/fault/pid`` tells the process id.
FAULT_START burns the processor for so many seconds before the instance is ready; FAULT_CRASH makes
it crash instead.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

from troupe import instance, wiring
from troupe.common.units import MiB
from troupe.platform.group import Group
from troupe.wiring import parts

serve_really = parts.serve


def burn(seconds: float) -> None:
    """Compute, without letting the loop turn."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


async def eat() -> None:
    """Take 16 MiB a hundred times a second, and touch it."""
    eaten = []
    while True:
        eaten.append(bytearray(b"x") * (16 * MiB))
        await trio.sleep(0.01)


def faulty(app: Any) -> Any:
    """The application with the paths of this module in front."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if not path.startswith("/fault/"):
            await app(scope, receive, send)
            return
        if path == "/fault/spin":
            burn(float("inf"))
        if path == "/fault/hang":
            await trio.to_thread.run_sync(time.sleep, 600)
        if path == "/fault/eat":
            await eat()
        if path == "/fault/hold":
            await trio.sleep(2)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

    return call


async def serve(app: Any, *arguments: Any, **options: Any) -> None:
    """Serve, unless the test wants a crash."""
    if os.environ.get("FAULT_CRASH"):
        os.abort()
    await serve_really(faulty(app), *arguments, **options)


def compose(*arguments: Any) -> list[Group]:
    """Put the group together as laboriously as the test wants it."""
    burn(float(os.environ.get("FAULT_START", "0")))
    return wiring.compose(*arguments)


if __name__ == "__main__":
    parts.serve = serve
    instance.compose = compose
    os._exit(instance.main(int(sys.argv[1])))
