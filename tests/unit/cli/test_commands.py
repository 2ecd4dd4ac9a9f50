"""Which module has which command, and what a command does not import."""

import subprocess
import sys
from importlib import import_module

import click
import pytest

from troupe.cli import commands


def test_every_module_has_the_commands_that_it_is_imported_for() -> None:
    found = {}
    for module in set(commands.MODULES.values()):
        group = click.Group()
        import_module(f"troupe.cli.{module}").add_to(group)
        found |= dict.fromkeys(group.commands, module)
    assert found == commands.MODULES


@pytest.mark.parametrize("name", ["up", *commands.MODULES])
def test_the_root_command_finds_and_lists_it(name: str) -> None:
    context = click.Context(commands.main)
    command = commands.main.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert name in commands.main.list_commands(context)


def test_the_root_command_finds_and_lists_nothing_else() -> None:
    context = click.Context(commands.main)
    assert commands.main.get_command(context, "help") is None
    assert "help" not in commands.main.list_commands(context)


def test_the_supervisor_imports_no_library_of_a_group() -> None:
    """It waits for what it imports whenever it starts."""
    script = "import sys, troupe.cli; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert "troupe.supervisor" in loaded
    assert not {"asyncssh", "pyarrow", "google.cloud.bigquery"} & set(loaded)
