"""``python -m troupe_demo.sftp ROOT --users FILE``: the server as a companion process."""

import asyncio
import logging
from pathlib import Path

import click

from troupe.common import logs
from troupe_demo import lifetime
from troupe_demo.sftp.server import serve
from troupe_demo.sftp.users import Users


@click.command()
@click.argument("root", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--users",
    "users_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="JSON with the users, their passwords and public keys.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True)
def main(root: Path, users_file: Path, port: int) -> None:
    """Serve ROOT/<user> to each user, over SFTP on loopback."""
    logs.configure()
    # At its usual level asyncssh tells of every packet; what matters is logged here.
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    try:
        users = Users.read(users_file)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{users_file}: {error}") from error
    root.mkdir(parents=True, exist_ok=True)

    async def run(stop: asyncio.Event) -> None:
        await serve(root, users, port, stop, lifetime.announce)

    try:
        lifetime.run(run)
    except OSError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
