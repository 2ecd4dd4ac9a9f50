"""``python -m troupe_demo.mail DIRECTORY``: the sink and its mailbox as one companion process."""

import asyncio
import socket
from pathlib import Path
from typing import Final

import click
from hypercorn.asyncio import serve
from hypercorn.config import Config

from troupe.common import logs
from troupe.common.units import SECONDS
from troupe_demo import lifetime
from troupe_demo.mail.mailbox import Mailbox
from troupe_demo.mail.smtp import HOST, Account, Sink
from troupe_demo.mail.web import create_app

GRACE: Final = 0.5 * SECONDS
BACKLOG: Final = 64

_PORT: Final = click.IntRange(0, 65535)


async def run(
    directory: Path, account: Account | None, smtp_port: int, web_port: int, stop: asyncio.Event
) -> None:
    """Take mail and show it until `stop` is set.

    Raises:
        OSError: A port or the directory cannot be had.
    """
    mailbox = Mailbox(directory)
    sink = Sink(mailbox, account)
    listener = socket.create_server((HOST, web_port), backlog=BACKLOG)
    web = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = GRACE
    config.accesslog = config.errorlog = None
    port = await sink.open(smtp_port)
    lifetime.announce({"smtp": f"{HOST}:{port}", "url": f"http://{HOST}:{web}"})
    try:
        await serve(create_app(mailbox), config, shutdown_trigger=stop.wait)
    finally:
        await sink.close()


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--smtp-port", type=_PORT, default=0, show_default=True)
@click.option("--web-port", type=_PORT, default=0, show_default=True)
@click.option(
    "--account",
    "account_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON with "user" and "password" that a sender must give; without it anybody may send.',
)
def main(directory: Path, smtp_port: int, web_port: int, account_file: Path | None) -> None:
    """Keep all mail in DIRECTORY instead of delivering it, and show it in a browser."""
    logs.configure()
    try:
        account = None if account_file is None else Account.read(account_file)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{account_file}: {error}") from error

    async def serving(stop: asyncio.Event) -> None:
        await run(directory, account, smtp_port, web_port, stop)

    try:
        lifetime.run(serving)
    except OSError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
