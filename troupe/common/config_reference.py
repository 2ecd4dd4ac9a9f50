"""The reference of every configuration key, written from the tree itself.

``troupe config reference`` prints it and docs/configuration.md is its output; a test compares them,
so the documentation cannot lag behind the code.
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from troupe.common.config import ENVIRONMENT_PREFIX, Configuration
from troupe.common.config_difference import effect_of

_INTRODUCTION = f"""\
# Configuration

One TOML file, named with `troupe up --config FILE`, is read first; environment variables win over
it: `{ENVIRONMENT_PREFIX}` plus the keys joined by two underscores, in upper case
(`{ENVIRONMENT_PREFIX}GROUPS__DATA__TASKS=8`); lists are written with commas. Every key
has a default. Secrets never stand in the file: they come from the environment or from files that it
names. An unknown key is an error.

`troupe reload`, or SIGHUP, puts a changed file into force while Troupe runs. The last column says
how: *at once*, in place; *placement*: the group starts, stops, moves, or gets more or fewer
processes; *succession*: a new generation of the groups concerned is ready before the old one
drains; *restart*: the change is refused until Troupe is started again. What `troupe scale` said
lies between the file and the environment. [operation.md](operation.md) says more.

| key | default | meaning | a change |
|---|---|---|---|"""


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo, Any]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field, field.get_default(call_default_factory=False)


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "see text"
    if isinstance(default, SecretStr):
        default = ""
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    # TOML and JSON write these values alike.
    return f"`{json.dumps(default)}`"


def reference() -> str:
    """The document, Markdown."""
    rows = [
        f"| `{key}` | {_shown(default)} | {' '.join((field.description or '').split())} |"
        f" {effect_of(key).value} |"
        for key, field, default in _fields(Configuration)
    ]
    return "\n".join([_INTRODUCTION, *rows, ""])
