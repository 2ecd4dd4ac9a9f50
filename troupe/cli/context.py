"""What the commands have in common: the configuration, the database, the output."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from troupe.common.bridge import open_bridge
from troupe.common.config import Configuration, load
from troupe.common.database import Database, open_database
from troupe.common.postgres import running_server

as_json = click.option("--json", "json_output", is_flag=True, help="Answer in JSON.")


@dataclass(frozen=True, slots=True)
class Settings:
    """What was said before the command's name."""

    config_file: Path | None = None
    state_dir: Path | None = None
    log_level: str | None = None

    def load(self) -> Configuration:
        """Read the configuration.

        Raises:
            ConfigurationError: It cannot be used.
        """
        overrides: dict[str, Any] = {}
        if self.state_dir is not None:
            overrides["state_directory"] = self.state_dir
        if self.log_level is not None:
            overrides["log"] = {"level": self.log_level}
        return load(self.config_file, overrides=overrides)


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
