"""``python -m troupe_demo.oidc --config FILE [--port 0]``: the provider as a companion process."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import click
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from pydantic import ValidationError

from troupe.common import logs
from troupe.common.units import SECONDS
from troupe_demo.oidc.application import create_app
from troupe_demo.oidc.settings import SettingsFile

GRACE: Final = 0.5 * SECONDS
HARD_STOP: Final = 1.5 * SECONDS
_BACKLOG: Final = 128
_READ_BYTES: Final = 4096


async def _wait_for_end_of_input(stop: trio.Event) -> None:
    """Whoever started this process holds the other end of standard input; its death closes it."""
    descriptor = sys.stdin.fileno()
    try:
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            if not os.read(descriptor, _READ_BYTES):
                break
    except OSError:
        return  # /dev/null or a file: nobody is at the other end
    stop.set()


async def _wait_for_signal(stop: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _signal in signals:
            stop.set()


async def run(settings: SettingsFile, port: int) -> None:
    """Serve until the process is told to stop."""
    listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
    issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = GRACE
    config.accesslog = config.errorlog = None
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_wait_for_signal, stop)
        nursery.start_soon(_wait_for_end_of_input, stop)

        async def serving(task_status: trio.TaskStatus[list[str]]) -> None:
            await serve(
                create_app(settings, issuer),
                config,
                shutdown_trigger=stop.wait,
                task_status=task_status,
            )
            nursery.cancel_scope.cancel()

        await nursery.start(serving)
        sys.stdout.write(json.dumps({"issuer": issuer}) + "\n")
        sys.stdout.flush()
        await stop.wait()
        await trio.sleep(HARD_STOP)
        nursery.cancel_scope.cancel()


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="JSON with clients and users.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True)
def main(path: Path, port: int) -> None:
    """A development OpenID provider on loopback."""
    logs.configure()
    try:
        settings = SettingsFile(path)
    except (OSError, ValidationError) as error:
        raise click.ClickException(f"{path}: {error}") from error
    trio.run(run, settings, port)


if __name__ == "__main__":
    main()
