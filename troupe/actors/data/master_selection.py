"""Which of the files on a server are meant: names with patterns and dates, and what is unfinished.

A name that the server tells is compared and counted, and used for nothing but to ask the same
server about that file in the configured directory. So a name must be one that a file can have
there: no slash, no control character, not too long, not hidden. Others are passed over, as are
directories and links, and the names that programs give to files which they are still writing.

A pattern is translated into a regular expression whose stars cannot take turns at backing off
(atomic groups, as in the standard library's fnmatch), so that a long name costs no more than its
length times the pattern's.
"""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from troupe.common.connections import DATE_PARTS, UNFINISHED

MAX_NAME: Final = 255
"""Characters of a name."""
MAX_MATCHES: Final = 1000
"""Files that one import takes by one pattern."""

_TOKEN: Final = re.compile("|".join(map(re.escape, DATE_PARTS)) + r"|\*+|\?")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_DATE: Final = {"year": 1, "month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0}


@dataclass(frozen=True, slots=True)
class Found:
    """What the server says about a file.

    Attributes:
        size: Bytes; None when it does not say.
        modified: When the file was last written, to the second; None when it does not say.
    """

    size: int | None
    modified: datetime | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be imported.

    Attributes:
        file: Its path, in the form in which the configuration names files.
        found: What the server says about it.
    """

    file: str
    found: Found

    @property
    def name(self) -> str:
        """Of the file, for messages."""
        return posixpath.basename(self.file)


class Pattern:
    """The configured name of a file.

    Args:
        file: Path; its last part may hold ``*``, ``?`` and the parts of a date.
    """

    def __init__(self, file: str) -> None:
        self.directory, self.name = posixpath.split(file)
        self._expression = _expression_of(self.name)

    @property
    def is_plain(self) -> bool:
        """Whether it names one file."""
        return self._expression is None

    def place_of(self, name: str) -> tuple[int, ...] | None:
        """Where a name stands in time, for sorting; None: it does not match.

        Names without a date all stand at the same place.
        """
        if self._expression is None:
            return () if name == self.name else None
        match = self._expression.fullmatch(name)
        if match is None:
            return None
        given = {key: int(digits) for key, digits in match.groupdict().items()}
        if not given:
            return ()
        try:
            when = datetime(**(_DATE | given))  # type: ignore[arg-type]  # noqa: DTZ001 - no zone
        except ValueError:
            return None
        return when.timetuple()[:6]

    def order_of(self, name: str, found: Found) -> tuple[tuple[int, ...], float, str] | None:
        """A file's place among those that match: larger is newer; None: it does not match.

        A date in the name decides, then the time of writing, then the name.
        """
        place = self.place_of(name)
        if place is None:
            return None
        return place, found.modified.timestamp() if found.modified else 0.0, name


def is_usable_name(name: str) -> bool:
    """Whether a name that a server tells may be taken for that of a finished file."""
    return (
        0 < len(name) <= MAX_NAME
        and "/" not in name
        and not name.startswith(".")
        and not name.casefold().endswith(UNFINISHED)
        and not _CONTROL.search(name)
    )


def choose(
    pattern: Pattern, listed: Iterable[tuple[str, Found]], take: Literal["newest", "all"]
) -> list[Candidate]:
    """The files that are meant, oldest first.

    Args:
        pattern: What was configured.
        listed: Names of finished files in the pattern's directory, with what is known of each.
        take: The newest alone, or all.
    """
    ordered = [(pattern.order_of(name, found), name, found) for name, found in listed]
    matches = [(order, name, found) for order, name, found in ordered if order is not None]
    matches.sort(key=lambda match: match[0])
    wanted = matches[-1:] if take == "newest" else matches
    return [Candidate(posixpath.join(pattern.directory, name), found) for _, name, found in wanted]


def _expression_of(name: str) -> re.Pattern[str] | None:
    pieces: list[str] = []  # between stars
    piece = ""
    last = 0
    has_tokens = False
    for token in _TOKEN.finditer(name):
        has_tokens = True
        piece += re.escape(name[last : token.start()])
        last = token.end()
        match token[0]:
            case "?":
                piece += "."
            case part if part in DATE_PARTS:
                piece += DATE_PARTS[part]
            case _:
                pieces.append(piece)
                piece = ""
    if not has_tokens:
        return None
    piece += re.escape(name[last:])
    if not pieces:
        return re.compile(piece)
    # The first piece begins the name, the last one ends it; each one between stands as early as it
    # can, which leaves the most room for those behind it.
    middle = "".join(f"(?>.*?{between})" for between in pieces[1:] if between)
    return re.compile(f"{pieces[0]}{middle}.*{piece}")
