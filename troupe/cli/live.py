"""Commands that change how a running Troupe runs: ``troupe reload`` and ``troupe scale``.

Both ask the supervisor over its control socket, wait until the change has taken effect or was
refused, and tell which. ^C ends the waiting, not the change.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import click
import trio

from troupe.cli.boundary import reported
from troupe.cli.context import Settings, as_json
from troupe.common.units import HOURS, MINUTES
from troupe.control import AskReload, AskScale, Request, ask

PATIENCE: Final = 10 * MINUTES
"""For a change, with the start of every process and the drain of every other."""

_patience = click.option(
    "--timeout",
    type=click.FloatRange(1, 24 * HOURS),
    default=PATIENCE,
    show_default=True,
    help="Seconds to wait for the outcome.",
)


def tell(outcome: Mapping[str, Any]) -> str:
    """What a change did, for a person.

    >>> print(tell({"changes": [], "groups": {}, "late": [], "seconds": 0}))
    nothing has changed
    """
    if not outcome["changes"]:
        return "nothing has changed"
    lines = []
    for change in outcome["changes"]:
        before, after = (_worded(change[key]) for key in ("before", "after"))
        lines.append(f"{change['key']}: {before} → {after} ({change['effect']})")
    steps = ", ".join(f"{group} {step}" for group, step in outcome["groups"].items())
    lines.append(f"in force after {outcome['seconds']:g} s{f': {steps}' if steps else ''}")
    if outcome["late"]:
        late = ", ".join(outcome["late"])
        lines.append(f"still as before, see the log: {late}")
    return "\n".join(lines)


def _worded(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return '""' if value == "" else str(value)


def _change(settings: Settings, request: Request, timeout: float, *, json_output: bool) -> None:
    state_directory = settings.state_directory()
    outcome = trio.run(lambda: ask(state_directory, request, deadline=timeout))
    click.echo(json.dumps(outcome) if json_output else tell(outcome))


@click.command()
@_patience
@as_json
@click.pass_obj
@reported
def reload(settings: Settings, *, timeout: float, json_output: bool) -> None:
    """Read the configuration again and put what has changed into force.

    A file with a mistake changes nothing and is told with its line. So is a change that needs a
    restart: addresses, the database, the state directory.
    """
    _change(settings, AskReload(), timeout, json_output=json_output)


@click.command()
@click.argument("group")
@click.option("--tasks", type=int, help="Slots of the task pool, of each process.")
@click.option("--processes", type=int, help="Child processes.")
@click.option("--database-connections", type=int, help="Of the database pool of each process.")
@click.option("--mailbox", type=int, help="Messages that an actor may have waiting.")
@click.option("--placement", type=click.Choice(["inline", "process"]))
@click.option("--reset", is_flag=True, help="Forget what was scaled: the file decides again.")
@_patience
@as_json
@click.pass_obj
@reported
def scale(
    settings: Settings,
    /,
    group: str,
    *,
    timeout: float,
    json_output: bool,
    reset: bool,
    **values: Any,
) -> None:
    """Change the size of a group while it runs.

    It is kept in the state directory and survives a restart, until the configuration file says
    something else about the same key.
    """
    if not reset and all(value is None for value in values.values()):
        raise click.UsageError("say what to change, or --reset")
    if reset and any(value is not None for value in values.values()):
        raise click.UsageError("--reset goes alone")
    request = AskScale(group=group, reset=reset, **values)
    _change(settings, request, timeout, json_output=json_output)


def add_to(root: click.Group) -> None:
    """Add the commands."""
    root.add_command(reload)
    root.add_command(scale)
