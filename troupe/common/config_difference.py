"""What follows from changing one configuration into another while everything runs.

A pure function: two trees in, changes and one step for each group out; nothing is touched. Who
applies the steps is `troupe.reload`.

============ ====================================== ==============================================
effect       keys                                   what happens
============ ====================================== ==============================================
at once      a group's sizes, ``log.level``         bounds change in place, in every process
placement    ``placement``, ``processes``,          the group starts, stops, moves, or gets more or
             ``hosts``                              fewer processes
succession   everything else                        a new generation of the groups concerned becomes
                                                    ready, then the old one drains
restart      addresses, the state directory, the    refused; nothing changes
             database, the file of keys, the
             style of the log, processors
============ ====================================== ==============================================

A key that somebody adds and says nothing about is taken for the careful case: a succession of all
groups.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from troupe.common.config import Configuration, Groups, Placement

GROUPS: Final = tuple(Groups.model_fields)
_ALL: Final = frozenset(GROUPS)
_HIDDEN: Final = "**********"


class Effect(StrEnum):
    """How a change takes effect."""

    AT_ONCE = "at once"
    PLACEMENT = "placement"
    SUCCESSION = "succession"
    RESTART = "restart"


_RULES: Final[tuple[tuple[re.Pattern[str], Effect], ...]] = (
    (re.compile(r"groups\.\w+\.(tasks|database_connections|mailbox)"), Effect.AT_ONCE),
    (re.compile(r"log\.level"), Effect.AT_ONCE),
    (re.compile(r"groups\.\w+\.(placement|processes|hosts)"), Effect.PLACEMENT),
    (re.compile(r"groups\.\w+\.(host|port)"), Effect.RESTART),
    (re.compile(r"state_directory|host|log\.style|processors\.reserved"), Effect.RESTART),
    (
        re.compile(r"database\.(url|runtime_url|listen_url|transaction_pooler|embedded_account)"),
        Effect.RESTART,
    ),
    (re.compile(r"auth\.key_encryption_key_file"), Effect.RESTART),
)
_OF_ONE_GROUP: Final = (
    (re.compile(r"groups\.(\w+)\..+"), None),
    (re.compile(r"(data|jobs)\..+"), "data"),
)


def effect_of(key: str) -> Effect:
    """How a change of this key takes effect.

    >>> effect_of("groups.data.tasks").value
    'at once'
    >>> effect_of("database.url").value
    'restart'
    """
    return next((e for pattern, e in _RULES if pattern.fullmatch(key)), Effect.SUCCESSION)


def concerned(key: str) -> frozenset[str]:
    """The groups that a change of this key concerns.

    >>> sorted(concerned("jobs.lease"))
    ['data']
    """
    for pattern, group in _OF_ONE_GROUP:
        if match := pattern.fullmatch(key):
            return frozenset({group or match[1]})
    return _ALL


@dataclass(frozen=True, slots=True)
class Change:
    """One key that differs.

    Attributes:
        key: With dots.
        before: Its value; secrets masked.
        after: Likewise.
        effect: How it takes effect.
    """

    key: str
    before: Any
    after: Any
    effect: Effect

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "key": self.key,
            "before": self.before,
            "after": self.after,
            "effect": self.effect.value,
        }

    def __str__(self) -> str:
        return f"{self.key}: {_worded(self.before)} → {_worded(self.after)} ({self.effect.value})"


class Step(StrEnum):
    """What is to be done with one group here."""

    KEEP = "keep"
    """Nothing, or it is not here."""
    RESIZE = "resize"
    """Bounds change in place."""
    SCALE = "scale"
    """Processes are added or drained; bounds change in place in the others."""
    SUCCEED = "succeed"
    """Every instance is followed by one of the new configuration; their number may change."""
    MOVE = "move"
    """From this process into its own, or back."""
    START = "start"
    """It was elsewhere."""
    STOP = "stop"
    """It is elsewhere from now on."""


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs.

    Attributes:
        changes: In the order of the configuration.
        steps: Group to what is to be done with it.
    """

    changes: tuple[Change, ...]
    steps: Mapping[str, Step]

    @property
    def refused(self) -> tuple[Change, ...]:
        """Those that cannot be made while it runs."""
        return tuple(change for change in self.changes if change.effect is Effect.RESTART)


def difference(before: Configuration, after: Configuration) -> Difference:
    """Compare two configurations of one host."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    changes = tuple(
        Change(key, _shown(old.get(key)), _shown(value), effect_of(key))
        for key, value in new.items()
        if old.get(key) != value
    )
    steps = {group: _step(group, before, after, changes) for group in GROUPS}
    return Difference(changes, steps)


def _step(
    group: str, before: Configuration, after: Configuration, changes: tuple[Change, ...]
) -> Step:
    was, will = before.runs_here(group), after.runs_here(group)
    if not (was and will):
        return Step.START if will else Step.STOP if was else Step.KEEP
    old, new = before.groups.named(group), after.groups.named(group)
    if old.placement is not new.placement:
        return Step.MOVE
    in_processes = new.placement is Placement.PROCESS
    effects = {
        change.effect
        for change in changes
        if group in concerned(change.key) and (in_processes or not _of_processes(change.key))
    }
    if Effect.SUCCESSION in effects:
        return Step.SUCCEED
    if in_processes and old.processes != new.processes:
        return Step.SCALE
    own = any(
        change.effect is Effect.AT_ONCE and change.key.startswith(f"groups.{group}.")
        for change in changes
    )
    return Step.RESIZE if own else Step.KEEP


def _of_processes(key: str) -> bool:
    """Whether a key means nothing to a group that runs inline."""
    return key.rpartition(".")[2] in {"processes", "watchdog", "start_deadline", "memory_limit"}


def _leaves(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> Any:
    match value:
        case SecretStr():
            return _HIDDEN if value.get_secret_value() else ""
        case Path():
            return str(value)
        case StrEnum():
            return value.value
        case tuple():
            return list(value)
        case _:
            return value


def _worded(value: Any) -> str:
    match value:
        case list():
            return f"[{', '.join(map(str, value))}]"
        case float():
            return f"{value:g}"
        case "":
            return '""'
        case _:
            return str(value)
