"""What each group consists of: its resources, its actors, its HTTP application.

A group is described here and run by `troupe.supervisor`. Everything that a group holds is its own;
what the groups have in common is PostgreSQL, `troupe.wiring.site` and `troupe.wiring.parts`.

A process imports what the groups consist of that it runs, and nothing of the others.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Final, Protocol, cast

from troupe.platform.group import Group
from troupe.wiring.site import (
    Site,
    key_file,
    key_ring,
    outbound_guard,
    pool_settings,
    sizes_of,
)

GROUPS: Final = ("auth", "data", "analytics")
"""Each is a module of this package."""


class _Wiring(Protocol):
    def compose(self, site: Site) -> Group: ...


def load_groups(names: Iterable[str]) -> list[_Wiring]:
    """Import what these groups consist of, which takes a second or two."""
    return [cast("_Wiring", import_module(f"{__name__}.{name}")) for name in names]


def compose(site: Site, names: Iterable[str] = GROUPS) -> list[Group]:
    """The groups of these names."""
    return [wiring.compose(site) for wiring in load_groups(names)]


__all__ = [
    "GROUPS",
    "Site",
    "compose",
    "key_file",
    "key_ring",
    "load_groups",
    "outbound_guard",
    "pool_settings",
    "sizes_of",
]
