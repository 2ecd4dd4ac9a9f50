"""What the commands have in common: the configuration, the database, the output."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from troupe.common.bridge import open_bridge
from troupe.common.config import Configuration, load, read_file, variable
from troupe.common.database import Database, open_database
from troupe.common.postgres import running_server
from troupe.common.scaling import Source

as_json = click.option("--json", "json_output", is_flag=True, help="Answer in JSON.")


@dataclass(frozen=True, slots=True)
class Settings:
    """What was said before the command's name."""

    config_file: Path | None = None
    state_dir: Path | None = None
    log_level: str | None = None
    host: str | None = None

    def load(self) -> Configuration:
        """Read the configuration.

        Raises:
            ConfigurationError: It cannot be used.
        """
        return self.source().load()

    def state_directory(self) -> Path:
        """Where the supervisor is reached, also if all else in the configuration is wrong.

        Raises:
            ConfigurationError: The file cannot be read, or says nothing sensible about it.
        """
        said = self.state_dir or os.environ.get(variable("state_directory"))
        if said is None and self.config_file is not None:
            said = read_file(self.config_file).get("state_directory")
        overrides = {} if said is None else {"state_directory": said}
        return load(environment={}, overrides=overrides).state_directory

    def source(self) -> Source:
        """Where the configuration comes from."""
        overrides: dict[str, Any] = {}
        if self.state_dir is not None:
            overrides["state_directory"] = self.state_dir
        if self.log_level is not None:
            overrides["log"] = {"level": self.log_level}
        if self.host is not None:
            overrides["host"] = self.host
        # Read again while Troupe runs, from wherever it was started.
        file = self.config_file.absolute() if self.config_file else None
        return Source(file, overrides)


@asynccontextmanager
async def database_of(configuration: Configuration) -> AsyncIterator[Database]:
    """The installation's database, as the runtime role, while its supervisor runs.

    Raises:
        DatabaseUnavailable: It cannot be reached.
    """
    url = configuration.database.runtime_url.get_secret_value()
    if not url:
        url = running_server(configuration.state_directory).runtime
    async with (
        open_bridge(),
        open_database(url, connections=2, application_name="troupe command") as database,
    ):
        yield database
