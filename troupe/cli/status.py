"""``troupe status``: the live tree of every group, and all hosts, once or again and again.

The supervisor is asked over its control socket, so that something is shown also while no process of
a group answers. If it does not answer itself, what ``/health/ready`` of each group's port tells is
shown instead, asked of all ports at the same time and with a deadline, so that a group that hangs
costs the others nothing. A person gets one table whose first column is the tree; a program gets the
same as JSON, with ``--watch`` one document a line.

Whatever a group says is drawn as plain text, never as markup: an error message may contain
brackets.
"""

import json
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import httpx2
import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from troupe.cli.boundary import reported
from troupe.cli.context import Settings, as_json
from troupe.common.errors import PeerUnavailable
from troupe.common.units import DAYS, HOURS, MINUTES, SECONDS
from troupe.control import AskStatus, NotRunning, ask
from troupe.supervisor import RunFile, read_run_file

ANSWER_DEADLINE: Final = 5 * SECONDS
"""How long a group may take to answer before it counts as silent."""
FASTEST: Final = 0.5 * SECONDS
SLOWEST: Final = 1 * HOURS
WIDTH_OF_A_PIPE: Final = 200
"""Columns when the output is no terminal, so that nothing is cut off or wrapped for nobody."""

Node = Mapping[str, Any]
"""One part of the tree, as `Snapshot.as_dict` writes it."""

_COLOURS: Final = {
    "running": "green",
    "stopped": "dim",
    "failed": "bold red",
    "backing_off": "red",
    "starting": "yellow",
    "stopping": "yellow",
}
_SHOWN: Final = frozenset(
    {
        "mailbox_depth",
        "mailbox_capacity",
        "mailbox_waiting",
        "busy",
        "delivered",
        "stuck",
        "tasks_running",
        "tasks_limit",
        "tasks_waiting",
        "threads_running",
        "threads_limit",
    }
)
"""Figures that are worded with care, or left out; all others are listed by name."""
_DEAD: Final = "dead_letters"


@dataclass(frozen=True, slots=True)
class Status:
    """All groups at one moment.

    Attributes:
        run_file: Where the supervisor said that they are.
        trees: Group to its tree; None: it did not answer.
        at: When they were asked (UTC).
        told: What the supervisor said besides; empty: it did not answer.
    """

    run_file: RunFile
    trees: Mapping[str, Node | None]
    at: datetime
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def silent(self) -> list[str]:
        """The groups that did not answer."""
        return [name for name, tree in self.trees.items() if tree is None]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**self.told, "urls": self.run_file.urls, "groups": dict(self.trees)}


async def look(state_directory: Path) -> Status:
    """Ask the supervisor, or its groups if it does not answer.

    Raises:
        NotRunning: There is no supervisor.
    """
    try:
        told = await ask(state_directory, AskStatus(), deadline=ANSWER_DEADLINE)
    except PeerUnavailable:
        return await ask_ports(read_run_file(state_directory))
    run_file = RunFile(told["pid"], told["urls"])
    return Status(run_file, told["groups"], datetime.now(UTC), told)


