"""One row of a table, whatever kind of file it stands in."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the file.

    Attributes:
        line: Where it begins, from 1.
        lines: How many it takes up.
        cells: Its text; characters that could not be decoded are lone surrogates.
        problem: Why it cannot be split into cells; None when it can.
        bad_cells: Position of a cell, from 0, to why it has no text; continues "the cell …".
    """

    line: int
    lines: int
    cells: list[str]
    problem: str | None = None
    bad_cells: Mapping[int, str] = field(default_factory=dict)
