"""Rows of a CSV file that somebody else's program wrote.

Python's csv module does the splitting; what is here is around it:

- A file with an open quote turns the rest of itself into one cell. Lines and rows are therefore
  bounded before csv sees them, so that memory is bounded by a row and the quote is found where it
  was opened, not at the end of the file.
- csv's reader goes on behind a line that it cannot split. That line is one bad row; whether the
  file is still good for something is for the caller to say.
- A byte that is no character of the encoding makes its own row bad, not the file unreadable.
- A byte order mark says what the encoding is, whatever the configuration says.
- Lines end in CR LF, LF or CR, blank ones are no rows, nor are those with nothing but delimiters.

Rejected: `csv.field_size_limit`, which is one for the whole process; `csv.Sniffer`, which guesses
anew with each file: a tenant's configuration says what the files are like.
"""

import codecs
import csv
import io
from collections.abc import Generator, Iterator
from typing import Final

from troupe.actors.data.master_errors import FileMalformed
from troupe.actors.data.master_table import Row

MAX_LINE: Final = 64 * 1024
"""Characters of one line."""
MAX_ROW_LINES: Final = 100
"""Lines that a row may be spread over by line breaks in its cells."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class _Lines:
    """Lines of a text, none too long and not too many for one row."""

    def __init__(self, text: io.TextIOWrapper, name: str) -> None:
        self._text = text
        self._name = name
        self.number = 0
        self.row_began = 1

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MAX_LINE + 1):
            self.number += 1
            if len(line) > MAX_LINE:
                raise FileMalformed(
                    f"{self._name}: line {self.number} is longer than {MAX_LINE} characters."
                )
            if self.number - self.row_began >= MAX_ROW_LINES:
                raise FileMalformed(
                    f"{self._name}: the row that begins on line {self.row_began} does not end"
                    f" within {MAX_ROW_LINES} lines; a quote may not be closed."
                )
            yield line


def read_rows(content: io.BytesIO, *, name: str, encoding: str, delimiter: str) -> Generator[Row]:
    """The rows of a file, its header among them, one after the other; close it after use.

    Args:
        content: The whole file.
        name: Of the file, for the messages.
        encoding: What the configuration says.
        delimiter: One character.

    Raises:
        FileMalformed: Nothing behind this point can be trusted.
    """
    content.seek(0)
    text = io.TextIOWrapper(
        content, encoding=_encoding(content, encoding), errors="surrogateescape", newline=""
    )
    try:
        lines = _Lines(text, name)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            lines.row_began = lines.number + 1
            cells: list[str] = []
            problem = None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = f"cannot be split into cells: {error}"
            except UnicodeError:
                raise FileMalformed(f"{name} is not in {encoding}.") from None
            if problem is not None or any(cell.strip() for cell in cells):
                taken = lines.number - lines.row_began + 1
                yield Row(lines.row_began, taken, cells, problem)
    finally:
        text.detach()  # else it would close the content


def _encoding(content: io.BytesIO, configured: str) -> str:
    start = bytes(content.getbuffer()[:4])
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    return configured