async def ask_ports(run_file: RunFile) -> Status:
    """Ask every group for its tree."""
    found: dict[str, Node | None] = dict.fromkeys(run_file.urls)

    async def ask_one(client: httpx2.AsyncClient, name: str, url: str) -> None:
        try:
            answer = await client.get(f"{url}/health/ready")
            found[name] = answer.json()["parts"]
        except (httpx2.HTTPError, ValueError, KeyError):
            found[name] = None  # whatever it was, the group cannot say how it is

    async with (
        httpx2.AsyncClient(timeout=ANSWER_DEADLINE) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.cancel_scope.deadline = trio.current_time() + ANSWER_DEADLINE
        for name, url in run_file.urls.items():
            nursery.start_soon(ask_one, client, name, url)
    return Status(run_file, found, datetime.now(UTC))


# ---- for a person


def draw(status: Status) -> RenderableType:
    """The table of all groups and their parts; fits a terminal of 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("part", "state", "since"):
        table.add_column(heading, no_wrap=True)
    table.add_column("", overflow="fold")
    for name, tree in status.trees.items():
        if tree is None:
            where = f"does not answer on {status.run_file.urls[name]}"
            table.add_row(Text(name), Text("silent", _COLOURS["failed"]), "", Text(where, "red"))
        else:
            for row in _rows(tree, status.at):
                table.add_row(*row)
    for tree in status.told.get("leaving", ()):
        for row in _rows(tree, status.at):
            table.add_row(*row)
    drawn: list[RenderableType] = [
        Text(f"troupe (process {status.run_file.pid})", style="bold"),
        table,
    ]
    if len(status.told.get("hosts", ())) > 1:
        drawn += [Text(), _hosts(status)]
    return Group(*drawn)


def _hosts(status: Status) -> Table:
    """All supervisors on the same PostgreSQL; who is silent in red."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("host", "state", "heard"):
        table.add_column(heading, no_wrap=True)
    table.add_column("", overflow="fold")
    since = status.told["hosts_asked_seconds_ago"]
    for host in status.told["hosts"]:
        own = host["host"] == status.told["host"]
        groups = " · ".join(_share(name, share) for name, share in host["groups"].items())
        table.add_row(
            Text(f"{host['host']} (this one)" if own else host["host"]),
            Text(host["state"], "red" if host["state"] == "silent" else _COLOURS[host["state"]]),
            Text(f"{_length(timedelta(seconds=host['age_seconds'] + since))} ago", "dim"),
            Text(groups),
        )
    return table


def _share(name: str, share: Mapping[str, Any]) -> str:
    """A group on a host in a few words: ``data running in 3 processes``."""
    processes = share["processes"]
    where = f" in {processes} process{'' if processes == 1 else 'es'}" if processes else ""
    ready = "" if share["ready"] or share["state"] != "running" else ", not ready"
    return f"{name} {share['state']}{where}{ready}"


def _rows(node: Node, at: datetime, before: str = "", guide: str = "") -> Iterator[list[Text]]:
    """A part and all below it; `before` leads to its children, `guide` to itself."""
    state = Text(node["state"], _COLOURS.get(node["state"], ""))
    since = at - datetime.fromisoformat(node["since"])
    yield [
        Text.assemble((guide, "dim"), node["name"], " ", (node["kind"], "dim")),
        state,
        Text(_length(since), "dim"),
        Text(" · ").join(_remarks(node)),
    ]
    *others, last = node["children"] or [None]
    for child in others:
        yield from _rows(child, at, f"{before}│  ", f"{before}├─ ")
    if last is not None:
        yield from _rows(last, at, f"{before}   ", f"{before}└─ ")


def _remarks(node: Node) -> Iterator[Text]:
    """What there is to say about a part, the alarming in red."""
    details = node["details"]
    if details.get("stuck"):
        yield Text("stuck", _COLOURS["failed"])
    if node["restarts"]:
        yield Text(f"restarts {node['restarts']}", "yellow")
    if "mailbox_depth" in details:
        yield _use("mailbox", details["mailbox_depth"], details["mailbox_capacity"])
    if "tasks_limit" in details:
        yield _use("tasks", details["tasks_running"], details["tasks_limit"])
    if details.get("threads_running"):
        yield _use("threads", details["threads_running"], details["threads_limit"])
    for key in ("mailbox_waiting", "tasks_waiting"):
        if details.get(key):
            yield Text(f"{key.replace('_', ' ')} {details[key]}", "red")
    if details.get(_DEAD):
        yield Text(_dead_letters(details), "yellow")
    yield from _figures(details)
    if node["last_error"]:
        yield Text(f"last error: {node['last_error']}", "red")


def _use(what: str, used: int, limit: int) -> Text:
    return Text(f"{what} {used} of {limit}", "red" if used >= limit else "")


def _dead_letters(details: Mapping[str, Any]) -> str:
    """The total, and how it comes about: ``dead letters 7 (5 rejected, 2 stopped)``."""
    reasons = [
        f"{count} {key.removeprefix(f'{_DEAD}_')}"
        for key, count in details.items()
        if key.startswith(f"{_DEAD}_")
    ]
    return f"dead letters {details[_DEAD]} ({', '.join(reasons)})"


def _figures(details: Mapping[str, Any]) -> Iterator[Text]:
    """What else a part tells, without what is zero, off or unknown."""
    for key, value in details.items():
        if value and key not in _SHOWN and not key.startswith(_DEAD):
            words = key.replace("_", " ")
            yield Text(words if value is True else f"{words} {value}", "dim")


def _length(time: timedelta) -> str:
    """A length of time in its largest unit: ``12 s``, ``3 min``, ``2 h``, ``5 d``."""
    seconds = max(0.0, time.total_seconds())
    for unit, name in ((DAYS, "d"), (HOURS, "h"), (MINUTES, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds)} s"


# ---- the command


async def _watch(settings: Settings, interval: float, *, json_output: bool) -> None:
    """Show the status again and again until ^C or SIGTERM, at most once per interval."""
    console = _console()
    in_place = console.is_terminal and not json_output
    live = Live(console=console, auto_refresh=False) if in_place else None

    def show(status: Status | NotRunning) -> None:
        if json_output:
            document = (
                {"error": str(status)} if isinstance(status, NotRunning) else status.as_dict()
            )
            click.echo(json.dumps(document))
            return
        drawn = Text(str(status)) if isinstance(status, NotRunning) else draw(status)
        if live is None:
            console.print(drawn)
        else:
            live.update(drawn, refresh=True)

    if live is not None:
        live.start()
    try:
        async with _until_interrupted():
            while True:
                begun = trio.current_time()
                try:
                    show(await look(settings.state_directory()))
                except NotRunning as error:
                    show(error)  # it may come back: a restart is a reason to watch
                await trio.sleep_until(begun + interval)
    finally:
        if live is not None:
            live.stop()


@asynccontextmanager
async def _until_interrupted() -> AsyncIterator[None]:
    """Run the body until ^C or SIGTERM, which are its regular end."""
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

            async def leave() -> None:
                async for _number in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(leave)
            yield


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_OF_A_PIPE)


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again until ^C.")
@click.option(
    "--interval",
    type=click.FloatRange(FASTEST, SLOWEST),
    default=2 * SECONDS,
    show_default=True,
    help="Seconds from one look to the next, with --watch.",
)
@as_json
@click.pass_obj
@reported
def status(settings: Settings, *, watch: bool, interval: float, json_output: bool) -> None:
    """Show the live tree of every group, and the other hosts.

    Of each part: its state, restarts, messages waiting in its mailbox, tasks running, dead letters
    and last error.
    """
    if watch:
        trio.run(lambda: _watch(settings, interval, json_output=json_output))
        return
    found = trio.run(look, settings.state_directory())
    if json_output:
        click.echo(json.dumps(found.as_dict()))
    else:
        _console().print(draw(found))
    if found.silent:
        raise PeerUnavailable(_silence(found.silent))


def _silence(names: Sequence[str]) -> str:
    return f"not every group answers: {', '.join(names)}"
