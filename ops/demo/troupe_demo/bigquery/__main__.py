"""``python -m troupe_demo.bigquery ROOT``: the stand-in as a companion process."""

import asyncio
import os
from pathlib import Path

import click

from troupe.common import logs
from troupe_demo import lifetime
from troupe_demo.bigquery.server import start


@click.command()
@click.argument("root", type=click.Path(file_okay=False, path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True)
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=0, show_default=True)
def main(root: Path, port: int, grpc_port: int) -> None:
    """Serve the tables under ROOT as BigQuery does, on loopback."""
    logs.configure()
    try:
        stand_in = start(root, port=port, grpc_port=grpc_port)
    except (OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error

    async def serve(stop: asyncio.Event) -> None:
        lifetime.announce({"url": stand_in.url, "grpc": stand_in.grpc})
        await stop.wait()
        await asyncio.to_thread(stand_in.close)

    lifetime.run(serve)
    # Everything is closed and removed. A query may still be deep inside DuckDB, whose threads do
    # not survive the interpreter's own end gracefully: leave without it.
    os._exit(0)


if __name__ == "__main__":
    main()
