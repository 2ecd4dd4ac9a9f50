"""The command: every check in turn, each finding as soon as there is one."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any, Final

import click
import trio
from rich.console import Console
from rich.text import Text

from troupe.cli.boundary import NotWell, reported
from troupe.cli.context import Settings, as_json, database_of
from troupe.cli.doctor import _database, _host
from troupe.cli.doctor._findings import Finding, State, perform
from troupe.common import logs
from troupe.common.config import Configuration
from troupe.common.database import Database
from troupe.common.errors import ConfigurationError, DatabaseError
from troupe.common.secrets import KeyRing
from troupe.supervisor import check_supported
from troupe.wiring import key_file, outbound_guard

Report = Callable[[Finding], Awaitable[None]]

_MARKS: Final = {
    State.OK: ("✓", "green"),
    State.SKIPPED: ("·", "dim"),
    State.WARNING: ("!", "yellow"),
    State.FAILED: ("✗", "bold red"),
}


async def examine(settings: Settings, report: Report) -> None:
    """Look at everything; whatever is wrong is reported, not raised."""
    try:
        configuration = settings.load()
        check_supported(configuration)
    except ConfigurationError as error:
        await report(
            Finding(
                "configuration", State.FAILED, str(error), "docs/configuration.md has every key."
            )
        )
        return
    await report(Finding("configuration", State.OK, "It can be used."))
    for name, check in _ON_HOST.items():
        await perform(name, partial(check, configuration), report)
    try:
        async with database_of(configuration) as database:
            await _examine_database(configuration, database, report)
    except DatabaseError as error:
        embedded = not configuration.database.runtime_url.get_secret_value()
        state = State.SKIPPED if embedded else State.FAILED
        await report(Finding("database", state, str(error), "Start it, then ask again."))


async def _examine_database(
    configuration: Configuration, database: Database, report: Report
) -> None:
    await database.fetch_value("SELECT 1", deadline=10)
    guard = outbound_guard(configuration)
    checks: dict[str, Callable[[], AsyncGenerator[Finding, None]]] = {
        "database": lambda: _database.check_server(configuration, database),
        "roles": lambda: _database.check_roles(database),
        "migrations": lambda: _database.check_migrations(configuration),
        "audit log": lambda: _database.check_audit(database),
        "identity provider": lambda: _database.check_providers(database, guard),
    }
    path = key_file(configuration)
    if path.exists():
        checks["key ring"] = lambda: _database.check_data_keys(database, KeyRing.load(path))
    for name, check in checks.items():
        await perform(name, check, report)


_ON_HOST: Final[dict[str, Callable[[Configuration], AsyncGenerator[Finding, None]]]] = {
    "state directory": _host.check_state_directory,
    "disk": _host.check_disk,
    "key file": _host.check_keys,
    "time zones": _host.check_time,
    "ports": _host.check_ports,
}


@click.command()
@as_json
@click.pass_obj
@reported
def doctor(settings: Settings, *, json_output: bool) -> None:
    """Check everything that Troupe depends on, and say what to do.

    Ends with 0 when nothing failed, and with 9 when something did; warnings do not count.
    """
    # What is wrong is a finding; a log would say the same things again.
    logs.configure(level=settings.log_level or "error")
    found: list[Finding] = []
    console = Console()

    async def report(finding: Finding) -> None:
        found.append(finding)
        if not json_output:
            console.print(drawn(finding), soft_wrap=True)

    trio.run(examine, settings, report)
    failed = [finding for finding in found if finding.state is State.FAILED]
    if json_output:
        document: dict[str, Any] = {
            "well": not failed,
            "checks": [finding.as_dict() for finding in found],
        }
        click.echo(json.dumps(document))
    if failed:
        raise NotWell(f"{len(failed)} of {len(found)} checks failed.")


def drawn(finding: Finding) -> Text:
    """One or two lines; what a check tells is plain text, never markup."""
    mark, colour = _MARKS[finding.state]
    text = Text.assemble((mark, colour), f" {finding.check}: {finding.message}")
    if finding.advice and finding.state is not State.OK:
        text.append(f"\n    {finding.advice}", "dim" if finding.state is State.SKIPPED else colour)
    return text


def add_to(root: click.Group) -> None:
    """Add the command to the root command."""
    root.add_command(doctor)
