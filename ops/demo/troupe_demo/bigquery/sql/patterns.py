"""What must be known of a regular expression before DuckDB evaluates it.

BigQuery and DuckDB both use RE2, so matching agrees. They differ at the edges: BigQuery extracts
the one capturing group if there is one and gives NULL for a group that took no part in the match,
where DuckDB gives an empty text; and BigQuery refuses a replacement that names a missing group.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from troupe_demo.bigquery.sql.calls import Call

_TOKEN = re.compile(
    r"\\Q.*?(?:\\E|$)"  # a quoted run
    r"|\\."  # an escaped character
    r"|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]"  # a character class
    r"|\(\?P?<[^=!][^>]*>|\(\?[^)]*?[:)]|\(|\)|\||[?*]|\{0|.",
    re.DOTALL,
)


@dataclass(slots=True)
class _Group:
    """An open group: is it a capture, does one lie inside, does it have alternatives."""

    captures: bool = False
    holds: bool = False
    alternatives: bool = False


def groups(pattern: str) -> tuple[int, bool]:
    """The number of capturing groups, and whether one of them may take no part in a match."""
    pieces = _TOKEN.findall(pattern)
    count, optional = 0, False
    stack = [_Group()]
    for piece, following in zip(pieces, [*pieces[1:], ""], strict=True):
        if piece == "(" or (piece.startswith("(?") and piece.endswith(">")):
            count += 1
            stack.append(_Group(captures=True))
        elif piece.startswith("(?") and piece.endswith(":"):
            stack.append(_Group())
        elif piece == "|":
            stack[-1].alternatives = True
        elif piece == ")" and len(stack) > 1:
            group = stack.pop()
            optional |= group.holds and group.alternatives
            if group.captures or group.holds:
                optional |= following in ("?", "*", "{0")
                stack[-1].holds = True
    return count, optional or (stack[0].holds and stack[0].alternatives)


def group_of(pattern: str, call: "Call") -> int:
    """The group that REGEXP_EXTRACT extracts: 0 for the whole match.

    Raises:
        BigQueryError: There are several, or the one may take no part in a match.
    """
    count, optional = groups(pattern)
    if count > 1:
        raise call.refuse("more than one capturing group in REGEXP_EXTRACT, as does BigQuery")
    if count and optional:
        raise call.refuse("a capturing group that may take no part in a match")
    return count


def replacement_groups(pattern: str, replacement: str, call: "Call") -> None:
    """Refuse a replacement that BigQuery refuses.

    Raises:
        BigQueryError: It names a group the pattern does not have, or escapes something else.
    """
    count, _ = groups(pattern)
    for escaped in re.findall(r"\\(.?)", replacement, re.DOTALL):
        if escaped != "\\" and not (escaped.isdigit() and int(escaped) <= count):
            raise call.refuse(f"\\{escaped} in this replacement")
