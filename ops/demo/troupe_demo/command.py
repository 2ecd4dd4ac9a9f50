"""``troupe demo``: the whole system on embedded parts, with data that looks like a shop's.

It is the product itself that runs here: the same installation as ``troupe up``, spoken to over its
own ports. Only what lies outside (Google, an identity provider, SFTP and mail servers) is stood in
for, by processes of their own.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Final, Literal

import click
import trio
from rich.console import Console

from troupe.cli.boundary import reported
from troupe.cli.context import Settings
from troupe.common.files import write_private
from troupe.supervisor import stop_on_signals
from troupe_demo.stage import Demonstration, Plan, staged

DEFAULT_STATE: Final = Path(".state/demo")
DEFAULT_EVENTS: Final = 500_000
DEFAULT_DAYS: Final = 60
MAX_EVENTS: Final = 20_000_000
MAX_DAYS: Final = 730

console = Console(stderr=True)


@click.command()
@click.option(
    "--days",
    type=click.IntRange(1, MAX_DAYS),
    default=DEFAULT_DAYS,
    show_default=True,
    help="Days of data, today included.",
)
@click.option(
    "--events",
    type=click.IntRange(1, MAX_EVENTS),
    default=DEFAULT_EVENTS,
    show_default=True,
    help="Events of both tenants together, at least.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same data.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Where everything is kept.  [default: {DEFAULT_STATE}]",
)
@click.option(
    "--ports",
    type=click.Choice(["auto", "fixed"]),
    default="fixed",
    show_default=True,
    help="fixed: 8001, 8002, 8003; auto: any free ones.",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write addresses, tenants and login there as JSON, once all is ready.",
)
@click.pass_obj
@reported
def demo(
    settings: Settings,
    *,
    days: int,
    events: int,
    seed: int,
    state_dir: Path | None,
    ports: Literal["auto", "fixed"],
    ready_file: Path | None,
) -> None:
    """Run the whole system with realistic data, until ^C.

    Needs nothing but this installation. Data and database are kept under the state directory; a
    second start with the same options continues with them.
    """
    state = (state_dir or settings.state_dir or DEFAULT_STATE).absolute()
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    plan = Plan(days=days, events=events, seed=seed, state=state, fixed_ports=ports == "fixed")
    trio.run(partial(_run, plan, ready_file, settings.log_level or "info"))


async def _run(plan: Plan, ready_file: Path | None, log_level: str) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signals, stop)
        with trio.CancelScope() as working:
            nursery.start_soon(_cancel_on, stop, working)
            async with staged(plan, console, log_level=log_level) as demonstration:
                _announce(demonstration)
                if ready_file is not None:
                    text = json.dumps(demonstration.as_record(), indent=2) + "\n"
                    write_private(ready_file, text)
                await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    console.print("stopped")


async def _cancel_on(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()


def _announce(demonstration: Demonstration) -> None:
    urls, login = demonstration.urls, demonstration.login
    lines = [
        "",
        f"  dashboard   {urls['analytics']}",
        f"  log in as   {login['user']}  password  {login['password']}",
        f"  mailbox     {urls['mail']}",
        f"  APIs        {urls['data']}/docs   {urls['auth']}/docs",
        "",
        "  ^C stops everything.",
    ]
    click.echo("\n".join(lines))
    sys.stdout.flush()
