"""The root command and those that concern the installation as a whole.

Every command takes its configuration the same way, answers a person in a terminal and a program
with ``--json``, and ends with the exit codes of `troupe.cli.boundary`.
"""

import json
import os
import sys
from dataclasses import replace
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, Final

import click
import trio

from troupe import supervisor
from troupe.cli.boundary import reported
from troupe.cli.context import Settings, as_json
from troupe.common import logs
from troupe.common.bridge import open_bridge
from troupe.common.config_reference import reference
from troupe.common.migrate import migrate as run_migrations
from troupe.common.postgres import running_server
from troupe.placement import groups_inline
from troupe.platform.responsiveness import favour_the_loop
from troupe.wiring import load_groups

MODULES: Final = {
    "days": "days",
    "doctor": "doctor",
    "import": "jobs",
    "ingest": "jobs",
    "jobs": "jobs",
    "keys": "keys",
    "reload": "live",
    "report": "reports",
    "scale": "live",
    "schedules": "schedules",
    "status": "operators",
    "tenants": "operators",
}
"""Commands whose modules are imported when they are asked for: ``up`` would otherwise spend half of
its start on what it never uses."""


class _Root(click.Group):
    """Finds further commands in our modules and among installed distributions.

    These say what they have in the group ``troupe.commands`` of entry points.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        plugins = (point.name for point in _plugins())
        return sorted({*super().list_commands(ctx), *MODULES, *plugins})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in MODULES and cmd_name not in self.commands:
            import_module(f"troupe.cli.{MODULES[cmd_name]}").add_to(self)
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for point in _plugins():
            if point.name == cmd_name:
                command: click.Command = point.load()
                return command
        return None


def _plugins() -> Any:
    return entry_points(group="troupe.commands")


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("troupe"), prog_name="troupe")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="TROUPE_CONFIG",
    help="TOML file; docs/configuration.md explains its keys.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Overrides state_directory.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.pass_context
def main(
    context: click.Context, config_file: Path | None, state_dir: Path | None, log_level: str | None
) -> None:
    """Google Analytics 4 for the people who sell."""
    context.obj = Settings(config_file, state_dir, log_level)


@main.command()
@click.option("--host", metavar="NAME", help="Name of this host; by default the machine's.")
@click.pass_obj
@reported
def up(settings: Settings, *, host: str | None) -> None:
    """Run the supervisor with the groups of this host until SIGTERM or ^C.

    SIGHUP reads the configuration again, as 'troupe reload' does.
    """
    source = replace(settings, host=host or settings.host).source()
    configuration = source.load()
    logs.configure(level=configuration.log.level, style=configuration.log.style)

    def announce(installation: supervisor.Installation) -> None:
        for name, url in installation.urls.items():
            click.echo(f"{name:<10} {url}", err=True)

    load_groups(groups_inline(configuration))
    favour_the_loop()
    trio.run(lambda: supervisor.run(configuration, on_ready=announce, source=source))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a thread that hangs in somebody's library must not keep the process


@main.command()
@as_json
@click.pass_obj
@reported
def migrate(settings: Settings, *, json_output: bool) -> None:
    """Bring an external database (database.url) up to date; 'up' does it by itself."""
    configuration = settings.load()
    logs.configure(level=settings.log_level or "warning")

    async def work() -> list[str]:
        async with open_bridge():
            url = configuration.database.url.get_secret_value()
            if not url:
                url = running_server(configuration.state_directory).owner
            return [str(migration) for migration in await run_migrations(url)]

    applied = trio.run(work)
    if json_output:
        click.echo(json.dumps({"applied": applied}))
    else:
        click.echo("\n".join(applied) or "nothing to do")


@main.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@click.pass_obj
@reported
def check(settings: Settings) -> None:
    """Say whether the configuration can be used."""
    supervisor.check_supported(settings.load())
    click.echo("the configuration can be used")


@config.command()
@click.pass_obj
@reported
def show(settings: Settings) -> None:
    """Print the configuration in force, defaults included and secrets masked, as JSON."""
    click.echo(settings.load().model_dump_json(indent=2))


@config.command(name="reference")
def print_reference() -> None:
    """Print the reference of all keys, Markdown."""
    click.echo(reference())
