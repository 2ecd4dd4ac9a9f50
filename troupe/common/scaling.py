"""What ``troupe scale`` said, kept beside the operator's file.

The problem. ``troupe scale data --tasks 16`` must survive a restart. The operator's file is the
wrong place: it may not exist, may not be writable, has comments, and is often written by another
program. But a second place that silently wins over the file is a trap for whoever edits it later.

The choice. ``<state directory>/scaled.json`` holds, for each key, the value and what the file said
when it was scaled. It lies between the file and the environment, and **the last word counts**: once
the file says something else about that key than it did then, the entry is void.

``troupe scale GROUP --reset`` withdraws it, ``troupe config show`` shows the result, and ``troupe
status`` shows what is in force.

Rejected: rewriting the file (above); keeping it in PostgreSQL (it is about one host, and is needed
before there is a PostgreSQL); not keeping it (the next restart would undo it, at the worst moment).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from troupe.common.config import Configuration, Placement, Tree, load, read_file
from troupe.common.errors import ConfigurationError
from troupe.common.files import write_private
from troupe.common.units import KiB

FILE: Final = "scaled.json"
MAX_BYTES: Final = 64 * KiB
KEYS: Final = ("tasks", "processes", "database_connections", "mailbox", "placement")
"""Of a group: what can be scaled."""


class Entry(BaseModel):
    """One value that was scaled.

    Attributes:
        value: In force instead of what the file says.
        instead_of: What the file said when it was scaled; None: nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: int | Placement
    instead_of: int | str | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: dict[
        Annotated[str, Field(pattern="^[a-z]+$")],
        dict[Annotated[str, Field(pattern=f"^({'|'.join(KEYS)})$")], Entry],
    ] = {}


@dataclass(frozen=True, slots=True)
class Scaling:
    """Everything that was scaled on one host.

    Attributes:
        entries: Group and key to the entry.
    """

    entries: Mapping[tuple[str, str], Entry]

    def tree(self, file: Tree) -> dict[str, Any]:
        """What is to be laid over the operator's file: the entries that it has not overtaken."""
        groups: dict[str, dict[str, Any]] = {}
        for (group, key), entry in self.entries.items():
            if entry.instead_of == said(file, group, key):
                groups.setdefault(group, {})[key] = entry.value
        return {"groups": groups} if groups else {}

    def scaled(self, group: str, values: Mapping[str, int | Placement], file: Tree) -> "Scaling":
        """With new values for a group."""
        new = {
            (group, key): Entry(value=value, instead_of=said(file, group, key))
            for key, value in values.items()
        }
        return Scaling({**self.entries, **new})

    def without(self, group: str) -> "Scaling":
        """As if the group had never been scaled."""
        return Scaling({key: entry for key, entry in self.entries.items() if key[0] != group})

    def save(self, state_directory: Path) -> None:
        """Keep it.

        Raises:
            ConfigurationError: The directory takes no file.
        """
        groups: dict[str, dict[str, Any]] = {}
        for (group, key), entry in sorted(self.entries.items()):
            groups.setdefault(group, {})[key] = entry.model_dump(mode="json")
        try:
            write_private(state_directory / FILE, json.dumps({"groups": groups}, indent=2) + "\n")
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigurationError(
                f"{state_directory / FILE}: cannot be kept: {reason}"
            ) from error


def read_scaling(state_directory: Path) -> Scaling:
    """What was scaled on this host.

    Raises:
        ConfigurationError: The file is damaged.
    """
    path = state_directory / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"{path}: larger than {MAX_BYTES} bytes")
        kept = _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Scaling({})
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigurationError(
            f"{path} is damaged: delete it, and scale again what was scaled"
        ) from error
    return Scaling(
        {(group, key): entry for group, keys in kept.groups.items() for key, entry in keys.items()}
    )


def said(file: Tree, group: str, key: str) -> int | str | None:
    """What the operator's file says about a group's key; None: nothing."""
    found: Any = file
    for part in ("groups", group, key):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, int | str) else None


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration comes from; what a reload reads again.

    Attributes:
        path: The operator's file, if there is one.
        overrides: Of the command line.
        environment: None: the process's own.
    """

    path: Path | None = None
    overrides: Tree | None = None
    environment: Mapping[str, str] | None = None

    def file(self) -> dict[str, Any]:
        """The operator's file as it is now.

        Raises:
            ConfigurationError: It cannot be read.
        """
        return read_file(self.path) if self.path else {}

    def load(self) -> Configuration:
        """The configuration as file, scaling and environment say it now.

        Raises:
            ConfigurationError: One sentence that names file and line, or the variable.
        """
        plain = self._load(None)
        return self.load_with(read_scaling(plain.state_directory))

    def load_with(self, scaling: Scaling) -> Configuration:
        """The configuration as it were with this scaling.

        Raises:
            ConfigurationError: As `load`.
        """
        return self._load(scaling.tree(self.file()))

    def _load(self, scaled: Tree | None) -> Configuration:
        return load(
            self.path, environment=self.environment, overrides=self.overrides, scaled=scaled
        )
