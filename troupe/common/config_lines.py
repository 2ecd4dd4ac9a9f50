"""On which line of a TOML file a key is set.

`tomllib` forgets where it found what. So it is asked again, about the beginnings of the file: the
first beginning that is TOML and has the key ends with the statement that sets it, and that
statement starts after the longest beginning before it that was TOML, too. This knows nothing of
TOML's grammar and is right for everything that is in it: dotted and quoted keys, inline tables,
arrays over many lines.

The cost is quadratic, paid once, when somebody has to be told about a mistake.
"""

import tomllib
from collections.abc import Sequence
from typing import Any, Final

LONGEST: Final = 2000
"""Lines of a file that are looked through."""


def line_of(text: str, keys: Sequence[str]) -> int | None:
    r"""The line, from 1, of the statement that sets a key or, failing that, its nearest section.

    Args:
        text: A whole file; valid TOML.
        keys: Path of the key; what a list's entry is called leads to the list.

    >>> line_of("[groups.data]\ntasks = 0\n", ["groups", "data", "tasks"])
    2
    >>> line_of("groups.data = {tasks = 1,\n  mailbox = 0}\n", ["groups", "data", "mailbox"])
    1
    """
    lines = text.splitlines()[:LONGEST]
    wanted = min(len(keys), _depth(tomllib.loads(text), keys))
    if wanted == 0:
        return None
    whole = 0
    for end in range(1, len(lines) + 1):
        try:
            tree = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if _depth(tree, keys) >= wanted:
            return whole + 1
        whole = end
    return None


def _depth(tree: dict[str, Any], keys: Sequence[str]) -> int:
    """How many of the keys, from the first, lead somewhere."""
    found: Any = tree
    for depth, key in enumerate(keys):
        if not isinstance(found, dict) or key not in found:
            return depth
        found = found[key]
    return len(keys)
